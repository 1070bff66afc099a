"""The demo's project in Label Studio: made, filled and connected over its HTTP API, as by clicks."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from exemplar.demo.dataset import Dataset
from exemplar.demo.processes import LOOPBACK, DemoError
from exemplar.labelstudio.auth import authentication

BACKEND_TITLE = "Exemplar"
_EXAMPLES_PER_IMPORT = 100  # Label Studio's DATA_UPLOAD_MAX_NUMBER_FILES
_TASKS_PER_PAGE = 500


@dataclass(frozen=True)
class DemoProject:
    """A project that the demo made; no other project has both its id and its time of creation."""

    id: int
    created_at: str
    label_config: str

    @property
    def key(self) -> str:
        """The project's name in what Label Studio sends to a backend."""
        return f"{self.id}.{int(datetime.fromisoformat(self.created_at).timestamp())}"


# ── The API ──────────────────────────────────────────────────────────────────────────────────────────────


def api_client(url: str, key: str) -> httpx.Client:
    """Return a client of a Label Studio; the key is a legacy token or a personal access token."""
    return httpx.Client(
        base_url=url,
        auth=authentication(url, key),
        timeout=120,
        trust_env=not is_local(url),  # a proxy cannot reach this machine's loopback address
    )


def is_local(url: str) -> bool:
    """Tell whether an address is on this machine's loopback interface."""
    return urlsplit(url).hostname in ("localhost", LOOPBACK, "::1")


def send(client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
    """Send one request and return the answer, whatever its status; raise a ``DemoError`` if there is none."""
    try:
        return client.request(method, path, **options)
    except httpx.TransportError as error:
        raise DemoError(f"{method} {client.base_url.join(path)}: {error or type(error).__name__}") from error


def content(response: httpx.Response) -> Any:
    """Return what an answer holds; raise a ``DemoError`` for anything but success."""
    if not response.is_success:
        request = response.request
        raise DemoError(f"{request.method} {request.url}: {response.status_code}, {response.text[:500]}")
    return response.json() if response.content else None


def call(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    """Send one request and return what its answer holds."""
    return content(send(client, method, path, **options))


# ── The project and its tasks ────────────────────────────────────────────────────────────────────────────


def recall(client: httpx.Client, state: Path) -> DemoProject | None:
    """Return the project that the state file remembers, if it still is in this Label Studio."""
    if not state.exists():
        return None
    remembered = DemoProject(**json.loads(state.read_text()))
    answer = send(client, "GET", f"/api/projects/{remembered.id}/")
    if answer.status_code == 404 or content(answer)["created_at"] != remembered.created_at:
        return None
    return remembered


def find_or_create(client: httpx.Client, state: Path, *, title: str, label_config: str) -> DemoProject:
    """Return the demo's project; a person's project of the same title is left alone."""
    project = recall(client, state)
    if project is None:
        made = call(client, "POST", "/api/projects/", json={"title": title, "label_config": label_config})
        project = DemoProject(made["id"], made["created_at"], made["label_config"])
        state.write_text(json.dumps(asdict(project), indent=2))
    return project


def delete(client: httpx.Client, state: Path) -> None:
    """Delete the demo's project, and no other."""
    project = recall(client, state)
    if project is not None:
        call(client, "DELETE", f"/api/projects/{project.id}/")
    state.unlink(missing_ok=True)


def tasks(client: httpx.Client, project: DemoProject) -> Iterator[dict[str, Any]]:
    """Yield the id, data and number of annotations of every task."""
    read = 0
    for page in count(1):
        options = {"page": page, "page_size": _TASKS_PER_PAGE, "include": "id,data,total_annotations"}
        answer = call(client, "GET", "/api/tasks", params={"project": project.id, **options})
        yield from answer["tasks"]
        read += len(answer["tasks"])
        if read >= answer["total"] or not answer["tasks"]:
            return


def missing(client: httpx.Client, project: DemoProject, dataset: Dataset) -> list[int]:
    """Return those of the pool's examples that the project has no task of."""
    there = {dataset.index_of(task["data"]) for task in tasks(client, project)}
    return [index for index in dataset.pool if index not in there]


def upload(
    client: httpx.Client,
    project: DemoProject,
    dataset: Dataset,
    indices: Sequence[int],
    *,
    report: Callable[[int], None],
) -> None:
    """Upload examples; ``report`` gets how many came with each finished request."""
    for start in range(0, len(indices), _EXAMPLES_PER_IMPORT):
        batch = indices[start : start + _EXAMPLES_PER_IMPORT]
        call(client, "POST", f"/api/projects/{project.id}/import", **dataset.imported(batch))
        report(len(batch))


# ── The backend ──────────────────────────────────────────────────────────────────────────────────────────


def connect(client: httpx.Client, project: DemoProject, backend_url: str) -> None:
    """Connect the backend unless it is; one of ours at another address, from an earlier run, goes."""
    connected = call(client, "GET", "/api/ml", params={"project": project.id})  # makes Label Studio call /setup
    for backend in connected:
        if backend["title"] == BACKEND_TITLE and backend["url"] != backend_url:
            _disconnect(client, project, backend)
    if all(backend["url"] != backend_url for backend in connected):
        backend = {"project": project.id, "url": backend_url, "title": BACKEND_TITLE}
        backend["description"] = "Active learning: exemplars first, answers spread to the tasks like them."
        call(client, "POST", "/api/ml", json=backend)


def _disconnect(client: httpx.Client, project: DemoProject, backend: dict[str, Any]) -> None:
    call(client, "DELETE", f"/api/ml/{backend['id']}")
    # Label Studio makes a webhook with a backend, and leaves it when the backend goes.
    for webhook in _webhooks(client, project, backend["url"]):
        call(client, "DELETE", f"/api/webhooks/{webhook['id']}/")


def has_webhook(client: httpx.Client, project: DemoProject, backend_url: str) -> bool:
    """Tell whether Label Studio will call the backend's webhook; its SSRF protection can refuse, silently."""
    return bool(_webhooks(client, project, backend_url))


def _webhooks(client: httpx.Client, project: DemoProject, backend_url: str) -> list[dict[str, Any]]:
    webhooks = call(client, "GET", "/api/webhooks/", params={"project": project.id})
    return [
        webhook for webhook in webhooks if webhook["url"].partition("?")[0] == f"{backend_url.rstrip('/')}/webhook"
    ]


def wait_until_ready(
    backend: httpx.Client,
    project: DemoProject,
    *,
    report: Callable[[str], None] = lambda doing: None,
    seconds: float = 300,
) -> None:
    """Return once the backend has the project's queue; ``report`` gets what it is doing meanwhile."""
    deadline = time.monotonic() + seconds
    state: dict[str, Any] = {}
    while time.monotonic() < deadline:
        answer = call(backend, "GET", "/", headers={"Accept": "application/json"})
        state = answer["projects"].get(project.key, {})
        if state.get("state") == "failed":
            raise DemoError(f"The backend cannot work with the project: {state.get('problem')}")
        if state.get("state") == "ready":
            return
        report(state.get("doing") or "waiting to begin")
        time.sleep(0.2)
    raise DemoError(f"The backend had no queue within {seconds:.0f} s; its last state: {state}")
