"""/predict, in a process of its own.

To read megabytes of JSON, or to see hundreds of pictures, holds an interpreter for up to a second, in whatever
thread that is done: a webhook, inside an annotator's Submit, would wait as long. So the web process takes bodies in
and passes them on, by a socket that only it can reach.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exemplar.project.serve import ANSWER_WITHIN
from exemplar.server import messages
from exemplar.server.bodies import PIECE, chunks
from exemplar.server.protocol import JsonRoute, Model

# So many are answered at once.
PREDICTING = 16
# Seconds: of what was sent, Label Studio waits 100 for the answer.
WAIT_AT_MOST = 90.0
AGAIN = "What answers /predict is being started again; try again in a moment"
_HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: predictor\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
_END = b"\r\n\r\n"
_OF_THE_ANSWER = (b"content-type", b"content-length", b"x-exemplar-reason")

router = APIRouter(route_class=JsonRoute)


@router.post("/predict", response_model=messages.PredictResponse, responses=messages.refusals(404, 422, 424))
async def predict(body: messages.PredictRequest, request: Request, model: Model) -> Response:
    """Answer exactly one prediction a task; an empty one where its file does not come in time."""
    until = time.monotonic() + ANSWER_WITHIN
    show_all = (body.params or {}).get("show_all") is True

    def answer() -> str:
        results = model.predict(
            body.tasks, project=body.project, label_config=body.label_config, until=until, show_all=show_all
        )
        return messages.PredictResponse.model_validate({"results": results}).model_dump_json()

    content = await to_thread.run_sync(answer, limiter=request.app.state.predicting)
    return Response(content, media_type="application/json")


class PredictElsewhere:
    """Passes /predict on to the process that answers it.

    Parameters
    ----------
    socket : str
        The path of that process's socket.
    """

    def __init__(self, app: ASGIApp, socket: str) -> None:
        self._app = app
        self._socket = socket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/predict" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        pieces = [piece async for piece in chunks(receive)]
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
            with closing(writer):
                async with asyncio.timeout(WAIT_AT_MOST):
                    await send(await _ask(reader, writer, pieces))
                while piece := await reader.read(PIECE):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})
        except (OSError, EOFError) as error:
            raise HTTPException(503, AGAIN) from error


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pieces: Sequence[bytes]) -> Message:
    """Return how the answer begins. httpx would take ten times as long for it."""
    writer.write(_HEAD % sum(map(len, pieces)))
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    first, *lines = (await reader.readuntil(_END)).removesuffix(_END).split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    told = [(name, value) for name, value in headers if name in _OF_THE_ANSWER]
    return {"type": "http.response.start", "status": int(first.split()[1]), "headers": told}
