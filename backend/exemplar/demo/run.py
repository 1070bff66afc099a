"""The demo, top to bottom: a real Label Studio, the backend, and a project that is ready to annotate."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import httpx
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from exemplar.demo import digits, label_studio, messages, pictures, project
from exemplar.demo.autopilot import run_autopilot
from exemplar.demo.dataset import Dataset
from exemplar.demo.label_studio import LabelStudio
from exemplar.demo.processes import LOOPBACK, DemoError, end_of_log, free_port, running_server, wait_until_up
from exemplar.demo.project import DemoProject
from exemplar.errors import SettingError
from exemplar.settings import from_environment
from exemplar.values import address

_STUDIO_PORT = 8080
_BACKEND_PORT = 9090
DATASETS: Mapping[str, Callable[[], Dataset]] = MappingProxyType(
    {"digits": digits.dataset, "messages": messages.dataset, "pictures": pictures.dataset}
)


@dataclass(frozen=True)
class Folders:
    """Where the demo keeps what it needs for a second run."""

    root: Path

    @property
    def venv(self) -> Path:
        """Return where Label Studio is installed."""
        return self.root / "venv"

    @property
    def studio(self) -> Path:
        """Return where Label Studio keeps its data."""
        return self.root / "label-studio"

    @property
    def models(self) -> Path:
        """Return the demo's MODEL_DIR."""
        return self.root / "models"

    @property
    def logs(self) -> Path:
        """Return where the logs of both processes are."""
        return self.root / "logs"

    @property
    def backend_log(self) -> Path:
        """Return the file that the backend writes its log to."""
        return self.logs / "backend.log"

    def state(self, dataset: str, *, is_external: bool) -> Path:
        """Return the file that remembers a data set's project; the digits' is older than the others."""
        of_dataset = "" if dataset == "digits" else f"-{dataset}"
        if is_external:
            return self.root / f"external-project{of_dataset}.json"
        return self.studio / f"demo-project{of_dataset}.json"

    @property
    def chart(self) -> Path:
        """Return the picture that the autopilot draws."""
        return self.root / "learning-curve.png"


def run_demo(
    *,
    dataset: str = "digits",
    fresh: bool = False,
    autopilot: bool = False,
    directory: Path = Path(".demo"),
    hold: bool = True,
    backend_url: str = "",
    environ: Mapping[str, str] = os.environ,
    console: Console | None = None,
) -> None:
    """Run the demo until Ctrl-C, or until all is set up (and annotated) if it shall not hold.

    Parameters
    ----------
    dataset : str
        What there is to annotate: one of DATASETS. Each has a project of its own.
    fresh : bool
        Begin anew: forget the demo's project, its annotations and what was learned of them.
    autopilot : bool
        Annotate fifty tasks with the truth and show what each ten of them are worth.
    directory : Path
        Keeps everything for the next run.
    hold : bool
        Leave all running until Ctrl-C.
    backend_url : str
        The backend's address as Label Studio reaches it; empty: a port of this machine.
    environ : mapping
        LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY in it name a running Label Studio to use.
    console : rich.console.Console, optional

    Raises
    ------
    SettingError
        If an option or a setting is not what is expected.
    DemoError
        If a step did not work; the message says which, and why.
    """
    console = console or Console()
    if dataset not in DATASETS:
        raise SettingError("--dataset", dataset, f"one of {', '.join(DATASETS)}")
    data = DATASETS[dataset]()
    backend_url = address("--backend-url", backend_url)
    folders = Folders(directory.absolute())
    external = _external_studio(environ)
    from_environment(_without_login(environ))  # a wrong setting ends the demo before anything is installed
    state = folders.state(dataset, is_external=external is not None)
    with _alone(folders.root), _signals_as_ctrl_c(), _farewell(console), ExitStack() as until_the_end:
        if fresh:
            _remove(folders.models)
        studio = external or until_the_end.enter_context(_own_studio(folders, console, fresh=fresh))
        client = until_the_end.enter_context(project.api_client(studio.url, studio.token))
        if fresh and external:
            project.delete(client, state)

        port = _backend_port(backend_url)
        backend_url = backend_url or f"http://localhost:{port}"
        environment = _backend_environment(environ, studio, folders, is_local=project.is_local(backend_url))
        server = until_the_end.enter_context(_backend(port, environment, folders, console))
        backend = until_the_end.enter_context(
            httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=120, trust_env=False)
        )

        filled = _filled_project(client, state, data, console)
        _connected(client, backend, filled, backend_url, console)
        console.print(_what_to_do_next(studio, filled, port, folders, is_own=external is None))
        if autopilot:
            run_autopilot(client, backend, filled, data, console=console, chart_path=folders.chart)
        if hold:
            _hold(server, folders, console)


# ── The steps ────────────────────────────────────────────────────────────────────────────────────────────


def _external_studio(environ: Mapping[str, str]) -> LabelStudio | None:
    url, key = environ.get("LABEL_STUDIO_URL", "").rstrip("/"), environ.get("LABEL_STUDIO_API_KEY", "")
    if bool(url) != bool(key):
        given, lacking = ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY")[:: 1 if url else -1]
        raise SettingError(lacking, "", f"a value, because {given} is set; or unset both for a new Label Studio")
    return LabelStudio(url, email="", password="", token=key) if url else None


