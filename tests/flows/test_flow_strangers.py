"""What strangers can try at the backend's door: it is refused with a sentence, or survived."""

import base64
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import orjson
import pytest

from exemplar.server import auth, bodies, connection, serve
from exemplar.server.allowance import MOST_ADDRESSES, Allowance
from exemplar.settings import Settings
from exemplar.values import Secret
from flows.conftest import Flow, MakeFlow
from flows.fake_state import Json
from flows.serving import Switch

PASSWORD = "päß wörd"
STRANGER = "203.0.113.7"
GETS = ("/", "/metrics", "/versions", "/docs", "/openapi.json")
JSON = {"Content-Type": "application/json"}
TRAIN = {"action": "START_TRAINING", "project": {"id": 1}}


class CalledFrom:
    """The app, as if the caller sat at another address."""

    def __init__(self, app: Any, address: str) -> None:
        self._app, self._address = app, address

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "client": (self._address, 4711)}, receive, send)


@pytest.fixture
def from_afar(exemplar_server: tuple[Switch, str]) -> Callable[[str], None]:
    def move(address: str = STRANGER) -> None:
        switch, _ = exemplar_server
        app = switch.app._app if isinstance(switch.app, CalledFrom) else switch.app
        switch.app = CalledFrom(app, address)

    return move


@pytest.fixture
def flow(make_flow: MakeFlow) -> Flow:
    """What sees the pictures does not matter here: the quickest does."""
    return make_flow(features="thumbnail")


@pytest.fixture
def guarded(make_flow: MakeFlow) -> Flow:
    return make_flow(basic_auth_user="label", basic_auth_pass=Secret(PASSWORD))


def post(flow: Flow, path: str, content: bytes, **headers: str) -> httpx.Response:
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return flow.call("POST", path, None, content=content, headers={**JSON, **shown})


def address_of(flow: Flow) -> tuple[str, int]:
    host, _, port = flow.url.partition("://")[2].partition(":")
    return host, int(port)


def talk(flow: Flow, request: bytes, *, wait: float = 5.0) -> bytes:
    """Send bytes, and read until the other side closes."""
    with socket.create_connection(address_of(flow), timeout=wait) as stream:
        stream.sendall(request)
        answer = b""
        while chunk := stream.recv(65536):
            answer += chunk
    return answer


# ── Bodies ───────────────────────────────────────────────────────────────────────────────────────────────


ROUTES = ("/setup", "/predict", "/webhook", "/train", "/job_status", "/validate", "/delete", "/duplicate_model")


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_takes_bodies_up_to_a_bound(flow: Flow, path: str) -> None:
    cap = bodies.CAPS.get(path, bodies.CAP)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(address_of(flow), timeout=5) as stream:
        stream.sendall(f"{head}Content-Length: {cap + 1}\r\n\r\n".encode())
        answer = stream.recv(65536)  # before a single byte of it was sent
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"longer than" in answer


