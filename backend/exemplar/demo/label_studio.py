"""A Label Studio of our own: installed in a virtual environment beside ours, with its data in one folder.

Its pins clash with ours, so it cannot live in our environment.
"""

import os
import secrets
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exemplar.demo.processes import LOOPBACK, DemoError, free_port, running_server, wait_until_up

__all__ = ["EMAIL", "PASSWORD", "VERSION", "LabelStudio", "free_port", "install", "running"]

VERSION = "1.23.2"
EMAIL = "demo@example.com"
PASSWORD = "exemplar"

# All that Label Studio gets of our environment: it reads settings from names as common as HOST, PORT and
# DEBUG, and would call the backend through a proxy.
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True)
class LabelStudio:
    """Where a running Label Studio is, and how to get in."""

    url: str
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)


def install(venv: Path, *, version: str = VERSION, report: Callable[[str], None] = lambda line: None) -> None:
    """Install Label Studio into a virtual environment, unless it is there; ``report`` gets pip's lines."""
    if _is_installed(venv, version):
        return
    # An interrupted installation leaves no marker, and may have left anything else: begin anew.
    _run([sys.executable, "-m", "venv", "--clear", str(venv)], report)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "install", "--progress-bar", "off", f"label-studio=={version}"], report)
    _marker(venv, version).write_text(str(venv.absolute()))


def _is_installed(venv: Path, version: str) -> bool:
    """Tell whether the installation was completed, in this place, and still has its Python."""
    marker = _marker(venv, version)
    # The scripts of a virtual environment name its path, so a moved one does not work.
    is_complete = marker.exists() and marker.read_text() == str(venv.absolute())
    return is_complete and (venv / "bin" / "python").exists()


def _marker(venv: Path, version: str) -> Path:
    return venv / f".label-studio-{version}"


def _run(command: list[str], report: Callable[[str], None]) -> None:
    last_lines: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            last_lines.append(line.rstrip())
            report(line.strip())
    if process.returncode != 0:
        raise DemoError("\n".join([f"{' '.join(command)} failed:", *last_lines]))


@contextmanager
def running(
    venv: Path,
    data_dir: Path,
    *,
    port: int,
    log_path: Path,
    email: str = EMAIL,
    password: str = PASSWORD,
    seconds: float = 300,
) -> Iterator[LabelStudio]:
    """Run Label Studio on the loopback address until the block ends; it is up when the block begins."""
    data_dir = data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True)
    studio = LabelStudio(f"http://localhost:{port}", email, password, _token(data_dir))
    command = [str(venv / "bin" / "label-studio"), "start", "--no-browser", "--enable-legacy-api-token"]
    command += ["--internal-host", LOOPBACK, "--port", str(port), "--data-dir", str(data_dir)]
    with running_server(command, env=_environment(studio, data_dir), log_path=log_path) as server:
        # Asked with our token, another program on that port is not mistaken for it.
        wait_until_up(
            server,
            f"http://{LOOPBACK}:{port}/api/current-user/whoami",
            name="Label Studio",
            log_path=log_path,
            seconds=seconds,
            headers={"Authorization": f"Token {studio.token}"},
        )
        yield studio


def _token(data_dir: Path) -> str:
    """Return the token of these data: Label Studio keeps the one it was given on its first start."""
    path = data_dir / "exemplar-demo-token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(20))
    return path.read_text()


def _environment(studio: LabelStudio, data_dir: Path) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "HOME": str(data_dir),  # it writes to ~/.config and ~/.local whatever --data-dir says
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir),
        # Given here and not as options, which every user of the machine can read.
        "LABEL_STUDIO_USERNAME": studio.email,
        "LABEL_STUDIO_PASSWORD": studio.password,
        "LABEL_STUDIO_USER_TOKEN": studio.token,
        # Both: without the first a local backend is refused, without the second its webhook is.
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
        # It calls nobody: no statistics, no error reports, no look for a newer version.
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
    }
