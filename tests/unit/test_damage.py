"""Whatever becomes of a file of ours: what is damaged is told from what another version wrote, and not believed."""

import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_store import CONNECTION, LABELING, snapshot
from test_store import files as files_of

from exemplar.labelstudio.tasks import Task, read_task
from exemplar.store import files
from exemplar.store.accept_set import AcceptSet
from exemplar.store.audit_log import AuditEntry
from exemplar.store.decoding import DamagedError, decode, encode
from exemplar.store.project_store import ProjectStore
from exemplar.store.records import Connection, Done, Status

DONE = Done(webhooks=4, orders=1, cursor="2026-01-01T00:00:00Z", reconciled="000003")
STATUS = Status(state="ready", doing="learning", problem=None, pending_rows=7)
ENTRY = AuditEntry(kind="frozen", task=3, choice=1, confidence=0.5, generation=1, snapshot=2, at=1.5)
ACCEPT_SET = AcceptSet(
    attempt=1,
    promise=0.95,
    min_confidence=0.0,
    generation=1,
    snapshot=2,
    at=1.5,
    labeling=LABELING,
    tasks=(10, 11),
    digests=("a", "b"),
    choices=(0, 1),
    drawn=(11,),
)
RECORDS = [CONNECTION, DONE, STATUS, ENTRY, ACCEPT_SET, snapshot().facts]
NO_RECORDS = [b"", b"{", b"[1]", b"null", b"1", b'"x"', b"\xff\xfe\x00", b"[" * 10_000]


@pytest.fixture
def store(tmp_path: Path) -> ProjectStore:
    store = ProjectStore(tmp_path / "localhost_8080" / "1.100")
    store.save_connection(CONNECTION)
    return store


# ── Records ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
class TestARecord:
    def test_comes_back_as_it_was(self, record: Any) -> None:
        assert decode(type(record), encode(record)) == record

    def test_with_fields_of_a_newer_version_is_the_same(self, record: Any) -> None:
        raw = orjson.loads(encode(record)) | {"of_a_newer_version": {"a": [1]}}
        assert decode(type(record), orjson.dumps(raw)) == record

    def test_without_a_checksum_is_one_of_an_older_version(self, record: Any) -> None:
        assert decode(type(record), orjson.dumps(asdict(record), option=orjson.OPT_NON_STR_KEYS)) == record

    def test_with_any_byte_flipped_is_damaged_or_the_same(self, record: Any) -> None:
        content = encode(record)
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1
            with suppress(DamagedError):
                assert decode(type(record), bytes(flipped)) == record, f"byte {position} of {content!r}"

    def test_cut_short_anywhere_is_damaged(self, record: Any) -> None:
        content = encode(record)
        for length in range(len(content)):
            with pytest.raises(DamagedError):
                decode(type(record), content[:length])

    def test_with_a_field_of_another_type_is_damaged(self, record: Any) -> None:
        raw = asdict(record)
        for name, value in raw.items():
            other = [[None]] if isinstance(value, dict | None) else {"0": [None]}
            with pytest.raises(DamagedError):
                decode(type(record), orjson.dumps(raw | {name: other}, option=orjson.OPT_NON_STR_KEYS))

    @pytest.mark.parametrize("content", NO_RECORDS)
    def test_is_not_made_of_anything(self, record: Any, content: bytes) -> None:
        with pytest.raises(DamagedError):
            decode(type(record), content)


def test_a_field_that_is_missing_has_its_default_where_it_has_one() -> None:
    assert decode(Done, b'{"webhooks": 3}') == Done(webhooks=3)
    assert decode(Connection, b'{"key": "1.2", "url": "http://x"}') == Connection(key="1.2", url="http://x")
    with pytest.raises(DamagedError, match="url"):
        decode(Connection, b'{"key": "1.2"}')


def test_a_field_that_the_checksum_covers_may_not_be_missing() -> None:
    raw = orjson.loads(encode(DONE))
    del raw["cursor"]
    with pytest.raises(DamagedError):
        decode(Done, orjson.dumps(raw))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.text() | st.none(), min_size=5, max_size=5),
    result=st.lists(st.dictionaries(st.text(), JSON), max_size=3),
)
def test_what_label_studio_holds_comes_back_whatever_it_is(
    store: ProjectStore, values: list[str | None], result: list[dict[str, Any]]
) -> None:
    annotation = {"id": 5, "result": result, "completed_by": 3, "was_cancelled": False, "lead_time": 1.0}
    raw = [
        {"id": 10 + i, "data": {"review": value}, "annotations": [annotation] if i == 0 else []}
        for i, value in enumerate(values)
    ]
    tasks = tuple(read_task(task, "review", None) for task in raw)
    store.save(snapshot(store.next_number(), tasks=tasks))
    loaded = store.current()
    assert loaded is not None
    assert store.is_current(loaded)
    assert loaded.tasks == tasks


