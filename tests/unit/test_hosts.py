"""Which addresses may be reached, whatever they are written like."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.provisional import domains

from exemplar.errors import NotNowError, SettingError
from exemplar.hosts import breakers
from exemplar.hosts.allowed import AllowedHosts, default_rules, is_global
from exemplar.hosts.breakers import FAILURES, Breakers
from exemplar.hosts.connecting import RefusedHostError, guarded_client, resolve
from exemplar.hosts.origin import origin
from exemplar.labelstudio.client import tls
from exemplar.settings import Settings, from_environment

EVERY, PUBLIC = AllowedHosts(("*",)), AllowedHosts(("public",))


def inside_ipv6(ip: IPv4Address) -> list[str]:
    """Return the ways to write an IPv4 address as one of IPv6."""
    n = int(ip)
    return [
        f"::ffff:{ip}",
        str(IPv6Address((0x64FF9B << 96) + n)),
        str(IPv6Address((0x64FF9B0001 << 80) + n)),
        str(IPv6Address((0x2002 << 112) + (n << 80) + 1)),
        str(IPv6Address((0x20010000 << 96) + (0x08080808 << 64) + (n ^ 0xFFFFFFFF))),
        *([f"::{ip}"] if n > 1 else []),
    ]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.1", "192.0.0.192", "192.88.99.1", "192.0.2.1",
        "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
        "255.255.255.255", "168.63.129.16", "::", "::1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00::1",
        "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1", "64:ff9b:1::1", "5f00::1",
    ],
)  # fmt: skip
def test_what_is_not_of_the_internet_is_not_public(address: str) -> None:
    assert not PUBLIC.permit("host", address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::808:808"]
)
def test_what_is_of_the_internet_is_public(address: str) -> None:
    assert PUBLIC.permit("host", address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_what_it_is(ip: IPv4Address) -> None:
    for rules in (EVERY, PUBLIC, AllowedHosts(("10.0.0.0/8", "128.0.0.0/1"))):
        verdicts = {text: rules.permit("host", text) for text in inside_ipv6(ip) if "2001:0:" not in text}
        assert set(verdicts.values()) == {rules.permit("host", str(ip))}, verdicts


@given(st.ip_addresses(v=4, network="169.254.0.0/16") | st.ip_addresses(v=6, network="fe80::/10"))
def test_link_local_is_reached_by_no_other_rule_than_its_network(ip: IPv4Address | IPv6Address) -> None:
    forms = [str(ip), *(inside_ipv6(ip) if isinstance(ip, IPv4Address) else [f"{ip}%eth0"])]
    for form in forms:
        for rules in (EVERY, PUBLIC, AllowedHosts(("host", "*.example.com", "10.0.0.0/8"))):
            assert not rules.permit("host", form), form
    assert AllowedHosts(("169.254.0.0/16", "fe80::/10")).permit("host", str(ip))


@given(st.ip_addresses())
def test_public_is_never_more_than_the_standard_library_says(ip: IPv4Address | IPv6Address) -> None:
    assert not is_global(ip) or ip.is_global


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_network_permits_its_addresses_alone(ip: IPv4Address, length: int) -> None:
    network = IPv4Network((int(ip), length), strict=False)
    assert AllowedHosts((str(network),)).permit("host", str(ip))
    outside = ip_address(int(network.broadcast_address) + 1) if int(network.broadcast_address) < 2**32 - 1 else None
    assert outside is None or not AllowedHosts((str(network),)).permit("host", str(outside))


def test_names_and_suffixes_permit_wherever_they_lead_but_link_local() -> None:
    rules = AllowedHosts(("images.internal", "*.example.com"))
    for host in ("images.internal", "IMAGES.internal.", "a.example.com", "a.b.example.com"):
        assert rules.permit(host, "10.0.0.1"), host
    for host in ("other", "example.com", "notexample.com", "images.internal.evil.org", "example.com.evil.org"):
        assert not rules.permit(host, "10.0.0.1"), host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_who_listens_on_loopback_may_reach_all_but_link_local(host: str) -> None:
    assert default_rules(host) == ("*",)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "", "example.com"])
def test_who_listens_elsewhere_reaches_the_internet(host: str) -> None:
    assert default_rules(host) == ("public",)


@pytest.mark.parametrize(
    ("written", "rules"),
    [
        ("", ()),
        ("*", ("*",)),
        ("Images.Internal., *.Example.com,10.1.2.3/8", ("images.internal", "*.example.com", "10.0.0.0/8")),
        ("[::1],fd00::/8,public,127.0.0.1", ("::1/128", "fd00::/8", "public", "127.0.0.1/32")),
        ("bücher.example", ("xn--bcher-kva.example",)),
    ],
)
def test_the_setting_is_read(written: str, rules: tuple[str, ...]) -> None:
    assert from_environment({"EXEMPLAR_ALLOWED_HOSTS": written}).allowed_hosts == rules


@pytest.mark.parametrize(
    "written", ["http://host", "a b", "10.0.0.0/33", "*.", "host:80", "*x.com", "10.0.0", "1.2.3.4.5", "a,,*.*"]
)
def test_a_wrong_rule_stops_the_start(written: str) -> None:
    with pytest.raises(SettingError, match=r"EXEMPLAR_ALLOWED_HOSTS=.*expected host names"):
        from_environment({"EXEMPLAR_ALLOWED_HOSTS": written})


def test_nothing_is_named_by_default() -> None:
    assert Settings().allowed_hosts == ()


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "written", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "017700000001"]
)
def test_every_way_to_write_an_address_is_resolved_to_it(written: str) -> None:
    assert resolve(written, 80, 5) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::]",
        "localhost",
    ],
)
def test_a_refused_address_is_never_connected_to(host: str) -> None:
    with (
        guarded_client(PUBLIC.permit, verify=tls()) as client,
        pytest.raises(RefusedHostError, match="EXEMPLAR_ALLO"),
    ):
        client.get(f"http://{host}:9/x")


def test_a_name_server_that_changes_its_answer_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that is checked is the one that is connected to: the name is asked for once."""
    asked = []

    def rebinding(host: str, port: int, **options: object) -> list[object]:
        asked.append(host)
        address = "203.0.113.7" if len(asked) == 1 else "127.0.0.1"
        return [(2, 1, 6, "", (address, port))]

    connected = []
    monkeypatch.setattr("socket.getaddrinfo", rebinding)
    monkeypatch.setattr(
        "socket.create_connection", lambda address, *args, **options: connected.append(address) or _refuse()
    )
    rules = AllowedHosts(("203.0.113.0/24",))
    with guarded_client(rules.permit, verify=tls()) as client, pytest.raises(httpx.ConnectError):
        client.get("http://rebinding.example/x")
    assert (asked, connected) == (["rebinding.example"], [("203.0.113.7", 80)])