@pytest.mark.parametrize("path", ["/setup", "/predict", "/train"])
def test_a_body_without_length_is_counted_while_it_comes(flow: Flow, path: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1 + bodies.CAPS.get(path, bodies.CAP) // 65536):
            yield b" " * 65536

    answer = flow.call("POST", path, None, content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert "longer than" in answer.json()["error"]


def test_a_body_of_more_values_than_there_is_memory_for_is_refused_unread(flow: Flow) -> None:
    content = b'{"project": "1.2", "tasks": [' + b"[]," * (bodies.MOST_VALUES["/predict"] // 2) + b"[]]}"
    assert len(content) < bodies.CAPS["/predict"]
    answer = post(flow, "/predict", content)
    assert answer.status_code == 413
    assert "more than 2,000,000 values" in answer.json()["error"]


def test_a_compressed_body_is_refused(flow: Flow) -> None:
    answer = post(flow, "/predict", b"\x1f\x8b" + bytes(1000), Content_Encoding="gzip")
    assert answer.status_code == 415
    assert "Content-Encoding 'gzip'" in answer.json()["error"]


def test_a_large_import_webhook_is_noted_and_not_kept(flow: Flow) -> None:
    project = flow.project(n_tasks=2)
    before = flow.store(project).number("webhooks")
    task = {"id": 1, "data": {"image": "x" * 500}}
    body = {"action": "TASKS_CREATED", "tasks": [task] * 40_000, "project": {"id": project["id"]}}
    content = orjson.dumps(body)
    assert len(content) > 20 * bodies.MIB
    assert post(flow, "/webhook", content).status_code == 201
    assert flow.store(project).number("webhooks") == before + 1
    assert post(flow, f"/webhook?project={flow.key(project)}", content).status_code == 201
    assert flow.store(project).number("webhooks") == before + 2
    assert post(flow, "/webhook", b" " * len(content)).status_code == 413
    order = orjson.dumps({**TRAIN, "x": "y" * bodies.MIB})
    assert post(flow, "/webhook", order).status_code == 413


def test_large_requests_wait_for_room_instead_of_taking_it(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READING", 3 * bodies.MIB)
    content = orjson.dumps({"project": "1.2", "tasks": ["x" * (2 * bodies.MIB)]})
    with socket.create_connection(address_of(flow), timeout=5) as stream:
        head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        stream.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:-1])
        time.sleep(0.3)
        answer = post(flow, "/predict", content)
        assert answer.status_code == 503
        assert "Too many large requests" in answer.json()["error"]
        assert flow.call("GET", "/health").status_code == 200
    time.sleep(0.3)
    assert post(flow, "/predict", content).status_code == 404  # there is room again; no such project


# ── Names and sites ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/health", "/", "/docs", "/versions"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:9090", "localhost.evil.example", "a.b"])
def test_a_foreign_host_is_refused(flow: Flow, path: str, host: str) -> None:
    answer = flow.call("GET", path, headers={"Host": host})
    assert answer.status_code == 421
    assert "set EXEMPLAR_URL" in answer.json()["error"]


def test_a_foreign_host_can_order_nothing(flow: Flow) -> None:
    project = flow.project(n_tasks=2)
    for origin in ({}, {"Origin": "http://evil.example:9090"}):
        answer = flow.call("POST", "/webhook", TRAIN, headers={"Host": "evil.example:9090", **origin})
        assert answer.status_code == 421
    assert flow.store(project).number("orders") == 0


@pytest.mark.parametrize(
    "host",
    [
        "localhost:9090",
        "127.0.0.1",
        "[::1]:9090",
        "192.168.1.5:9090",
        "exemplar:9090",
        "host.docker.internal:9090",
        "exemplar.default.svc.cluster.local",
        "my-mac.local",
        "LOCALHOST",
        "localhost.",
    ],
)
def test_the_names_that_label_studio_reaches_us_by_are_taken(flow: Flow, host: str) -> None:
    assert flow.call("GET", "/health", headers={"Host": host}).status_code == 200
    answer = flow.call("POST", "/webhook", {"action": "ANNOTATION_CREATED"}, headers={"Host": host})
    assert answer.status_code == 201


def test_a_public_name_is_taken_when_it_is_set(make_flow: MakeFlow) -> None:
    flow = make_flow(own_urls=("https://models.example.com", "http://two.example"))
    for host in ("models.example.com", "models.example.com:443", "two.example"):
        assert flow.call("GET", "/health", headers={"Host": host}).status_code == 200
    origin = {"Host": "models.example.com", "Origin": "https://models.example.com", "Sec-Fetch-Site": "same-origin"}
    assert flow.call("POST", "/webhook", {"action": "X"}, headers=origin).status_code == 201


CROSS = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)


@pytest.mark.parametrize("marks", CROSS, ids=str)
@pytest.mark.parametrize("path", ["/webhook", "/train", "/setup", "/predict"])
def test_what_a_page_of_another_site_sends_is_refused(flow: Flow, path: str, marks: dict[str, str]) -> None:
    answer = flow.call("POST", path, TRAIN, headers=marks)
    assert answer.status_code == 403
    assert "another site" in answer.json()["error"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_page_may_send_without_asking_is_no_json_and_is_refused(flow: Flow, kind: str) -> None:
    project = flow.project(n_tasks=2)
    content = orjson.dumps(TRAIN | {"project": {"id": project["id"]}})
    answer = flow.call("POST", "/webhook", None, content=content, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert flow.store(project).number("orders") == 0


def test_a_page_of_our_own_may_ask(flow: Flow) -> None:
    own = {"Origin": flow.url, "Sec-Fetch-Site": "same-origin"}
    assert flow.call("POST", "/webhook", {"action": "X"}, headers=own).status_code == 201
    assert flow.call("GET", "/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a link


# ── What is shown to whom ────────────────────────────────────────────────────────────────────────────────


def test_without_a_password_only_this_machine_sees_more_than_health(flow: Flow, from_afar: Any) -> None:
    project = flow.project(n_tasks=2)
    assert [flow.call("GET", path).status_code for path in GETS] == [200] * 5
    from_afar()
    for path in (*GETS, f"/versions?project={flow.key(project)}", "/docs/swagger-ui.css", "/nothing"):
        answer = flow.call("GET", path)
        assert answer.status_code == 403, path
        assert flow.key(project) not in answer.text
        assert "EXEMPLAR_STATUS" in answer.json()["error"]
    assert flow.call("GET", "/health").json() == {"status": "UP", "model_class": "ExemplarModel"}


def test_a_caller_that_a_proxy_speaks_for_is_no_caller_on_this_machine(flow: Flow) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert flow.call("GET", "/", headers={name: "127.0.0.1"}).status_code == 403


def test_saying_so_does_not_make_a_stranger_a_caller_on_this_machine(flow: Flow, from_afar: Any) -> None:
    from_afar()
    assert flow.call("GET", "/", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403


def test_everyone_sees_it_where_a_setting_says_so(make_flow: MakeFlow, from_afar: Any) -> None:
    flow = make_flow(status="everyone")
    from_afar()
    assert [flow.call("GET", path).status_code for path in GETS] == [200] * 5


def test_a_label_studio_on_another_machine_needs_no_password(make_flow: MakeFlow, from_afar: Any) -> None:
    flow = make_flow(label_studio_url="http://192.0.2.8:8080")
    from_afar("192.0.2.8")
    assert flow.call("GET", "/versions").status_code == 200
    assert flow.call("POST", "/webhook", {"action": "X"}).status_code == 201
    body = {"config": flow.studio.state.create_project({"title": "x"})["label_config"] or "<View/>"}
    assert flow.call("POST", "/validate", body).status_code in (200, 422)
    assert flow.call("POST", "/predict", {"tasks": [], "project": "1.2"}).status_code == 404
    from_afar("192.0.2.9")
    assert flow.call("GET", "/versions").status_code == 403


@pytest.mark.parametrize(
    ("host", "password", "warns"), [("0.0.0.0", "", 1), ("127.0.0.1", "", 0), ("0.0.0.0", "x", 0)]
)
def test_a_start_without_password_on_an_open_address_warns_once(
    host: str, password: str, warns: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(serve, "supervise", lambda children: 0)
    monkeypatch.setattr(serve, "_listener", lambda host, port: socket.create_server(("127.0.0.1", 0)))
    user = "label" if password else ""
    settings = Settings(host=host, basic_auth_user=user, basic_auth_pass=Secret(password), model_dir=tmp_path)
    with caplog.at_level(logging.WARNING):
        serve._serve(settings, dry_run=False)
    assert caplog.text.count("Without BASIC_AUTH_USER and BASIC_AUTH_PASS") == warns


# ── Passwords ────────────────────────────────────────────────────────────────────────────────────────────


def basic(password: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"label:{password}".encode(encoding)).decode()}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_password_beyond_ascii_works_in_either_encoding(guarded: Flow, encoding: str) -> None:
    assert guarded.call("GET", "/", headers=basic(PASSWORD, encoding)).status_code == 200
    assert guarded.call("GET", "/", headers=basic(PASSWORD[:-1], encoding)).status_code == 401
    assert guarded.call("GET", "/", auth=httpx.BasicAuth("label", PASSWORD)).status_code == 200


def test_a_password_beyond_latin_1_works(make_flow: MakeFlow) -> None:
    flow = make_flow(basic_auth_user="label", basic_auth_pass=Secret("пароль🔑"))
    assert flow.call("GET", "/", headers=basic("пароль🔑")).status_code == 200


@pytest.mark.parametrize("header", ["Basic", "Basic %%%", "Basic " + "A" * 10_000, "Bearer x", "basic bGFiZWw="])
def test_odd_credentials_are_refused(guarded: Flow, header: str) -> None:
    assert guarded.call("GET", "/", headers={"Authorization": header}).status_code == 401


def test_guessing_is_slow_after_ten_wrong_passwords_and_the_right_one_gets_in(guarded: Flow) -> None:
    for n in range(auth.WRONG):
        started = time.perf_counter()
        assert guarded.call("GET", "/", headers=basic(f"wrong {n}")).status_code == 401
        assert time.perf_counter() - started < 0.5
    stop_at = time.monotonic() + 3

    def guess() -> list[int]:
        found = []
        with httpx.Client(base_url=guarded.url, trust_env=False) as client:
            while time.monotonic() < stop_at:
                found.append(client.get("/", headers=basic("wrong")).status_code)
        return found

    with ThreadPoolExecutor(12) as threads:
        guesses = [threads.submit(guess) for _ in range(12)]
        time.sleep(0.5)
        started = time.perf_counter()
        assert guarded.call("GET", "/", headers=basic(PASSWORD)).status_code == 200
        assert time.perf_counter() - started < 2.5
        answers = [status for each in guesses for status in each.result()]
    assert set(answers) <= {401, 429}
    assert answers.count(401) <= 3 / auth.GUESS_EVERY + 25
    assert guarded.call("GET", "/health").status_code == 200


def test_more_guesses_at_once_than_can_wait_are_refused_at_once(guarded: Flow) -> None:
    for n in range(auth.WRONG):
        guarded.call("GET", "/", headers=basic(f"wrong {n}"))
    with ThreadPoolExecutor(60) as threads:
        answers = list(threads.map(lambda n: guarded.call("GET", "/", headers=basic(f"w{n}")), range(60)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 20
    assert refused[0].headers["Retry-After"]
    time.sleep(2.2)
    assert guarded.call("GET", "/", headers=basic(PASSWORD)).status_code == 200


def test_another_address_is_not_slowed(guarded: Flow, from_afar: Any) -> None:
    for n in range(40):
        guarded.call("GET", "/health", headers=basic(f"wrong {n}"))  # open to all: no guess
    for n in range(auth.WRONG + 5):
        guarded.call("GET", "/", headers=basic(f"wrong {n}"))
    from_afar()
    started = time.perf_counter()
    assert guarded.call("GET", "/", headers=basic(PASSWORD)).status_code == 200
    assert time.perf_counter() - started < 0.3


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    allowance = Allowance(1, 0.001)
    assert all(allowance.take(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(3 * MOST_ADDRESSES))
    assert len(allowance._left) <= MOST_ADDRESSES


def test_one_machine_is_one_address_however_many_ipv6_addresses_it_has() -> None:
    allowance = Allowance(2, 0.001)
    assert [allowance.take(f"2001:db8::{n}") for n in range(1, 4)] == [True, True, False]
    assert allowance.take("2001:db8:1::1")


# ── Odd input ────────────────────────────────────────────────────────────────────────────────────────────


ODD_KEYS = (
    "1" * 300 + "." + "2" * 300,
    "1.²",
    "²",
    "1.2\x00",
    "\ud800",
    "1.٣",
    "NaN",
    "1e400",
    "../1.2",
    "1." + "9" * 19,
)


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_odd_names_of_projects_and_jobs_are_refused(flow: Flow, key: str) -> None:
    config = '<View><Image name="i" value="$i"/><Choices name="c" toName="i"><Choice value="a"/></Choices></View>'
    calls: dict[str, Json] = {
        "/predict": {"tasks": [], "project": key},
        "/setup": {"project": key, "schema": config, "hostname": flow.studio.url},
        "/train": {"project": key},
        "/job_status": {"job": key},
        "/webhook": {"action": "START_TRAINING", "project": key},
    }
    for path, body in calls.items():
        answer = post(flow, path, json.dumps(body).encode())
        assert 400 <= answer.status_code < 500, f"{path}: {answer.status_code} {answer.text}"
        assert answer.json()["error"]
    for number in ("²", "1" * 300, "٣", "-1", "1.0", ""):
        assert 400 <= flow.call("POST", "/job_status", {"job": f"1.2:{number}"}).status_code < 500


ODD_BODIES = {
    "deep": b'{"a":' * 100_000,
    "deep list": b"[" * 900_000,
    "no UTF-8": b'{"action": "\xff\xfe"}',
    "UTF-16": '{"action": "X"}'.encode("utf-16"),
    "NUL": b'{"action": "X"}\x00',
    "NaN": b'{"action": NaN}',
    "huge": b'{"action": ' + b"9" * 10_000 + b"}",
    "half a character": b'{"action": ["\\ud800"]}',
    "cut off": b'{"action": "ANNOTATION_CREA',
    "twice": b'{"action": "X"}{"action": "Y"}',
}


@pytest.mark.parametrize("name", ODD_BODIES)
@pytest.mark.parametrize("path", ["/webhook", "/setup", "/train", "/validate", "/predict"])
def test_odd_bodies_are_refused_with_a_sentence(flow: Flow, path: str, name: str) -> None:
    answer = post(flow, path, ODD_BODIES[name])
    assert answer.status_code in (413, 422), answer.text
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "query", ["project=1&project=2", "project=%00", "project=%ff", "project=²", "a=b", "project"]
)
def test_odd_queries_are_no_server_errors(flow: Flow, query: str) -> None:
    for method, path in (("GET", "/versions"), ("POST", "/webhook"), ("GET", "/health")):
        answer = flow.call(method, f"{path}?{query}", {"action": "X"} if method == "POST" else None)
        assert answer.status_code < 500


def test_a_defect_is_told_without_its_traceback(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    from exemplar.model import ExemplarModel

    def defect(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("secret of the house")

    monkeypatch.setattr(ExemplarModel, "predict", defect)
    answer = flow.call("POST", "/predict", {"tasks": [], "project": "1.2"})
    assert answer.status_code == 500
    assert answer.json() == {"error": "Exemplar failed on /predict; its log tells why"}


def test_health_answers_when_model_dir_is_broken(make_flow: MakeFlow, tmp_path: Any) -> None:
    (tmp_path / "file").write_text("no folder")
    flow = make_flow(model_dir=tmp_path / "file")
    assert flow.call("GET", "/health").json()["status"] == "UP"
    project = flow.project(connected=False)
    body = {"project": flow.key(project), "schema": project["label_config"], "hostname": flow.studio.url}
    answer = flow.call("POST", "/setup", body)
    assert answer.status_code == 503
    assert "MODEL_DIR" in answer.json()["error"]


# ── Connections ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_WITHIN", "BODY_WITHIN", "ANSWER_WITHIN"):
        monkeypatch.setattr(connection, name, 0.4)


POST = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\n"
HALF = {
    "nothing": b"",
    "half a line": b"GET / HT",
    "half a head": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b",
    "half a body": POST + b"Content-Length: 100\r\n\r\n{",
    "a chunk without end": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", HALF)
def test_a_request_that_does_not_end_is_closed(flow: Flow, name: str) -> None:
    started = time.monotonic()
    answer = talk(flow, HALF[name])
    assert 0.3 < time.monotonic() - started < 2
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come to its end in time" in answer


@pytest.mark.usefixtures("impatient")
def test_a_byte_now_and_then_does_not_keep_a_connection(flow: Flow) -> None:
    with socket.create_connection(address_of(flow), timeout=5) as stream:
        stream.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < 5:
                stream.sendall(b" ")
                time.sleep(0.05)
        assert time.monotonic() - started < 2


@pytest.mark.usefixtures("impatient")
def test_a_connection_may_rest_between_two_requests(flow: Flow) -> None:
    with httpx.Client(base_url=flow.url, trust_env=False) as client:
        assert client.get("/health").status_code == 200
        time.sleep(0.8)
        assert client.get("/health").status_code == 200


def test_a_head_without_end_is_refused(flow: Flow) -> None:
    endless = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: "
    with socket.create_connection(address_of(flow), timeout=5) as stream:
        stream.sendall(endless)
        with pytest.raises(OSError):  # closed by the other side
            for _ in range(100):
                stream.sendall(b"a" * 8192)
                time.sleep(0.005)
            stream.sendall(b"a")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        b"nonsense\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_nonsense_is_refused_with_a_sentence(flow: Flow, request_: bytes, impatient: None) -> None:
    answer = talk(flow, request_)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error":' in answer


def test_half_open_connections_of_one_address_are_bounded(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 20)
    streams = [socket.create_connection(address_of(flow), timeout=5) for _ in range(40)]
    try:
        time.sleep(0.2)
        answered = []
        for stream in streams:
            stream.setblocking(False)
            try:
                answered.append(stream.recv(100))
            except BlockingIOError:
                answered.append(b"")
        assert sum(answer.startswith(b"HTTP/1.1 503 ") for answer in answered) >= 20
    finally:
        for stream in streams:
            stream.close()
    time.sleep(0.2)
    assert flow.call("GET", "/health").status_code == 200


# ── The page of the API ──────────────────────────────────────────────────────────────────────────────────


def test_the_page_of_the_api_needs_no_internet(flow: Flow) -> None:
    page = flow.call("GET", "/docs").text
    assert "http://" not in page
    assert "https://" not in page
    for part, kind in (("swagger-ui-bundle.js", "javascript"), ("swagger-ui.css", "css")):
        assert f"docs/{part}" in page
        answer = flow.call("GET", f"/docs/{part}")
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert len(answer.content) > 100_000
    for part in ("LICENSE", "..%2f__init__.py", "nothing"):
        assert flow.call("GET", f"/docs/{part}").status_code == 404


def test_a_browser_that_asks_for_an_icon_is_no_warning(flow: Flow, caplog: pytest.LogCaptureFixture) -> None:
    assert flow.call("GET", "/favicon.ico").status_code == 204
    assert "favicon" not in caplog.text
