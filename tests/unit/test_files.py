"""Files of tasks: who gets the key, which hosts are asked, and how much of an answer is read."""

import base64
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import hostile
from exemplar.errors import NotNowError, TaskDataError
from exemplar.hosts import breakers, connecting
from exemplar.hosts.allowed import AllowedHosts
from exemplar.hosts.breakers import FAILURES, Breakers
from exemplar.labelstudio import files as module
from exemplar.labelstudio.auth import authentication
from exemplar.labelstudio.client import Client
from exemplar.labelstudio.files import MAX_BYTES, Files
from hostile import Host, Manner, answer, hosting, redirect, routes

KEY = "k" * 40
PERSONAL = "aGVhZA.cmVmcmVzaA.c2ln"
PICTURE = hostile.picture()
SETS_COOKIE = "Set-Cookie: session=secret; Path=/"

Hosting = Callable[[Manner], Host]


@pytest.fixture
def host() -> Iterator[Hosting]:
    """Start hosts; all are ended after the test."""
    with ExitStack() as ended:
        yield lambda manner: ended.enter_context(hosting(manner))


@pytest.fixture
def open_files() -> Iterator[Callable[..., Files]]:
    """Open the files of a project whose Label Studio is at an address."""
    with ExitStack() as ended:

        def make(url: str, *, allowed: str = "*", key: str = KEY, **options: str) -> Files:
            client = Client(url, key, patience=0)
            files = Files(client, AllowedHosts(tuple(allowed.split(","))), Breakers(), **options)
            ended.callback(client.close)
            ended.callback(files.close)
            return files

        yield make


def keyed(host: Host) -> list[bool]:
    """Return for each request that a host got whether it bore our key."""
    return [KEY in request or "authorization:" in request.lower() for request in host.requests]


def paths(host: Host) -> list[str]:
    return [request.split(" ")[1] for request in host.requests]


OpenFiles = Callable[..., Files]


# ── The key ──────────────────────────────────────────────────────────────────────────────────────────────


def test_label_studio_is_given_the_key(host: Hosting, open_files: OpenFiles) -> None:
    studio = host(answer(PICTURE))
    files = open_files(studio.url)
    for address in ("/data/upload/x.png", f"{studio.url}/data/upload/x.png", " /data/upload/x.png\n"):
        with files.read(address) as file:
            assert file.read() == PICTURE
    assert paths(studio) == ["/data/upload/x.png"] * 3
    assert keyed(studio) == [True] * 3


def test_under_a_path_prefix_every_spelling_leads_there(host: Hosting, open_files: OpenFiles) -> None:
    studio = host(answer(PICTURE))
    files = open_files(studio.url + "/ls")
    for address in ("/data/x.png?a=b", "/ls/data/x.png?a=b", f"{studio.url}/ls/data/x.png?a=b"):
        files.read(address).close()
    assert paths(studio) == ["/ls/data/x.png?a=b"] * 3
    assert keyed(studio) == [True] * 3


def foreign_addresses(studio: Host, foreign: Host) -> list[str]:
    there = f"127.0.0.1:{foreign.port}"
    return [
        f"http://{there}/x",
        f"HTTP://{there}/x",
        f"//{there}/x",
        f" http://{there}/x ",
        f"{studio.url}@{there}/x",
        f"http://127.0.0.1:{studio.port}:pw@{there}/x",
        f"http://localhost:{foreign.port}/ls/data/upload/x",
        f"http://{there}/data/upload/x",
        f"http://{there}#{studio.url}/ls/",
        f"http://{there}?{studio.url}/ls/",
    ]


@pytest.mark.parametrize("prefix", ["", "/ls"])
@pytest.mark.parametrize("key", [KEY, PERSONAL])
def test_no_other_host_is_given_the_key(host: Hosting, open_files: OpenFiles, prefix: str, key: str) -> None:
    studio, foreign = host(answer(b'{"access": "short-lived"}')), host(answer(PICTURE))
    files = open_files(studio.url + prefix, key=key)
    for address in foreign_addresses(studio, foreign):
        files.read(address).close()
        assert "short-lived" not in foreign.requests[-1]
        assert key not in foreign.requests[-1]
        # What stands before an @ is the author's own, and no key of ours.
        assert "@" in address or "authorization:" not in foreign.requests[-1].lower(), address
    assert len(foreign.requests) == len(foreign_addresses(studio, foreign))