def _without_login(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without another backend's login, which may be exported here: it would shut us out."""
    return {**environ, "BASIC_AUTH_USER": "", "BASIC_AUTH_PASS": ""}


@contextmanager
def _own_studio(folders: Folders, console: Console, *, fresh: bool) -> Iterator[LabelStudio]:
    if fresh:
        _remove(folders.studio)
    version = label_studio.VERSION
    with _step(console, f"Installing Label Studio {version}", f"Label Studio {version} is installed") as report:
        label_studio.install(folders.venv, report=report)
    port = free_port(_STUDIO_PORT)
    log_path = folders.logs / "label-studio.log"
    with ExitStack() as until_the_end:
        with _step(console, "Starting Label Studio (half a minute)", f"Label Studio runs on port {port}"):
            studio = until_the_end.enter_context(
                label_studio.running(folders.venv, folders.studio, port=port, log_path=log_path)
            )
        yield studio


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _backend_port(backend_url: str) -> int:
    if not backend_url:
        return free_port(_BACKEND_PORT)
    port = urlsplit(backend_url).port or _BACKEND_PORT
    if free_port(port) != port:
        raise DemoError(f"backend_url={backend_url!r}: expected port {port} of this machine to be free")
    return port


def _backend_environment(
    environ: Mapping[str, str], studio: LabelStudio, folders: Folders, *, is_local: bool
) -> dict[str, str]:
    never_by_proxy = filter(None, (environ.get("NO_PROXY") or environ.get("no_proxy"), "localhost", LOOPBACK))
    environment = {
        **_without_login(environ),
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        "MODEL_DIR": str(folders.models),
        "NO_PROXY": ",".join(never_by_proxy),
        "REDIS_URL": "",
    }
    return {**environment, "EXEMPLAR_HOST": LOOPBACK} if is_local else environment


@contextmanager
def _backend(
    port: int, environment: Mapping[str, str], folders: Folders, console: Console
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "exemplar", "serve", "--port", str(port)]
    with running_server(command, env=environment, log_path=folders.backend_log) as server:
        with _step(console, "Starting the backend", f"The backend runs on port {port}"):
            wait_until_up(
                server,
                f"http://{LOOPBACK}:{port}/health",
                name="The backend",
                log_path=folders.backend_log,
                seconds=60,
            )
        yield server


def _filled_project(client: httpx.Client, state: Path, data: Dataset, console: Console) -> DemoProject:
    with _step(console, "Looking for the project", "The project is there"):
        found = project.find_or_create(client, state, title=data.title, label_config=data.label_config)
        missing = project.missing(client, found, data)
    columns = (TextColumn(f"Uploading {data.examples}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not missing) as progress:
        bar = progress.add_task("", total=len(missing))
        project.upload(client, found, data, missing, report=lambda n_examples: progress.advance(bar, n_examples))
    return found


def _connected(
    client: httpx.Client, backend: httpx.Client, found: DemoProject, backend_url: str, console: Console
) -> None:
    with _step(console, "Connecting the backend", "The backend is connected, and its queue is ready") as report:
        project.connect(client, found, backend_url)
        project.wait_until_ready(backend, found, report=report)
    if not project.has_webhook(client, found, backend_url):
        console.print(
            "Label Studio made no webhook for the backend: it learns of annotations by its slow poll only. "
            "Label Studio makes one when it runs with SSRF_PROTECTION_ENABLED=false.",
            style="yellow",
        )


def _what_to_do_next(
    studio: LabelStudio, found: DemoProject, port: int, folders: Folders, *, is_own: bool
) -> Panel:
    login = [f"Log in as      {studio.email}, password {studio.password}"] if is_own else []
    lines = [
        f"Open           {studio.url}/projects/{found.id}/data",
        *login,
        "Then           press Label All Tasks, pick the answer, Submit",
        f"And watch      http://localhost:{port}/",
        f"Or ask         MODEL_DIR={folders.models} .venv/bin/exemplar report {found.id}",
        f"Logs           {folders.logs}",
    ]
    return Panel(Text("\n".join(lines)), title="Ready to annotate", expand=False)


def _hold(server: subprocess.Popen[bytes], folders: Folders, console: Console) -> None:
    console.print("Ctrl-C ends the demo; the next one continues where it was.", style="dim")
    try:
        server.wait()
    except KeyboardInterrupt:
        return
    raise DemoError(f"The backend ended with code {server.returncode}. {end_of_log(folders.backend_log)}")


# ── How it begins and ends ───────────────────────────────────────────────────────────────────────────────


@contextmanager
def _step(console: Console, doing: str, done: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner with what is being done, then a line with what is done; yields how to show details."""
    started = time.monotonic()
    room = max(0, console.width - len(doing) - 5)  # a spinner that wraps leaves its lines behind
    with console.status(doing) as status:
        yield lambda detail: status.update(f"{doing} [dim]{escape(detail[:room])}[/]")
    console.print(f"[green]✓[/] {done} [dim]({time.monotonic() - started:.0f} s)[/]", highlight=False)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process however it ends."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError("--directory", str(root), f"a folder that can be written ({error.strerror})") from error
    path = root / "demo.lock"
    # A fresh start deletes folders here: only our own. The tests may have put Label Studio here before.
    if not path.exists() and {found.name for found in root.iterdir()} - {"venv"}:
        raise DemoError(f"directory={root}: expected a new folder, an empty one, or that of an earlier demo")
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            message = f"A demo is running in {root}, as process {lock.read()}: end that one first, with Ctrl-C"
            raise DemoError(message) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Let a closed terminal and a plain kill end the demo as Ctrl-C does, servers included."""
    if threading.current_thread() is not threading.main_thread():  # only there handlers can be set
        yield
        return
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _farewell(console: Console) -> Iterator[None]:
    try:
        yield
    finally:
        console.print("All that the demo started has ended.", style="dim")
