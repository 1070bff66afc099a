"""Killed anywhere and run again, the result is the same, here and in Label Studio."""

import errno
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exemplar.errors import LabelStudioError
from exemplar.store import files
from flows.conftest import Flow, MakeFlow
from flows.fake_label_studio import Faults
from flows.fake_state import Json

# A pool so small that its few writes can all be hit.
N_TASKS = 12
SMALL = {"n_clusters": 3, "batch_size": 4}
N_WRITES = range(1, 9)
N_ANSWERS = 3
Contents = dict[int, tuple[str | None, float]]


class Killed(BaseException):
    """The end of the process."""


@pytest.fixture
def flow(make_flow: MakeFlow) -> Flow:
    return replace(make_flow(), extra_params=SMALL)


def in_order(flow: Flow, project: Json) -> Contents:
    """Return what the rows say by position in the project, so that projects can be compared."""
    first = flow.studio.state.tasks_of(project["id"])[0]["id"]
    return {task_id - first: content for task_id, content in flow.contents(project).items()}


def interrupted_run(flow: Flow, project: Json, faults: Faults) -> None:
    flow.studio.faults = faults
    try:
        flow.run(project)
    except LabelStudioError:
        pass
    finally:
        flow.studio.faults = Faults()


def story(flow: Flow, interrupt: Callable[[Json], None]) -> list[Contents]:
    """Connect, answer, and settle, with an interruption in each refresh; return the rows after each."""
    project = flow.project(N_TASKS)
    interrupt(project)
    flow.settle(project)
    told = [in_order(flow, project)]
    flow.label(project, N_ANSWERS)
    interrupt(project)
    flow.settle(project)
    flow.store(project).raise_number("orders")  # exact, so that no tolerance hides a difference
    interrupt(project)
    flow.settle(project)
    assert (project["model_version"], project["sampling"]) == ("exemplar-1", "Uncertainty sampling")
    active = [hook for hook in flow.studio.state.webhooks_of(project["id"]) if hook["is_active"]]
    assert len(active) == 1, "each change is told once"
    return [*told, in_order(flow, project)]


@pytest.mark.parametrize("fault", ["write_fails", "answer_lost_after"])
def test_interrupted_at_any_write_the_rows_become_the_same(flow: Flow, fault: str) -> None:
    undisturbed = story(flow, flow.run)
    assert len(undisturbed[-1]) == N_TASKS
    for n in N_WRITES:
        told = story(flow, lambda project, n=n: interrupted_run(flow, project, Faults(**{fault: n})))
        assert told == undisturbed, f"{fault}={n}"


def test_killed_at_any_file_that_it_writes_the_rows_become_the_same(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, undisturbed = files.write_atomically, story(flow, flow.run)

    def killed_run(project: Json, n: int) -> None:
        left = [n]

        def dying_write(*args: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            write(*args)

        with monkeypatch.context() as patched:
            patched.setattr(files, "write_atomically", dying_write)
            with suppress(Killed):
                flow.run(project)

    for n in N_WRITES:
        assert story(flow, lambda project, n=n: killed_run(project, n)) == undisturbed, f"n={n}"


def test_on_a_full_disk_the_old_snapshot_is_served_on(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    project = flow.project(N_TASKS)
    flow.settle(project)
    flow.label(project, N_ANSWERS)
    flow.settle(project)
    name, tasks = flow.store(project).current_name(), flow.studio.state.tasks_of(project["id"])
    before = flow.predict(project, tasks)
    flow.label(project, 1)

    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full)
        with pytest.raises(OSError, match="No space left"):
            flow.run(project)
    assert flow.store(project).current_name() == name
    assert flow.predict(project, tasks) == before
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert "No space left on device; the last snapshot is served on" in status["problem"]
    flow.settle(project)
    status = flow.call("GET", "/").json()["projects"][flow.key(project)]
    assert (status["problem"], status["answered"]) == (None, N_ANSWERS + 1)


def test_a_full_disk_leaves_no_drafts_behind(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    project = flow.project(N_TASKS)
    flow.settle(project)
    folder = flow.store(project).folder
    before = {path for path in folder.rglob("*") if path.is_file()}
    flow.upload(project, range(50, 60))
    save = np.save

    def half(file: Any, array: Any, **options: Any) -> None:
        save(file, array, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", half)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                flow.run(project)
    flow.settle(project)
    left = {path for path in folder.rglob("*") if "draft" in path.name}
    assert left == set()
    assert before


def test_a_broken_snapshot_is_rebuilt(flow: Flow) -> None:
    project = flow.project(N_TASKS)
    flow.settle(project)
    flow.label(project, N_ANSWERS)
    flow.settle(project)
    contents, store = flow.contents(project), flow.store(project)
    ids = {row["id"] for row in flow.rows(project).values()}
    (store.folder / "snapshots" / store.current_name() / "scores.npy").write_bytes(b"")
    flow.settle(project)
    assert flow.contents(project) == contents
    assert {row["id"] for row in flow.rows(project).values()} == ids
