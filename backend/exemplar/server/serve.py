"""`exemplar serve`: the web server and its worker process."""

import logging
import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType

import uvicorn

from exemplar import jobs
from exemplar.server.app import create_app
from exemplar.server.preflight import check_address, check_folder
from exemplar.server.reason import ReasonProtocol
from exemplar.settings import Settings

logger = logging.getLogger(__name__)

STOPS = (signal.SIGINT, signal.SIGTERM)


def configure_logging(level: str) -> None:
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
    signal.signal(signal.SIGTERM, _end)
    if not dry_run:
        _serve(settings, dry_run=False)
        return
    with tempfile.TemporaryDirectory(prefix="exemplar-dry-run-") as folder:
        logger.info("Dry run: nothing is written to Label Studio")
        _serve(replace(settings, model_dir=Path(folder)), dry_run=True)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # as shells count it; what is on the way out is tidied up


def _serve(settings: Settings, *, dry_run: bool) -> None:
    check_folder(settings.model_dir)
    key = "with LABEL_STUDIO_API_KEY" if settings.label_studio_api_key else "with the token of /setup"
    source = settings.label_studio_url or "the address that /setup names"
    logger.info("Exemplar for %s, %s; models in %s", source, key, settings.model_dir)
    uvicorn.run(
        create_app(settings, lambda: worker_process(settings, dry_run=dry_run)),
        host=settings.host,
        port=settings.port,
        http=ReasonProtocol,
        loop="uvloop",  # answers a webhook, inside an annotator's Submit, in two thirds of asyncio's time
        log_config=None,
        access_log=settings.log_level == "DEBUG",
    )


@contextmanager
def worker_process(settings: Settings, *, dry_run: bool = False) -> Iterator[None]:
    """Keep a worker process running: a process of its own, so that training never delays an answer.

    One that dies is replaced; on leaving, the worker is ended (a refresh can be ended anywhere). Nobody else
    ends it: Ctrl-C and many a SIGTERM reach the whole process group, and it would seem to have died.
    """
    stopping = threading.Event()
    spawn = multiprocessing.get_context("spawn")

    def start() -> multiprocessing.process.BaseProcess:
        process = spawn.Process(target=jobs.work, args=(settings, dry_run, configure_logging), name="worker")
        resource_tracker.ensure_running()  # it unblocks them when it is started
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # as this thread has it, the process inherits it
        process.start()
        return process

    def keep_alive() -> None:
        process = start()
        while not stopping.wait(0.5):
            if not process.is_alive():
                logger.error("The worker died (exit code %s); starting another", process.exitcode)
                process = start()
        process.kill()
        process.join(5)

    keeper = threading.Thread(target=keep_alive, name="worker-keeper")
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join()
