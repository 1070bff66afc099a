"""`exemplar serve`: a web server, a predictor and a worker, each a process of its own.

Neither training nor a prediction delays the answer to a webhook.

What these need is imported in them alone, so that the process that keeps them alive stays small.
"""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from exemplar.hosts.allowed import is_loopback
from exemplar.server.preflight import check_address, check_folder
from exemplar.server.supervisor import Child, supervise
from exemplar.settings import Settings

logger = logging.getLogger(__name__)

# So many callers may wait for a web process that is just being started again.
BACKLOG = 2048
# What is being answered when the server is told to stop may be finished within so many seconds.
FINISH = 4
# The predictor gives way to webhooks, and the worker (see ``jobs``) to both.
PREDICTOR_NICENESS = 5


def configure_logging(level: str) -> None:
    """Log to stderr from a level on; libraries that log each request, from WARNING on."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(message)s", force=True)
    for chatty in ("httpx", "httpcore", "label_studio_tools", "python_multipart"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def serve(settings: Settings, *, dry_run: bool = False) -> None:
    """Serve until told to stop, by Ctrl-C (exit code 0) or SIGTERM (143).

    With ``dry_run`` everything is read and nothing is written: what would be is logged, and the snapshots go
    to a folder that is thrown away.
    """
    check_address(settings.host, settings.port)
    configure_logging(settings.log_level)
    if not dry_run:
        sys.exit(_serve(settings, dry_run=False))
    with tempfile.TemporaryDirectory(prefix="exemplar-dry-run-") as folder:
        logger.info("Dry run: nothing is written to Label Studio")
        sys.exit(_serve(replace(settings, model_dir=Path(folder)), dry_run=True))


def _serve(settings: Settings, *, dry_run: bool) -> int:
    check_folder(settings.model_dir)
    key = "with LABEL_STUDIO_API_KEY" if settings.label_studio_api_key else "with the token of /setup"
    source = settings.label_studio_url or "the address that /setup names"
    logger.info("Exemplar for %s, %s; models in %s", source, key, settings.model_dir)
    if not settings.basic_auth_pass and not is_loopback(settings.host):
        logger.warning(
            "Without BASIC_AUTH_USER and BASIC_AUTH_PASS, whoever reaches %s, port %d, can ask for predictions and "
            "order trainings: set both, and give them to Label Studio",
            settings.host,
            settings.port,
        )
    with _listener(settings.host, settings.port) as listener, _inner_listener() as inner:
        logger.info("Listening on %s, port %d", settings.host, settings.port)
        logger.info("In Label Studio: Settings ▸ Model ▸ Connect Model, with the URL %s", address_to_give(settings))
        web = Child("web", serve_web, (settings, listener, inner.getsockname()), graceful=True)
        predictor = Child("predictor", serve_predictions, (settings, inner), graceful=True)
        worker = Child("worker", work, (settings, dry_run))
        return supervise([web, predictor, worker])


def address_to_give(settings: Settings) -> str:
    """Return the address that a person gives Label Studio, as far as we can know how it reaches us."""
    if settings.own_urls:
        return " or ".join(settings.own_urls)
    if settings.host in ("localhost", "127.0.0.1", "::1"):
        return f"http://localhost:{settings.port}"
    if settings.host in ("0.0.0.0", "::"):
        return f"http://{socket.gethostname()}:{settings.port}, or another name of this machine"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _listener(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Where a name has both, callers try the old kind, too.
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.create_server(address, family=family, backlog=BACKLOG)
    # What is accepted has it from here; without it each answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextmanager
def _inner_listener() -> Iterator[socket.socket]:
    """Open a socket that only we can reach: on it is no door."""
    with (
        tempfile.TemporaryDirectory(prefix="exemplar-", ignore_cleanup_errors=True) as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/predictor")
        listener.listen(BACKLOG)
        yield listener


def serve_web(settings: Settings, listener: socket.socket, predictor: str) -> None:
    """Be the web process: answer whoever comes to the socket, with the predictor's help."""
    from exemplar.server.app import create_app
    from exemplar.server.connection import GuardedProtocol

    configure_logging(settings.log_level)
    app = create_app(settings, predictor)
    _run(app, listener, http=GuardedProtocol, access_log=settings.log_level == "DEBUG")


def serve_predictions(settings: Settings, listener: socket.socket) -> None:
    """Be the predictor: answer /predict to the web process."""
    from exemplar.server.app import create_predictor

    configure_logging(settings.log_level)
    os.nice(PREDICTOR_NICENESS)
    _run(create_predictor(settings), listener, access_log=False)


def _run(app: Any, listener: socket.socket, **options: Any) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        ws="none",
        proxy_headers=False,  # who may say for whom he speaks is not known
        loop="auto",  # uvloop, but for Windows: answers a webhook, inside a Submit, in two thirds of asyncio's time
        log_config=None,
        timeout_graceful_shutdown=FINISH,
        **options,
    )
    uvicorn.Server(config).run(sockets=[listener])


def work(settings: Settings, dry_run: bool) -> None:
    """Be the worker process."""
    from exemplar import jobs

    configure_logging(settings.log_level)
    jobs.work(settings, dry_run=dry_run)
