"""A real Label Studio and Exemplar's server beside it, for the benchmarks that measure both together."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from exemplar.demo import digits, label_studio
from exemplar.demo.processes import LOOPBACK, free_port, running_server, wait_until_up
from exemplar.model import project_key
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore

REPOSITORY = Path(__file__).parent.parent
Json = dict[str, Any]


@dataclass(frozen=True)
class Running:
    """Label Studio, its API by token, and our server's address and store."""

    studio: label_studio.LabelStudio
    api: httpx.Client
    url: str
    home: Home
    database: Path

    def connect(self, project: Json, *, until_at_rest: bool = True) -> ProjectStore:
        """Connect ours to a project, as a click does; return its store, at rest with a queue."""
        body = {"project": project["id"], "url": self.url, "title": "Exemplar"}
        self.api.post("/api/ml", json=body).raise_for_status()
        while not (found := list(self.home.stores(project_key(project)))):  # Label Studio confirms it
            time.sleep(0.02)
        [store] = found
        while until_at_rest and (store.status().state != "ready" or store.status().doing):
            time.sleep(0.2)
        return store


@contextmanager
def running() -> Iterator[Running]:
    """Run both until the block ends; where Label Studio refuses a request, its log tells why."""
    venv = REPOSITORY / ".demo" / "venv"
    label_studio.install(venv)
    with tempfile.TemporaryDirectory(prefix="exemplar-benchmark-") as name:
        folder = Path(name)
        log, data = folder / "label-studio.log", folder / "data"
        with (
            label_studio.running(venv, data, port=free_port(8280), log_path=log) as studio,
            httpx.Client(
                base_url=studio.url, headers={"Authorization": f"Token {studio.token}"}, timeout=600
            ) as api,
            _backend(studio, folder) as url,
        ):
            try:
                yield Running(studio, api, url, Home(folder / "models"), data / "label_studio.sqlite3")
            except httpx.HTTPStatusError:
                print(log.read_text()[-10_000:])  # before the log goes with its folder
                raise


@contextmanager
def _backend(studio: label_studio.LabelStudio, folder: Path) -> Iterator[str]:
    port, log = free_port(9380), folder / "backend.log"
    environment = {
        **os.environ,
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        "MODEL_DIR": str(folder / "models"),
    }
    command = [sys.executable, "-m", "exemplar", "serve", "--port", str(port)]
    with running_server(command, env=environment, log_path=log) as server:
        wait_until_up(server, f"http://{LOOPBACK}:{port}/health", name="The backend", log_path=log, seconds=60)
        yield f"http://localhost:{port}"


@contextmanager
def logged_in(studio: label_studio.LabelStudio) -> Iterator[httpx.Client]:
    """Log in as a person does in a browser: Label Studio then looks up their session with each request.

    At an organization's first page it also writes a row of its own; where that is missing, a request that SQLite
    refused and Label Studio tries again is refused for good.
    """
    with httpx.Client(base_url=studio.url, follow_redirects=True, timeout=120) as browser:
        browser.get("/user/login/").raise_for_status()
        said = {"email": studio.email, "password": studio.password}
        token = {"csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        browser.post("/user/login/", data=said | token).raise_for_status()
        assert browser.get("/projects/").raise_for_status().url.path == "/projects/", "the login failed"
        browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]
        yield browser


def make_digits(api: httpx.Client) -> Json:
    """Make a project of 1 400 digits, as image files."""
    config = (REPOSITORY / "label_config.xml").read_text()
    project: Json = api.post("/api/projects/", json={"title": "Digits", "label_config": config}).json()
    for start in range(0, len(digits.POOL), 100):
        files = {
            digits.file_name(i): (digits.file_name(i), digits.png(i), "image/png")
            for i in range(start, start + 100)
        }
        api.post(f"/api/projects/{project['id']}/import", files=files).raise_for_status()
    return project


def answer(digit: str) -> list[Json]:
    """Return the result that the label stream sends for a digit."""
    return [
        {
            "id": "LkCBiYx9dJ",
            "from_name": "digit",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [digit]},
        }
    ]
