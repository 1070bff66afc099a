"""The routes that Label Studio 1.23.2 knows of a model, but /predict: each does its real work in milliseconds."""

import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute

from exemplar.labelstudio.label_config import read_label_config
from exemplar.model import START_TRAINING, ExemplarModel
from exemplar.server import messages
from exemplar.server.bodies import read_json
from exemplar.server.setup import Setup
from exemplar.server.webhook import NOTED, read_event

# Start Training makes everything anew: pressed again within so many seconds, it is the same order.
ORDER_EVERY = 10.0


class JsonRequest(Request):
    """A request whose body is read by one reader, which has a sentence for all that is wrong with it."""

    async def json(self) -> Any:
        """Return what the body says."""
        return read_json(await self.body())


class JsonRoute(APIRoute):
    """A route with such requests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that reads so."""
        handle = super().get_route_handler()

        async def read_first(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return read_first


router = APIRouter(route_class=JsonRoute)


async def model_of(request: Request) -> ExemplarModel:
    """Return the model that the app serves."""
    model: ExemplarModel = request.app.state.model
    return model


Model = Annotated[ExemplarModel, Depends(model_of)]


@router.post("/setup", responses=messages.refusals(404, 422, 424))
def setup(body: messages.SetupRequest, request: Request) -> messages.SetupResponse:
    """Take note of a project; the first refresh starts as soon as Label Studio confirms that it connects us."""
    said: Setup = request.app.state.setup
    caller = request.client.host if request.client else ""
    return messages.SetupResponse(model_version=said.introduce(body, caller))


def _webhook_in_the_docs() -> dict[str, Any]:
    """Describe a body and a query that FastAPI does not read."""
    schema = messages.WebhookRequest.model_json_schema()
    schema["properties"]["project"]["anyOf"][0] = schema.pop("$defs")["EventProject"]
    named = {"name": "project", "in": "query", "required": False}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "parameters": [named | {"schema": {"type": "string", "pattern": messages.NAMED}}],
    }


# WebhookFirst answers most of them; no dependencies and no models on the way of the others, only in the docs.
@router.post(
    "/webhook",
    status_code=201,
    response_model=messages.WebhookResponse,
    responses=messages.refusals(422),
    openapi_extra=_webhook_in_the_docs(),
)
async def webhook(request: Request) -> Response:
    """Note that something changed.

    A webhook without payload names its project in the address: ``?project=<id>.<created>``.
    """
    model: ExemplarModel = request.app.state.model
    action, event = read_event(await request.body(), request.query_params)
    if action != START_TRAINING:
        model.note(action, event)
        return Response(NOTED, 201, media_type="application/json")
    if not request.state.knows_password:
        raise HTTPException(403, "START_TRAINING needs the password, not a webhook's secret")
    ordered = messages.WebhookResponse(status="ordered", job=_order_training(model, event))
    return Response(ordered.model_dump_json(), 201, media_type="application/json")


@router.post("/train", status_code=201, responses=messages.refusals(422))
def train(body: messages.TrainRequest, model: Model) -> messages.WebhookResponse:
    """Order a full refresh, as START_TRAINING does; Label Studio before 1.4.1 asks this way."""
    job = _order_training(model, {"project": body.project})
    return messages.WebhookResponse(status="ordered", job=job)


def _order_training(model: ExemplarModel, event: dict[str, Any]) -> str | None:
    """Raise the project's order number, unless that was done a moment ago; return the job's name."""
    stores = model.known(event)
    for store in stores:
        if time.time() - store.raised_at("orders") >= ORDER_EVERY:
            model.note(START_TRAINING, event)
    return f"{stores[0].folder.name}:{stores[0].number('orders')}" if stores else None


@router.post("/job_status", responses=messages.refusals(404, 422))
def job_status(body: messages.JobRequest, model: Model) -> messages.JobResponse:
    """Tell how far an ordered full refresh is."""
    key, _, number = body.job.rpartition(":")
    store = model.home.find(key)
    if store.done().orders >= int(number):
        return messages.JobResponse(job_status="finished")
    now = store.status()
    if now.problem:
        return messages.JobResponse(job_status="failed", error=now.problem)
    return messages.JobResponse(job_status="started" if now.doing else "queued")


@router.post("/validate", responses=messages.refusals(422))
def validate(body: messages.ValidateRequest) -> messages.ValidateResponse:
    """Say what there is to classify in a label config."""
    labeling = read_label_config(body.config)
    return messages.ValidateResponse(control=labeling.control, classes=list(labeling.classes))


@router.post("/delete", responses=messages.refusals(422))
def delete(body: messages.DeleteRequest) -> messages.NotSupported:
    """Decline: what this backend keeps is a cache, and taking back rows is a command of its own."""
    return messages.NotSupported(detail="`exemplar disconnect PROJECT` takes back all that is ours")


@router.post("/duplicate_model", responses=messages.refusals())
def duplicate_model() -> messages.NotSupported:
    """Decline: a copied project learns from its own annotations as soon as it is connected."""
    return messages.NotSupported(detail="each project learns on its own; connect the copy")
