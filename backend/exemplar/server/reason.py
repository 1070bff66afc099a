"""Sentences that reach the person in front of Label Studio.

When /setup fails, Label Studio's model card shows the status line of the answer and nothing of its body. ASGI has
no word for the reason phrase in that line, so an error answers with the header X-Exemplar-Reason, and the
connection puts its sentence where the card will show it.
"""

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# A status line is shown on one line of the card.
MAX_REASON = 300
_PHRASE = re.compile(rb"\A(HTTP/1\.1 \d{3} )[^\r]*(?=\r\n(?:.+\r\n)*?x-exemplar-reason: ([^\r]+)\r\n)")


def reason_header(sentence: str) -> str:
    """Return a sentence fit for the status line: one line of printable Latin-1."""
    line = " ".join(sentence.replace("▸", ">").replace("…", "...").split())
    return line.encode("ascii", "replace").decode()[:MAX_REASON]


class _ReasonTransport:
    """A connection that puts the sentence of X-Exemplar-Reason into the status line it is sent with."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.write(_PHRASE.sub(rb"\1\2", data, count=1) if b"\r\nx-exemplar-reason: " in data else data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ReasonProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with sentences in its status lines."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take up a connection, its answers with the reason on the status line."""
        super().connection_made(_ReasonTransport(transport))  # type: ignore[arg-type]
