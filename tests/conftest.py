"""What tests need of the outside: a real Label Studio, the real backend, a browser.

A program that a laptop may lack makes its tests skip with a reason; with EXEMPLAR_TEST_REQUIRE=all, as in CI, it
makes them fail.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from exemplar.demo import digits, label_studio
from exemplar.demo.label_studio import LabelStudio
from exemplar.demo.processes import LOOPBACK, free_port, wait_until_up

REPOSITORY = Path(__file__).parent.parent
# Shared with `make demo`, which installs the same.
LABEL_STUDIO_VENV = REPOSITORY / ".demo" / "venv"
LABEL_CONFIG = (REPOSITORY / "label_config.xml").read_text()


def required(program: str) -> str:
    """Return a program's path; without it, skip, or fail where everything is required."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed"
        if os.environ.get("EXEMPLAR_TEST_REQUIRE") == "all":
            pytest.fail(f"{reason}, and EXEMPLAR_TEST_REQUIRE=all demands it")
        pytest.skip(reason)
    return path


@pytest.fixture
def chromium() -> str:
    return required("chromium")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A real Label Studio 1.23.2 on the loopback address, with an empty database."""
    label_studio.install(LABEL_STUDIO_VENV)
    folder = tmp_path_factory.mktemp("label-studio")
    port = free_port(8180)
    with label_studio.running(
        LABEL_STUDIO_VENV, folder / "data", port=port, log_path=folder / "label-studio.log"
    ) as running:
        yield running


@pytest.fixture(scope="session", name="label_studio")
def label_studio_fixture(studio: LabelStudio) -> LabelStudio:
    return studio


@pytest.fixture(scope="session")
def api(studio: LabelStudio) -> Iterator[httpx.Client]:
    """Label Studio's API as its administrator."""
    with httpx.Client(
        base_url=studio.url, headers={"Authorization": f"Token {studio.token}"}, timeout=60, trust_env=False
    ) as client:
        yield client


@dataclass
class Backend:
    """A running `exemplar serve`, which can be killed and started again."""

    port: int
    folder: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def log(self) -> str:
        return (self.folder / "backend.log").read_text()

    def start(self, **changes: str) -> None:
        # pytest's warning filters must not reach into the server.
        # All that is predicted is ticked, so that it can be seen in Label Studio.
        ours = {"EXEMPLAR_SHOWN_FROM": "0", "MODEL_DIR": str(self.models)}
        environment = {**os.environ, **ours, **self.environment, **changes}
        environment.pop("PYTHONWARNINGS", None)
        with (self.folder / "backend.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "exemplar", "serve", "--port", str(self.port)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until_up(
            self.process,
            f"http://{LOOPBACK}:{self.port}/health",
            name="The backend",
            log_path=self.folder / "backend.log",
            seconds=30,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server and its worker, by the process group that we started."""
        if self.process is None:
            return
        if number is signal.SIGKILL:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.send_signal(number)
        self.process.wait(20)
        self.process = None

    def status(self, project: dict[str, Any]) -> dict[str, Any]:
        """Return what ``GET /`` says of a project; empty while it is unknown."""
        answer = httpx.get(self.url + "/", auth=self.auth, timeout=20, trust_env=False)
        found = [
            status
            for key, status in answer.json()["projects"].items()
            if key.partition(".")[0] == str(project["id"])
        ]
        return found[0] if found else {}

    @property
    def auth(self) -> tuple[str, str] | None:
        user = self.environment.get("BASIC_AUTH_USER")
        return (user, self.environment["BASIC_AUTH_PASS"]) if user else None


@pytest.fixture
def make_backend(studio: LabelStudio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Backend]]:
    """Start backends with the given environment; all are ended after the test."""
    with ExitStack() as ended:

        def make(**environment: str) -> Backend:
            ours = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": studio.token, **environment}
            ours = {name: value for name, value in ours.items() if value}
            backend = Backend(free_port(9190), tmp_path_factory.mktemp("backend"), ours)
            backend.start()
            ended.callback(backend.stop)
            return backend

        yield make


@pytest.fixture
def backend(make_backend: Callable[..., Backend]) -> Backend:
    return make_backend()


@pytest.fixture
def make_project(api: httpx.Client) -> Iterator[Callable[..., dict[str, Any]]]:
    """Create projects of digits, not connected; they are deleted after the test."""
    made = []

    def make(n_digits: int = 60, **settings: Any) -> dict[str, Any]:
        values = {"title": "Digits", "label_config": LABEL_CONFIG, **settings}
        project = api.post("/api/projects/", json=values).raise_for_status().json()
        made.append(project)
        upload_digits(api, project, range(n_digits))
        return project

    yield make
    for project in made:
        api.delete(f"/api/projects/{project['id']}/")


def upload_digits(api: httpx.Client, project: dict[str, Any], indices: range) -> None:
    """Upload digits as image files, a hundred a request."""
    for start in range(indices.start, indices.stop, 100):
        batch = range(start, min(start + 100, indices.stop))
        files = {digits.file_name(i): (digits.file_name(i), digits.png(i), "image/png") for i in batch}
        api.post(f"/api/projects/{project['id']}/import", files=files).raise_for_status()
