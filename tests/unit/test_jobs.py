"""The worker's loop: it cannot die, and what is wrong with one project is no other's matter."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from exemplar import jobs
from exemplar.jobs import Worker
from exemplar.project.refresh import Outcome
from exemplar.settings import Settings
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection, Done

URL = "http://localhost:8080"
Refreshes = Counter[str]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def refreshes() -> Refreshes:
    return Counter()


def introduced(home: Home, key: str) -> ProjectStore:
    return home.register(Connection(key=key, url=URL))


@contextmanager
def working(home: Home, monkeypatch: pytest.MonkeyPatch, refresh: Callable[[ProjectStore], None]) -> Iterator[None]:
    """Run a worker whose refreshes are the given function, which is done with all numbers when it returns."""

    def run_once(store: ProjectStore, *args: Any, **options: Any) -> Outcome:
        numbers = {kind: store.number(kind) for kind in ("webhooks", "orders")}
        refresh(store)
        store.save_done(Done(**numbers))
        return Outcome()

    monkeypatch.setattr(jobs, "run_once", run_once)
    stopping = threading.Event()
    worker = Worker(Settings(model_dir=home.folder, debounce=0.01))
    thread = threading.Thread(target=worker.run, args=(lambda: not stopping.is_set(),))
    thread.start()
    try:
        yield
        assert thread.is_alive(), "the loop died"
    finally:
        stopping.set()
        thread.join(10)


def until(holds: Callable[[], bool], *, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "error", [OSError(28, "full"), MemoryError(), RecursionError(), KeyError("x"), ValueError()]
)
def test_a_project_that_fails_is_tried_again_at_the_next_webhook_and_touches_no_other(
    home: Home, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    bad, good = introduced(home, "1.100"), introduced(home, "2.100")
    monkeypatch.setattr(jobs, "BACKOFF", (60.0,))
    monkeypatch.setattr(jobs, "TRY_AGAIN_AFTER", 0.2)

    def refresh(store: ProjectStore) -> None:
        refreshes[store.folder.name] += 1
        if store.folder == bad.folder:
            raise error

    with working(home, monkeypatch, refresh):
        until(lambda: refreshes == {"1.100": 1, "2.100": 1})
        good.raise_number("webhooks")
        until(lambda: refreshes["2.100"] == 2)
        assert refreshes["1.100"] == 1, "it waits"
        bad.raise_number("webhooks")
        until(lambda: refreshes["1.100"] == 2)


def test_what_cannot_even_be_looked_at_is_said_and_touches_no_other(
    home: Home, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = introduced(home, "1.100"), introduced(home, "2.100")
    done = ProjectStore.done

    def odd(store: ProjectStore) -> Done:
        if store.folder == bad.folder:
            raise TypeError("Done.__init__() got an unexpected keyword argument")
        return done(store)

    monkeypatch.setattr(ProjectStore, "done", odd)
    with working(home, monkeypatch, lambda store: refreshes.update([store.folder.name])):
        until(lambda: refreshes["2.100"] == 1)
        good.raise_number("webhooks")
        until(lambda: refreshes["2.100"] == 2)
    said = [record for record in caplog.records if "1.100 could not be looked at" in record.getMessage()]
    assert len(said) == 1, "once, not twenty times a second"


def test_the_loop_goes_on_when_the_folder_cannot_be_listed_for_a_while(
    home: Home, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    introduced(home, "1.100")
    look, left = Home.introduced, [5]

    def broken(self: Home, *args: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(24, "Too many open files")
        return look(self, *args)

    monkeypatch.setattr(Home, "introduced", broken)
    with working(home, monkeypatch, lambda store: refreshes.update([store.folder.name])):
        until(lambda: refreshes["1.100"] == 1)


@pytest.mark.parametrize("name", ["connection.json", "done.json"])
def test_fields_of_a_newer_version_stop_nobody(
    home: Home, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store, other = introduced(home, "1.100"), introduced(home, "2.100")
    store.save_done(Done(webhooks=7))
    path = store.folder / name
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"of_a_newer_version": [1]}))
    with working(home, monkeypatch, lambda store: refreshes.update([store.folder.name])):
        for number in range(1, 3):
            store.raise_number("webhooks")
            other.raise_number("webhooks")
            until(lambda: all(one.done().webhooks == one.number("webhooks") for one in (store, other)))
            assert store.number("webhooks") == number


@pytest.mark.parametrize("kind", ["webhooks", "orders"])
def test_a_file_of_numbers_that_was_lost_begins_anew(
    home: Home, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    store = introduced(home, "1.100")
    store.save_done(Done(**{kind: 40}))
    with working(home, monkeypatch, lambda store: refreshes.update([store.folder.name])):
        until(lambda: getattr(store.done(), kind) == 0)
        store.raise_number(kind)
        until(lambda: getattr(store.done(), kind) == 1)
