"""The servers that the demo starts: each in its own session, with a log, ended by its own process id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from exemplar.errors import ExemplarError

LOOPBACK = "127.0.0.1"
_LOG_LINES = 20


class DemoError(ExemplarError):
    """Something that the demo needs did not work; the message says what, and where to look."""


def free_port(preferred: int) -> int:
    """Return the preferred port, or the next one above it that is free on the loopback address."""
    for port in range(preferred, min(preferred + 1000, 65536)):
        if _is_free(port):
            return port
    raise DemoError(f"port={preferred}: expected a free port among it and the 999 above it")


def _is_free(port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(1)
        if caller.connect_ex((LOOPBACK, port)) == 0:  # bind alone overlooks listeners on 0.0.0.0 on macOS
            return False
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


@contextmanager
def running_server(
    command: Sequence[str], *, env: Mapping[str, str], log_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that writes to a log, and end it with all that it started."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        # In a session of its own, Ctrl-C does not reach it: we end it, after all that depends on it.
        server = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield server
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes], *, patience: float = 10) -> None:
    _signal_group(server, signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            server.wait(patience)
    finally:  # also when a second Ctrl-C cuts the waiting short
        _signal_group(server, signal.SIGKILL)
        server.wait()


def _signal_group(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # macOS says PermissionError of a group in which only the ended process is left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, number)


def wait_until_up(
    server: subprocess.Popen[bytes],
    url: str,
    *,
    name: str,
    log_path: Path,
    seconds: float,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Return once the address answers 200; raise a ``DemoError`` with the end of the log if it never will."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"{name} ended with code {server.returncode} while starting. {end_of_log(log_path)}")
        if _answers(url, headers):
            return
        time.sleep(0.2)
    raise DemoError(f"{name} did not answer at {url} within {seconds:.0f} s. {end_of_log(log_path)}")


def _answers(url: str, headers: Mapping[str, str] | None) -> bool:
    try:
        return httpx.get(url, headers=headers, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def end_of_log(log_path: Path) -> str:
    """Return the last lines of a log, under its path."""
    lines = log_path.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join([f"The end of {log_path}:", *lines])
