"""The app: its routes (``protocol``, ``predicting``, ``status``), what is before them, and how errors are told."""

import logging

from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException as StarletteHTTPException

from exemplar import __version__
from exemplar.errors import ExemplarError
from exemplar.model import ExemplarModel
from exemplar.server import predicting, protocol, status
from exemplar.server.answers import refusal
from exemplar.server.door import Door
from exemplar.server.metrics import ProjectMetrics
from exemplar.server.predicting import PredictElsewhere
from exemplar.server.setup import Setup
from exemplar.server.webhook import WebhookFirst
from exemplar.settings import Settings

logger = logging.getLogger(__name__)


def create_app(settings: Settings, predictor: str = "") -> FastAPI:
    """Make the app that callers reach.

    Parameters
    ----------
    settings : Settings
        As they are.
    predictor : str
        The path of the socket on which ``create_predictor``'s app answers /predict; empty: it is answered here.
    """
    app = FastAPI(
        title="Exemplar",
        version=__version__,
        description=protocol.__doc__,
        openapi_url=None,  # FastAPI's own pages cannot ask for a password; those of `status` do
    )
    model = _add_predict(app, settings)
    registry = CollectorRegistry()
    registry.register(ProjectMetrics(model.home))
    app.state.settings, app.state.registry = settings, registry
    app.state.setup = Setup(model.home, settings)
    app.include_router(status.router)
    app.include_router(protocol.router)
    if predictor:
        app.add_middleware(PredictElsewhere, socket=predictor)
    app.add_middleware(WebhookFirst, model=model)
    app.add_middleware(Door, settings=settings, home=model.home)
    return app


def create_predictor(settings: Settings) -> FastAPI:
    """Make the app that answers /predict, and nothing else, for one that has let the caller in."""
    app = FastAPI(openapi_url=None)
    _add_predict(app, settings)
    return app


def _add_predict(app: FastAPI, settings: Settings) -> ExemplarModel:
    model = ExemplarModel(settings=settings)
    app.state.model = model
    app.state.predicting = CapacityLimiter(predicting.PREDICTING)
    app.include_router(predicting.router)
    _add_error_answers(app)
    return model


def _add_error_answers(app: FastAPI) -> None:
    @app.exception_handler(ExemplarError)
    def on_error(request: Request, error: ExemplarError) -> JSONResponse:
        logger.warning("%s %s: %s", request.method, request.url.path, error)
        return refusal(error.status, str(error))

    @app.exception_handler(OSError)
    def on_full_disk(request: Request, error: OSError) -> JSONResponse:
        logger.error("%s %s: %s", request.method, request.url.path, error)
        return refusal(503, f"The disk of the backend (MODEL_DIR): {error.strerror or error}")

    @app.exception_handler(StarletteHTTPException)
    def on_refusal(request: Request, error: StarletteHTTPException) -> JSONResponse:
        logger.warning("%s %s: %s", request.method, request.url.path, error.detail)
        return refusal(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    def on_wrong_request(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        logger.warning("%s %s: %s", request.method, request.url.path, wrong)
        return refusal(422, wrong)

    @app.exception_handler(Exception)
    def on_defect(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return refusal(500, f"Exemplar failed on {request.url.path}; its log tells why")
