"""Who knows the password, and how fast one may guess it."""

import asyncio
import base64
import binascii
import secrets
import time
from collections import OrderedDict

from fastapi import HTTPException

from exemplar.rows import SECRET_HEADER
from exemplar.server.allowance import MOST_ADDRESSES, Allowance, network_of
from exemplar.server.callers import Headers
from exemplar.settings import Settings
from exemplar.store.home import FULL_NAME, Home
from exemplar.store.project_store import ProjectStore

# An address may be wrong ten times, and then once in half a minute. Who has been wrong more often is looked at ten
# times a second, in the order of coming: the right password gets in among the wrong ones, and guessing takes ages.
WRONG = 10
WRONG_A_SECOND = 1 / 30
GUESS_EVERY = 0.1
WAIT_AT_MOST = 2.0
MOST_OF_A_HEADER = 4096


class Passwords:
    """Basic authentication, and the secrets of our webhooks."""

    def __init__(self, settings: Settings, home: Home) -> None:
        self.are_set = bool(settings.basic_auth_pass)
        self._right = _encodings(f"{settings.basic_auth_user}:{settings.basic_auth_pass}")
        self._home = home
        self._wrong = Allowance(WRONG, WRONG_A_SECOND)
        self._next: OrderedDict[str, float] = OrderedDict()

    async def knows(self, headers: Headers, caller: str) -> bool:
        """Return whether a caller gives the password; who was wrong too often waits for the answer.

        Raises
        ------
        HTTPException
            With status 429, if too many guesses of that address are waiting.
        """
        given = _basic(headers.get(b"authorization", b""))
        if given is None:
            return False
        if self._wrong.is_spent(caller):
            await self._wait_for_turn(network_of(caller))
        # Browsers, httpx and requests write letters beyond ASCII in one of two ways.
        right = [secrets.compare_digest(given, each) for each in self._right]
        if not any(right):
            self._wrong.take(caller)
        return any(right)

    async def _wait_for_turn(self, address: str) -> None:
        now = time.monotonic()
        turn = max(now, self._next.get(address, 0.0))
        if turn - now > WAIT_AT_MOST:
            sentence = "Too many wrong passwords from this address; try again in a moment"
            raise HTTPException(429, sentence, {"Retry-After": "2"})
        self._next[address] = turn + GUESS_EVERY
        self._next.move_to_end(address)
        if len(self._next) > MOST_ADDRESSES:
            self._next.popitem(last=False)
        await asyncio.sleep(turn - now)

    def knows_secret(self, headers: Headers, project: str | None) -> bool:
        """Return whether a webhook gives the secret of its project, or of any if it names none."""
        given = headers.get(SECRET_HEADER.lower().encode())
        if not given:
            return False
        stores = self._home.stores(project) if project and FULL_NAME.fullmatch(project) else self._home.stores()
        return any(_has_secret(store, given) for store in stores)


def _encodings(text: str) -> list[bytes]:
    found = [text.encode(errors="surrogateescape")]
    try:
        return [*found, text.encode("latin-1")]
    except UnicodeEncodeError:
        return found


def _basic(header: bytes) -> bytes | None:
    """Return user and password as they came, with a colon between them."""
    kind, _, coded = header[:MOST_OF_A_HEADER].partition(b" ")
    if kind.lower() != b"basic":
        return None
    try:
        return base64.b64decode(coded.strip(), validate=True)
    except binascii.Error:
        return None


def _has_secret(store: ProjectStore, given: bytes) -> bool:
    connection = store.connection()
    known = connection.webhook_secret if connection else ""
    return bool(known) and secrets.compare_digest(given, known.encode())