def test_an_address_that_begins_like_the_prefix_stays_at_label_studio(host: Hosting, open_files: OpenFiles) -> None:
    studio, foreign = host(answer(PICTURE)), host(answer(PICTURE))
    files = open_files(studio.url + "/ls")
    for address in (
        f"/lshttp://127.0.0.1:{foreign.port}/x",
        f"/ls//127.0.0.1:{foreign.port}/x",
        f"/ls@127.0.0.1:{foreign.port}/x",
        f"/\\127.0.0.1:{foreign.port}/x",
        f"/%2f127.0.0.1:{foreign.port}/x",
        f"{studio.url}/ls/http://127.0.0.1:{foreign.port}/x",
    ):
        files.read(address).close()
    assert foreign.requests == []
    assert all(path.startswith("/ls/") for path in paths(studio))


def test_a_neighbour_on_label_studios_host_is_given_no_key(host: Hosting, open_files: OpenFiles) -> None:
    studio = host(answer(PICTURE))
    files = open_files(studio.url + "/ls")
    for path in ("/other/x.png", "/lsx/x.png", "/x.png"):
        files.read(studio.url + path).close()
    assert keyed(studio) == [False] * 3


def test_no_redirect_takes_the_key_along(host: Hosting, open_files: OpenFiles) -> None:
    foreign = host(answer(PICTURE))
    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"):
        studio = host(redirect(f"{foreign.url}/x", status=status))
        with open_files(studio.url).read("/data/upload/x.png") as file:
            assert file.read() == PICTURE
        assert keyed(studio) == [True]
    assert keyed(foreign) == [False] * 5


def test_a_redirect_back_to_label_studio_is_followed_without_the_key(host: Hosting, open_files: OpenFiles) -> None:
    studio = host(answer(PICTURE))
    foreign = host(redirect(f"{studio.url}/api/projects/1"))
    open_files(studio.url).read(f"{foreign.url}/x").close()
    assert keyed(studio) == [False]


def test_within_label_studio_a_redirect_keeps_the_key(host: Hosting, open_files: OpenFiles) -> None:
    studio = host(routes({"/data/a": redirect("/data/b"), "/data/b": answer(PICTURE)}))
    open_files(studio.url).read("/data/a").close()
    assert keyed(studio) == [True, True]


@pytest.mark.parametrize("key", [KEY, PERSONAL])
def test_the_authentication_itself_knows_its_origin(host: Hosting, key: str) -> None:
    import httpx

    studio, foreign = host(answer(b'{"access": "short-lived"}')), host(answer(PICTURE))
    with httpx.Client(auth=authentication(studio.url, key), follow_redirects=True, trust_env=False) as client:
        client.get(foreign.url)
        client.get(studio.url)
    assert keyed(foreign) == [False]
    assert keyed(studio)[-1]


def test_no_cookie_goes_from_one_host_to_another(host: Hosting, open_files: OpenFiles) -> None:
    studio = host(answer(PICTURE, SETS_COOKIE))
    first, second = host(answer(PICTURE, SETS_COOKIE)), host(answer(PICTURE, SETS_COOKIE))
    files = open_files(studio.url)
    for _ in range(2):
        for address in ("/data/x", f"{first.url}/x", f"{second.url}/x"):
            files.read(address).close()
    asked = studio.requests + first.requests + second.requests
    assert len(asked) == 6
    assert not any("cookie" in request.lower() for request in asked)


def test_the_client_of_the_api_keeps_no_cookie(host: Hosting) -> None:
    studio = host(answer(b'{"id": 1, "created_at": "2026-11-25T10:00:00Z"}', SETS_COOKIE))
    client = Client(studio.url, KEY, patience=0)
    client.project(1)
    client.project(1)
    client.close()
    assert not any("cookie" in request.lower() for request in studio.requests)


# ── Label Studio under two names ─────────────────────────────────────────────────────────────────────────


def test_files_under_the_name_that_label_studio_gives_itself_are_asked_for_at_its_address(
    host: Hosting, open_files: OpenFiles
) -> None:
    studio, local = host(answer(PICTURE)), host(answer(PICTURE))
    files = open_files(studio.url, known_as=local.url)
    for path in ("/data/upload/1/x.png", "/tasks/3/resolve/?fileuri=czM6", "/data/local-files/?d=x.png"):
        files.read(local.url + path).close()
    assert keyed(studio) == [True] * 3
    assert local.requests == []


