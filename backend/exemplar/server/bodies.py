"""Bodies of requests: read whole, before anything else is done, and never more than there is room for.

JSON takes up to 24 times as much memory as it is long (``[[],[],…``). So the number of values counts, not the
length alone.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import HTTPException
from starlette.types import Message, Receive

MIB = 1 << 20
# "Retrieve predictions" of 10 000 tasks sends some 20 MB, an import webhook every task that was imported.
CAPS = {"/predict": 32 * MIB, "/webhook": 256 * MIB, "/setup": MIB, "/validate": MIB}
CAP = 64 << 10
# So many bytes are handled without a pause.
PIECE = 1 << 18
# Of a webhook no more is kept than tells what it is of.
WEBHOOK_KEPT = MIB
# So many values of JSON are read, each as so many bytes of memory.
MOST_VALUES = {"/predict": 2_000_000}
VALUES = 20_000
BYTES_A_VALUE = 72
# Bodies that are being read, and those that /predict works on, may take so much together; one is always taken.
READING = 96 * MIB
WORKING = 200 * MIB
# Bodies that were read and wait for /predict may take so much together: all others are told to come again.
WAITING = 64 * MIB
WAIT_AT_MOST = 30.0
TOO_MUCH = "Too many large requests at once; try again in a moment"


@dataclass(frozen=True)
class Body:
    """A request's body, how many values it has at most, and whether it was kept whole or only its beginning."""

    pieces: Sequence[bytes | bytearray]
    n_values: int
    is_whole: bool = True

    @property
    def length(self) -> int:
        """Return how many bytes were kept."""
        return sum(map(len, self.pieces))

    @property
    def weight(self) -> int:
        """Return how much memory its values may take."""
        return self.length + BYTES_A_VALUE * self.n_values


@dataclass
class Room:
    """How much of the room for bodies is taken."""

    reading: int = 0
    waiting: int = 0
    working: int = 0
    freed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def read(self, receive: Receive, path: str, announced: bytes | None) -> Body:
        """Read a body; of /predict it stays in pieces: to join 32 MiB takes 40 ms, and nothing else goes on.

        Raises
        ------
        HTTPException
            With status 413, if it is longer than its route takes; 503, if too much is being read.
        """
        cap = CAPS.get(path, CAP)
        if announced is not None and announced.isdigit() and int(announced[:20]) > cap:
            raise _too_long(path, cap)
        kept, length, n_kept, n = [bytearray()], 0, 0, 0
        try:
            async for chunk in chunks(receive):
                length += len(chunk)
                if length > cap:
                    raise _too_long(path, cap)
                if path == "/webhook" and length > WEBHOOK_KEPT:
                    chunk = chunk[: max(0, WEBHOOK_KEPT - n_kept)]
                if self.reading + len(chunk) > READING:
                    raise HTTPException(503, TOO_MUCH)
                self.reading += len(chunk)
                n_kept += len(chunk)
                n += n_values(chunk)
                if len(kept[-1]) >= PIECE:
                    kept.append(bytearray())
                kept[-1] += chunk
            return Body(kept if path == "/predict" else [b"".join(kept)], n, is_whole=n_kept == length)
        finally:
            self.reading -= n_kept

    @asynccontextmanager
    async def work(self, body: Body, path: str) -> AsyncIterator[None]:
        """Hold room while a body is worked on; a large one of /predict waits for it.

        Raises
        ------
        HTTPException
            With status 413, if it has too many values; 503, if there was no room for too long, or none to wait in.
        """
        most = MOST_VALUES.get(path, VALUES)
        if path != "/webhook" and body.n_values > most:
            raise HTTPException(413, f"The body has more than {most:,} values: send less at a time")
        if path != "/predict":
            yield
            return
        weight = body.weight
        if not self._has_room(weight):
            await self._wait_for(weight, body.length)
        self.working += weight
        try:
            yield
        finally:
            self.working -= weight
            async with self.freed:
                self.freed.notify_all()

    def _has_room(self, weight: int) -> bool:
        return not self.working or self.working + weight <= WORKING

    async def _wait_for(self, weight: int, length: int) -> None:
        if self.waiting + length > WAITING:
            raise HTTPException(503, TOO_MUCH)
        self.waiting += length
        try:
            async with asyncio.timeout(WAIT_AT_MOST), self.freed:
                await self.freed.wait_for(lambda: self._has_room(weight))
        except TimeoutError as error:
            raise HTTPException(503, TOO_MUCH) from error
        finally:
            self.waiting -= length


def n_values(content: bytes) -> int:
    """Return how many values JSON has at most, without reading it."""
    return content.count(b",") + content.count(b"[") + content.count(b"{")


def _too_long(path: str, cap: int) -> HTTPException:
    size = f"{cap // MIB} MiB" if cap >= MIB else f"{cap >> 10} KiB"
    return HTTPException(413, f"The body is longer than the {size} that {path[:100]} takes: send less at a time")


async def chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a body as it comes."""
    while True:
        message: Message = await receive()
        if message["type"] != "http.request":
            raise HTTPException(400, "The body ended before its end")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


def read_json(content: bytes) -> Any:
    """Read JSON as Label Studio writes it: by orjson, or by Python where a string has half a character.

    Raises
    ------
    HTTPException
        With status 422.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if b"\\ud" in content.lower():
            with suppress(ValueError, RecursionError):
                return json.loads(content)
        raise HTTPException(422, f"The body is no JSON: {error}") from error
