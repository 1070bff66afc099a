"""Connections that end where they may, and in time.

A name is resolved once and the connection made to the very address that was checked, so that no second answer of a
name server takes us elsewhere. Each read waits no longer than what is left of the deadline: a host that sends a
byte every few seconds gains nothing by it.
"""

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from exemplar.errors import TaskDataError

CONNECT_SECONDS = 5.0
STALL_SECONDS = 10.0

_ends_at: ContextVar[float] = ContextVar("ends_at", default=float("inf"))


@contextmanager
def deadline(ends_at: float) -> Iterator[None]:
    """Let every connection made or read in the block end at that time of ``time.monotonic``."""
    token = _ends_at.set(min(ends_at, _ends_at.get()))
    try:
        yield
    finally:
        _ends_at.reset(token)


def left(timeout: float | None, late: type[httpcore.TimeoutException]) -> float:
    """Return how long one step may take; ``late`` is raised where no time is left."""
    seconds = min(_ends_at.get() - time.monotonic(), float("inf") if timeout is None else timeout)
    if seconds <= 0:
        raise late("its time was up")
    return min(seconds, 3600.0)


class TimedStream(httpcore.NetworkStream):
    """A connection whose every step ends with the deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read by the deadline."""
        return self._stream.read(max_bytes, left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write by the deadline."""
        self._stream.write(buffer, left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the stream encrypted, under the same deadline."""
        seconds = left(timeout, httpcore.ConnectTimeout)
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        """Return what the stream knows of itself."""
        return self._stream.get_extra_info(info)


class Connector(httpcore.NetworkBackend):
    """Connects to addresses that are permitted, and to no other.

    Parameters
    ----------
    permit : callable
        Takes a host's name and the address that it resolved to.
    """

    def __init__(self, permit: Callable[[str, str], bool]) -> None:
        self._permit = permit
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first permitted address that answers."""
        found = resolve(host, port, left(timeout, httpcore.ConnectTimeout))
        permitted = [address for address in found if self._permit(host, address)]
        if not permitted:
            raise RefusedHostError(host, found)
        for n, address in enumerate(permitted, 1):
            try:
                seconds = left(timeout, httpcore.ConnectTimeout)
                stream = self._backend.connect_tcp(address, port, seconds, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if n == len(permitted):
                    raise
            else:
                return TimedStream(stream)
        raise AssertionError("unreachable: the last address connects or raises")


class RefusedHostError(TaskDataError):
    """A host that EXEMPLAR_ALLOWED_HOSTS does not name."""

    def __init__(self, host: str, addresses: list[str]) -> None:
        at = "" if addresses == [host] else f" ({', '.join(addresses[:3])})"
        super().__init__(f"{host}{at} is not among EXEMPLAR_ALLOWED_HOSTS")


def resolve(host: str, port: int, seconds: float) -> list[str]:
    """Return the addresses of a host; a name server that does not answer is waited for no longer than told.

    Every way to write an address (``0x7f.1``, ``2130706433``) becomes what it stands for.
    """
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put(list(dict.fromkeys(str(address[4][0]) for address in found)))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty as error:
        raise httpcore.ConnectTimeout(f"the name {host} was not resolved within {seconds:.0f} s") from error
    if isinstance(answer, OSError):
        raise httpcore.ConnectError(f"the name {host} cannot be resolved: {answer.strerror or answer}") from answer
    return answer


def guarded_client(
    permit: Callable[[str, str], bool],
    *,
    verify: ssl.SSLContext,
    auth: httpx.Auth | None = None,
    keep_alive: bool = True,
    proxy: str | None = None,
) -> httpx.Client:
    """Return a client that connects to permitted addresses, follows no redirect and keeps no cookie.

    Proxies of the environment are not used: where a proxy resolves a name, nobody can check the address.
    """
    options: dict[str, Any] = {
        "ssl_context": verify,
        "network_backend": Connector(permit),
        "max_keepalive_connections": 10 if keep_alive else 0,
        "keepalive_expiry": 5.0,
    }
    transport = httpx.HTTPTransport(verify=verify, trust_env=False)
    # httpx has no parameter for the network backend of its own pool; a test holds that this one is used.
    transport._pool = httpcore.HTTPProxy(proxy, **options) if proxy else httpcore.ConnectionPool(**options)
    return httpx.Client(
        transport=transport,
        auth=auth,
        trust_env=False,
        follow_redirects=False,
        cookies=no_cookies(),
        timeout=httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS),
        headers={"Accept-Encoding": "identity"},
    )


def no_cookies() -> CookieJar:
    """Return a jar that keeps no cookie: those of a host would go to its other ports as well."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))