def test_other_paths_under_that_name_and_other_names_are_asked_as_they_are_without_the_key(
    host: Hosting, open_files: OpenFiles
) -> None:
    studio, local, other = host(answer(PICTURE)), host(answer(PICTURE)), host(answer(PICTURE))
    files = open_files(studio.url, known_as=local.url)
    for address in (
        f"{local.url}/pictures/x.png",
        f"{local.url}/data/../api/projects",
        f"{local.url}/data/%2e%2e/api/projects",
        f"{other.url}/data/upload/x.png",
    ):
        files.read(address).close()
    assert studio.requests == []
    assert keyed(local) + keyed(other) == [False] * 4


# ── Redirects to where Label Studio keeps its files ──────────────────────────────────────────────────────


@pytest.mark.parametrize("route", ["/tasks/3/resolve/?fileuri=czM6Ly9i", "/data/upload/x.png"])
def test_where_label_studio_redirects_its_files_to_is_allowed(
    host: Hosting, open_files: OpenFiles, route: str
) -> None:
    cloud = host(answer(PICTURE))
    studio = host(redirect(f"{cloud.url}/bucket/x.png?signature=1", status="303 See Other"))
    with open_files(studio.url, allowed="public").read(route) as file:
        assert file.read() == PICTURE
    assert keyed(cloud) == [False]


def test_what_redirects_from_elsewhere_is_not(host: Hosting, open_files: OpenFiles) -> None:
    inner = host(answer(PICTURE))
    studio = host(redirect(f"{inner.url}/x"))
    files = open_files(studio.url, allowed="public")
    for address in (
        "/user/login/?next=//127.0.0.1",
        "/data/../user/login",
        "/data/%2e%2e/user/login",
        f"{studio.url}/logout",
    ):
        with pytest.raises(TaskDataError, match="is not among EXEMPLAR_ALLOWED_HOSTS"):
            files.read(address)
    assert inner.requests == []


def test_label_studios_word_holds_for_one_hop(host: Hosting, open_files: OpenFiles) -> None:
    inner = host(answer(PICTURE))
    cloud = host(redirect(f"{inner.url}/x"))
    studio = host(redirect(f"{cloud.url}/x"))
    with pytest.raises(TaskDataError, match="is not among EXEMPLAR_ALLOWED_HOSTS"):
        open_files(studio.url, allowed="public").read("/data/upload/x")
    assert len(cloud.requests) == 1
    assert inner.requests == []


def test_a_connection_of_label_studios_word_serves_no_other_address(host: Hosting, open_files: OpenFiles) -> None:
    keep_open = "Connection: keep-alive"
    cloud = host(answer(PICTURE, keep_open))
    studio = host(redirect(f"{cloud.url}/x"))
    files = open_files(studio.url, allowed="public")
    files.read("/data/upload/x").close()
    with pytest.raises(TaskDataError, match="EXEMPLAR_ALLOWED_HOSTS"):
        files.read(f"{cloud.url}/y")
    assert len(cloud.requests) == 1


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "http://[::ffff:169.254.169.254]/", "http://[fe80::1]/"]
)
@pytest.mark.parametrize("allowed", ["*", "public"])
def test_link_local_is_refused_whoever_redirects_there(
    host: Hosting, open_files: OpenFiles, target: str, allowed: str
) -> None:
    studio, foreign = host(redirect(target)), host(redirect(target))
    files = open_files(studio.url, allowed=allowed)
    addresses = ["/data/upload/x", target] + ([f"{foreign.url}/x"] if allowed == "*" else [])
    for address in addresses:
        with pytest.raises(TaskDataError, match="is not among EXEMPLAR_ALLOWED_HOSTS"):
            files.read(address)


def test_loopback_in_every_spelling_is_refused_where_the_internet_is_allowed(
    host: Hosting, open_files: OpenFiles
) -> None:
    studio, inner = host(answer(PICTURE)), host(answer(PICTURE))
    files = open_files(studio.url, allowed="public")
    for name in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0177.1", "0.0.0.0", "[::ffff:127.0.0.1]"):
        with pytest.raises(TaskDataError, match="is not among EXEMPLAR_ALLOWED_HOSTS"):
            files.read(f"http://{name}:{inner.port}/x")
    assert inner.requests == []
    files.read("/data/upload/x").close()  # Label Studio itself is allowed wherever it is


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x/", "/" + "a" * 9]
)
def test_redirects_lead_to_http_or_nowhere(host: Hosting, open_files: OpenFiles, target: str) -> None:
    foreign = host(redirect(target))
    with pytest.raises(TaskDataError, match=r"expected http\(s\)|redirects|absolute URL") as told:
        open_files(foreign.url).read(f"{foreign.url}/x")
    assert not isinstance(told.value, NotNowError)


