"""Every file of MODEL_DIR, damaged in every way while the backend runs: it heals, and nobody else feels it."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import pytest

from chaos.conftest import Chaos, truth, until
from exemplar.labelstudio.label_config import read_label_config
from exemplar.project.acceptance import freeze
from exemplar.store import files
from exemplar.store.vectors import FOLDER
from flows.fake_label_studio import choices
from flows.fake_state import Json

# One of so many damages, another one for each file; 1 is all of them.
SHARE = int(os.environ.get("CHAOS_SHARE", "4"))
N_TASKS = 15
HEALED_WITHIN = 10.0
DAY = 86_400


@dataclass
class Table:
    """Two projects: one whose files are damaged, and one that must not feel it."""

    chaos: Chaos
    victim: Json
    other: Json
    answers: dict[int, Json] = field(default_factory=dict)
    n_changes: int = 0

    def answer(self, project: Json) -> None:
        """Let an annotator of a project change an answer, so that there is something to learn."""
        annotation = self.answers[project["id"]]
        self.n_changes += 1
        values = {"result": choices(str(self.n_changes % 3)), "lead_time": 1.0}
        self.chaos.studio.state.patch_annotation(annotation["id"], values)

    def is_healed(self, project: Json) -> bool:
        """Return whether all that Label Studio holds is learned, kept whole, and served; rows may follow later."""
        store = self.chaos.store(project)
        if store.done().webhooks != store.number("webhooks") or store.status().problem is not None:
            return False
        snapshot = store.current()
        return snapshot is not None and store.is_current(snapshot) and self.knows(project, snapshot.tasks)

    def knows(self, project: Json, tasks: tuple[object, ...]) -> bool:
        labeling = read_label_config(project["label_config"])
        state = self.chaos.studio.state
        said = {task.id: task.answer(labeling) for task in tasks if task.annotations}  # type: ignore[attr-defined]
        expected = {
            task["id"]: int(answers[0]["result"][0]["value"]["choices"][0])
            for task in state.tasks_of(project["id"])
            if (answers := state.answers(task["id"]))
        }
        return said == expected


@pytest.fixture(scope="module")
def table(make_chaos: Callable[..., Iterator[Chaos]]) -> Iterator[Table]:
    # No poll helps: what heals, heals by the next webhook.
    with make_chaos(EXEMPLAR_POLL="3600", EXEMPLAR_DEBOUNCE="0.02") as chaos:
        victim, other = (chaos.project(N_TASKS, audit_share=40, batch_size=8) for _ in range(2))
        table = Table(chaos, victim, other)
        for project in (victim, other):
            for _ in range(4):
                task = chaos.studio.next_task(project)
                assert task is not None
                table.answers[project["id"]] = chaos.studio.submit(task, truth(task))
                until(lambda project=project: chaos.is_settled(project), seconds=20, what="an answer is learned")
        store = chaos.store(victim)
        snapshot = store.current()
        assert snapshot is not None
        freeze(store, snapshot, promise=0.5, min_confidence=0.0)
        chaos.studio.start_training(chaos.studio.state.backends_of(victim["id"])[0])
        until(lambda: store.done().orders == 1, seconds=20, what="Start Training")
        yield table


# ── Damages ──────────────────────────────────────────────────────────────────────────────────────────────


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(64))


def a_list(path: Path) -> None:
    path.write_bytes(b"[1]")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 0x04
    with path.open("r+b") as file:
        file.write(content)


def unknown_field(path: Path) -> None:
    path.write_bytes(orjson.dumps(_fields(path) | {"of_a_newer_version": {"a": [1]}}))


def missing_field(path: Path) -> None:
    fields = _fields(path)
    fields.pop(next(iter(fields)))
    path.write_bytes(orjson.dumps(fields))


def wrong_types(path: Path) -> None:
    path.write_bytes(orjson.dumps({name: [[]] for name in _fields(path) if name != "checked"}))


def missing(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    files.remove(path)
    path.mkdir()


def unreadable(path: Path) -> None:
    files.remove(path)
    path.symlink_to(path.parent / "nowhere" / "at all")


def of_tomorrow(path: Path) -> None:
    os.utime(path, (time.time() + DAY, time.time() + DAY))


def _fields(path: Path) -> Json:
    raw = orjson.loads(path.read_bytes().strip().splitlines()[-1])
    if not isinstance(raw, dict):
        raise NotARecordError
    return raw


class NotARecordError(Exception):
    """Of a list, no field can be missing."""


Damage = Callable[[Path], None]
ANY: tuple[Damage, ...] = (of_tomorrow, truncated, emptied, garbage, a_list, flipped, missing, a_folder, unreadable)
SHORTER: tuple[Damage, ...] = (truncated, emptied, garbage, a_list)
JSON: tuple[Damage, ...] = (unknown_field, missing_field, wrong_types)


def cases(all_places: list[str]) -> list[tuple[str, Damage]]:
    """Return what is damaged and how: of each file, and in each way, at least one."""
    return [
        (place, damage)
        for i, place in enumerate(all_places)
        for j, damage in enumerate((*ANY, *(JSON if place.endswith((".json", ".jsonl")) else ())))
        if (i + j) % SHARE == 0
    ]


def places(folder: Path) -> list[str]:
    """Return every file of a project, its snapshot called CURRENT's and its parts by what they are; all vectors."""
    current = (folder / "CURRENT").read_text()
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    mine = [path for path in found if path.parts[0] != "snapshots" or path.parts[1] == current]
    names = [str(path) for path in mine if path.parts[0] != "parts" and "set-aside" not in str(path)]
    parts = orjson.loads((folder / "snapshots" / current / "facts.json").read_bytes())["parts"]
    kept = {
        f"../../{path.relative_to(folder.parents[1])}" for path in (folder.parents[1] / FOLDER).rglob("*.records")
    }
    return sorted({name.replace(current, "*") for name in names} | {f"parts/{part}" for part in parts} | kept)


