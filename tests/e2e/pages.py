"""What people do in Label Studio's pages, in a real browser.

Label Studio 1.23.2's pages carry few test ids, so every handle that they are found by stands in this file,
inside the functions that say what a person does. Nothing waits for a fixed time: each step waits for what
it needs to see.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Locator, Page, Response, Route, expect, sync_playwright
from sklearn.datasets import load_digits

from exemplar.demo.label_studio import LabelStudio

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
TIMES_OPENED = 4

Json = dict[str, Any]


@contextmanager
def browsing(chromium: str, studio: LabelStudio) -> Iterator["Desk"]:
    """Start a browser, in which any number of people open windows of their own."""
    expect.set_options(timeout=PAGE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        desk = Desk(browser, studio)
        yield desk
        for context in browser.contexts:
            context.unroute_all(behavior="ignoreErrors")
        browser.close()


@dataclass
class Desk:
    """A browser in front of a Label Studio."""

    browser: Browser
    studio: LabelStudio

    def window(self) -> Page:
        """Open a window that shares no cookie with the others, and reaches nothing but Label Studio: its pages also
        call trackers on the internet."""
        context = self.browser.new_context(viewport={"width": 1280, "height": 800}, base_url=self.studio.url)
        context.set_default_timeout(PAGE_MS)
        context.route(lambda url: not url.startswith(self.studio.url), _abort)
        return context.new_page()


def log_in(page: Page, email: str, password: str) -> None:
    """Fill the login form and arrive at the home page."""
    page.goto("/user/login/")
    page.locator("input[name=email]").fill(email)  # the form's labels are not tied to its fields
    page.locator("input[name=password]").fill(password)
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
    """Open a task from the Data Manager and read what its prediction's tab says of the score.

    The Data Manager asks for the task and for its list at once; where the list comes last, the task is drawn as
    the list has it, without predictions, until it is opened again.
    """
    tab = page.locator(".lsf-annotation-button__info").filter(has_text="%")
    for _ in range(TIMES_OPENED):
        page.goto(f"/projects/{project['id']}/data?task={task_id}")
        expect(page.locator(".lsf-annotation-button__info").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        if tab.count():
            break
    expect(tab).to_have_count(1)
    return tab.inner_text().partition("·")[2].strip()


def show_scores(page: Page, project: Json) -> None:
    """Open the Data Manager and tick Prediction score among its columns."""
    page.goto(f"/projects/{project['id']}/data")
    page.get_by_role("button", name="Columns").click()
    page.get_by_text("Prediction score", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator(".lsf-table-head").get_by_text("Prediction score")).to_be_visible()


def listed_scores(page: Page, project: Json) -> dict[int, str]:
    """Open the Data Manager and read its first rows: task id → prediction score, both as they stand there."""
    page.goto(f"/projects/{project['id']}/data")
    expect(page.locator(".lsf-table-head").get_by_text("Prediction score")).to_be_visible()
    expect(page.get_by_test_id("table-row").first).to_be_visible()
    expect(page.get_by_test_id("table-row").last).not_to_have_text("")
    names = page.locator(".lsf-table-head .lsf-table__cell").all_inner_texts()
    cells = [row.locator(".lsf-table__cell").all_inner_texts() for row in page.get_by_test_id("table-row").all()]
    return {int(row[names.index("ID")]): row[names.index("Prediction score")] for row in cells}


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


def digit_of(task: Json) -> str:
    """The true digit: a file is named after its index in scikit-learn's digits."""
    index = re.search(r"digit-(\d+)\.png", task["data"]["image"])
    assert index, task["data"]
    return str(load_digits().target[int(index[1])])


def _is_post(response: Response, path_end: str) -> bool:
    return response.request.method == "POST" and response.url.partition("?")[0].endswith(path_end)


def _abort(route: Route) -> None:
    route.abort()
