"""People and projects in a real Label Studio, over its API."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx

from conftest import Backend
from exemplar.demo import digits
from exemplar.rows import is_asked

Json = dict[str, Any]


@dataclass
class Annotator:
    """Somebody with an account, who takes tasks from the queue and answers them with the truth."""

    api: httpx.Client

    def next_task(self, project: Json) -> Json | None:
        answer = self.api.get(f"/api/projects/{project['id']}/next")
        if answer.status_code == 404:
            return None
        task: Json = answer.raise_for_status().json()
        return task

    def submit(self, task: Json, digit: int | None = None, **values: Any) -> Json:
        digit = digits.true_digit(task["data"]) if digit is None else digit
        body = {"result": choice(digit), "lead_time": 2.5, **values}
        made = self.api.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()
        annotation: Json = made.json()
        return annotation

    def submit_shown(self, task: Json) -> Json:
        """Submit as the page does: the annotation names the row that was shown when the task was opened."""
        shown = task["predictions"][0]["id"]
        return self.submit(task, parent_prediction=shown)

    def skip(self, task: Json) -> None:
        body = {"result": [], "was_cancelled": True, "lead_time": 1.0}
        self.api.post(f"/api/tasks/{task['id']}/annotations/?was_cancelled=1", json=body).raise_for_status()


def choice(digit: int) -> list[Json]:
    return [
        {"id": "x", "from_name": "digit", "to_name": "image", "type": "choices", "value": {"choices": [str(digit)]}}
    ]


@contextmanager
def sign_up(studio_url: str, administrator: httpx.Client, email: str) -> Iterator[Annotator]:
    """Join by the invitation link, as a colleague does."""
    link = administrator.get("/api/invite").json()["invite_url"]
    with httpx.Client(base_url=studio_url, follow_redirects=True, trust_env=False) as browser:
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', browser.get(link).text)
        assert token, "the sign-up form has no CSRF token"
        form = {"csrfmiddlewaretoken": token[1], "email": email, "password": "exemplar-2"}
        browser.post(link, data=form, headers={"Referer": studio_url}).raise_for_status()
        key = browser.get("/api/current-user/token").raise_for_status().json()["token"]
    headers = {"Authorization": f"Token {key}"}
    with httpx.Client(base_url=studio_url, headers=headers, timeout=60, trust_env=False) as colleague:
        yield Annotator(colleague)


def connect(api: httpx.Client, project: Json, backend: Backend, **options: Any) -> Json:
    """Connect the backend as a click in Settings ▸ Model does; return the connection."""
    body = {"project": project["id"], "url": backend.url, "title": "Exemplar", **options}
    made = api.post("/api/ml", json=body)
    assert made.status_code == 201, made.text
    connection: Json = made.json()
    return connection


def rows(api: httpx.Client, project: Json) -> dict[int, Json]:
    """Return the current generation's row of each task; fails if a task has two."""
    current = api.get(f"/api/projects/{project['id']}/").json()["model_version"]
    found: dict[int, Json] = {}
    for prediction in api.get("/api/predictions", params={"project": project["id"]}).json():
        if prediction["model_version"] == current:
            assert prediction["task"] not in found, f"task {prediction['task']} has two rows"
            found[prediction["task"]] = prediction
    return found


def queue(api: httpx.Client, project: Json) -> list[int]:
    """Return the ids of the tasks that are asked next, in order."""
    asked = [row for row in rows(api, project).values() if is_asked(row["score"])]
    return [row["task"] for row in sorted(asked, key=lambda row: row["score"])]


def said(row: Json) -> int | None:
    """Return the digit of a row's pre-annotation."""
    return int(row["result"][0]["value"]["choices"][0]) if row["result"] else None


def all_tasks(api: httpx.Client, project: Json) -> dict[int, Json]:
    """Return all tasks with their annotations; at more than some hundreds a page Label Studio answers 500."""
    found: dict[int, Json] = {}
    for page in count(1):
        params = {"project": project["id"], "page": page, "page_size": 500, "fields": "all"}
        answer = api.get("/api/tasks", params=params).raise_for_status().json()
        found.update((task["id"], task) for task in answer["tasks"])
        if page * 500 >= answer["total"]:
            return found
    raise AssertionError


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    """Return what the condition gives once it is true; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


def wait_until_ready(backend: Backend, project: Json) -> None:
    wait_for(lambda: backend.status(project).get("state") == "ready", f"a queue; {backend.status(project)}")


def wait_until_settled(backend: Backend, project: Json, *, answered: int) -> Json:
    """Wait until so many answers are learned and all rows follow; return the status."""

    def settled() -> Json | None:
        status = backend.status(project)
        is_idle = not status.get("doing") and not status.get("problem") and status.get("pending_rows") == 0
        return status if is_idle and status["answered"] == answered else None

    try:
        status: Json = wait_for(settled, f"{answered} answers to be learned and in the rows", 180)
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {backend.status(project)}\n{backend.log[-2000:]}") from None
    return status
