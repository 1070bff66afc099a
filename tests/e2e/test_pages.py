"""Exemplar as people meet it: a real browser clicks through the pages of a real Label Studio.

Label Studio 1.23.2's pages carry few test ids, so every handle that they are found by stands in this file,
inside the functions that say what a person does. Nothing waits for a fixed time: each step waits for what
it needs to see.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, Response, Route, expect, sync_playwright
from sklearn.datasets import load_digits

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE_MS = 30_000  # a page of a Label Studio that has just started, on a busy machine
BACKEND_SECONDS = 60

Json = dict[str, Any]


@pytest.fixture
def page(chromium: str, label_studio: Any, tmp_path: Path) -> Iterator[Page]:
    """A fresh browser that reaches nothing but Label Studio: its pages also call trackers on the internet."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=label_studio.url)
        context.set_default_timeout(PAGE_MS)
        expect.set_options(timeout=PAGE_MS)
        context.route(lambda url: not url.startswith(label_studio.url), _abort)
        page = context.new_page()
        yield page
        page.screenshot(path=tmp_path / "last-seen.png")  # for whoever asks why a test failed
        context.unroute_all(behavior="ignoreErrors")
        browser.close()


def test_a_person_connects_labels_sees_preannotations_and_starts_training(
    page: Page, label_studio: Any, backend: Any, make_project: Callable[..., Json], tmp_path: Path
) -> None:
    project = make_project(n_digits=60)
    log_in(page, label_studio)

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


# ---- what a person does in the pages


def log_in(page: Page, label_studio: Any) -> None:
    """Fill the login form and arrive at the home page."""
    page.goto("/user/login/")
    page.locator("input[name=email]").fill(label_studio.email)  # the form's labels are not tied to its fields
    page.locator("input[name=password]").fill(label_studio.password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "/user/login" not in url)


def open_model_settings(page: Page, project: Json) -> None:
    """Open the project's Settings and click Model in its menu."""
    page.goto(f"/projects/{project['id']}/settings")
    page.get_by_role("link", name="Model", exact=True).click()
    expect(page.get_by_role("heading", name="Model", exact=True)).to_be_visible()


def connect_model(page: Page, name: str, url: str, *, extra_params: str = "") -> None:
    """Press Connect Model, fill the form, press Validate and Save, and see the form go."""
    page.get_by_role("button", name="Add machine learning model").click()
    page.locator("input[name=title]").fill(name)
    page.locator("input[name=url]").fill(url)
    page.get_by_label("Any extra params to pass during model connection").fill(extra_params)
    with page.expect_response(lambda response: _is_post(response, "/api/ml")) as saved:
        page.get_by_role("button", name="Save machine learning form").click()  # it reads "Validate and Save"
    assert saved.value.status == 201, saved.value.text()
    expect(page.locator("input[name=title]")).to_have_count(0)


def model_card(page: Page, name: str) -> Locator:
    """The card of a connected model: the smallest box with its name and its menu button."""
    menu = page.get_by_role("button", name="Machine learning model options")
    return page.locator("div").filter(has=page.get_by_text(name, exact=True)).filter(has=menu).last


def shown_score(page: Page, project: Json, task_id: int) -> str:
    """Open a task from the Data Manager and read what its prediction's tab says of the score."""
    page.goto(f"/projects/{project['id']}/data?task={task_id}")
    tab = page.locator(".lsf-annotation-button__info").filter(has_text="%")
    expect(tab).to_have_count(1)
    return tab.inner_text().partition("·")[2].strip()


def start_training(page: Page, name: str) -> None:
    """Choose Start Training in the model's menu (the three dots), confirm it, see it sent."""
    model_card(page, name).get_by_role("button", name="Machine learning model options").click()
    page.get_by_role("listitem").filter(has_text="Start Training").click()
    page.get_by_role("button", name="Start Training", exact=True).click()
    expect(page.get_by_text("Request Sent!")).to_be_visible()


class LabelStream:
    """The page behind the Data Manager's "Label All Tasks": one task after another.

    The page's address does not name the task, so `task` is what Label Studio sent to the page to show.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.ticked = page.locator(".lsf-choices input[type=radio]:checked")
        self.task: Json = {}

    def open(self, project: Json) -> None:
        """Press Label All Tasks in the Data Manager."""
        self.page.goto(f"/projects/{project['id']}/data")
        self._see_next_task_after(self.page.get_by_role("button", name="Label All Tasks").click)

    def reopen(self) -> None:
        """Reload: the same task (Label Studio has locked it for this person) with its rows of now."""
        task_id = self.task["id"]
        self._see_next_task_after(self.page.reload)
        assert self.task["id"] == task_id

    def answer(self, digit: str) -> tuple[int, str]:
        """Tick a digit unless its pre-annotation is right, press Submit, see the next task."""
        task_id = self.task["id"]
        # Not by role and name: the hotkey's number belongs to the name, so "3" is in "2[3]" and in "3[4]".
        self.page.locator(f'.lsf-choices input[type=radio][name="{digit}"]').check()
        expect(self.ticked).to_have_count(1)
        self._see_next_task_after(self.page.get_by_test_id("bottombar-submit-button").click)
        return task_id, digit

    def _see_next_task_after(self, act: Callable[[], Any]) -> None:
        with self.page.expect_response(lambda response: "id=next_task" in response.url) as sent:
            act()
        assert sent.value.ok, sent.value.text()
        self.task = sent.value.json()
        shown = self.page.locator(".lsf-current-task__task-id")
        expect(shown).to_have_text(re.compile(rf"^{self.task['id']}\b"), use_inner_text=True)
        expect(self.page.locator("img[alt=image]")).to_be_visible()
        expect(self.page.locator("img[alt=image]")).not_to_have_js_property("naturalWidth", 0)
        expect(self.page.get_by_test_id("bottombar-submit-button")).to_be_enabled()

    def fold_side_panels(self) -> None:
        """Fold the panels of regions at the right, which are empty in a classification project."""
        self.page.locator('[data-tooltip="Collapse Group"]').first.click()
        expect(self.page.locator('[data-tooltip="Collapse Group"]')).to_have_count(0)
        self.page.mouse.move(600, 600)  # away from what shows a tooltip


def take_screenshot(page: Page, tmp_path: Path) -> None:
    """Keep the page as a picture; the one in README.md was made with EXEMPLAR_TEST_SCREENSHOT=<file>."""
    file = os.environ.get("EXEMPLAR_TEST_SCREENSHOT") or tmp_path / "labelling.png"
    page.screenshot(path=file, animations="disabled")


# ---- what is known beside the pages


def digit_of(task: Json) -> str:
    """The true digit: a file is named after its index in scikit-learn's digits."""
    index = re.search(r"digit-(\d+)\.png", task["data"]["image"])
    assert index, task["data"]
    return str(load_digits().target[int(index[1])])


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


def _is_post(response: Response, path_end: str) -> bool:
    return response.request.method == "POST" and response.url.partition("?")[0].endswith(path_end)


def _abort(route: Route) -> None:
    route.abort()