def path_of(folder: Path, place: str) -> Path:
    current = (folder / "CURRENT").read_text()
    if place.startswith("parts/"):
        parts = orjson.loads((folder / "snapshots" / current / "facts.json").read_bytes())["parts"]
        return folder / "parts" / parts[place.removeprefix("parts/")]
    return folder / place.replace("*", current)


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────

EXPECTED = {
    "connection.json",
    "connection.copy.json",
    "webhooks",
    "orders",
    "introduced",
    "annotated",
    "lock",
    "done.json",
    "status.json",
    "audit.jsonl",
    "accept/000001.json",
    "accept/000001.copy.json",
    "CURRENT",
    "snapshots/*/facts.json",
    "snapshots/*/annotations.json",
    "snapshots/*/scores.npy",
    "snapshots/*/choices.npy",
    "parts/X",
    "parts/tasks",
    "parts/neighbors",
    "parts/model-0",
    "parts/model-0-components",
}


def test_every_file_damaged_in_every_way_heals_at_the_next_webhook(table: Table) -> None:
    folder = table.chaos.store(table.victim).folder
    all_places = places(folder)
    assert set(all_places) >= EXPECTED, EXPECTED - set(all_places)
    whole = {place: path_of(folder, place).read_bytes() for place in all_places}
    seconds: list[tuple[float, str]] = []
    failed: list[str] = []
    for place, damage in cases(all_places):
        case = f"{place} {damage.__name__}"
        path = path_of(folder, place)
        if not path.exists():  # a log begins anew only when there is something to write
            path.unlink(missing_ok=True)  # a link that leads nowhere
            path.write_bytes(whole[place])
        try:
            damage(path)
        except NotARecordError:
            continue
        broken = table.chaos.broken
        try:
            seconds.append((heals(table, case), case))
            # Only a file that is shorter than it was mapped can end a process, and only once.
            assert table.chaos.broken - broken <= (damage in SHORTER), f"{case}: broken connections"
        except AssertionError as error:
            failed.append(str(error).splitlines()[0])
    print(
        f"{len(seconds)} damages healed, {table.chaos.broken} broken connections; slowest: {sorted(seconds)[-5:]}"
    )
    assert failed == []
    done = {tuple(case.split()) for _, case in seconds}
    assert {place for place, _ in done} == set(all_places)
    assert {damage for _, damage in done} == {damage.__name__ for damage in (*ANY, *JSON)}
    for project in (table.victim, table.other):
        until(lambda project=project: table.chaos.is_settled(project), seconds=30, what="the rows follow")
        assert len(table.chaos.rows(project)) == N_TASKS
    assert "Traceback" not in table.chaos.backend.log


def heals(table: Table, case: str) -> float:
    """Let both projects change, and wait until both have learned it; return how long that took."""
    chaos, started = table.chaos, time.monotonic()
    for path in ("/", "/health", "/metrics", "/versions"):
        refused(chaos.get(path), case)
    for project in (table.victim, table.other):
        refused(chaos.predict(project), case)
        table.answer(project)
    assert [answer for _, answer, _ in chaos.studio.webhook_answers if answer != 201] == [], case
    for project in (table.other, table.victim):
        until(lambda project=project: table.is_healed(project), seconds=HEALED_WITHIN, what=case)
    said = chaos.get("/").json()
    assert {status["state"] for status in said["projects"].values()} == {"ready"}, case
    for project in (table.victim, table.other):
        snapshot = chaos.store(project).current()
        assert snapshot is not None
        expected = [int(snapshot.shown[snapshot.row(task.id)]) for task in snapshot.tasks]  # type: ignore[index]
        found = [said_by(result) for result in chaos.predict(project).json()["results"]]
        assert found == expected, case
    return time.monotonic() - started


def said_by(result: Json) -> int:
    return int(result["result"][0]["value"]["choices"][0]) if result["result"] else -1


def refused(answer: httpx.Response, case: str) -> None:
    """Make sure that a client is told nothing of our insides, whatever the state of the files."""
    assert answer.status_code < 500, f"{case}: {answer.status_code} {answer.text}"
    assert "Traceback" not in answer.text, case
