"""The routes that Label Studio 1.23.2 knows of a model, each doing its real work in milliseconds."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException as StarletteHTTPException

from exemplar import __version__
from exemplar.errors import ExemplarError, InputError
from exemplar.labelstudio.label_config import read_label_config
from exemplar.model import START_TRAINING, ExemplarModel
from exemplar.rows import generation_name
from exemplar.server import messages
from exemplar.server.auth import guard, guard_webhook
from exemplar.server.metrics import ProjectMetrics
from exemplar.server.reason import reason_header
from exemplar.server.setup import introduce_project, served_version
from exemplar.server.webhook import NOTED, WebhookFirst, read_event
from exemplar.settings import Settings
from exemplar.store.project_store import ProjectStore

logger = logging.getLogger(__name__)

# Start Training makes everything anew: pressed again within so many seconds, it is the same order.
ORDER_EVERY = 10.0


def create_app(settings: Settings, background: Callable[[], AbstractContextManager[Any]] = nullcontext) -> FastAPI:
    """Make the app; ``background`` runs while it is up (the worker)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with background():
            yield

    app = FastAPI(
        title="Exemplar",
        version=__version__,
        description=__doc__,
        lifespan=lifespan,
        openapi_url=None,  # FastAPI's own pages cannot ask for a password; ours below do
    )
    model = ExemplarModel(settings=settings)
    app.state.settings, app.state.model, app.state.home = settings, model, model.home
    registry = CollectorRegistry()
    registry.register(ProjectMetrics(model.home))
    _add_status_routes(app, model, registry)
    _add_protocol_routes(app, model)
    _add_pages(app)
    _add_error_answers(app)
    app.add_middleware(WebhookFirst, model=model)
    return app