# ── Time and size ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", [False, True])
def test_a_dripping_host_has_until_the_deadline(host: Hosting, open_files: OpenFiles, head: bool) -> None:
    slow = host(hostile.drip(0.1, head=head))
    started = time.monotonic()
    with pytest.raises(NotNowError, match="did not answer in time"):
        open_files(slow.url).read(f"{slow.url}/x", seconds=1.0)
    assert 0.9 < time.monotonic() - started < 1.5


def test_label_studio_itself_has_until_the_deadline(host: Hosting, open_files: OpenFiles) -> None:
    slow = host(hostile.drip(0.1))
    started = time.monotonic()
    with pytest.raises(NotNowError):
        open_files(slow.url).read("/data/upload/x", seconds=1.0)
    assert time.monotonic() - started < 1.5


def test_a_chain_of_slow_redirects_has_one_deadline(host: Hosting, open_files: OpenFiles) -> None:
    def slowly(connection: object, path: str) -> None:
        time.sleep(0.4)
        redirect(f"/x{len(path)}{path}")(connection, path)  # type: ignore[arg-type]

    slow = host(slowly)
    started = time.monotonic()
    with pytest.raises(NotNowError):
        open_files(slow.url).read(f"{slow.url}/x", seconds=1.0)
    assert time.monotonic() - started < 1.5


def test_a_name_server_that_does_not_answer_has_until_the_deadline(
    host: Hosting, open_files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = host(answer(PICTURE))
    files = open_files(studio.url)
    monkeypatch.setattr(connecting.socket, "getaddrinfo", lambda *args, **options: time.sleep(5) or [])
    started = time.monotonic()
    with pytest.raises(NotNowError, match="was not resolved"):
        files.read("http://slow.example/x", seconds=0.5)
    assert time.monotonic() - started < 1.0


def test_a_body_without_end_is_left_at_the_cap(host: Hosting, open_files: OpenFiles) -> None:
    foreign = host(hostile.endless)
    with pytest.raises(TaskDataError, match=f"more than {MAX_BYTES} bytes"):
        open_files(foreign.url).read(f"{foreign.url}/x")


def test_a_length_beyond_the_cap_is_believed_at_once(host: Hosting, open_files: OpenFiles) -> None:
    def big(connection: object, path: str) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")  # type: ignore[attr-defined]
        time.sleep(30)

    foreign = host(big)
    started = time.monotonic()
    with pytest.raises(TaskDataError, match="99999999999 bytes, more than"):
        open_files(foreign.url).read(f"{foreign.url}/x")
    assert time.monotonic() - started < 2


def test_a_gzip_bomb_is_left_at_the_cap(host: Hosting, open_files: OpenFiles) -> None:
    foreign = host(hostile.gzip_bomb(256 * 2**20))
    with pytest.raises(TaskDataError, match="more than"):
        open_files(foreign.url).read(f"{foreign.url}/x")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity"])
def test_what_is_packed_is_unpacked(host: Hosting, open_files: OpenFiles, encoding: str) -> None:
    packer = zlib.compressobj(wbits={"deflate": 15}.get(encoding, 31))
    packed = packer.compress(PICTURE) + packer.flush() if encoding != "identity" else PICTURE
    foreign = host(answer(packed, f"Content-Encoding: {encoding}"))
    with open_files(foreign.url).read(f"{foreign.url}/x") as file:
        assert file.read() == PICTURE


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip,gzip,gzip", "x" * 200])
def test_other_encodings_are_refused_unread(host: Hosting, open_files: OpenFiles, encoding: str) -> None:
    foreign = host(answer(b"x" * 100, f"Content-Encoding: {encoding}"))
    with pytest.raises(TaskDataError, match="content-encoding"):
        open_files(foreign.url).read(f"{foreign.url}/x")


@pytest.mark.parametrize("body", [b"no gzip", zlib.compress(PICTURE, wbits=31)[:-9]])
def test_broken_gzip_is_the_files_own_fault(host: Hosting, open_files: OpenFiles, body: bytes) -> None:
    foreign = host(answer(body, "Content-Encoding: gzip"))
    with pytest.raises(TaskDataError) as told:
        open_files(foreign.url).read(f"{foreign.url}/x")
    assert not isinstance(told.value, NotNowError)


def test_a_file_in_the_address_itself_is_read_up_to_the_cap(open_files: OpenFiles) -> None:
    files = open_files("http://127.0.0.1:9")
    for address in (hostile.data_address(PICTURE), " DATA:image/png;BASE64," + base64.b64encode(PICTURE).decode()):
        with files.read(address) as file:
            assert file.read() == PICTURE
    for address in ("data:;base64," + "A" * (2 * MAX_BYTES), "data:," + "%41" * 2**20):
        with pytest.raises(TaskDataError, match="characters, more than"):
            files.read(address)


# ── For now, or for good ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_host_that_fails_is_tried_again(host: Hosting, open_files: OpenFiles, status: int) -> None:
    foreign = host(answer(b"", status=f"{status} No"))
    with pytest.raises(NotNowError, match=f"status {status}"):
        open_files(foreign.url).read(f"{foreign.url}/x")


@pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 404, 410, 304])
def test_what_is_not_there_is_not(host: Hosting, open_files: OpenFiles, status: int) -> None:
    foreign, studio = host(answer(b"", status=f"{status} No")), host(answer(b""))
    with pytest.raises(TaskDataError, match=f"status {status}") as told:
        open_files(studio.url).read(f"{foreign.url}/x")
    assert not isinstance(told.value, NotNowError)


