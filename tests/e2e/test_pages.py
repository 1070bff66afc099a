"""Exemplar as people meet it: a real browser clicks through the pages of a real Label Studio."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from e2e.annotators import connect, queue, sign_up
from e2e.pages import (
    LabelStream,
    browsing,
    connect_model,
    digit_of,
    listed_scores,
    log_in,
    model_card,
    open_model_settings,
    show_scores,
    shown_score,
    start_training,
)
from exemplar.rows import is_asked

BACKEND_SECONDS = 60

Json = dict[str, Any]


@pytest.fixture
def page(chromium: str, label_studio: Any, tmp_path: Path) -> Iterator[Page]:
    with browsing(chromium, label_studio) as desk:
        page = desk.window()
        yield page
        page.screenshot(path=tmp_path / "last-seen.png")  # for whoever asks why a test failed


def test_a_person_connects_labels_sees_preannotations_and_starts_training(
    page: Page, label_studio: Any, backend: Any, make_project: Callable[..., Json], tmp_path: Path
) -> None:
    project = make_project(n_digits=60)
    log_in(page, label_studio.email, label_studio.password)

    open_model_settings(page, project)
    connect_model(page, "Exemplar", backend.url, extra_params='{"n_clusters": 12}')
    expect(model_card(page, "Exemplar")).to_contain_text("Connected")
    wait_for(lambda: learning(backend, project).get("state") == "ready", "the backend to be ready")
    assert kept_extra_params(backend) == {"n_clusters": 12}

    queued = min(rows(label_studio, project), key=lambda row: row["score"])
    assert shown_score(page, project, queued["task"]) == "0.00%", "asked next, of no confidence yet"

    stream = LabelStream(page)
    stream.open(project)
    assert stream.task["id"] == queued["task"]
    answers = [stream.answer(digit_of(stream.task)) for _ in range(5)]
    assert stored_answers(label_studio, project) == dict(answers)
    assert len({digit for _, digit in answers}) > 1, f"the queue began with one digit only: {answers}"

    wait_for(lambda: has_preannotation(label_studio, stream.task), f"a row for task {stream.task['id']}")
    stream.reopen()
    expect(stream.ticked).to_have_count(1)
    assert stream.task["drafts"] == [], "the tick could be a draft of ours"
    assert stream.ticked.get_attribute("name") in preannotations(stream.task)
    stream.fold_side_panels()
    take_screenshot(page, tmp_path)

    before = learning(backend, project)["orders"]
    open_model_settings(page, project)
    start_training(page, "Exemplar")
    wait_for(lambda: learning(backend, project)["orders"] > before, "the backend to get Start Training")


def test_two_people_at_once_see_the_same_scores_and_are_asked_in_turn(
    chromium: str, label_studio: Any, api: httpx.Client, backend: Any, make_project: Callable[..., Json]
) -> None:
    project = make_project(n_digits=80)
    connect(api, project, backend)
    wait_for(lambda: learning(backend, project).get("state") == "ready", "the backend to be ready")
    asked = queue(api, project)
    email, password = "beside@example.com", "exemplar-2"
    with sign_up(label_studio.url, api, email), browsing(chromium, label_studio) as desk:
        one, other = desk.window(), desk.window()
        log_in(one, label_studio.email, label_studio.password)
        log_in(other, email, password)
        streams = [LabelStream(one), LabelStream(other)]
        for stream in streams:
            stream.open(project)
        given = [stream.task["id"] for stream in streams]
        for _ in range(2):
            for stream in streams:
                stream.answer(digit_of(stream.task))
                given.append(stream.task["id"])
        assert given == asked[:6], "each is asked the next that nobody else has"

        wait_for(lambda: learning(backend, project)["answered"] == 4, "four answers to be learned")
        wait_for(lambda: learning(backend, project)["pending_rows"] == 0, "all rows to follow")
        scores = {row["task"]: row["score"] for row in rows(label_studio, project)}
        unanswered = [task_id for task_id in scores if task_id not in given]
        queued = next(task_id for task_id in queue(api, project) if task_id in unanswered)
        surest = max(unanswered, key=lambda task_id: scores[task_id])
        assert not is_asked(scores[surest])
        show_scores(one, project)
        for page in (one, other):
            assert shown_score(page, project, queued) == "0.00%", "asked next"
            assert shown_score(page, project, surest) == f"{scores[surest]:.2%}"
            listed = listed_scores(page, project)
            assert listed
            assert listed == {id_: "1" if scores[id_] == 1 else f"{scores[id_]:.3f}" for id_ in listed}


def take_screenshot(page: Page, tmp_path: Path) -> None:
    """Keep the page as a picture; the one in README.md was made with EXEMPLAR_TEST_SCREENSHOT=<file>."""
    file = os.environ.get("EXEMPLAR_TEST_SCREENSHOT") or tmp_path / "labelling.png"
    page.screenshot(path=file, animations="disabled")


# ---- what is known beside the pages


def learning(backend: Any, project: Json) -> Json:
    """What the backend says of the project; nothing while it does not know it."""
    projects = _get(f"{backend.url}/")["projects"]
    mine = [state for key, state in projects.items() if re.search(rf"(^|\D){project['id']}\.\d+$", key)]
    return mine[0] if mine else {}


def stored_answers(label_studio: Any, project: Json) -> dict[int, str]:
    """Task id → the digit that its annotation in Label Studio holds."""
    query = {"project": project["id"], "page_size": 1000, "fields": "all"}
    tasks = _get(f"{label_studio.url}/api/tasks", label_studio.token, **query)["tasks"]
    return {task["id"]: _choice(task["annotations"][0]) for task in tasks if task["annotations"]}


def kept_extra_params(backend: Any) -> Any:
    """What the backend was told of its one project in the form's extra params."""
    (path,) = backend.models.glob("**/connection.json")
    return json.loads(path.read_text())["extra_params"]


def rows(label_studio: Any, project: Json) -> list[Json]:
    """The predictions of the project that have a score."""
    found = _get(f"{label_studio.url}/api/predictions", label_studio.token, project=project["id"])
    return [row for row in found if row["score"] is not None]


def has_preannotation(label_studio: Any, task: Json) -> bool:
    """Whether Label Studio holds a row with an answer for the task, under the project's current version."""
    project = _get(f"{label_studio.url}/api/projects/{task['project']}", label_studio.token)
    rows = _get(f"{label_studio.url}/api/predictions", label_studio.token, task=task["id"])
    return any(row["result"] for row in rows if row["model_version"] == project["model_version"])


def preannotations(task: Json) -> set[str]:
    """The digits that the rows sent with a task propose."""
    return {_choice(row) for row in task["predictions"] if row["result"]}


def wait_for(ask: Callable[[], bool], what: str) -> None:
    """Ask again and again until the answer is yes."""
    deadline = time.monotonic() + BACKEND_SECONDS
    while not ask():
        assert time.monotonic() < deadline, f"waited {BACKEND_SECONDS} s for {what}"
        time.sleep(0.2)


def _choice(answer: Json) -> str:
    return str(answer["result"][0]["value"]["choices"][0])


def _get(url: str, token: str = "", **query: Any) -> Any:
    headers = {"Accept": "application/json"} | ({"Authorization": f"Token {token}"} if token else {})
    return httpx.get(url, params=query, headers=headers, timeout=30).raise_for_status().json()
