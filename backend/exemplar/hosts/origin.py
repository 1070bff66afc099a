"""Where an address leads: scheme, host and port, read by the very parser that makes the request."""

from typing import NamedTuple

import httpx

_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port; two addresses of one origin are served by one server."""

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (None, _PORTS.get(self.scheme)) else f"{host}:{self.port}"


def origin(url: httpx.URL | str) -> Origin:
    """Return the origin of an address.

    Raises
    ------
    httpx.InvalidURL
        If it is none.
    """
    url = httpx.URL(url)
    host = url.raw_host.decode("ascii").lower().rstrip(".")
    return Origin(url.scheme, host, url.port or _PORTS.get(url.scheme))
