"""What is kept on disk."""

import errno
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from exemplar.engine import Checkpoint, empty_columns, fit_classifier, survey
from exemplar.errors import UnknownProjectError
from exemplar.features import Block, fitted
from exemplar.features.signatures import text_keys
from exemplar.features.texts.words import Words, fit_text_model
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Annotation, Task
from exemplar.store.arrays import GEOMETRY, arrays_of
from exemplar.store.audit_log import AuditEntry
from exemplar.store.home import Home
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection, Done, Status
from exemplar.store.snapshot import Believed, DuplicatesFound, Facts, Snapshot
from exemplar.store.snapshot_folder import KEPT_SNAPSHOTS

LABELING = Labeling("animal", "txt", "review", "text", ("cat", "dög"))
TEXTS = ["a cat and a cat", "a cat", "two dogs", "dogs bark"]
TEXT_MODEL = fit_text_model(TEXTS)
MODELS = {"txt.words": fitted(Words(), TEXT_MODEL)}
BLOCK = Block("txt", "review", "text", "words", Words.identity, 1.0, TEXT_MODEL.n_features)


def snapshot(number: int = 1, X: np.ndarray | None = None, **changes: Any) -> Snapshot:
    X = TEXT_MODEL.transform(TEXTS) if X is None else X
    annotation = Annotation(11, 3, LABELING.result(1), cancelled=False, unseen=True)
    whole = Snapshot(
        facts=Facts(
            number=number,
            made_at=1.5,
            generation=4,
            labeling=LABELING,
            settings={"n_clusters": None, "batch_size": 50},
            n_clustered=4,
            features="review:tfidf",
            blocks=(BLOCK,),
            unreadable={99: "has no 'review'"},
            n_tasks=5,
            n_answered=1,
            n_pre_annotated=4,
            temperature=0.5,
            averaged_at=1.0,
            honesty={"leave_one_out": 0.5},
            n_shown=2,
            priors=(Believed("names", "0a1b", 1.0, 0.25), Believed("gpt-4", "2c", 0.0, 0.0)),
            duplicates=DuplicatesFound(groups=1, tasks=2),
        ),
        tasks=(
            *(Task(10 + i, f"digest{i}", text, (annotation,)) for i, text in enumerate(TEXTS)),
            Task(99, "x", None, ()),
        ),
        task_ids=np.arange(10, 14),
        geometry=survey(X, n_clusters=2),
        signatures=text_keys(TEXTS),
        leaders=np.int32([0, 0, 2, 3]),
        distributions=np.float32([[1, 0], [0.75, 0.25], [0, 1], [0, 0]]),
        columns=empty_columns(),
        classifier=fit_classifier(X, np.arange(len(X)) % 2),
        models=MODELS,
        choices=np.int32([0, 0, 1, -1]),
        scores=np.array([1.0, 0.25, -1.0, np.nan]),
        blind=np.array([2]),
        faint=np.array([1]),
        checkpoints=(Checkpoint(20, np.array([1, 0]), 0.5), Checkpoint(40, np.array([1, 1]), 0.75)),
        priors=(np.float32([[1, 0], [0, 1], [0, 0], [0.5, 0.5]]), np.ones((4, 2), np.float32)),
    )
    return replace(whole, **changes)


