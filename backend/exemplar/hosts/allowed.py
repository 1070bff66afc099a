"""Which addresses a task's data may make us connect to: EXEMPLAR_ALLOWED_HOSTS.

What counts is the address that a name resolves to, at the moment of connecting, for every hop of a redirect. An
IPv4 address inside an IPv6 one (mapped, NAT64, 6to4, Teredo) is judged as what it is.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address

EVERY, PUBLIC = "*", "public"
# Link-local, and where clouds give a machine's own credentials away: only a network that is named opens these.
NEVER_BY_ITSELF = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::254/128",  # Amazon
        "fd20:ce::254/128",  # Google
        "100.100.100.200/32",  # Alibaba
        "192.0.0.192/32",  # Oracle
        "168.63.129.16/32",  # Azure
    )
)
_IPV6_GLOBAL = ip_network("2000::/3")
_IPV4_SPECIAL = (ip_network("192.0.0.0/24"), ip_network("192.88.99.0/24"))
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = ip_network("::/96")


@dataclass(frozen=True)
class AllowedHosts:
    """What EXEMPLAR_ALLOWED_HOSTS says: names, ``*.suffix``, networks, ``public``, ``*``."""

    rules: tuple[str, ...]

    def permit(self, host: str, address: str) -> bool:
        """Return whether a host of that name may be reached at the address that it resolved to."""
        return all(self._permit(host, ip) for ip in reached(ip_address(address)))

    def _permit(self, host: str, ip: Address) -> bool:
        if any(ip in ip_network(rule) for rule in self.rules if is_network(rule)):
            return True
        if any(ip in network for network in NEVER_BY_ITSELF):
            return False
        is_public = PUBLIC in self.rules and is_global(ip)
        return EVERY in self.rules or is_public or any(is_name_of(rule, host) for rule in self.rules)


def default_rules(listening_on: str) -> tuple[str, ...]:
    """Return what is allowed unless somebody says otherwise.

    Who listens on loopback has no neighbours who could use us to reach what they cannot reach themselves, and often
    serves the images from the very same machine.
    """
    return (EVERY,) if is_loopback(listening_on) else (PUBLIC,)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens on the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_network(rule: str) -> bool:
    """Return whether a rule is an address or a network."""
    try:
        ip_network(rule)
    except ValueError:
        return False
    return True


def is_name_of(rule: str, host: str) -> bool:
    """Return whether a rule is the host's name or a ``*.suffix`` of it."""
    host = host.lower().rstrip(".")
    return host.endswith(rule[1:]) if rule.startswith("*.") else host == rule


def is_global(ip: Address) -> bool:
    """Return whether an address is one of the public internet."""
    if ip.is_multicast or not ip.is_global:
        return False
    if isinstance(ip, IPv6Address):
        return ip in _IPV6_GLOBAL
    return not any(ip in network for network in _IPV4_SPECIAL)


def reached(ip: Address) -> tuple[Address, ...]:
    """Return the addresses that a packet to this one ends at: of a translated or tunnelled one the IPv4 address."""
    if isinstance(ip, IPv4Address):
        return (ip,)
    if ip.ipv4_mapped:
        return (ip.ipv4_mapped,)
    if ip.sixtofour:
        return (ip.sixtofour,)
    if ip.teredo:
        return ip.teredo
    if any(ip in network for network in _NAT64):
        return (IPv4Address(int(ip) & 0xFFFFFFFF),)
    if ip in _IPV4_COMPATIBLE and int(ip) > 1:  # not :: and ::1
        return (IPv4Address(int(ip)),)
    return (ip,)
