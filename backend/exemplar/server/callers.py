"""Who is calling: a browser that another site sent, a name that is not ours, a caller on this machine.

A browser marks what it sends for a page: ``Origin`` and ``Sec-Fetch-Site`` say which site the page is of. A page
whose own name was pointed to our address (DNS rebinding) is of "our" site, but it gives its own name as ``Host``.
Label Studio and other programs send no such marks, and as ``Host`` the address that they were connected with.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from exemplar.settings import Settings

# Names that nobody can buy: of this machine, of a local network, of containers.
LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
OWN_SITE = (b"same-origin", b"none")
# A proxy on this machine says with these that the caller is somebody else.
FORWARDED = (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via")
# Label Studio's addresses are looked up at most so often.
LOOK_UP_EVERY = 60.0
Headers = Mapping[bytes, bytes]


def hosts_of(addresses: tuple[str, ...]) -> frozenset[str]:
    """Return the host names of addresses."""
    return frozenset((urlsplit(address).hostname or "") for address in addresses)


@lru_cache(1024)
def is_our_name(host_header: bytes, own_hosts: frozenset[str]) -> bool:
    """Return whether a Host names us: an IP address, a name without dots or of a local network, or a set one."""
    try:
        host = (urlsplit(f"//{host_header.decode('ascii')}").hostname or "").rstrip(".")
    except ValueError:
        return False
    return "." not in host or host in own_hosts or host.endswith(LOCAL_SUFFIXES) or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_of_another_site(headers: Headers, own_hosts: frozenset[str]) -> bool:
    """Return whether a browser sends this for a page of another site."""
    if headers.get(b"sec-fetch-site", b"none") not in OWN_SITE:
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    try:
        parts = urlsplit(origin.decode("ascii"))
        return parts.netloc.encode() != headers.get(b"host") and parts.hostname not in own_hosts
    except ValueError:
        return True


def is_forwarded(headers: Headers) -> bool:
    """Return whether a proxy speaks for somebody else."""
    return any(name in headers for name in FORWARDED)


def is_loopback(client: tuple[str, int] | None) -> bool:
    """Return whether the caller is a program on this machine."""
    if client is None:  # a socket of this machine
        return True
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class LabelStudioAddresses:
    """The IP addresses of the machine that LABEL_STUDIO_URL names, looked up when they are asked for."""

    def __init__(self, settings: Settings) -> None:
        self._host = urlsplit(settings.label_studio_url).hostname or ""
        self._known: frozenset[str] = frozenset()
        self._looked_up_at = -LOOK_UP_EVERY

    async def include(self, client: tuple[str, int] | None) -> bool:
        """Return whether a caller is on that machine."""
        if not self._host or client is None:
            return False
        if time.monotonic() - self._looked_up_at >= LOOK_UP_EVERY:
            self._looked_up_at = time.monotonic()
            try:
                found = await asyncio.get_running_loop().getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
                self._known = frozenset(str(address[4][0]) for address in found)
            except (OSError, UnicodeError):
                self._known = frozenset()
        return client[0] in self._known
