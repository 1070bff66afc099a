"""A fake Label Studio, Exemplar's real server beside it, and the worker's job called by the test."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from conftest import LABEL_CONFIG
from exemplar import pacing
from exemplar.demo import digits
from exemplar.jobs import run_once
from exemplar.labelstudio.client import Client
from exemplar.project.introduction import confirm, project_key
from exemplar.project.refresh import Outcome
from exemplar.rows import is_asked
from exemplar.server.app import create_app
from exemplar.server.connection import GuardedProtocol
from exemplar.settings import Settings
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore
from exemplar.store.snapshot import Snapshot
from exemplar.values import Secret
from flows import fake_label_studio
from flows.fake_label_studio import TOKEN, FakeLabelStudio
from flows.fake_state import Json
from flows.serving import Switch, serving

N_TASKS = 24
N_CLUSTERS = 5
BATCH = 8


@dataclass
class Flow:
    """One fake Label Studio and one Exemplar beside it."""

    studio: FakeLabelStudio
    settings: Settings
    url: str
    extra_params: Json = field(default_factory=lambda: {"n_clusters": N_CLUSTERS, "batch_size": BATCH})

    # -- projects ---------------------------------------------------------------------------------------

    def project(self, n_tasks: int = N_TASKS, *, connected: bool = True, **values: Any) -> Json:
        """Create a project of digits, connected to Exemplar."""
        project = self.studio.state.create_project({"title": "Digits", "label_config": LABEL_CONFIG, **values})
        self.upload(project, range(n_tasks))
        if connected:
            self.connect(project)
        return project

    def connect(self, project: Json, **options: Any) -> Json:
        backend = self.studio.connect(project, self.url, **{"extra_params": self.extra_params, **options})
        self.receive()
        return backend

    def receive(self) -> None:
        """Let Label Studio confirm those who wait, as the worker does."""
        home = Home(self.settings.model_dir, self.settings.label_studio_url)
        for said in set(home.introductions.waiting()):
            confirm(self.settings, home, said)

    def upload(self, project: Json, indices: range) -> list[Json]:
        """Upload digits as image files."""
        all_data = []
        for index in indices:
            path = f"{project['id']}/{digits.file_name(index)}"
            self.studio.state.files[path] = digits.png(index)
            all_data.append({"image": f"/data/upload/{path}"})
        return self.studio.state.import_tasks(project["id"], all_data)

    def key(self, project: Json) -> str:
        return project_key(project)

    def store(self, project: Json) -> ProjectStore:
        return Home(self.settings.model_dir).store(
            self.settings.label_studio_url or self.studio.url, self.key(project)
        )

    def snapshot(self, project: Json) -> Snapshot:
        snapshot = self.store(project).current()
        assert snapshot is not None
        return snapshot

    # -- the worker -------------------------------------------------------------------------------------

    def run(self, project: Json, **options: Any) -> Outcome:
        """Refresh once, as the worker does when a project is due."""
        self.receive()
        outcome = run_once(self.store(project), self.settings, **options)
        assert outcome is not None
        return outcome

    def settle(self, project: Json) -> None:
        """Refresh until nothing is left, as the worker does."""
        for _ in range(10):
            outcome = self.run(project)
            if not outcome.pending and not outcome.unread:
                return
        raise AssertionError("rows were pending after 10 refreshes")

    # -- what stands in Label Studio --------------------------------------------------------------------

    def rows(self, project: Json) -> dict[int, Json]:
        """Return the current generation's row of each task; fails if a task has two."""
        found: dict[int, Json] = {}
        for row in self.studio.state.predictions_of(project["id"]):
            if row["model_version"] == project["model_version"]:
                assert row["task"] not in found, f"task {row['task']} has two rows"
                found[row["task"]] = row
        return found

    def contents(self, project: Json) -> dict[int, tuple[str | None, float]]:
        """Return what each current row says, and its score."""
        return {task_id: (said(row), row["score"]) for task_id, row in sorted(self.rows(project).items())}

    def queue(self, project: Json) -> list[int]:
        """Return the tasks that are asked next, in order."""
        asked = [row for row in self.rows(project).values() if is_asked(row["score"])]
        return [row["task"] for row in sorted(asked, key=lambda row: row["score"])]

    def label(self, project: Json, n: int, *, user: int = 1) -> list[int]:
        """Answer the next n tasks of the queue with the truth."""
        asked = []
        for _ in range(n):
            task = self.studio.next_task(project, user=user)
            assert task is not None, "the queue ended before the pool"
            self.studio.submit(task, truth(task), user=user)
            asked.append(task["id"])
        return asked

    def label_every_cluster(self, project: Json) -> None:
        """Answer until each cluster has an answer and the rows follow."""
        for _ in range(3 * N_CLUSTERS):
            if not self.queue(project):
                return
            self.label(project, 1)
            self.settle(project)
        raise AssertionError(f"still asked after {3 * N_CLUSTERS} answers: {self.queue(project)}")

    # -- Exemplar over HTTP -----------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["json"] = body
        return httpx.request(method, self.url + path, trust_env=False, timeout=20, **options)

    def predict(self, project: Json, tasks: list[Any], **params: Any) -> list[Json]:
        """Ask for predictions as Label Studio does."""
        body = {"tasks": tasks, "project": self.key(project), "label_config": project["label_config"]}
        body |= {"params": params} if params else {}
        answer = self.call("POST", "/predict", body)
        assert answer.status_code == 200, answer.text
        results: list[Json] = answer.json()["results"]
        return results

    def forget(self) -> None:
        """Delete MODEL_DIR, also while somebody writes into it."""
        while self.settings.model_dir.exists():
            shutil.rmtree(self.settings.model_dir, ignore_errors=True)