# ── Snapshots ────────────────────────────────────────────────────────────────────────────────────────────


def flip(path: Path, *, at: float = 0.5) -> None:
    """Change one byte in place, as a disk would."""
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x10
    with path.open("r+b") as file:
        file.write(content)


SNAPSHOT_FILES = [
    "facts.json",
    "annotations.json",
    "scores.npy",
    "choices.npy",
    "coef.npy",
    "blind.npy",
]


@pytest.mark.parametrize("name", SNAPSHOT_FILES)
@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_a_flipped_byte_in_a_snapshot_means_the_one_before_it(store: ProjectStore, name: str, at: float) -> None:
    store.save(snapshot(1))
    store.save(snapshot(2))
    assert store.current().facts.number == 2
    flip(store.folder / "snapshots/000002" / name, at=at)
    loaded = store.current()
    assert loaded.facts.number == 1
    assert not store.is_current(loaded)
    store.save(snapshot(3))
    assert (store.current().facts.number, store.is_current(store.current())) == (3, True)


@pytest.mark.parametrize(
    "name", ["X", "centers", "cluster_ids", "neighbors", "node_of", "model-0", "model-0-components", "tasks"]
)
@pytest.mark.parametrize("at", [0.01, 0.9])
def test_a_flipped_byte_in_a_part_is_not_believed(store: ProjectStore, name: str, at: float) -> None:
    X = np.random.default_rng(1).random((6, 3), np.float32)
    store.save(snapshot(1, X, models={}, tasks=snapshot().tasks[:2]))
    store.save(snapshot(2))
    parts = orjson.loads((store.folder / "snapshots/000002/facts.json").read_bytes())["parts"]
    assert store.current().facts.number == 2
    flip(store.folder / "parts" / parts[name], at=at)
    assert store.current().facts.number == 1
    store.save(snapshot(3))
    np.testing.assert_array_equal(store.current().geometry.X, snapshot().geometry.X)


def test_a_part_that_was_loaded_and_then_damaged_is_read_anew_once_it_is_whole(store: ProjectStore) -> None:
    store.save(snapshot(1))
    loaded = store.current()
    part = next(
        path for path in (store.folder / "parts").iterdir() if path.name == Path(loaded.geometry.X.filename).name
    )
    flip(part, at=0.9)
    store.save(snapshot(2))
    np.testing.assert_array_equal(store.current().geometry.X, snapshot().geometry.X)


def test_a_part_is_never_changed_in_place(store: ProjectStore) -> None:
    store.save(snapshot(1))
    part = next(iter(sorted((store.folder / "parts").glob("*.npy"))))
    flip(part, at=0.9)
    with part.open("rb") as reader:
        damaged = reader.read()
        store.save(snapshot(2))
        reader.seek(0)
        assert reader.read() == damaged, "who has it open keeps what was there"
    assert part.read_bytes() != damaged


