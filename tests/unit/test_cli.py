"""The command line as a newcomer mistypes it: a sentence, an exit code of 1 or 2, never a traceback."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from exemplar import cli
from exemplar.demo.processes import LOOPBACK, free_port, wait_until_up
from exemplar.errors import SettingError
from exemplar.server.preflight import check_address, check_folder
from exemplar.server.serve import address_to_give
from exemplar.settings import Settings
from exemplar.store.home import Home


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Run a command in this process and return its exit code and all that it said."""
    for name in [name for name in os.environ if name.startswith(("LABEL_STUDIO_", "BASIC_AUTH_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))

    def run(*words: str, **environ: str) -> tuple[int, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["exemplar", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        text = said.out + said.err
        assert "Traceback" not in text
        return code, text

    return run


# ── Settings and options ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serve", "--port", "99999"], "--port='99999': expected a whole number from 1 to 65535"),
        (["serve", "--port", "http"], "--port='http': expected a whole number from 1 to 65535"),
        (["serve", "--host", "http://0.0.0.0"], "--host='http://0.0.0.0': expected a name or an address"),
        (["demo", "--backend-url", "http://me:99999"], "--backend-url='http://me:99999': expected an address"),
        (["demo", "--backend-url", "localhost:9090"], "--backend-url='localhost:9090': expected an address"),
        (["demo", "--directory", "/dev/null"], "--directory='/dev/null': expected a folder that can be written"),
        (
            ["demo", "--directory", "/dev/null/x"],
            "--directory='/dev/null/x': expected a folder that can be written",
        ),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_starts(run, words: list[str], said: str) -> None:
    code, text = run(*words)
    assert (code, said in text) == (2, True), text


@pytest.mark.parametrize(
    "command", [["serve"], ["demo"], ["report", "7"], ["features"], ["accept", "7"], ["disconnect", "7"]]
)
def test_every_command_refuses_a_mistyped_setting(run, command: list[str], tmp_path: Path) -> None:
    demo = ["--directory", str(tmp_path / "demo")] if command == ["demo"] else []
    code, text = run(*command, *demo, EXEMPLAR_QUEU="random")
    assert code == 2
    assert "EXEMPLAR_QUEU: no setting is called so; did you mean EXEMPLAR_QUEUE?" in text


def test_a_name_that_may_be_another_programs_is_told(run) -> None:
    code, text = run("report", "7", LABEL_STUDIO_TOKEN="hunter2")
    assert code == 1
    assert "LABEL_STUDIO_TOKEN is read by nobody here: did you mean LABEL_STUDIO_API_KEY?" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("command", ["report", "accept", "disconnect"])
@pytest.mark.parametrize("project", ["0", "-1", "abc", "7.5", "7/", ""])
def test_what_is_no_project_is_refused(run, command: str, project: str) -> None:
    code, text = run(command, project)
    assert code == 2
    assert "project" in text or "No such option" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--promise", "0.95%"], "--promise='0.95%': expected per cent from 50"),
        (["--promise", "1"], "--promise='1': expected per cent from 50"),
        (["--min-confidence", "1"], "--min-confidence='1': expected per cent"),
        (["--save", "labels.csv", "--again"], "--save and --again cannot be given together"),
        (["--look", "--yes"], "--look and --yes cannot be given together"),
    ],
)
def test_accept_refuses_what_is_ambiguous(run, words: list[str], said: str) -> None:
    code, text = run("accept", "7", *words)
    assert (code, said in text) == (2, True), text


def test_what_the_machine_refuses_is_a_sentence(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(home: Home, key: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(home.folder))

    monkeypatch.setattr(Home, "introduced", refuse)
    code, text = run("report", "7")
    assert code == 1
    assert f"exemplar: {tmp_path / 'models'}: Permission denied" in text


# ── The machine ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_models_folder_that_is_a_file_is_named(run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        code, text = run("serve", MODEL_DIR=str(path))
        assert code == 2
        assert f"MODEL_DIR='{path}': expected a folder that can be read and written" in text


def test_a_models_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Root may write anywhere: what `os.access` says is all that differs.
    monkeypatch.setattr(os, "access", lambda folder, mode: not mode & os.W_OK)
    with pytest.raises(SettingError, match=r"MODEL_DIR=.*by the user that runs this"):
        check_folder(tmp_path / "new")


def test_a_port_that_is_taken_is_named_with_what_to_do(run) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        code, text = run("serve", "--port", str(port))
    assert code == 2
    assert f"PORT={port}: expected a free port: another program listens there. Choose one with --port" in text


@pytest.mark.parametrize("host", ["1.2.3.4", "no-such-name.invalid"])
def test_an_address_that_is_not_ours_is_named(run, host: str) -> None:
    code, text = run("serve", "--port", str(free_port(9390)), EXEMPLAR_HOST=host)
    assert code == 2
    assert f"EXEMPLAR_HOST='{host}': expected" in text
    assert "of this machine" in text


def test_a_port_for_root_alone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SettingError, match=r"PORT=80: .*below 1024"):
        check_address(LOOPBACK, 80)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_the_end_is_quiet_when_the_whole_group_is_told(tmp_path: Path, number: signal.Signals, code: int) -> None:
    port, log_path = free_port(9390), tmp_path / "log"
    environment = {**os.environ, "MODEL_DIR": str(tmp_path / "models")}
    environment.pop("PYTHONWARNINGS", None)
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "exemplar", "serve", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        health = f"http://{LOOPBACK}:{port}/health"
        wait_until_up(server, health, name="The backend", log_path=log_path, seconds=30)
        workers = _children(server.pid)
        assert workers
        os.killpg(server.pid, number)
        assert server.wait(20) == code
    finally:
        server.kill()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its server"
        time.sleep(0.05)
    said = log_path.read_text()
    assert f"Connect Model, with the URL http://localhost:{port}\n" in said
    assert not any(word in said for word in ("died", "Traceback", "ERROR", "WARNING")), said


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "http://localhost:9090"),
        ({"host": "::1", "port": 9191}, "http://localhost:9191"),
        ({"host": "127.0.0.2"}, "http://127.0.0.2:9090"),
        ({"host": "192.168.1.5"}, "http://192.168.1.5:9090"),
        ({"host": "fd00::5"}, "http://[fd00::5]:9090"),
        ({"host": "0.0.0.0"}, f"http://{socket.gethostname()}:9090, or another name of this machine"),
        ({"host": "0.0.0.0", "own_urls": ("https://models.example.com",)}, "https://models.example.com"),
    ],
)
def test_the_start_tells_the_address_that_label_studio_is_given(values: dict, expected: str) -> None:
    assert address_to_give(replace(Settings(), **values)) == expected


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
