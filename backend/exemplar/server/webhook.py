"""Webhooks: every annotator's Submit waits for their answer."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exemplar.errors import ExemplarError, InputError
from exemplar.model import START_TRAINING, ExemplarModel
from exemplar.server.bodies import read_json
from exemplar.server.messages import NAMED, WebhookResponse

NOTED = WebhookResponse().model_dump_json().encode()
_CREATED: Message = {
    "type": "http.response.start",
    "status": 201,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(NOTED))],
}


# Label Studio writes the action first.
_ACTION = re.compile(rb'\s*\{\s*"action"\s*:\s*"([A-Z_]{1,64})"')


def read_event(body: bytes, query: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return a webhook's action and the event, which names its project in the address if it has no payload.

    Bodies can be megabytes (an import sends every task), hence orjson and no model.
    """
    event = read_json(body)
    if not isinstance(event, dict) or not isinstance(event.get("action"), str):
        raise InputError("The body has no action: expected a webhook of Label Studio, {'action': …}")
    if query.get("project") and not re.fullmatch(NAMED, query["project"]):
        raise InputError(f"project={query['project'][:100]!r} in the address: expected <id> or <id>.<created>")
    if "project" in query:
        event = {"project": query["project"], **event}
    return event["action"], event


def read_beginning(body: bytes, query: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """Return a large webhook's action, and the project of its address: what changed is read from Label Studio."""
    named = _ACTION.match(body)
    if named is None or named[1].decode() == START_TRAINING:
        raise HTTPException(413, "The body is longer than 1 MiB, and no webhook's that begins with its action")
    return named[1].decode(), {"project": query["project"]} if "project" in query else {}


class WebhookFirst:
    """Notes plain webhooks before FastAPI sees them: its routing takes as long as all that is left of the answer.

    What needs a look goes on to the route: Start Training, and a body that is wrong.
    """

    def __init__(self, app: ASGIApp, model: ExemplarModel) -> None:
        self._app = app
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/webhook" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        message = await receive()
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if self._is_noted(message["body"], query, is_whole=scope["state"]["is_whole"]):
            await send(_CREATED)
            await send({"type": "http.response.body", "body": NOTED})
            return
        read = [message]

        async def again() -> Message:
            return read.pop() if read else await receive()

        await self._app(scope, again, send)

    def _is_noted(self, body: bytes, query: Mapping[str, str], *, is_whole: bool) -> bool:
        try:
            action, event = (read_event if is_whole else read_beginning)(body, query)
            if action == START_TRAINING:
                return False
            self._model.note(action, event)
        except ExemplarError:
            return False
        return True
