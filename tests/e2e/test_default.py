"""The default method on a real Label Studio: what fifty labels are worth, and audits that are asked blind."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest

from conftest import LABEL_CONFIG, Backend, upload_digits
from e2e.annotators import (
    Annotator,
    all_tasks,
    connect,
    queue,
    rows,
    said,
    wait_for,
    wait_until_ready,
    wait_until_settled,
)
from exemplar.commands.accept import accept
from exemplar.demo import digits
from exemplar.demo.label_studio import LabelStudio
from exemplar.demo.processes import free_port
from exemplar.settings import Settings
from exemplar.store.home import Home

Json = dict[str, Any]
N_POOL, N_LABELS = 1400, 50
# A person looks at a task for a second at least; behind somebody quicker, the queue's rows may lag.
LOOKS = 1.0
AUDIT_SHARE = 10


@dataclass
class Session:
    """A project with fifty labels; what stood in each task's row when it was served."""

    project: Json
    backend: Backend
    first_queue: list[int]
    asked: list[int]
    shown: list[int | None]
    audits: list[Json]


@pytest.fixture(scope="module")
def session(studio: LabelStudio, api: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    environment = {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        "EXEMPLAR_AUDIT_SHARE": str(AUDIT_SHARE),
    }
    folder = tmp_path_factory.mktemp("default")
    backend = Backend(free_port(9390), folder, environment)
    backend.start()
    try:
        values = {"title": "Digits", "label_config": LABEL_CONFIG}
        project = api.post("/api/projects/", json=values).raise_for_status().json()
        upload_digits(api, project, range(N_POOL))
        connect(api, project, backend)
        wait_until_ready(backend, project)
        # The first batch does not wait for the whole pool.
        wait_for(lambda: backend.status(project)["unread"] == 0, "the whole pool to be embedded", 180)
        wait_until_settled(backend, project, answered=0)
        first_queue, annotator = queue(api, project), Annotator(api)
        asked, shown = [], []
        for n in range(N_LABELS):
            task = annotator.next_task(project)
            assert task is not None, "the queue ended before the pool"
            asked.append(task["id"])
            shown.append(said(task["predictions"][0]) if task["predictions"] else None)
            time.sleep(LOOKS)
            annotator.submit(task)
            wait_for(lambda n=n: backend.status(project)["answered"] > n, "the answer to be learned")
        wait_until_settled(backend, project, answered=N_LABELS)
        [log] = folder.rglob("audit.jsonl")
        audits = [json.loads(line) for line in log.read_text().splitlines() if line]
        yield Session(project, backend, first_queue, asked, shown, audits)
    finally:
        backend.stop()


def test_each_task_is_asked_once_and_the_first_ones_stood_in_the_queue(session: Session) -> None:
    assert len(set(session.asked)) == N_LABELS
    assert len(session.first_queue) == N_LABELS
    assert session.asked[:10] == session.first_queue[:10]


def test_nearly_all_of_the_rest_is_labelled_right(api: httpx.Client, session: Session) -> None:
    tasks, current = all_tasks(api, session.project), rows(api, session.project)
    assert set(current) == set(tasks), "each task has its row"
    rest = [task_id for task_id in tasks if task_id not in session.asked and said(current[task_id]) is not None]
    assert len(rest) >= N_POOL - N_LABELS - 10, "all but a few blind ones are pre-annotated"
    share = sum(said(current[id_]) == digits.true_digit(tasks[id_]["data"]) for id_ in rest) / len(rest)
    print(f"\n{share:.1%} of the other {len(rest)} tasks are right after {N_LABELS} labels")
    assert share >= 0.96


def test_audits_are_asked_blind_after_our_prediction_was_written_down(session: Session) -> None:
    frozen = {entry["task"] for entry in session.audits if entry["kind"] == "frozen"}
    audited = [task_id for task_id in session.asked if task_id in frozen]
    # The 20th, 30th, 40th and 50th; rows that lag behind may put the last one off.
    assert 3 <= len(audited) <= 4
    for task_id, shown in zip(session.asked, session.shown, strict=True):
        if task_id in frozen:
            assert shown is None, f"audit {task_id} was served with a pre-annotation"
    others = [shown for task_id, shown in zip(session.asked, session.shown, strict=True) if task_id not in frozen]
    assert sum(shown is not None for shown in others) > len(others) / 2, "the others show what we predict"


def test_what_annotators_saw_is_written_down_apart(session: Session) -> None:
    seen = {entry["task"] for entry in session.audits if entry["kind"] == "seen"}
    frozen = {entry["task"] for entry in session.audits if entry["kind"] == "frozen"}
    assert len(seen) > N_LABELS / 2
    assert seen <= set(session.asked) - frozen


def test_a_frozen_set_is_asked_blind_and_accepted(api: httpx.Client, session: Session) -> None:
    """The last one: it goes on labelling."""
    project, settings = session.project, Settings(model_dir=session.backend.models)
    [store] = Home(settings.model_dir).with_id(project["id"])
    snapshot, tasks = store.current(), all_tasks(api, project)
    assert snapshot is not None
    truths = np.array([digits.true_digit(tasks[task_id]["data"]) for task_id in snapshot.task_ids.tolist()])
    wrong = snapshot.choices != truths
    sure = float(snapshot.distributions.max(axis=1)[wrong].max(initial=0.0)) + 1e-6
    print("\n" + accept(settings, project["id"], min_confidence=sure))
    frozen = store.accept_set()
    assert frozen is not None
    wait_for(lambda: queue(api, project)[: len(frozen.drawn)] == list(frozen.drawn), "the draw to be queued first")
    annotator, asked, shown = Annotator(api), [], []
    for _ in frozen.drawn:
        task = annotator.next_task(project)
        assert task is not None
        asked.append(task["id"])
        shown.append(said(task["predictions"][0]) if task["predictions"] else None)
        annotator.submit(task)
    assert set(asked) == set(frozen.drawn), "nothing else was asked in between"
    assert shown == [None] * len(frozen.drawn), "each was asked blind"
    wait_for(
        lambda: "accepted, annotators agree with at least 95%" in accept(settings, project["id"]), "the verdict"
    )
