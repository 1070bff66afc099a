"""Who says to be a project's Label Studio, until that Label Studio says so itself: a few small files, for seconds.

::

    identity                 32 random bytes that nobody else knows
    introductions/<digest>   what a caller of /setup said; gone when it is confirmed or refused
    refused.json             what was refused last, and why, for those who wonder
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exemplar.store import files

# So many wait at most, and so many refusals are remembered for so many seconds.
MOST_WAITING = 64
MOST_REFUSED = 20
REFUSED_FOR = 600.0


@dataclass(frozen=True, kw_only=True)
class Introduction:
    """What a caller of /setup says: a project's full name, the address of its Label Studio as we reach it and as it
    knows itself (``hostname``), and its token, kept where no key is set.
    """

    key: str
    url: str
    hostname: str = ""
    access_token: str = ""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An introduction that Label Studio did not confirm."""

    key: str
    url: str
    why: str
    at: float


@dataclass(frozen=True)
class _Refusals:
    lately: tuple[Refusal, ...] = ()


class Introductions:
    """The waiting room of MODEL_DIR, shared by the web processes and the worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting = folder / "introductions"
        self._refused = folder / "refused.json"

    def proof(self, said: Introduction) -> str:
        """Return a word for what was said that only we can make.

        It is told to the caller. When Label Studio then shows it as the answer of one of its model connections,
        that connection leads to us, and it was Label Studio who said this.
        """
        words = "\0".join((said.key, said.url, said.hostname, said.access_token))
        return hmac.new(self._identity(), words.encode(errors="replace"), hashlib.sha256).hexdigest()[:16]

    def _identity(self) -> bytes:
        path = self._folder / "identity"
        with suppress(FileNotFoundError):
            known = path.read_bytes()
            if len(known) == 32:
                return known
            path.unlink(missing_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".identity-{secrets.token_hex(8)}")
        draft.touch(0o600)
        draft.write_bytes(secrets.token_bytes(32))
        with suppress(FileExistsError):  # of two who make one at once, the first
            os.link(draft, path)
        draft.unlink()
        return path.read_bytes()

    def add(self, said: Introduction) -> bool:
        """Let an introduction wait to be confirmed; False if too many do."""
        self._waiting.mkdir(parents=True, exist_ok=True)
        path = self._path(said)
        if not path.exists() and len(list(self._waiting.iterdir())) >= MOST_WAITING:
            return False
        files.write_record(path, said)
        return True

    def waiting(self) -> Iterator[Introduction]:
        """Yield the introductions that wait."""
        try:
            paths = list(self._waiting.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        for path in paths:
            if not path.name.startswith("."):
                said = files.read_record(path, Introduction)
                if said is not None:
                    yield said
                else:  # damaged: whoever means it comes again
                    path.unlink(missing_ok=True)

    def remove(self, said: Introduction, *, until: float) -> None:
        """Let one go, unless it has come again after that time."""
        path = self._path(said)
        with suppress(FileNotFoundError):
            if path.stat().st_mtime <= until:
                path.unlink()

    def _path(self, said: Introduction) -> Path:
        words = "\0".join((said.key, said.url, said.hostname, said.access_token))
        return self._waiting / hashlib.blake2b(words.encode(errors="replace"), digest_size=16).hexdigest()

    def refuse(self, said: Introduction, why: str) -> None:
        """Remember for a while that one was refused."""
        others = [refusal for refusal in self.refused() if (refusal.key, refusal.url) != (said.key, said.url)]
        new = Refusal(key=said.key, url=said.url, why=why, at=time.time())
        files.write_record(self._refused, _Refusals(lately=(*others, new)[-MOST_REFUSED:]))

    def refused(self) -> list[Refusal]:
        """Return what was refused lately, the oldest first."""
        kept = files.read_record(self._refused, _Refusals) or _Refusals()
        return [refusal for refusal in kept.lately if refusal.at > time.time() - REFUSED_FOR]
