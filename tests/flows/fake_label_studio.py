"""A small Label Studio 1.23.2 that keeps real state, over real HTTP, and fails when it is told to.

``FakeLabelStudio`` is what tests hold: people act by its methods (``submit``, ``skip``, ``connect``, …), Exemplar
comes by HTTP. What stands in ``state`` is what a test asserts.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

import httpx
from fastapi import Body, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from flows.fake_state import ApiError, Json, State
from flows.serving import Switch

TOKEN = "0" * 39 + "1"
COLLEAGUE_TOKEN = "0" * 39 + "2"
PERSONAL_TOKEN = "aGVhZA.cmVmcmVzaA.c2ln"  # a refresh token: a JWT, hence two dots
WEBHOOK_SECONDS = 1.0
READS = ("GET", "HEAD")


@dataclass
class Faults:
    """What goes wrong; writes are counted from 1 since this object was set.

    ``down`` answers 503 to all, ``writes_fail_from`` to that write and all later ones, ``write_fails`` to that one
    only; the answer to ``answer_lost_after`` is cut off after the write was committed, and no later write is
    taken, as when the caller died there. ``twist`` makes another answer of a path's JSON; ``not_found`` and
    all below it is answered 404.
    """

    down: bool = False
    delay: float = 0.0
    write_fails: int | None = None
    writes_fail_from: int | None = None
    answer_lost_after: int | None = None
    n_writes: int = 0
    twist: Callable[[str, Any], Any] | None = None
    not_found: str | None = None


@dataclass
class FakeLabelStudio:
    """A running fake: its address, its state, what was asked of it, and what is wrong with it."""

    url: str = ""
    state: State = field(default_factory=State)
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, str]] = field(default_factory=list)
    webhook_answers: list[tuple[str, int | str, float]] = field(default_factory=list)
    refuses_local_webhooks: bool = False  # as with ML_BLOCK_LOCAL_IP=false alone
    users: dict[str, int] = field(default_factory=lambda: {TOKEN: 1, COLLEAGUE_TOKEN: 2})
    access_tokens: set[str] = field(default_factory=set)
    n_renewals: int = 0
    legacy_tokens: bool = True
    organization_of_key: int | None = 1

    def __post_init__(self) -> None:
        self.state.announce = self._announce
        self._http = httpx.Client(trust_env=False, verify=False, timeout=10)
        self._count = threading.Lock()

    def close(self) -> None:
        self._http.close()

    # -- what was written -------------------------------------------------------------------------------

    @property
    def writes(self) -> Counter[str]:
        """Return how many writes were asked for, by method; renewed tokens are none."""
        return Counter(method for method, path in self.requests if _is_write(method, path))

    def note(self, method: str, path: str) -> int:
        """Count a request; return its number among the writes, 0 for a read."""
        with self._count:
            self.requests.append((method, path))
            if not _is_write(method, path):
                return 0
            self.faults.n_writes += 1
            return self.faults.n_writes

    # -- what people do ---------------------------------------------------------------------------------

    def next_task(self, project: Json, *, user: int = 1) -> Json | None:
        """Open the label stream; a task without any prediction lets the backend be asked (tasks/api.py)."""
        task = self.state.take_next_task(project["id"], user)
        has_row = task and any(row["task"] == task["id"] for row in list(self.state.predictions.values()))
        if task and not has_row and project["show_collab_predictions"]:
            self.retrieve_predictions(project, [task["id"]])
        return task

    def submit(self, task: Json, choice: str, *, user: int = 1, control: str = "digit") -> Json:
        """Submit an answer as the label stream does: with a lead time, and as child of the row that is shown."""
        shown = self.state.current_rows(task["project"]).get(task["id"])
        values = {"result": choices(choice, control), "lead_time": 2.5}
        return self.state.create_annotation(task["id"], values | {"parent_prediction": shown and shown["id"]}, user)

    def skip(self, task: Json, *, user: int = 1) -> Json:
        values = {"result": [], "was_cancelled": True, "lead_time": 1.0}
        return self.state.create_annotation(task["id"], values, user)

    def retrieve_predictions(self, project: Json, task_ids: Sequence[int]) -> None:
        """Do "Retrieve predictions": one request for all tasks without a row of the backend's version."""
        for backend in self.state.backends_of(project["id"]):
            version = self._update_backend(backend)
            rows = [row for row in self.state.predictions_of(project["id"]) if row["model_version"] == version]
            tasks = [self.state.task(id_) for id_ in task_ids if id_ not in {row["task"] for row in rows}]
            if backend["state"] != "CO" or not tasks:
                continue
            body = {
                "tasks": tasks,
                "project": _uid(project),
                "label_config": project["label_config"],
                "params": {"login": None, "password": None, "context": None},
            }
            answer = self._call(backend, "POST", "/predict", body)
            results = answer["results"] if isinstance(answer, dict) else []
            if len(results) == len(tasks):
                for task, result in zip(tasks, results, strict=True):
                    self.state.create_prediction(result | {"task": task["id"]})

    # -- backends ---------------------------------------------------------------------------------------

    def connect(self, project: Json, url: str, **options: Any) -> Json:
        """Connect a backend, as a click in Settings ▸ Model does: it must answer /health and /setup."""
        backend = {
            "id": self.state.new_id("backend"),
            "project": project["id"],
            "url": url,
            "title": "Exemplar",
            "extra_params": None,
            "auth_method": "NONE",
            "state": "DI",
            "error_message": None,
            "model_version": "",
            **options,
        }
        for method, path, body in (("GET", "/health", None), ("POST", "/setup", self._setup_body(backend))):
            answer = self._call(backend, method, path, body)
            if isinstance(answer, str):
                text = f"it doesn't look like a valid ML backend. Reason: {answer}.\n"
                raise ApiError(400, {"non_field_errors": [f"Successfully connected to {url} but {text}"]})
        self.state.add_backend(backend)
        hook_url = url.rstrip("/") + "/webhook"
        if hook_url not in {hook["url"] for hook in self.state.webhooks_of(project["id"])}:
            self.create_webhook({"project": project["id"], "url": hook_url})
        self._update_backend(backend)
        if project["show_collab_predictions"] and not project["model_version"]:
            project["model_version"] = backend["title"]
        return backend

    def create_webhook(self, values: Json) -> Json:
        """Make a webhook; refused, the connection that asked for it stays."""
        if self.refuses_local_webhooks:
            raise ApiError(403, "URL resolves to a reserved network address (block: 127.0.0.0/8)")
        return self.state.create_webhook(values)

    def list_backends(self, project_id: int) -> list[Json]:
        """List a project's backends; each is asked for its health and set up for that."""
        self.state.project(project_id)
        backends = self.state.backends_of(project_id)
        for backend in backends:
            self._update_backend(backend)
        shown = [{k: v for k, v in backend.items() if k != "basic_auth_pass"} for backend in backends]
        return [backend | {"basic_auth_pass_is_set": "basic_auth_pass" in backend} for backend in shown]

    def delete_backend(self, backend_id: int) -> None:
        """Delete a connection; its webhook stays (ml/models.py)."""
        if backend_id not in self.state.backends:
            raise ApiError(404, "No MLBackend matches the given query.")
        backend = self.state.backends[backend_id]
        self._update_backend(backend)
        self.state.delete_backend(backend_id)
        project = self.state.project(backend["project"])
        if project["model_version"] == backend["title"]:
            project["model_version"] = ""

    def start_training(self, backend: Json) -> Any:
        body = {"action": "START_TRAINING", "project": self._event_project(backend["project"])}
        return self._call(backend, "POST", "/webhook", body)

    def _update_backend(self, backend: Json) -> str | None:
        """Ask /health and /setup and note the answer (MLBackend.update_state)."""
        if isinstance(self._call(backend, "GET", "/health"), str):
            backend["state"] = "DI"
            return None
        answer = self._call(backend, "POST", "/setup", self._setup_body(backend))
        if isinstance(answer, str):
            backend |= {"state": "ER", "error_message": answer}
            return None
        backend |= {"state": "CO", "error_message": None, "model_version": answer["model_version"]}
        return str(answer["model_version"])

    def _setup_body(self, backend: Json) -> Json:
        project = self.state.project(backend["project"])
        return {
            "project": _uid(project),
            "schema": project["label_config"],
            "hostname": self.url,
            "access_token": next(token for token, user in self.users.items() if user == 1),
            "extra_params": backend["extra_params"],
        }

    def _call(self, backend: Json, method: str, path: str, body: Any = None) -> Any:
        """Call a backend; return its JSON, or as a string what Label Studio says of the failure."""
        basic = backend["auth_method"] == "BASIC_AUTH"
        auth = (backend["basic_auth_user"], backend["basic_auth_pass"]) if basic else None
        url = backend["url"].rstrip("/") + path
        try:
            answer = self._http.request(method, url, json=body, auth=auth)
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}"
        if answer.is_success:
            return answer.json()
        kind = "Client" if answer.status_code < 500 else "Server"
        return f"{answer.status_code} {kind} Error: {answer.reason_phrase} for url: {url}"

    # -- webhooks ---------------------------------------------------------------------------------------

    def _announce(self, project_id: int, action: str, payload: Json) -> None:
        """Post to each active webhook, inside the request that made the change; failures are swallowed."""
        full = {"action": action, **payload, "project": self._event_project(project_id)}
        for hook in [hook for hook in self.state.webhooks_of(project_id) if hook["is_active"]]:
            body = full if hook["send_payload"] else {"action": action}
            started = time.perf_counter()
            try:
                answer: int | str = self._http.post(
                    hook["url"], json=body, headers=hook["headers"], timeout=WEBHOOK_SECONDS
                ).status_code
            except (httpx.HTTPError, UnicodeEncodeError) as error:  # half a character cannot be sent
                answer = type(error).__name__
            self.webhook_answers.append((action, answer, time.perf_counter() - started))

    def _event_project(self, project_id: int) -> Json:
        return self.state.show_project(self.state.project(project_id)) | {"created_by": 1, "organization": 1}