MakeFlow = Callable[..., Flow]


def said(row: Json) -> str | None:
    """Return the choice of a row's pre-annotation."""
    return str(row["result"][0]["value"]["choices"][0]) if row["result"] else None


def truth(task: Json) -> str:
    return str(digits.true_digit(task["data"]))


def by_size_and_centre(snapshot: Snapshot) -> list[int]:
    """Return each cluster's task nearest to its centre, biggest cluster first, from the definition."""
    found = snapshot.geometry.clustering
    ids, distances = found.cluster_ids, found.distances
    clusters = sorted(range(len(found.centers)), key=lambda c: (-np.count_nonzero(ids == c), c))
    nearest = [min(np.flatnonzero(ids == c), key=lambda row: distances[row]) for c in clusters if c in ids]
    return [int(snapshot.task_ids[row]) for row in nearest]


@pytest.fixture(scope="session")
def studio_server() -> Iterator[tuple[Switch, str]]:
    switch = Switch()
    with serving(switch) as url:
        yield switch, url


@pytest.fixture(scope="session")
def exemplar_server() -> Iterator[tuple[Switch, str]]:
    switch = Switch()
    with serving(switch, http=GuardedProtocol) as url:
        yield switch, url


@pytest.fixture
def studio(studio_server: tuple[Switch, str]) -> Iterator[FakeLabelStudio]:
    with fake_label_studio.running(*studio_server) as studio:
        yield studio


@pytest.fixture
def make_flow(
    studio: FakeLabelStudio, exemplar_server: tuple[Switch, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeFlow:
    """Serve an Exemplar with the given settings beside the fake; made again, it is the same after a restart."""
    # A Label Studio that is down is given up after a moment instead of ten seconds.
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "patience", 0.1)
    # Nobody else waits for this Label Studio: no pauses for annotators' sake.
    monkeypatch.setattr(pacing, "_wait", lambda over, interrupted: None)
    # No https here: reading all certificates for each client took a third of the tests' time.
    monkeypatch.setattr("ssl.SSLContext.load_verify_locations", lambda *args, **options: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    switch, url = exemplar_server

    def make(**changes: Any) -> Flow:
        settings = Settings(
            label_studio_url=studio.url,
            label_studio_api_key=Secret(TOKEN),
            model_dir=tmp_path / "models",
            # The textbook's methods: what they do can be told from the clusters alone.
            propagation="clusters",
            queue="representatives",
            classifier="logistic",
            audit_share=0.0,
            shown_from=0.0,
        )
        settings = replace(settings, **changes)
        switch.app = create_app(settings)
        return Flow(studio, settings, url)

    return make


@pytest.fixture
def flow(make_flow: MakeFlow) -> Flow:
    return make_flow()
