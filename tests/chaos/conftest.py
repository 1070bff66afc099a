"""One backend as processes, one Label Studio in memory, and what people do there."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Backend
from exemplar.demo.processes import LOOPBACK, free_port, wait_until_up
from exemplar.model import project_key
from exemplar.server.predicting import AGAIN
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore
from flows import fake_label_studio
from flows.fake_label_studio import TOKEN, FakeLabelStudio
from flows.fake_state import Json
from flows.serving import Switch, serving
from patience import stopwatch

HERE = Path(__file__).parent
# Texts, so that there is a text model to damage; the names are those that the fake's `submit` gives.
LABEL_CONFIG = """<View><Text name="image" value="$text"/><Choices name="digit" toName="image">
<Choice value="0"/><Choice value="1"/><Choice value="2"/></Choices></View>"""
WORDS = ("ant bee cat cow", "red green blue pink", "one two three four")


class ChaosBackend(Backend):
    """`exemplar serve` as in ``serve.py``, which learns of changes by webhooks."""

    def start(self, **changes: str) -> None:
        # All that is predicted is ticked: what annotators were shown is written down only then.
        # Vectors that are kept, and a model that learns from the pool; the sentence encoder takes a second to load.
        features = {"EXEMPLAR_FEATURES": "wordllama + ngrams"}
        ours = {"EXEMPLAR_SHOWN_FROM": "0", "MODEL_DIR": str(self.models), **features}
        environment = {**os.environ, **ours, **self.environment, **changes}
        environment.pop("PYTHONWARNINGS", None)
        log_path = self.folder / "backend.log"
        with log_path.open("ab") as log:
            command = [sys.executable, str(HERE / "serve.py"), "serve", "--port", str(self.port)]
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        url = f"http://{LOOPBACK}:{self.port}/health"
        wait_until_up(self.process, url, name="The backend", log_path=log_path, seconds=60)


@dataclass
class Chaos:
    """A Label Studio, a backend, and the folder in which a file kills or fails whoever reaches that point."""

    studio: FakeLabelStudio
    backend: ChaosBackend
    points: Path
    broken: int = 0

    def project(self, n_tasks: int, **extra_params: Any) -> Json:
        """Create a project of texts, connected, and wait until its rows are there."""
        project = self.studio.state.create_project({"title": "Texts", "label_config": LABEL_CONFIG})
        self.upload(project, n_tasks)
        self.connect(project, **extra_params)
        return project

    def connect(self, project: Json, **extra_params: Any) -> Json:
        url = f"http://{LOOPBACK}:{self.backend.port}"
        backend = self.studio.connect(project, url, extra_params=extra_params)
        until(lambda: self.is_settled(project), seconds=60, what="the first rows")
        return backend

    def upload(self, project: Json, n: int) -> None:
        there = len(self.studio.state.tasks_of(project["id"]))
        texts = [f"{WORDS[i % 3]} {'abcdefghij'[i % 10] * 3} {i // 3}" for i in range(there, there + n)]
        self.studio.state.import_tasks(project["id"], [{"text": text} for text in texts])

    def store(self, project: Json) -> ProjectStore:
        return Home(self.backend.models).store(self.studio.url, project_key(project))

    def is_settled(self, project: Json) -> bool:
        """Return whether a refresh has taken in all that was told, and the rows follow it."""
        store = self.store(project)
        done = store.done()
        return (
            done.webhooks == store.number("webhooks")
            and done.orders == store.number("orders")
            and done.reconciled == store.current_name() != ""
            and store.status().problem is None
        )

    def get(self, path: str) -> httpx.Response:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the backend; once more if who answers dies over it.

        A mapped file that is cut short ends the process that reads it (SIGBUS), and the next one takes its place.
        """
        url = f"http://{LOOPBACK}:{self.backend.port}{path}"
        try:
            answer = httpx.request(method, url, timeout=20, trust_env=False, **options)
            if AGAIN not in answer.text:
                return answer
        except httpx.RemoteProtocolError:
            pass
        self.broken += 1
        return httpx.request(method, url, timeout=20, trust_env=False, **options)

    def predict(self, project: Json) -> httpx.Response:
        tasks = self.studio.state.tasks_of(project["id"])
        body = {"tasks": tasks, "project": project_key(project), "label_config": project["label_config"]}
        return self.ask("POST", "/predict", json=body)

    def rows(self, project: Json) -> dict[int, Json]:
        """Return the current generation's row of each task; fails if a task has two."""
        found: dict[int, Json] = {}
        for row in self.studio.state.predictions_of(project["id"]):
            if row["model_version"] == project["model_version"]:
                assert row["task"] not in found, f"task {row['task']} has two rows"
                found[row["task"]] = row
        return found


def truth(task: Json) -> str:
    return str(next(i for i, words in enumerate(WORDS) if task["data"]["text"].startswith(words)))


def until(holds: Callable[[], bool], *, seconds: float, what: str) -> None:
    with stopwatch() as waited:
        while not holds():
            assert waited() < seconds, f"not within {seconds:g} s: {what}"
            time.sleep(0.02)


@contextmanager
def chaos_of(folder: Path, **environment: str) -> Iterator[Chaos]:
    switch, points = Switch(), folder / "points"
    points.mkdir()
    with serving(switch) as url, fake_label_studio.running(switch, url) as studio:
        settings = {
            "LABEL_STUDIO_URL": url,
            "LABEL_STUDIO_API_KEY": TOKEN,
            "FAILPOINTS": str(points),
            **environment,
        }
        backend = ChaosBackend(free_port(9490), folder, settings)
        backend.start()
        try:
            yield Chaos(studio, backend, points)
        finally:
            backend.stop()


@pytest.fixture(scope="module")
def make_chaos(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    return lambda **environment: chaos_of(tmp_path_factory.mktemp("chaos"), **environment)
