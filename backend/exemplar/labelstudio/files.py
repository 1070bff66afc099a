"""The bytes behind a task's value: a file that Label Studio serves, one on the web, or ``data:``.

Task data is written by anybody who may import tasks. So the API key goes to Label Studio's own origin alone, other
hosts are asked only where EXEMPLAR_ALLOWED_HOSTS permits the address that they resolve to, and what they answer is
read piece by piece up to a size and a time.
"""

import base64
import binascii
import re
import tempfile
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import BinaryIO, cast
from urllib.parse import unquote_to_bytes
from urllib.request import getproxies, proxy_bypass

import httpx

from exemplar.errors import CredentialsError, NotNowError, TaskDataError
from exemplar.hosts.allowed import AllowedHosts
from exemplar.hosts.breakers import Breakers
from exemplar.hosts.connecting import deadline, guarded_client
from exemplar.hosts.origin import Origin, origin
from exemplar.labelstudio.client import Client, tls

# Seconds for the whole of a file, from the name's resolution to its last byte.
FILE_SECONDS = 20.0
# Bytes of a file, decoded; a data: address that is not base64 takes many times its length to decode.
MAX_BYTES = 64 * 2**20
MAX_PERCENT_ENCODED = 2**20
# What is larger waits on disk instead of in memory for its turn to be decoded.
IN_MEMORY = 2 * 2**20
MAX_REDIRECTS = 5
# What Label Studio serves by these is a task's file; a redirect from there is its own word, others' is not.
FILE_ROUTES = re.compile(r"/(data|media|storage-data)/|/(tasks|projects)/\d+/(resolve|presign)/")
TEMPORARY = (408, 425, 429)
_WINDOW = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Files:
    """Reads the files of one project's tasks.

    Parameters
    ----------
    client : Client
        Its Label Studio.
    allowed : AllowedHosts
    breakers : Breakers
        What is known of the hosts.
    known_as : str
        The address that Label Studio gives as its own; task data may name its files by it.
    """

    def __init__(self, client: Client, allowed: AllowedHosts, breakers: Breakers, *, known_as: str = "") -> None:
        self.allowed = allowed
        self.breakers = breakers
        self._base = httpx.URL(client.url)
        self._origin = origin(client.url)
        self._known_as = _origin_or_none(known_as)
        self._own = guarded_client(
            _permit_all, verify=tls(), auth=client.auth, keep_alive=self._base.scheme == "https",
            proxy=_proxy_to(self._origin),
        )  # fmt: skip
        self._strangers = _strangers(allowed)
        self._lock = threading.Lock()
        self._n_reading, self._closed = 0, False

    def close(self) -> None:
        """Close the connections to Label Studio, once nobody reads any more."""
        with self._lock:
            self._closed = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        with self._lock:
            if self._closed and not self._n_reading:
                self._own.close()

    def host(self, address: str) -> str:
        """Return on which host a file lies, as far as its address tells; empty for ``data:`` and what is none."""
        try:
            return str(origin(self._located(address)[0])) if not is_inline(address) else ""
        except (httpx.InvalidURL, ValueError):
            return ""

    def is_own(self, address: str) -> bool:
        """Return whether Label Studio is asked for it."""
        return self.host(address) == str(self._origin)

    def read(self, address: str, *, seconds: float = FILE_SECONDS, until: float | None = None) -> BinaryIO:
        """Return the file behind an address, at its start; the caller closes it.

        Somebody waits for it no longer than ``until`` (of ``time.monotonic``), if that is given: a host that gives
        nothing all the while is left alone at once.

        Raises
        ------
        NotNowError
            If it cannot be had at the moment: its host does not answer in time, is busy or fails.
        TaskDataError
            If it cannot be had and another try would not help; the task alone is left out.
        """
        try:
            if is_inline(address):
                return _stored(_inline(address.strip()))
            ends = time.monotonic() + seconds
            with deadline(ends if until is None else min(ends, until)), self._reading():
                return self._fetched(*self._located(address), waited_for=until is not None)
        except NotNowError as error:
            raise NotNowError(f"{_short(address)}: {error}", again_at=error.again_at) from error
        except (httpx.InvalidURL, httpx.DecodingError, TaskDataError, ValueError, zlib.error) as error:
            raise TaskDataError(f"{_short(address)}: {error or type(error).__name__}") from error
        except CredentialsError as error:
            raise NotNowError(str(error)) from error
        except OSError as error:  # no room for it on disk
            raise NotNowError(f"{_short(address)}: {error.strerror or error}") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            self._n_reading += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_reading -= 1
            self._close_if_done()

    def _located(self, address: str) -> tuple[httpx.URL, bool]:
        """Return where a file is asked for, and whether with the key: under Label Studio's own address alone."""
        address = address.strip()
        if address.startswith("/") and not address.startswith("//"):
            return self._under_label_studio(httpx.URL(address)), True
        url = self._base.join(address) if address.startswith("//") else httpx.URL(address)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("expected a file that Label Studio serves, http(s) or data:")
        if origin(url) == self._origin:
            return url, self._is_under_prefix(url.path)
        if origin(url) == self._known_as and _is_file_route(url.path):
            return self._under_label_studio(url), True  # task data could name the same path without the host
        return url, False

    def _under_label_studio(self, url: httpx.URL) -> httpx.URL:
        # With a path prefix (…/label-studio), uploaded files name it already.
        path = url.raw_path if self._is_under_prefix(url.path) else self._prefix.encode() + url.raw_path
        return self._base.copy_with(raw_path=path)

    @property
    def _prefix(self) -> str:
        return self._base.path.rstrip("/")

    def _is_under_prefix(self, path: str) -> bool:
        return path.startswith(f"{self._prefix}/")

    def _fetched(self, url: httpx.URL, with_key: bool, *, waited_for: bool) -> BinaryIO:
        by_label_studio = from_label_studio = with_key
        for _ in range(MAX_REDIRECTS + 1):
            host = str(origin(url))
            asked = self.breakers.enter(host)
            try:
                with self._client(url, with_key, by_label_studio).stream("GET", url) as response:
                    body = None if response.has_redirect_location else _body(response, from_label_studio)
            except httpx.TransportError as error:
                self.breakers.failed(host, waited=asked if waited_for else None)
                raise NotNowError(f"{host} did not answer in time: {error or type(error).__name__}") from error
            except _BusyError as error:
                self.breakers.failed(host, error.retry_after)
                raise NotNowError(str(error), again_at=time.time() + error.retry_after) from error
            except BaseException:
                self.breakers.answered(host)
                raise
            self.breakers.answered(host)
            if body is not None:
                return body
            target = url.join(response.headers["location"])
            if target.scheme not in ("http", "https") or not target.host:
                raise TaskDataError(f"{host} redirects to {_short(str(target))}: expected http(s)")
            # Label Studio's own word for where it keeps a file, and that of nobody else.
            by_label_studio = with_key and _is_file_route(url.path.removeprefix(self._prefix))
            with_key = with_key and origin(target) == self._origin and self._is_under_prefix(target.path)
            url = target
        raise TaskDataError(f"more than {MAX_REDIRECTS} redirects")

    def _client(self, url: httpx.URL, with_key: bool, by_label_studio: bool) -> httpx.Client:
        if with_key:
            return self._own
        if by_label_studio or origin(url) == self._origin:
            return _strangers(AllowedHosts(("*",)))
        return self._strangers