def test_a_digest_is_computed_once_for_as_long_as_nobody_touches_the_file(
    store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(snapshot(1))
    monkeypatch.setattr(files, "_digests", {})
    read: list[str] = []
    digest = files.hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        read.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(files.hashlib, "file_digest", counted)
    store.current()
    assert sorted(set(read)) == sorted(read) != []
    n = len(read)
    store.current()
    store.save(snapshot(2))
    store.current()
    assert len(read) == n, "what this process wrote itself is not read again"


@pytest.mark.parametrize("place", ["snapshots", "parts", "snapshots/000001", "CURRENT", "status.json", "done.json"])
@pytest.mark.parametrize("what", ["file", "folder", "dangling link"])
def test_whatever_is_in_the_way_a_snapshot_is_saved_and_loaded(store: ProjectStore, place: str, what: str) -> None:
    store.save(snapshot(1))
    in_the_way(store.folder / place, what)
    assert store.current() is None or store.current().facts.number == 1
    number = store.next_number()
    store.save(snapshot(number))
    store.note(state="ready")
    store.save_done(DONE)
    assert (store.current().facts.number, store.current_name()) == (number, f"{number:06d}")
    assert (store.status().state, store.done()) == ("ready", DONE)


def in_the_way(path: Path, what: str) -> None:
    files.remove(path)
    if what == "file":
        path.write_bytes(b"something else")
    elif what == "folder":
        path.mkdir()
        (path / "inside").write_bytes(b"")
    else:
        path.symlink_to(path.parent / "nowhere" / "at all")


def test_what_is_in_the_way_is_kept(store: ProjectStore, caplog: pytest.LogCaptureFixture) -> None:
    in_the_way(store.folder / "status.json", "folder")
    store.note(state="ready")
    aside = next(store.folder.glob("status.json.set-aside-*"))
    assert (aside / "inside").exists()
    assert "status.json was in the way" in caplog.text


# ── What cannot be made anew ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("damage", [*NO_RECORDS, b'{"key": "1.100"}', None])
def test_a_damaged_connection_is_taken_from_its_copy(store: ProjectStore, damage: bytes | None) -> None:
    path = store.folder / "connection.json"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert store.connection() == CONNECTION
    store.update_connection(managed=True)
    path.unlink()
    assert store.connection().managed


def test_a_damaged_accept_set_is_taken_from_its_copy_and_never_counted_twice(store: ProjectStore) -> None:
    store.save_accept_set(ACCEPT_SET)
    path = store.folder / "accept/000001.json"
    flip(path)
    assert store.accept_set() == ACCEPT_SET
    flip(path.with_name("000001.copy.json"))
    assert (store.accept_set(), store.accept_attempt()) == (None, 1)


def test_an_odd_line_of_the_audit_log_is_left_where_it_is_and_counted(store: ProjectStore) -> None:
    path = store.folder / "audit.jsonl"
    store.append_audits([ENTRY])
    assert store.audit_trouble() is None
    before = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'\n{"kind": "frozen"}\n[1]\n\xff\xfe\n' + encode(ENTRY).replace(b'"choice":1', b'"choice":2'))
    odd = path.read_bytes()
    store.append_audits([ENTRY])
    assert store.audit_log() == [ENTRY, ENTRY]
    assert store.audit_trouble() == "4 lines of audit.jsonl cannot be read (line 3 first)"
    assert path.read_bytes().startswith(odd)
    assert odd.startswith(before)


def test_an_audit_of_a_newer_version_counts(store: ProjectStore) -> None:
    line = orjson.dumps(orjson.loads(encode(ENTRY)) | {"of_a_newer_version": 1})
    (store.folder / "audit.jsonl").write_bytes(b"\n" + line)
    assert store.audit_log() == [ENTRY]


def test_an_audit_log_that_is_none_is_set_aside_and_named(store: ProjectStore) -> None:
    in_the_way(store.folder / "audit.jsonl", "folder")
    assert store.audit_log() == []
    store.append_audits([ENTRY])
    assert store.audit_log() == [ENTRY]
    assert "was set aside" in store.audit_trouble()


# ── Dirty numbers and times ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["folder", "dangling link"])
def test_a_number_is_raised_whatever_is_in_the_way(store: ProjectStore, what: str) -> None:
    in_the_way(store.folder / "webhooks", what)
    assert store.raise_number("webhooks") == 1
    assert store.number("webhooks") == 1


@pytest.mark.parametrize("what", ["folder", "dangling link"])
def test_the_lock_is_held_whatever_is_in_the_way(store: ProjectStore, what: str) -> None:
    in_the_way(store.folder / "lock", what)
    with store.lock() as held, store.lock() as twice:
        assert (held, twice) == (True, False)


def test_a_time_that_is_still_to_come_tells_nothing(store: ProjectStore) -> None:
    store.raise_number("orders")
    os.utime(store.folder / "orders", (2e9 + 86_400, 4e9))
    assert store.raised_at("orders") == 0
    store.raise_number("orders")
    assert store.raised_at("orders") > 1e9


def test_tasks_without_a_value_come_back(store: ProjectStore) -> None:
    tasks = (Task(1, "d", None, ()),)
    store.save(snapshot(1, tasks=tasks))
    assert store.current().tasks == tasks
    assert "snapshots" in files_of(store.folder)
