"""Webhooks: every annotator's Submit waits for their answer."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exemplar.errors import ExemplarError, InputError
from exemplar.labelstudio.reading import parse
from exemplar.model import START_TRAINING, ExemplarModel
from exemplar.server.messages import WebhookResponse

NOTED = WebhookResponse().model_dump_json().encode()
_CREATED: Message = {
    "type": "http.response.start",
    "status": 201,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(NOTED))],
}


def read_event(body: bytes, query: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return a webhook's action and the event, which names its project in the address if it has no payload.

    Bodies can be megabytes (an import sends every task), hence orjson and no model.
    """
    try:
        event = parse(body)
    except ValueError as error:
        raise InputError(f"The body is no JSON: {error}") from error
    if not isinstance(event, dict) or not isinstance(event.get("action"), str):
        raise InputError("The body has no action: expected a webhook of Label Studio, {'action': …}")
    if "project" in query:
        event = {"project": query["project"], **event}
    return event["action"], event


class WebhookFirst:
    """Notes plain webhooks before FastAPI sees them: its routing takes as long as all that is left of the answer.

    What needs a look goes on to the route: a password, Start Training, a body in pieces, one that is wrong.
    """

    def __init__(self, app: ASGIApp, model: ExemplarModel) -> None:
        self._app = app
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_webhook = scope["type"] == "http" and scope["path"] == "/webhook" and scope["method"] == "POST"
        if not is_webhook or self._model.settings.basic_auth_pass:
            await self._app(scope, receive, send)
            return
        message = await receive()
        if self._is_noted(message, scope["query_string"]):
            await send(_CREATED)
            await send({"type": "http.response.body", "body": NOTED})
            return
        read = [message]

        async def again() -> Message:
            return read.pop() if read else await receive()

        await self._app(scope, again, send)

    def _is_noted(self, message: Message, query: bytes) -> bool:
        if message["type"] != "http.request" or message.get("more_body"):
            return False
        try:
            action, event = read_event(message["body"], dict(parse_qsl(query.decode("latin-1"))))
            if action == START_TRAINING:
                return False
            self._model.note(action, event)
        except ExemplarError:
            return False
        return True