class _BusyError(Exception):
    """A host that asks to be left alone, or fails."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _is_file_route(path: str) -> bool:
    return FILE_ROUTES.match(path) is not None and ".." not in path


def is_inline(address: str) -> bool:
    """Return whether the file is the address itself."""
    return address.lstrip()[:5].lower() == "data:"


@lru_cache
def _strangers(allowed: AllowedHosts) -> httpx.Client:
    """Hosts that are not Label Studio get no credentials of ours."""
    return guarded_client(allowed.permit, verify=tls())


def _permit_all(host: str, address: str) -> bool:
    return True


def _proxy_to(label_studio: Origin) -> str | None:
    """Return the environment's proxy to Label Studio, which somebody trusted chose; as its API is."""
    proxies = getproxies()
    proxy = proxies.get(label_studio.scheme) or proxies.get("all")
    return None if proxy is None or proxy_bypass(str(label_studio)) else proxy


def _origin_or_none(address: str) -> Origin | None:
    try:
        return origin(address) if address else None
    except httpx.InvalidURL:
        return None


def _body(response: httpx.Response, from_label_studio: bool) -> BinaryIO:
    """Return the body of an answer, no larger than MAX_BYTES, whatever it pretends."""
    status = response.status_code
    if status in TEMPORARY or status >= 500:
        # A record that is gone makes Label Studio answer 500 for its file, so does a database that is busy.
        if status == 500:
            raise NotNowError("status 500")
        raise _BusyError(f"status {status}", _retry_after(response))
    if status in (401, 403) and from_label_studio:  # its key or the address that it signed may be out of date
        raise NotNowError(f"status {status}")
    if status != 200:
        raise TaskDataError(f"status {status}")
    length = response.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > MAX_BYTES:
        raise TaskDataError(f"{length} bytes, more than {MAX_BYTES}")
    return _stored(_decoded(response))


def _decoded(response: httpx.Response) -> Iterator[bytes]:
    """Yield the body in pieces that are small however well it was compressed."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        yield from response.iter_raw()
        return
    if encoding not in _WINDOW:
        raise TaskDataError(f"content-encoding {encoding[:40]!r}: expected gzip, deflate or none")
    unpacker = zlib.decompressobj(_WINDOW[encoding])
    for packed in response.iter_raw():
        while packed:
            yield unpacker.decompress(packed, 2**20)
            packed = unpacker.unconsumed_tail
    yield unpacker.flush()
    if not unpacker.eof:
        raise TaskDataError(f"{encoding} that breaks off")


def _stored(pieces: Iterable[bytes]) -> BinaryIO:
    """Gather pieces in a file, at its start."""
    file = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=IN_MEMORY))  # noqa: SIM115  # the caller closes it
    try:
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > MAX_BYTES:
                raise TaskDataError(f"more than {MAX_BYTES} bytes")
            file.write(piece)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _inline(address: str) -> Iterator[bytes]:
    head, _, body = address.partition(",")
    is_base64 = head.lower().endswith(";base64")
    limit = MAX_BYTES // 3 * 4 if is_base64 else MAX_PERCENT_ENCODED
    if len(body) > limit:
        raise TaskDataError(f"{len(body)} characters, more than {limit}")
    try:
        yield base64.b64decode(body, validate=True) if is_base64 else unquote_to_bytes(body)
    except binascii.Error as error:
        raise ValueError("broken base64") from error


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds that Retry-After asks for, given as such or as a date; 0 for none."""
    said = response.headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said[:9])
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _short(address: str) -> str:
    return address if len(address) <= 80 else address[:77] + "…"