def _add_status_routes(app: FastAPI, model: ExemplarModel, registry: CollectorRegistry) -> None:
    @app.get("/health")
    def health() -> dict[str, str]:
        """Tell that we are up; never guarded."""
        return {"status": "UP", "model_class": "ExemplarModel"}

    @app.get("/", dependencies=[Depends(guard)])
    def status() -> messages.StatusResponse:
        """Show every project: what is known, what is being done, what went wrong."""
        projects = {store.folder.name: project_status(store) for store in model.home.stores()}
        return messages.StatusResponse(version=__version__, projects=projects)

    @app.get("/metrics", dependencies=[Depends(guard)], response_class=Response)
    def metrics() -> Response:
        """Show the same for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/versions", dependencies=[Depends(guard)])
    def versions(project: str | None = None) -> messages.VersionsResponse:
        """List the generations that are served; Label Studio 1.23.2 asks without naming the project."""
        stores = [model.home.find(project)] if project else model.home.stores()
        return messages.VersionsResponse(versions=sorted({served_version(store) for store in stores}))


def _add_pages(app: FastAPI) -> None:
    @app.get("/openapi.json", dependencies=[Depends(guard)], include_in_schema=False)
    def openapi() -> dict[str, Any]:
        return app.openapi()

    @app.get("/docs", dependencies=[Depends(guard)], include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="openapi.json", title="Exemplar")


def _add_protocol_routes(app: FastAPI, model: ExemplarModel) -> None:
    guarded = [Depends(guard)]

    @app.post("/setup", dependencies=guarded)
    def setup(body: messages.SetupRequest, request: Request) -> messages.SetupResponse:
        """Take note of a project; the first refresh starts in the background."""
        seen_as = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
        store = introduce_project(model.home, model.settings, body, seen_as)
        return messages.SetupResponse(model_version=served_version(store))

    @app.post("/predict", dependencies=guarded)
    def predict(body: messages.PredictRequest) -> messages.PredictResponse:
        """Answer exactly one prediction a task."""
        answers = model.predict(body.tasks, project=body.project, label_config=body.label_config)
        return messages.PredictResponse.model_validate({"results": answers})

    # WebhookFirst answers most of them; no dependencies and no models on the way of the others, only in the docs.
    @app.post(
        "/webhook",
        status_code=201,
        response_model=messages.WebhookResponse,
        openapi_extra=_body(messages.WebhookRequest),
    )
    async def webhook(request: Request) -> Response:
        """Note that something changed.

        A webhook without payload names its project in the address: ``?project=<id>.<created>``.
        """
        knows_password = await guard_webhook(request)
        action, event = read_event(await request.body(), request.query_params)
        if action != START_TRAINING:
            model.note(action, event)
            return Response(NOTED, 201, media_type="application/json")
        if not knows_password:
            raise HTTPException(403, "START_TRAINING needs the password, not a webhook's secret")
        ordered = messages.WebhookResponse(status="ordered", job=_order_training(model, event))
        return Response(ordered.model_dump_json(), 201, media_type="application/json")

    @app.post("/train", status_code=201, dependencies=guarded)
    def train(body: messages.TrainRequest) -> messages.WebhookResponse:
        """Order a full refresh, as START_TRAINING does; Label Studio before 1.4.1 asks this way."""
        job = _order_training(model, {"project": body.project})
        return messages.WebhookResponse(status="ordered", job=job)

    @app.post("/job_status", dependencies=guarded)
    def job_status(body: messages.JobRequest) -> messages.JobResponse:
        """Tell how far an ordered full refresh is."""
        key, _, number = body.job.rpartition(":")
        if not number.isdigit():
            raise InputError(f"job={body.job!r}: expected <project>:<number>, as Start Training answered")
        store = model.home.find(key)
        if store.done().orders >= int(number):
            return messages.JobResponse(job_status="finished")
        now = store.status()
        if now.problem:
            return messages.JobResponse(job_status="failed", error=now.problem)
        return messages.JobResponse(job_status="started" if now.doing else "queued")

    @app.post("/validate", dependencies=guarded)
    def validate(body: messages.ValidateRequest) -> messages.ValidateResponse:
        """Say what there is to classify in a label config."""
        labeling = read_label_config(body.config)
        return messages.ValidateResponse(control=labeling.control, classes=list(labeling.classes))

    @app.post("/delete", dependencies=guarded)
    def delete(body: messages.DeleteRequest) -> messages.NotSupported:
        """Decline: what this backend keeps is a cache, and taking back rows is a command of its own."""
        return messages.NotSupported(detail="`exemplar disconnect PROJECT` takes back all that is ours")

    @app.post("/duplicate_model", dependencies=guarded)
    def duplicate_model() -> messages.NotSupported:
        """Decline: a copied project learns from its own annotations as soon as it is connected."""
        return messages.NotSupported(detail="each project learns on its own; connect the copy")


def project_status(store: ProjectStore) -> messages.ProjectStatus:
    """Return one project as ``GET /`` shows it."""
    now, facts = store.status(), store.facts()
    return messages.ProjectStatus(
        state=now.state,
        doing=now.doing,
        problem=now.problem,
        generation=generation_name(facts.generation) if facts else None,
        snapshot=facts.number if facts else None,
        tasks=facts.n_tasks if facts else 0,
        answered=facts.n_answered if facts else 0,
        pre_annotated=facts.n_pre_annotated if facts else 0,
        left_out=len(facts.unreadable) if facts else 0,
        pending_rows=now.pending_rows,
        webhooks=store.number("webhooks"),
        orders=store.number("orders"),
        honesty=facts.honesty if facts else None,
    )


def _order_training(model: ExemplarModel, event: dict[str, Any]) -> str | None:
    """Raise the project's order number, unless that was done a moment ago; return the job's name."""
    stores = model.known(event)
    for store in stores:
        if time.time() - store.raised_at("orders") >= ORDER_EVERY:
            model.note(START_TRAINING, event)
    return f"{stores[0].folder.name}:{stores[0].number('orders')}" if stores else None


def _body(message: type[messages.Message]) -> dict[str, Any]:
    schema = {"application/json": {"schema": message.model_json_schema()}}
    return {"requestBody": {"required": True, "content": schema}}


def _add_error_answers(app: FastAPI) -> None:
    def answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
        headers = {**(headers or {}), "X-Exemplar-Reason": reason_header(sentence)}
        return JSONResponse({"error": sentence}, status, headers)

    @app.exception_handler(ExemplarError)
    def on_error(request: Request, error: ExemplarError) -> JSONResponse:
        logger.warning("%s %s: %s", request.method, request.url.path, error)
        return answer(error.status, str(error))

    @app.exception_handler(StarletteHTTPException)
    def on_refusal(request: Request, error: StarletteHTTPException) -> JSONResponse:
        logger.warning("%s %s: %s", request.method, request.url.path, error.detail)
        return answer(error.status_code, error.detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def on_wrong_request(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        logger.warning("%s %s: %s", request.method, request.url.path, wrong)
        return answer(422, wrong)

    @app.exception_handler(Exception)
    def on_defect(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(500, f"Exemplar failed on {request.url.path}; its log tells why")