def test_when_a_host_says_to_come_back_is_kept_to(host: Hosting, open_files: OpenFiles) -> None:
    foreign = host(answer(b"", "Retry-After: 77", status="429 Too Many Requests"))
    with pytest.raises(NotNowError) as told:
        open_files(foreign.url).read(f"{foreign.url}/x")
    assert 75 < told.value.again_at - time.time() < 78


def test_a_signed_address_that_has_expired_is_tried_again(host: Hosting, open_files: OpenFiles) -> None:
    cloud = host(answer(b"", status="403 Expired"))
    studio = host(redirect(f"{cloud.url}/x", status="303 See Other"))
    with pytest.raises(NotNowError, match="status 403"):
        open_files(studio.url).read("/tasks/3/resolve/?fileuri=x")


def test_a_host_that_hangs_is_left_alone_after_some_tries(
    host: Hosting, open_files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = host(hostile.hang)
    files = open_files(hanging.url)
    started = time.monotonic()
    for n in range(600):
        with pytest.raises(NotNowError):
            files.read(f"{hanging.url}/{n}.png", seconds=0.3)
    assert len(hanging.requests) == FAILURES
    assert time.monotonic() - started < 3
    assert list(files.breakers.left_alone()) == [f"127.0.0.1:{hanging.port}"]


def test_a_host_that_hangs_while_somebody_waits_is_left_alone_unless_it_gives_others_meanwhile(
    host: Hosting, open_files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakers, "HUNG", 0.2)

    def manner(connection: socket.socket, path: str) -> None:
        (hostile.hang if path == "/hangs.png" else answer(PICTURE))(connection, path)

    mixed = host(manner)
    files = open_files(mixed.url)

    def hangs() -> None:
        with pytest.raises(NotNowError):
            files.read(f"{mixed.url}/hangs.png", until=time.monotonic() + 1)

    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(hangs)
        while not mixed.requests:
            time.sleep(0.01)
        files.read(f"{mixed.url}/good.png").close()
        waiting.result()
    assert files.breakers.left_alone() == {}
    hangs()
    assert list(files.breakers.left_alone()) == [f"127.0.0.1:{mixed.port}"]


def test_files_that_are_gone_leave_a_host_open(host: Hosting, open_files: OpenFiles) -> None:
    studio = host(answer(b"", status="500 Server Error"))  # Label Studio's answer for a record that is gone
    files = open_files(studio.url)
    for n in range(5):
        with pytest.raises(NotNowError):
            files.read(f"/data/upload/{n}.png")
    assert len(studio.requests) == 5


def test_proxies_of_the_environment_are_asked_for_no_strangers_file(
    host: Hosting, open_files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the names itself, where no address can be checked."""
    proxy, foreign = host(answer(PICTURE)), host(answer(PICTURE))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    files = open_files("http://label-studio.example:8080")
    files.read(f"{foreign.url}/x").close()
    assert proxy.requests == []
    files.read("/data/upload/x").close()  # Label Studio is reached by the proxy, as its API is
    assert paths(proxy) == ["http://label-studio.example:8080/data/upload/x"]
    assert module._proxy_to(module.origin("http://label-studio.example:8080")) == proxy.url
