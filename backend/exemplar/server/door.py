"""What stands before every route: who calls under which name, who knows the password, and how much is taken in."""

import logging
from collections import deque
from collections.abc import Sequence
from urllib.parse import parse_qs

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exemplar.server import bodies
from exemplar.server.answers import refusal
from exemplar.server.auth import Passwords
from exemplar.server.callers import (
    Headers,
    LabelStudioAddresses,
    hosts_of,
    is_forwarded,
    is_loopback,
    is_of_another_site,
    is_our_name,
)
from exemplar.settings import Settings
from exemplar.store.home import Home

logger = logging.getLogger(__name__)

HEALTH, WEBHOOK = "/health", "/webhook"
READS = ("GET", "HEAD", "OPTIONS")
SAY_WHO = "Give BASIC_AUTH_USER and BASIC_AUTH_PASS (in Label Studio: the model connection's authentication)"
SAY_WHERE = (
    "Only this machine and Label Studio's may see this: set BASIC_AUTH_USER and BASIC_AUTH_PASS, or "
    "EXEMPLAR_STATUS=everyone"
)


class Door:
    """The checks, in the order of what they cost; what passes has its body read.

    ``scope["state"]["knows_password"]`` tells the route whether a caller may order a training.
    """

    def __init__(self, app: ASGIApp, settings: Settings, home: Home) -> None:
        self._app = app
        self._own_hosts = hosts_of(settings.own_urls)
        self._shows_all = settings.status == "everyone"
        self._passwords = Passwords(settings, home)
        self._label_studio = LabelStudioAddresses(settings)
        self._room = bodies.Room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._let_in(scope, receive, send)
        except HTTPException as error:
            logger.warning("%s %s: %s", scope["method"], scope["path"], error.detail)
            await refusal(error.status_code, error.detail, error.headers)(scope, receive, send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = dict(scope["headers"])
        self._check_site(scope, headers)
        await self._check_caller(scope, headers)
        _check_kind(headers)
        path = scope["path"]
        body = await self._room.read(receive, path, headers.get(b"content-length"))
        scope["state"]["is_whole"] = body.is_whole
        async with self._room.work(body, path):
            await self._app(scope, _again(body.pieces, receive), send)

    def _check_site(self, scope: Scope, headers: Headers) -> None:
        """Refuse other sites' pages, and names that are not ours."""
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise HTTPException(400, "The request has more than one Host")
        host = headers.get(b"host", b"")
        if not is_our_name(host, self._own_hosts):
            shown = host[:100].decode("latin-1")
            raise HTTPException(
                421,
                f"Host {shown!r} is not known: set EXEMPLAR_URL to the address under which this backend is reached",
            )
        if scope["method"] not in READS and is_of_another_site(headers, self._own_hosts):
            raise HTTPException(403, "A page of another site may not ask this; programs send no Origin")

    async def _check_caller(self, scope: Scope, headers: Headers) -> None:
        """Demand the password; without one, show what there is on this machine and to Label Studio's alone."""
        path, client = scope["path"], scope["client"]
        scope["state"]["knows_password"] = True
        if path == HEALTH:
            return
        if self._passwords.are_set:
            if await self._passwords.knows(headers, client[0] if client else ""):
                return
            scope["state"]["knows_password"] = False
            if path == WEBHOOK and self._passwords.knows_secret(headers, _named(scope["query_string"])):
                return
            raise HTTPException(401, SAY_WHO, {"WWW-Authenticate": 'Basic realm="Exemplar", charset="UTF-8"'})
        if scope["method"] not in READS or self._shows_all:
            return
        if is_forwarded(headers) or not (is_loopback(client) or await self._label_studio.include(client)):
            raise HTTPException(403, SAY_WHERE)


def _check_kind(headers: Headers) -> None:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind and kind != b"application/json" and not kind.endswith(b"+json"):
        raise HTTPException(415, f"Content-Type {kind[:100].decode('latin-1')!r}: expected application/json")
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding != b"identity":
        raise HTTPException(415, f"Content-Encoding {coding[:100].decode('latin-1')!r}: expected none")


def _named(query: bytes) -> str | None:
    found = parse_qs(query.decode("latin-1")).get("project")
    return found[0] if found else None


def _again(pieces: Sequence[bytes | bytearray], receive: Receive) -> Receive:
    """Return a receive that gives a body that was read, and then what really comes."""
    left = deque(pieces)

    async def again() -> Message:
        if not left:
            return await receive()
        return {"type": "http.request", "body": left.popleft(), "more_body": bool(left)}

    return again