def choices(choice: str, control: str = "digit") -> list[Json]:
    """Return a person's result that ticks one choice."""
    value = {"choices": [choice]}
    return [{"id": "x", "from_name": control, "to_name": "image", "type": "choices", "value": value}]


def _uid(project: Json) -> str:
    return f"{project['id']}.{int(datetime.fromisoformat(project['created_at']).timestamp())}"


def _is_write(method: str, path: str) -> bool:
    return method not in READS and path != "/api/token/refresh"


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def running(switch: Switch, url: str) -> Iterator[FakeLabelStudio]:
    """Let a new, empty fake answer at the address while the block runs."""
    studio = FakeLabelStudio(url)
    switch.app = _Gate(_app(studio), studio)
    yield studio
    studio.close()


class _Gate:
    """In front of the app: counts, fails as told, and takes addresses with a slash at the end as without."""

    def __init__(self, app: Any, studio: FakeLabelStudio) -> None:
        self._app, self._studio = app, studio

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/")
        faults, number = self._studio.faults, self._studio.note(scope["method"], path)
        if faults.delay:
            await asyncio.sleep(faults.delay)
        if faults.answer_lost_after and number == faults.answer_lost_after:
            await self._app({**scope, "path": path}, receive, _nowhere)
            await send({"type": "http.response.start", "status": 201, "headers": [(b"content-length", b"999")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
        elif faults.down or _refused(faults, number):
            await JSONResponse({"detail": "down"}, 503)(scope, receive, send)
        elif faults.not_found and (path == faults.not_found or path.startswith(faults.not_found + "/")):
            await JSONResponse({"detail": "Not found."}, 404)(scope, receive, send)
        elif faults.twist and path.startswith("/api/"):
            answer = _Answer()
            await self._app({**scope, "path": path}, receive, answer)
            twisted = faults.twist(path, json.loads(answer.body)) if answer.body else None
            content = json.dumps(twisted) if answer.body else b""
            await Response(content, answer.status, media_type="application/json")(scope, receive, send)
        else:
            await self._app({**scope, "path": path}, receive, send)


class _Answer:
    """Takes an answer instead of sending it."""

    def __init__(self) -> None:
        self.status, self.body = 0, b""

    async def __call__(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


def _refused(faults: Faults, number: int) -> bool:
    if not number:
        return False
    dead_after = faults.answer_lost_after
    first = faults.writes_fail_from
    return (
        number == faults.write_fails
        or (first is not None and number >= first)
        or (dead_after is not None and number > dead_after)
    )


async def _nowhere(message: Any) -> None:
    pass


def _app(studio: FakeLabelStudio) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.exception_handler(ApiError)
    def on_error(request: Request, error: ApiError) -> JSONResponse:
        said = {"validation_errors": error.detail} if error.status == 400 else {"detail": error.detail}
        return JSONResponse({"status_code": error.status, "version": "1.23.2", **said}, error.status)

    _add_project_routes(app, studio)
    _add_task_routes(app, studio)
    _add_prediction_routes(app, studio)
    _add_connection_routes(app, studio)
    _add_file_routes(app, studio)
    return app


def _user(studio: FakeLabelStudio) -> Any:
    """Return the dependency that demands a token and gives its user."""

    def user(request: Request) -> int:
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind == "Token" and key in studio.users and studio.legacy_tokens:
            return studio.users[key]
        if kind == "Bearer" and key in studio.access_tokens:
            return 1
        raise ApiError(401, "Invalid token." if key else "Authentication credentials were not provided.")

    return Depends(user)


AnyBody = Annotated[Any, Body()]


def _add_project_routes(app: FastAPI, studio: FakeLabelStudio) -> None:
    state, guarded = studio.state, [_user(studio)]

    @app.get("/api/current-user/whoami")
    def whoami(user: Annotated[int, _user(studio)]) -> Json:
        return {"id": user, "email": f"user{user}@example.com", "active_organization": studio.organization_of_key}

    @app.delete("/api/projects/{project_id}", dependencies=guarded, status_code=204)
    def delete_project(project_id: int) -> None:
        state.delete_project(project_id)

    @app.get("/api/projects", dependencies=guarded)
    def list_projects(include: str = "", page: int = 1, page_size: int = 100) -> Json:
        projects = sorted(state.projects.values(), key=lambda project: -project["id"])
        start = (page - 1) * page_size
        if start and start >= len(projects):
            raise ApiError(404, "Invalid page.")
        names = include.split(",") if include else None
        results = [_only(project, names) for project in projects[start : start + page_size]]
        more = start + page_size < len(projects)
        next_page = f"{studio.url}/api/projects/?page={page + 1}" if more else None
        return {"count": len(projects), "next": next_page, "previous": None, "results": results}

    @app.get("/api/projects/{project_id}", dependencies=guarded)
    def show_project(project_id: int, include: str = "") -> Json:
        return _only(state.show_project(state.project(project_id)), include.split(",") if include else None)

    @app.patch("/api/projects/{project_id}", dependencies=guarded)
    def patch_project(project_id: int, values: AnyBody) -> Json:
        return state.show_project(state.patch_project(project_id, values))

    @app.get("/api/projects/{project_id}/model-versions", dependencies=guarded)
    def model_versions(project_id: int) -> dict[str, int]:
        return state.model_versions(project_id)

    @app.delete("/api/projects/{project_id}/model-versions", dependencies=guarded)
    def delete_model_version(project_id: int, values: AnyBody) -> Json:
        return {"deleted_predictions": state.delete_model_version(project_id, values["model_version"])}

    @app.get("/api/projects/{project_id}/next")
    def next_task(project_id: int, user: Annotated[int, _user(studio)]) -> Json:
        task = studio.next_task(state.project(project_id), user=user)
        if task is None:
            raise ApiError(404, f"There are no tasks for {user}")
        return state.show_task(task)


def _add_task_routes(app: FastAPI, studio: FakeLabelStudio) -> None:
    state, guarded = studio.state, [_user(studio)]

    @app.get("/api/tasks", dependencies=guarded)
    def list_tasks(request: Request) -> Response:
        given = dict(parse_qsl(request.url.query))
        state.project(int(given["project"]))
        with state.lock:
            tasks = [task for task in state.tasks_of(int(given["project"])) if _matches(task, given.get("query"))]
            page, size = int(given.get("page", 1)), int(given.get("page_size", 100))
            start = (page - 1) * size
            if start and start >= len(tasks):
                raise ApiError(404, "Invalid page.")
            shown = [_shown(state, task, given) for task in tasks[start : start + size]]
        page_of_tasks = {"total": len(tasks), "total_annotations": 0, "total_predictions": 0, "tasks": shown}
        return JSONResponse(page_of_tasks)  # 500 with half a character somewhere in it, as in the real one (seen)

    @app.get("/api/tasks/{task_id}", dependencies=guarded)
    def show_task(task_id: int) -> Json:
        return state.show_task(state.task(task_id))

    @app.delete("/api/tasks/{task_id}", dependencies=guarded, status_code=204)
    def delete_task(task_id: int) -> None:
        state.task(task_id)
        state.delete_tasks([task_id])

    @app.post("/api/tasks/{task_id}/annotations", status_code=201)
    def annotate(task_id: int, values: AnyBody, user: Annotated[int, _user(studio)]) -> Json:
        return state.create_annotation(task_id, values, user)

    @app.get("/api/tasks/{task_id}/annotations", dependencies=guarded)
    def annotations_of(task_id: int) -> list[Json]:
        return [dict(annotation) for annotation in state.annotations_of(task_id)]

    @app.patch("/api/annotations/{annotation_id}", dependencies=guarded)
    def patch_annotation(annotation_id: int, values: AnyBody) -> Json:
        return state.patch_annotation(annotation_id, values)

    @app.delete("/api/annotations/{annotation_id}", dependencies=guarded, status_code=204)
    def delete_annotation(annotation_id: int) -> None:
        state.delete_annotation(annotation_id)

    @app.post("/api/projects/{project_id}/import", dependencies=guarded, status_code=201)
    def import_tasks(project_id: int, all_data: AnyBody) -> Json:
        return {"task_count": len(state.import_tasks(project_id, all_data))}


def _add_prediction_routes(app: FastAPI, studio: FakeLabelStudio) -> None:
    state, guarded = studio.state, [_user(studio)]

    @app.get("/api/predictions", dependencies=guarded)
    def list_predictions(project: int) -> list[Json]:
        with state.lock:
            return [dict(row) for row in state.predictions_of(project)]

    @app.post("/api/predictions", dependencies=guarded, status_code=201)
    def create_prediction(values: AnyBody) -> Json:
        return state.create_prediction(values)

    @app.patch("/api/predictions/{prediction_id}", dependencies=guarded)
    def patch_prediction(prediction_id: int, values: AnyBody) -> Json:
        return state.patch_prediction(prediction_id, values)

    @app.delete("/api/predictions/{prediction_id}", dependencies=guarded, status_code=204)
    def delete_prediction(prediction_id: int) -> None:
        state.delete_prediction(prediction_id)

    @app.post("/api/projects/{project_id}/import/predictions", dependencies=guarded, status_code=201)
    def import_predictions(project_id: int, items: AnyBody) -> Json:
        return {"created": state.import_predictions(project_id, items)}


def _add_connection_routes(app: FastAPI, studio: FakeLabelStudio) -> None:
    state, guarded = studio.state, [_user(studio)]

    @app.get("/api/ml", dependencies=guarded)
    def list_backends(project: int) -> list[Json]:
        return studio.list_backends(project)

    @app.post("/api/ml", dependencies=guarded, status_code=201)
    def create_backend(values: AnyBody) -> Json:
        project = state.project(values.pop("project"))
        return studio.connect(project, values.pop("url"), **values)

    @app.delete("/api/ml/{backend_id}", dependencies=guarded, status_code=204)
    def delete_backend(backend_id: int) -> None:
        studio.delete_backend(backend_id)

    @app.get("/api/webhooks", dependencies=guarded)
    def list_webhooks(project: int) -> list[Json]:
        return state.webhooks_of(project)

    @app.post("/api/webhooks", dependencies=guarded, status_code=201)
    def create_webhook(values: AnyBody) -> Json:
        return studio.create_webhook(values)

    @app.patch("/api/webhooks/{webhook_id}", dependencies=guarded)
    def patch_webhook(webhook_id: int, values: AnyBody) -> Json:
        if webhook_id not in state.webhooks:
            raise ApiError(404, "No Webhook matches the given query.")
        state.webhooks[webhook_id] |= values
        return state.webhooks[webhook_id]

    @app.delete("/api/webhooks/{webhook_id}", dependencies=guarded, status_code=204)
    def delete_webhook(webhook_id: int) -> None:
        state.delete_webhook(webhook_id)


def _add_file_routes(app: FastAPI, studio: FakeLabelStudio) -> None:
    @app.get("/data/upload/{path:path}", dependencies=[_user(studio)])
    def uploaded_file(path: str) -> Response:
        # Of a file that it never had, or forgot, the real one knows no permission (data_import/api.py).
        if path not in studio.state.files:
            raise ApiError(500, "'NoneType' object has no attribute 'has_permission'")
        content = studio.state.files[path]
        return Response(content, media_type="image/png") if content else Response(status_code=404)

    @app.get("/tasks/{task_id}/resolve", dependencies=[_user(studio)])
    def resolve(task_id: int, fileuri: str) -> Response:
        # io_storages/proxy_api.py: a pre-signed address of the storage, or 404 where no storage knows the file.
        if fileuri not in studio.state.clouds:
            return Response(status_code=404)
        return Response(status_code=303, headers={"Location": studio.state.clouds[fileuri]})

    @app.post("/api/token/refresh")
    def refresh(values: AnyBody) -> Json:
        if values.get("refresh") != PERSONAL_TOKEN:
            raise ApiError(401, "Token is invalid")
        studio.n_renewals += 1
        access = f"access-{studio.n_renewals}"
        studio.access_tokens.add(access)
        return {"access": access}


def _only(row: Json, names: Sequence[str] | None) -> Json:
    return row if names is None else {name: row[name] for name in names if name in row}


def _shown(state: State, task: Json, given: dict[str, str]) -> Json:
    """Return a task as the list shows it: ``include`` filters its fields and its annotations' fields by name."""
    names = [*given["include"].split(","), "id"] if "include" in given else None
    if given.get("fields") != "all":
        return _only(task, names)
    annotations = [_only(annotation, names) for annotation in state.annotations_of(task["id"])]
    full = state.show_task(task) | {"annotations": annotations}
    return _only(full, names)


def _matches(task: Json, query: str | None) -> bool:
    items = json.loads(query)["filters"]["items"] if query else []
    for item in items:
        assert (item["filter"], item["operator"]) == ("filter:tasks:updated_at", "greater"), item
        try:
            since = datetime.strptime(item["value"], "%Y-%m-%dT%H:%M:%S.%fZ")
        except ValueError as error:
            raise ApiError(500, str(error)) from error
        if not isinstance(task["updated_at"], str):
            continue
        if not datetime.fromisoformat(task["updated_at"]).replace(tzinfo=None) > since:
            return False
    return True
