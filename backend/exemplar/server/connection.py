"""One connection of the web server: with deadlines, a bounded head, and a bounded number of its kind.

uvicorn waits for ever for a request that does not end, and lets a head grow as long as it likes.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson

from exemplar.server.allowance import network_of
from exemplar.server.reason import ReasonProtocol

# Seconds for a request's head, then for its body (32 MiB of /predict over a slow line), and for reading an answer.
HEAD_WITHIN = 10.0
BODY_WITHIN = 60.0
ANSWER_WITHIN = 60.0
MOST_OF_A_HEAD = 64 << 10
# One address may have so many connections: Label Studio opens one for each request.
MOST_CONNECTIONS = 512

_connections: Counter[str] = Counter()


class GuardedProtocol(ReasonProtocol):
    """uvicorn's HTTP protocol, which nobody can hold for ever."""

    _timer: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _n_head: int | None = 0
    _address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take up a connection, if its address has not too many."""
        super().connection_made(transport)
        self._address = network_of(self.client[0]) if self.client else ""
        _connections[self._address] += 1
        if self._address and _connections[self._address] > MOST_CONNECTIONS:
            self._refuse(b"503 Service Unavailable", "Too many connections from this address")
        self._expect(HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its deadlines."""
        _connections[self._address] -= 1
        if not _connections[self._address]:
            del _connections[self._address]
        self._expect(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, of a head not too many."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._n_head is not None:  # all of it belongs to a head that has not ended
            self._n_head += len(data)
            if self._n_head > MOST_OF_A_HEAD:
                self._refuse(b"431 Request Header Fields Too Large", "The request's head is longer than 64 KiB")

    def on_message_begin(self) -> None:
        """Expect the end of a head."""
        super().on_message_begin()
        self._n_head = 0
        self._expect(HEAD_WITHIN)

    def on_headers_complete(self) -> None:
        """Expect the end of a body."""
        self._n_head = None
        self._expect(BODY_WITHIN)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect nothing more."""
        super().on_message_complete()
        self._expect(None)

    def pause_writing(self) -> None:
        """Expect that the answer is read."""
        super().pause_writing()
        self._writing = self.loop.call_later(ANSWER_WITHIN, self.transport.abort)

    def resume_writing(self) -> None:
        """Expect no more that the answer is read."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in our words."""
        self._refuse(b"400 Bad Request", msg)

    def _expect(self, seconds: float | None) -> None:
        """Set the deadline for what comes next; None if nothing need come."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._is_late) if seconds is not None else None

    def _is_late(self) -> None:
        self._timer = None
        self._refuse(b"408 Request Timeout", "The request did not come to its end in time")

    def _refuse(self, status: bytes, sentence: str) -> None:
        """Answer, unless an answer has begun, and close."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = orjson.dumps({"error": sentence})
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d" % len(body)
            self.transport.write(b"HTTP/1.1 %s\r\n%s\r\n\r\n%s" % (status, head, body))
        if self.cycle is not None:
            self.cycle.disconnected = True  # nobody reads what else it answers
        self.transport.close()
