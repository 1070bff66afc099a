"""Overlap 2 on a real Label Studio: each task is answered by two annotators, and both answers count."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from conftest import Backend
from e2e.annotators import Annotator, all_tasks, connect, queue, sign_up, wait_until_ready, wait_until_settled
from exemplar.demo import digits
from exemplar.demo.label_studio import LabelStudio
from exemplar.store.home import Home

# As long as the queue of these methods is, and known beforehand.
N_CLUSTERS = 8
METHODS = {
    "propagation": "clusters",
    "queue": "representatives",
    "n_clusters": N_CLUSTERS,
    "batch_size": N_CLUSTERS,
    "audit_share": 0,
}

Json = dict[str, Any]


@pytest.fixture
def annotator(api: httpx.Client) -> Annotator:
    return Annotator(api)


@pytest.fixture
def colleague(studio: LabelStudio, api: httpx.Client) -> Iterator[Annotator]:
    with sign_up(studio.url, api, "second@example.com") as somebody:
        yield somebody


def ask(annotator: Annotator, project: Json) -> Json:
    task = annotator.next_task(project)
    assert task is not None, "the queue ended before the pool"
    return task


def test_two_annotators_are_asked_the_same_queue_in_its_order_and_both_answers_count(
    api: httpx.Client,
    annotator: Annotator,
    colleague: Annotator,
    backend: Backend,
    make_project: Callable[..., Json],
) -> None:
    project = make_project(n_digits=60, maximum_annotations=2)
    connect(api, project, backend, extra_params=METHODS)
    wait_until_ready(backend, project)
    order = queue(api, project)
    assert len(order) == N_CLUSTERS
    asked: dict[str, list[int]] = {"one": [], "other": []}

    # Side by side, each holding a task: the second one differs in one answer.
    for n in range(3):
        tasks = [ask(annotator, project), ask(colleague, project)]
        for who, somebody, task in zip(asked, (annotator, colleague), tasks, strict=True):
            asked[who].append(task["id"])
            wrong = who == "other" and n == 1
            somebody.submit(task, (digits.true_digit(task["data"]) + wrong) % 10)
    assert asked == {"one": order[:3], "other": order[:3]}

    # One goes ahead; the other is first asked what waits for a second answer, and then goes ahead in turn.
    for who, somebody, n in (("one", annotator, 2), ("other", colleague, 4), ("one", annotator, 3)):
        for _ in range(n):
            task = ask(somebody, project)
            asked[who].append(task["id"])
            somebody.submit(task)
    assert asked["one"] == order[:5] + sorted(asked["one"][5:7], key=asked["one"].index) + [order[7]]
    assert sorted(asked["one"][5:7]) == sorted(order[5:7])
    assert sorted(asked["other"][3:5]) == sorted(order[3:5]), "Label Studio chooses among those at random"
    assert asked["other"][5:] == order[5:7]

    wait_until_settled(backend, project, answered=N_CLUSTERS)
    [store] = Home(backend.models).with_id(project["id"])
    snapshot = store.current()
    assert snapshot is not None
    assert [len(snapshot.by_id[task_id].annotations) for task_id in order] == [2] * 7 + [1]
    row = snapshot.row(order[1])
    assert row is not None
    truth = digits.true_digit(all_tasks(api, project)[order[1]]["data"])
    likeliest = np.argsort(-snapshot.distributions[row])[:2]
    assert {int(snapshot.facts.labeling.classes[i]) for i in likeliest} == {truth, (truth + 1) % 10}
    assert np.ptp(snapshot.distributions[row][likeliest]) < 0.01, "one vote each"
    [label] = {
        int(snapshot.facts.labeling.classes[snapshot.choices[snapshot.row(task_id)]]) for task_id in order[:1]
    }
    assert label == digits.true_digit(all_tasks(api, project)[order[0]]["data"])