def other_features(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((4, 3), np.float32)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def store(tmp_path: Path) -> ProjectStore:
    return ProjectStore(tmp_path / "localhost_8080" / "1.100")


# ── Snapshots ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_snapshot_comes_back_as_it_was(store: ProjectStore) -> None:
    saved = snapshot()
    store.save(saved)
    loaded = store.current()
    assert loaded is not None
    assert (loaded.facts, loaded.tasks) == (saved.facts, saved.tasks)
    model = loaded.pool_models["txt.words"]
    assert (model.terms, model.analyzer) == (TEXT_MODEL.terms, TEXT_MODEL.analyzer)
    for one, two in [
        (loaded.task_ids, saved.task_ids),
        (loaded.signatures, saved.signatures),
        (loaded.leaders, saved.leaders),
        (loaded.distributions, saved.distributions),
        (loaded.blind, saved.blind),
        (loaded.faint, saved.faint),
        *zip(loaded.priors, saved.priors, strict=True),
        (loaded.choices, saved.choices),
        (loaded.scores, saved.scores),
        *(
            (arrays_of(loaded)[name], array)
            for name, array in arrays_of(saved).items()
            if name.startswith(("column_", "projection_")) or name in GEOMETRY
        ),
        (loaded.classifier.coef, saved.classifier.coef),
        (loaded.classifier.intercept, saved.classifier.intercept),
        (loaded.classifier.classes, saved.classifier.classes),
        (model.idf, TEXT_MODEL.idf),
        (model.components, TEXT_MODEL.components),
    ]:
        np.testing.assert_array_equal(one, two, strict=True)


def test_a_snapshot_of_images_before_any_answer_comes_back_without_models(store: ProjectStore) -> None:
    store.save(snapshot(classifier=None, models={}))
    assert (store.current().classifier, store.current().models) == (None, {})


def test_the_facts_can_be_read_alone(store: ProjectStore) -> None:
    assert store.facts() is None
    store.save(snapshot(7))
    assert store.facts() == snapshot(7).facts


def test_a_loaded_snapshot_cannot_be_changed(store: ProjectStore) -> None:
    store.save(snapshot())
    with pytest.raises(ValueError, match="read-only"):
        store.current().geometry.X[0] = 0


def test_what_was_loaded_stays_readable_when_its_files_are_pruned(store: ProjectStore) -> None:
    store.save(snapshot(1))
    loaded = store.current()
    for number in range(2, 2 + KEPT_SNAPSHOTS):
        store.save(snapshot(number, other_features(number)))
    np.testing.assert_array_equal(loaded.geometry.X, snapshot().geometry.X)


def test_rows_are_found_by_task_id() -> None:
    assert [snapshot().row(task_id) for task_id in (9, 10, 13, 14, 99)] == [None, 0, 3, None, None]


def test_big_parts_are_shared_and_not_copied(store: ProjectStore) -> None:
    store.save(snapshot(1))
    parts = files(store.folder / "parts")
    store.save(snapshot(2, scores=np.zeros(4)))
    assert files(store.folder / "parts") == parts
    assert not list(store.folder.glob("snapshots/*/X.npy"))


def test_parts_of_the_same_bytes_and_another_shape_are_not_mixed_up(store: ProjectStore) -> None:
    zeros = np.zeros((4, 2), np.float32)
    store.save(snapshot(1, classifier=None, models={}, X=zeros))
    store.save(snapshot(2, classifier=None, models={}, X=zeros.reshape(2, 4)))
    assert store.current().geometry.X.shape == (2, 4)


def test_the_number_goes_on(store: ProjectStore) -> None:
    assert store.next_number() == 1
    store.save(snapshot(12))
    assert (store.current_name(), store.next_number()) == ("000012", 13)


def test_a_snapshot_is_never_overwritten(store: ProjectStore) -> None:
    store.save(snapshot(1))
    with pytest.raises(OSError):
        store.save(snapshot(1, other_features(0)))
    np.testing.assert_array_equal(store.current().geometry.X, snapshot().geometry.X)


@pytest.mark.parametrize("at_file", range(6))
def test_a_full_disk_leaves_the_old_snapshot_and_no_draft(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch, at_file: int
) -> None:
    store.save(snapshot(1))
    save, saved = np.save, []

    def save_until_full(file: Any, array: np.ndarray, **options: Any) -> None:
        saved.append(file)
        if len(saved) > at_file:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, array, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(np, "save", save_until_full)
        store.save(snapshot(2, other_features(0)))
    assert store.current().facts.number == 1
    np.testing.assert_array_equal(store.current().geometry.X, snapshot().geometry.X)
    assert [name for name in files(store.folder) if "draft" in name] == []
    store.save(snapshot(2, other_features(0)))
    assert store.current().facts.number == 2


@pytest.mark.parametrize(
    "broken", [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"format": 99, "facts": {}, "parts": {}}']
)
def test_broken_facts_are_no_snapshot_and_a_warning(
    store: ProjectStore, caplog: pytest.LogCaptureFixture, broken: bytes
) -> None:
    store.save(snapshot(5))
    (store.folder / "snapshots/000005/facts.json").write_bytes(broken)
    assert store.current() is None
    assert "Snapshot 000005 of 1.100 cannot be read and is rebuilt" in caplog.text


@pytest.mark.parametrize("name", ["facts.json", "annotations.json", "scores.npy", "coef.npy"])
@pytest.mark.parametrize("left", [0, 0.5], ids=["nothing left", "half left"])
def test_a_file_that_a_crash_spoilt_is_no_snapshot(store: ProjectStore, name: str, left: float) -> None:
    store.save(snapshot())
    path = store.folder / "snapshots/000001" / name
    os.truncate(path, int(path.stat().st_size * left))
    assert store.current() is None


@pytest.mark.parametrize("name", ["facts.json", "annotations.json", "scores.npy"])
def test_a_file_that_is_missing_is_no_snapshot(store: ProjectStore, name: str) -> None:
    store.save(snapshot())
    (store.folder / "snapshots/000001" / name).unlink()
    assert store.current() is None


@pytest.mark.parametrize("how", ["missing", "empty", "truncated"])
def test_a_part_that_a_crash_spoilt_is_made_anew_by_the_next_save(store: ProjectStore, how: str) -> None:
    store.save(snapshot(1))
    for part in (store.folder / "parts").iterdir():
        if how == "missing":
            part.unlink()
        else:
            os.truncate(part, 0 if how == "empty" else part.stat().st_size - 4)
    assert store.current() is None
    store.save(snapshot(2))
    np.testing.assert_array_equal(store.current().geometry.X, snapshot().geometry.X)


@pytest.mark.parametrize("name", [b"000009", b"", b"\n", b"\xff\xfe", b"../../elsewhere"])
def test_a_pointer_to_nothing_is_one_to_the_newest_before(store: ProjectStore, name: bytes) -> None:
    store.save(snapshot(1))
    store.save(snapshot(2))
    (store.folder / "CURRENT").write_bytes(name)
    loaded = store.current()
    assert loaded is not None
    assert (loaded.facts.number, store.facts().number) == (2, 2)
    assert not store.is_current(loaded)


def test_rollback_is_moving_the_pointer(store: ProjectStore) -> None:
    store.save(snapshot(1))
    store.save(snapshot(2, other_features(0)))
    (store.folder / "CURRENT").write_text("000001")
    np.testing.assert_array_equal(store.current().geometry.X, snapshot().geometry.X)


def test_old_snapshots_and_unused_parts_go(store: ProjectStore) -> None:
    for number in range(1, 7):
        store.save(snapshot(number, other_features(number), models={}))
    (store.folder / "snapshots/.draft-of-a-crash").mkdir()
    store.save(snapshot(7, other_features(6), models={}))
    assert sorted(path.name for path in (store.folder / "snapshots").iterdir()) == ["000005", "000006", "000007"]
    kept = [orjson.loads(path.read_bytes())["parts"] for path in (store.folder / "snapshots").glob("*/facts.json")]
    assert files(store.folder / "parts") == sorted({name for parts in kept for name in parts.values()})


def test_the_millionth_snapshot_is_the_newest(store: ProjectStore) -> None:
    for number in range(999_997, 1_000_002):
        store.save(snapshot(number))
        assert store.current().facts.number == number


# ── Connection, status, done ─────────────────────────────────────────────────────────────────────────────

CONNECTION = Connection(
    key="1.100",
    url="http://localhost:8080",
    access_token="secret",
    extra_params={"batch_size": 5},
    before={"a": None},
)


def test_a_connection_comes_back_as_it_was(store: ProjectStore) -> None:
    assert store.connection() is None
    store.save_connection(CONNECTION)
    assert store.connection() == CONNECTION
    assert (CONNECTION.project_id, CONNECTION.created) == (1, 100)


def test_the_connection_is_readable_by_its_owner_alone(store: ProjectStore) -> None:
    before = os.umask(0)
    try:
        store.save_connection(CONNECTION)
        store.update_connection(closed=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((store.folder / "connection.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((store.folder / "connection.copy.json").stat().st_mode) == 0o600
    assert files(store.folder) == ["connection.copy.json", "connection.json"]


def test_parts_of_a_connection_are_changed_alone(store: ProjectStore) -> None:
    store.update_connection(closed=True)
    assert store.connection() is None
    store.save_connection(CONNECTION)
    store.update_connection(closed=True)
    assert store.connection() == replace(CONNECTION, closed=True)


def test_status_and_done_have_defaults_and_come_back(store: ProjectStore) -> None:
    assert (store.status(), store.done()) == (Status(), Done())
    store.save_connection(CONNECTION)
    store.note(problem="no disk")
    store.note(pending_rows=3)
    store.save_done(Done(webhooks=4, cursor="2024-01-01T00:00:00Z"))
    assert store.status() == Status(problem="no disk", pending_rows=3)
    assert store.done() == Done(webhooks=4, cursor="2024-01-01T00:00:00Z")


@pytest.mark.parametrize("name", ["connection", "status", "done"])
def test_a_broken_file_is_as_good_as_none(store: ProjectStore, caplog: pytest.LogCaptureFixture, name: str) -> None:
    fresh = getattr(store, name)()
    store.folder.mkdir(parents=True)
    (store.folder / f"{name}.json").write_bytes(b'{"key": "1.1')
    assert getattr(store, name)() == fresh
    assert f"{name}.json is damaged and is not used" in caplog.text


# ── Dirty numbers ────────────────────────────────────────────────────────────────────────────────────────


def test_a_number_starts_at_zero_and_each_kind_has_its_own(store: ProjectStore) -> None:
    store.folder.mkdir(parents=True)
    assert (store.number("webhooks"), store.raised_at("webhooks")) == (0, 0)
    assert [store.raise_number("webhooks") for _ in range(3)] == [1, 2, 3]
    assert (store.number("webhooks"), store.number("orders")) == (3, 0)
    assert store.raised_at("webhooks") > 0


def test_eight_threads_at_once_lose_no_number(store: ProjectStore) -> None:
    store.folder.mkdir(parents=True)
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda _: store.raise_number("webhooks"), range(2000)))
    assert store.number("webhooks") == max(seen) == 2000


# ── Lock ─────────────────────────────────────────────────────────────────────────────────────────────────

HOLD = """
import sys, time
from pathlib import Path
from exemplar.store.project_store import ProjectStore
with ProjectStore(Path(sys.argv[1])).lock() as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_the_lock_excludes_other_processes_and_dies_with_its_holder(store: ProjectStore) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(store.folder)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"True\n"
            with store.lock() as held:
                assert not held
        finally:
            holder.kill()
            holder.wait()
    with store.lock() as held:
        assert held


def test_the_lock_excludes_other_threads_and_is_free_again_after_an_error(store: ProjectStore) -> None:
    with pytest.raises(ZeroDivisionError), store.lock() as held:
        with store.lock() as twice:
            assert (held, twice) == (True, False)
        raise ZeroDivisionError
    with store.lock() as held:
        assert held


def test_projects_do_not_lock_each_other(store: ProjectStore) -> None:
    with store.lock() as one, ProjectStore(store.folder.parent / "2.100").lock() as two:
        assert (one, two) == (True, True)


# ── Home ─────────────────────────────────────────────────────────────────────────────────────────────────


def registered(home: Home, url: str, key: str, at: int) -> ProjectStore:
    """Confirm a project at a certain second."""
    return home.register(Connection(key=key, url=url, since=at))


@pytest.mark.parametrize(
    "key",
    [
        "1" * 300 + ".2",
        "1.²",
        "../1.2",
        "1.2/..",
        "..",
        ".",
        "",
        "1",
        "1.",
        "a.b",
        "1.2.3",
        "/1.2",
        "1.2\n",
        "1.2\x00",
        " 1.2",
        "-1.2",
    ],
)
def test_a_key_that_is_no_full_name_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(UnknownProjectError):
        Home(tmp_path).store("http://localhost:8080", key)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8080", "https://a.b/../../c", "http://../..", "file:///etc", "http://..", "http://."],
)
def test_whatever_the_address_a_project_has_its_folder_two_below(tmp_path: Path, url: str) -> None:
    folder = Home(tmp_path / "models").store(url, "1.2").folder.resolve()
    assert folder.parent.parent == (tmp_path / "models").resolve()


def test_of_two_hosts_the_one_known_longest_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    registered(home, "http://two", "1.2", at=200)
    registered(home, "http://one", "1.2", at=100)
    registered(home, "http://three", "1.2", at=300)
    assert home.find("1.2").connection().url == "http://one"


def test_where_an_address_is_set_projects_of_other_hosts_do_not_count(tmp_path: Path) -> None:
    registered(Home(tmp_path), "http://one", "1.2", at=100)
    home = Home(tmp_path, "http://two")
    registered(home, "http://two", "1.2", at=200)
    assert home.find("1.2").connection().url == "http://two"
    assert [store.connection().url for store in home.stores()] == ["http://two"]
    assert home.find("1.2").folder == home.store("http://two", "1.2").folder


def test_a_project_that_disconnected_is_not_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    registered(home, "http://one", "1.2", at=100)
    registered(home, "http://two", "1.2", at=200).update_connection(closed=True)
    assert home.find("1.2").connection().url == "http://one"
    assert len(list(home.stores())) == 1


def test_by_its_number_alone_the_same_project_is_found_as_by_its_full_name(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.known(1) is None
    registered(home, "http://two", "1.2", at=200)
    registered(home, "http://one", "1.2", at=100)
    registered(home, "http://three", "1.9", at=50).update_connection(closed=True)
    home.find("1.2")
    assert home.known(1).folder == home.find("1.2").folder == home.store("http://one", "1.2").folder
    assert Home(tmp_path, "http://two").known(1).folder == home.store("http://two", "1.2").folder
    for url in ("http://one", "http://two"):
        home.store(url, "1.2").update_connection(closed=True)
    assert home.known(1).folder == home.store("http://three", "1.9").folder, (
        "of closed ones, too, that known longest"
    )


def test_at_one_host_the_project_that_was_created_last_has_the_number(tmp_path: Path) -> None:
    home = Home(tmp_path)
    registered(home, "http://one", "1.99", at=100)
    registered(home, "http://one", "1.100", at=200)
    assert home.known(1).folder.name == "1.100"


def test_an_unknown_project_is_named(tmp_path: Path) -> None:
    registered(Home(tmp_path), "http://one", "11.2", at=100)
    with pytest.raises(UnknownProjectError, match=r"'1\.2' is not known"):
        Home(tmp_path).find("1.2")


def test_a_webhook_means_all_projects_of_its_id_and_no_others(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for url, key in [("http://one", "1.2"), ("http://two", "1.5"), ("http://one", "11.2"), ("http://one", "2.1")]:
        registered(home, url, key, at=100)
    assert sorted(store.folder.name for store in home.with_id(1)) == ["1.2", "1.5"]
    assert [store.folder.name for store in home.introduced("1.5")] == ["1.5"]
    assert list(home.introduced("1.9")) == []


def test_strangers_are_counted_even_without_a_folder(tmp_path: Path) -> None:
    home = Home(tmp_path / "not" / "there")
    assert (home.strangers(), list(home.stores())) == (0, [])
    home.note_stranger()
    home.note_stranger()
    assert home.strangers() == 2


# ── The audit log ────────────────────────────────────────────────────────────────────────────────────────


def entry(task: int) -> AuditEntry:
    return AuditEntry(kind="frozen", task=task, choice=1, confidence=0.75, generation=1, snapshot=2, at=3.5)


def test_the_audit_log_is_appended_to_and_read_back(store: ProjectStore) -> None:
    store.folder.mkdir(parents=True)
    assert store.audit_log() == []
    store.append_audits([entry(1), entry(2)])
    store.append_audits([entry(3)])
    assert store.audit_log() == [entry(1), entry(2), entry(3)]


def test_a_line_that_a_crash_cut_short_spoils_no_other(store: ProjectStore) -> None:
    store.folder.mkdir(parents=True)
    store.append_audits([entry(1), entry(2)])
    log = store.folder / "audit.jsonl"
    os.truncate(log, log.stat().st_size - 9)
    store.append_audits([entry(3)])
    assert store.audit_log() == [entry(1), entry(3)]


# ── What readers keep ────────────────────────────────────────────────────────────────────────────────────


def test_snapshots_of_the_same_pool_share_their_geometry_in_memory_too(store: ProjectStore) -> None:
    store.save(snapshot(1))
    first = store.current()
    store.save(replace(first, facts=replace(first.facts, number=2), scores=np.zeros(4)))
    assert store.current().geometry is first.geometry
    assert store.current().scores.tolist() == [0] * 4


def test_annotations_do_not_leak_from_one_snapshot_to_the_next(store: ProjectStore) -> None:
    store.save(snapshot(1))
    bare = tuple(replace(task, annotations=()) for task in snapshot().tasks)
    store.save(snapshot(2, tasks=bare))
    assert store.current().tasks == bare