def _refuse() -> None:
    raise ConnectionRefusedError


@given(domains(), st.sampled_from(["http", "https"]), st.integers(1, 65535))
def test_an_origin_is_what_the_request_is_made_to(host: str, scheme: str, port: int) -> None:
    found = origin(f"{scheme}://user:secret@{host.upper()}:{port}/a?b#c")
    assert (found.scheme, found.host, found.port) == (scheme, host.lower(), port)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h/a", "http://h:80/b", True),
        ("https://h", "https://H.:443", True),
        ("http://h", "https://h", False),
        ("http://h", "http://h:8080", False),
        ("http://h", "http://h@evil", False),
        ("http://h", "http://h.evil", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:80801", False),
        ("http://[::1]:1", "http://[::1]:1/x", True),
    ],
)
def test_two_addresses_are_of_one_origin_by_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    try:
        assert (origin(one) == origin(other)) is same
    except httpx.InvalidURL:
        assert not same


# ── Circuit breakers ─────────────────────────────────────────────────────────────────────────────────────


def test_a_host_that_fails_in_a_row_is_left_alone_and_then_tried_with_one_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(breakers.time, "time", lambda: now)
    hosts = Breakers()
    for _ in range(FAILURES):
        hosts.enter("slow")
        hosts.failed("slow")
    with pytest.raises(NotNowError, match="slow does not answer and is left alone") as told:
        hosts.enter("slow")
    assert told.value.again_at == now + breakers.LEFT_ALONE
    assert hosts.left_alone() == {"slow": now + breakers.LEFT_ALONE}
    hosts.enter("other")
    now += breakers.LEFT_ALONE + 1
    hosts.enter("slow")  # one probe
    with pytest.raises(NotNowError):
        hosts.enter("slow")
    hosts.failed("slow")
    assert hosts.left_alone() == {"slow": now + 2 * breakers.LEFT_ALONE}
    now += 2 * breakers.LEFT_ALONE + 1
    hosts.enter("slow")
    hosts.answered("slow")
    hosts.enter("slow")
    assert hosts.left_alone() == {}


def test_failures_that_are_not_in_a_row_leave_a_host_open() -> None:
    hosts = Breakers()
    for _ in range(10):
        hosts.failed("flaky")
        hosts.failed("flaky")
        hosts.answered("flaky")
        hosts.enter("flaky")


def test_a_host_that_gave_nothing_while_somebody_waited_is_left_alone_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(breakers.time, "monotonic", lambda: now)
    hosts = Breakers()
    hanging, brief, mixed = (hosts.enter(name) for name in ("hanging", "brief", "mixed"))
    now += breakers.HUNG - 1
    hosts.failed("brief", waited=brief)
    hosts.enter("mixed")
    hosts.answered("mixed")
    hosts.enter("mixed")
    now += 1
    hosts.failed("hanging", waited=hanging)
    hosts.failed("mixed", waited=mixed)
    assert list(hosts.left_alone()) == ["hanging"]
    hosts.failed("not waited for")
    assert list(hosts.left_alone()) == ["hanging"]


def test_a_host_that_says_when_to_come_back_is_left_alone_until_then() -> None:
    hosts = Breakers()
    hosts.failed("busy", retry_after=40)
    with pytest.raises(NotNowError):
        hosts.enter("busy")
    hosts.failed("greedy", retry_after=10**9)
    assert hosts.left_alone()["greedy"] - hosts.left_alone()["busy"] < breakers.AT_MOST
