"""The main job on a real Label Studio: two annotators, fifty exemplars, and what comes of them.

One project of 1 400 digits is labelled once; the tests after it change something in it and look at what follows.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

import httpx
import pytest

from conftest import LABEL_CONFIG, Backend, upload_digits
from e2e.annotators import (
    Annotator,
    all_tasks,
    choice,
    connect,
    queue,
    rows,
    said,
    sign_up,
    wait_for,
    wait_until_ready,
    wait_until_settled,
)
from exemplar.demo import digits
from exemplar.demo.label_studio import LabelStudio
from exemplar.demo.processes import free_port
from exemplar.rows import is_asked

Json = dict[str, Any]
N_POOL = 1400
N_LABELS = 50


@dataclass
class Labelled:
    """A project whose exemplars two annotators have labelled, and how that went."""

    project: Json
    backend: Backend
    connection: Json
    first_queue: list[int]
    given: list[tuple[str, int]]
    given_while_down: int

    @property
    def task_ids(self) -> list[int]:
        return [task_id for _, task_id in self.given]


@pytest.fixture(scope="module")
def annotator(api: httpx.Client) -> Annotator:
    return Annotator(api)


@pytest.fixture(scope="module")
def colleague(studio: LabelStudio, api: httpx.Client) -> Iterator[Annotator]:
    with sign_up(studio.url, api, "colleague@example.com") as somebody:
        yield somebody


@pytest.fixture(scope="module")
def labelled(
    studio: LabelStudio,
    api: httpx.Client,
    annotator: Annotator,
    colleague: Annotator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Labelled]:
    """1 400 digits, fifty labels by two annotators at once, our backend away for some of them."""
    environment = {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        # Often, so that a write in every poll would show; the webhooks do the work.
        "EXEMPLAR_POLL": "5",
        # The textbook's methods, whose queue is known beforehand.
        "EXEMPLAR_PROPAGATION": "clusters",
        "EXEMPLAR_QUEUE": "representatives",
        "EXEMPLAR_CLASSIFIER": "logistic",
        # Quick: what is seen by default is for the tests of the default.
        "EXEMPLAR_FEATURES": "thumbnail",
        "EXEMPLAR_AUDIT_SHARE": "0",
    }
    backend = Backend(free_port(9290), tmp_path_factory.mktemp("loop"), environment)
    with ExitStack() as ended:
        backend.start()
        ended.callback(backend.stop)
        values = {"title": "Digits", "label_config": LABEL_CONFIG}
        project = api.post("/api/projects/", json=values).raise_for_status().json()
        upload_digits(api, project, range(N_POOL))
        connection = connect(api, project, backend)
        wait_until_ready(backend, project)
        first_queue = queue(api, project)

        given: list[tuple[str, int]] = []
        label_by_two(project, annotator, colleague, given, n=20)
        backend.stop(signal.SIGKILL)
        label_by_two(project, annotator, colleague, given, n=10)
        backend.start()
        label_by_two(project, annotator, colleague, given, n=N_LABELS - 30)
        wait_until_settled(backend, project, answered=N_LABELS)
        yield Labelled(project, backend, connection, first_queue, given, given_while_down=10)


def label_by_two(project: Json, one: Annotator, other: Annotator, given: list[tuple[str, int]], *, n: int) -> None:
    """Let both hold a task at the same time, and answer in turn.

    Not in the same instant: on SQLite, Label Studio looks for a lock and sets its own in two steps, and two
    requests within these milliseconds get the same task, whatever its sampling.
    """
    for _ in range(n // 2):
        tasks = [("one", one.next_task(project)), ("other", other.next_task(project))]
        for (who, task), annotator in zip(tasks, (one, other), strict=True):
            assert task is not None, "the queue ended before the pool"
            annotator.submit(task)
            given.append((who, task["id"]))


def test_every_task_that_was_asked_is_a_representative_and_none_is_asked_twice(labelled: Labelled) -> None:
    assert len(labelled.first_queue) == N_LABELS
    assert sorted(labelled.task_ids) == sorted(labelled.first_queue)


def test_each_annotator_is_asked_in_the_order_of_the_queue(labelled: Labelled) -> None:
    for who in ("one", "other"):
        asked = [labelled.first_queue.index(task_id) for by, task_id in labelled.given if by == who]
        assert asked == sorted(asked)


def test_nearly_all_of_the_rest_is_labelled_right(api: httpx.Client, labelled: Labelled) -> None:
    tasks, current = all_tasks(api, labelled.project), rows(api, labelled.project)
    assert set(current) == set(tasks), "each task has its row"
    rest = [task_id for task_id in tasks if task_id not in labelled.task_ids]
    right = [said(current[task_id]) == digits.true_digit(tasks[task_id]["data"]) for task_id in rest]
    share = sum(right) / len(rest)
    print(f"\n{share:.1%} of the other {len(rest)} tasks are right after {N_LABELS} labels")
    assert share >= 0.92


def test_with_every_cluster_labelled_the_least_certain_is_asked_next(
    api: httpx.Client, annotator: Annotator, labelled: Labelled
) -> None:
    tasks, current = all_tasks(api, labelled.project), rows(api, labelled.project)
    task = annotator.next_task(labelled.project)
    assert task is not None
    open_rows = [row["score"] for id_, row in current.items() if not tasks[id_]["is_labeled"]]
    assert current[task["id"]]["score"] == min(open_rows)
    assert not is_asked(min(open_rows))


def test_idle_means_idle(api: httpx.Client, labelled: Labelled) -> None:
    def all_times() -> tuple[Any, ...]:
        predictions = api.get("/api/predictions", params={"project": labelled.project["id"]}).json()
        tasks = all_tasks(api, labelled.project)
        return (
            sorted((prediction["id"], prediction["updated_at"]) for prediction in predictions),
            sorted((task["id"], task["updated_at"]) for task in tasks.values()),
            labelled.backend.status(labelled.project)["webhooks"],
            labelled.backend.status(labelled.project)["snapshot"],
        )

    before = all_times()
    idle_until = time.monotonic() + 30
    wait_for(lambda: time.monotonic() > idle_until, "30 idle seconds to pass", 40)
    assert all_times() == before


def test_a_changed_and_a_deleted_annotation_change_what_is_known(api: httpx.Client, labelled: Labelled) -> None:
    tasks = all_tasks(api, labelled.project)
    annotated = tasks[labelled.task_ids[0]]
    annotation, truth = annotated["annotations"][0], digits.true_digit(annotated["data"])
    other = (truth + 1) % 10
    api.patch(f"/api/annotations/{annotation['id']}/", json={"result": choice(other)}).raise_for_status()
    wait_for(lambda: said(rows(api, labelled.project)[annotated["id"]]) == other, "the changed answer in its row")
    api.delete(f"/api/annotations/{annotation['id']}/").raise_for_status()
    wait_until_settled(labelled.backend, labelled.project, answered=N_LABELS - 1)
    assert is_asked(rows(api, labelled.project)[annotated["id"]]["score"]), "its cluster is asked again"

    Annotator(api).submit(annotated)
    wait_until_settled(labelled.backend, labelled.project, answered=N_LABELS)
    assert said(rows(api, labelled.project)[annotated["id"]]) == truth


def test_bulk_accepted_predictions_teach_nothing(api: httpx.Client, labelled: Labelled) -> None:
    tasks = all_tasks(api, labelled.project)
    accepted = [id_ for id_, task in tasks.items() if not task["annotations"]][:20]
    before = {id_: (said(row), row["score"]) for id_, row in rows(api, labelled.project).items()}
    seen = labelled.backend.status(labelled.project)["snapshot"]
    api.post(
        "/api/dm/actions",
        params={"id": "predictions_to_annotations", "project": labelled.project["id"]},
        json={"selectedItems": {"all": False, "included": accepted}},
    ).raise_for_status()
    wait_for(lambda: labelled.backend.status(labelled.project)["snapshot"] > seen, "a new snapshot")
    wait_until_settled(labelled.backend, labelled.project, answered=N_LABELS)
    assert {id_: (said(row), row["score"]) for id_, row in rows(api, labelled.project).items()} == before
    for task in all_tasks(api, labelled.project).values():
        if task["id"] in accepted:
            api.delete(f"/api/annotations/{task['annotations'][0]['id']}/").raise_for_status()


def test_killed_in_the_middle_of_start_training_it_continues(api: httpx.Client, labelled: Labelled) -> None:
    project, backend = labelled.project, labelled.backend
    orders = backend.status(project)["orders"]
    api.post(f"/api/ml/{labelled.connection['id']}/train", json={}).raise_for_status()
    wait_for(lambda: backend.status(project)["doing"], "the full refresh to begin")
    snapshot = backend.status(project)["snapshot"]
    backend.stop(signal.SIGKILL)
    backend.start()
    assert backend.status(project)["snapshot"] == snapshot, "the last snapshot is served meanwhile"
    wait_for(lambda: backend.status(project)["snapshot"] > snapshot, "the ordered snapshot", 180)
    assert backend.status(project)["orders"] == orders + 1
    wait_until_settled(backend, project, answered=N_LABELS)
    assert len(rows(api, project)) == N_POOL  # and `rows` fails if a task has two
    job = {"job": f"{_key(project)}:{orders + 1}"}
    status = httpx.post(f"{backend.url}/job_status", json=job, trust_env=False).json()
    assert status["job_status"] == "finished"


def test_killed_while_rows_are_written_each_task_has_one_row(
    api: httpx.Client, annotator: Annotator, make_backend: Callable[..., Backend], make_project: Any
) -> None:
    project, backend = make_project(n_digits=300), make_backend()
    connect(api, project, backend)
    # Killed wherever it happens to be, at growing distances from the start of each refresh.
    for patience in (0.3, 0.6, 1.0, 1.5):
        wait_until_ready(backend, project)
        task = annotator.next_task(project)
        assert task is not None
        annotator.submit(task)
        time.sleep(patience)
        backend.stop(signal.SIGKILL)
        backend.start()
    wait_until_settled(backend, project, answered=4)
    assert len(rows(api, project)) == 300


def test_a_skipped_task_is_not_asked_first_again(
    api: httpx.Client, annotator: Annotator, backend: Backend, make_project: Any
) -> None:
    project = make_project()
    connect(api, project, backend)
    wait_until_ready(backend, project)
    task = annotator.next_task(project)
    assert task is not None
    annotator.skip(task)
    wait_for(lambda: task["id"] not in queue(api, project), "the skipped task to leave the queue")
    following = annotator.next_task(project)
    assert following is not None
    assert following["id"] != task["id"]


def test_the_queue_never_ends_before_the_pool_does(
    api: httpx.Client, annotator: Annotator, backend: Backend, make_project: Any
) -> None:
    project = make_project(n_digits=60)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    asked = []
    for _ in count():
        task = annotator.next_task(project)
        if task is None:
            break
        annotator.submit(task)
        asked.append(task["id"])
    assert sorted(asked) == sorted(all_tasks(api, project)), "every task once"


def test_tasks_that_come_and_go_join_and_leave_the_pool(
    api: httpx.Client, annotator: Annotator, backend: Backend, make_project: Any
) -> None:
    project = make_project(n_digits=60)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    gone = sorted(all_tasks(api, project))[-5:]
    for task_id in gone:
        api.delete(f"/api/tasks/{task_id}/").raise_for_status()
    wait_for(lambda: backend.status(project)["tasks"] == 55, "the deleted tasks to leave")
    upload_digits(api, project, range(60, 100))
    wait_for(lambda: backend.status(project)["tasks"] == 95, "the new tasks to join")
    wait_until_settled(backend, project, answered=0)
    new = set(sorted(all_tasks(api, project))[-40:])
    assert new & set(queue(api, project)), "new tasks are asked, too"


def test_a_changed_label_config_starts_the_learning_anew(
    api: httpx.Client, annotator: Annotator, backend: Backend, make_project: Any
) -> None:
    project = make_project(n_digits=60)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    config = LABEL_CONFIG.replace('name="digit"', 'name="number"')
    api.patch(f"/api/projects/{project['id']}/", json={"label_config": config}).raise_for_status()
    wait_for(
        lambda: api.get(f"/api/projects/{project['id']}/").json()["model_version"] == "exemplar-2",
        "the next generation to be shown",
    )
    assert "the label config has changed; learning starts anew" in backend.log
    assert queue(api, project)


def test_model_dir_can_be_deleted(
    api: httpx.Client, annotator: Annotator, backend: Backend, make_project: Any
) -> None:
    project = make_project(n_digits=60)
    connect(api, project, backend)
    wait_until_ready(backend, project)
    for _ in range(4):
        task = annotator.next_task(project)
        assert task is not None
        annotator.submit(task)
    wait_until_settled(backend, project, answered=4)
    before = {id_: (row["id"], said(row)) for id_, row in rows(api, project).items()}
    backend.stop()
    shutil.rmtree(backend.models)
    backend.start()
    wait_for(lambda: backend.status(project), "Label Studio to introduce us again")
    wait_until_settled(backend, project, answered=4)
    assert {id_: (row["id"], said(row)) for id_, row in rows(api, project).items()} == before


def test_disconnect_takes_back_all_that_is_ours_and_nothing_else(
    api: httpx.Client, annotator: Annotator, backend: Backend, make_project: Any
) -> None:
    project, neighbour = make_project(n_digits=60), make_project(n_digits=40)
    for one in (project, neighbour):
        connect(api, one, backend)
    for one in (project, neighbour):
        wait_until_ready(backend, one)
    task = annotator.next_task(project)
    assert task is not None
    annotation = annotator.submit(task)
    foreign = {"task": task["id"], "result": [], "score": 0.5, "model_version": "somebody-else"}
    api.post("/api/predictions", json={**foreign, "project": project["id"]}).raise_for_status()
    wait_until_settled(backend, project, answered=1)
    untouched = rows(api, neighbour)

    environment = {**os.environ, **backend.environment, "MODEL_DIR": str(backend.models)}
    command = [sys.executable, "-m", "exemplar", "disconnect", str(project["id"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "No annotation was touched" in done.stdout
    left = api.get("/api/predictions", params={"project": project["id"]}).json()
    assert [prediction["model_version"] for prediction in left] == ["somebody-else"]
    facts = api.get(f"/api/projects/{project['id']}/").json()
    assert (facts["sampling"], facts["model_version"]) == ("Sequential sampling", "")
    assert api.get("/api/ml", params={"project": project["id"]}).json() == []
    assert api.get("/api/webhooks/", params={"project": project["id"]}).json() == []
    assert api.get(f"/api/annotations/{annotation['id']}/").status_code == 200
    assert rows(api, neighbour) == untouched
    annotator.submit(annotator.next_task(neighbour) or {})
    wait_until_settled(backend, neighbour, answered=1)


def _key(project: Json) -> str:
    return f"{project['id']}.{int(datetime.fromisoformat(project['created_at']).timestamp())}"
