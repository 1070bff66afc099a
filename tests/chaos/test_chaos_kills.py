"""Killed again and again at named points while three annotators work: nothing is lost, nothing is there twice."""

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from chaos.conftest import Chaos, truth, until
from flows.fake_label_studio import choices
from flows.fake_state import ApiError, Json

N_KILLS = int(os.environ.get("CHAOS_KILLS", "60"))
N_TASKS = 60
# Before, in and after every write of files, and every write to Label Studio; in the web process, the last two.
POINTS = (
    *(f"write.{when}" for when in ("before", "during", "written", "after")),
    *(f"write.{when}:{name}" for when in ("during", "after") for name in ("done.json", "CURRENT", "facts.json")),
    *(f"write.{when}:status.json" for when in ("before", "after")),
    *(f"array.{when}" for when in ("before", "during", "after")),
    *(f"snapshot.{when}" for when in ("before", "after")),
    *(f"prune.{when}" for when in ("before", "during", "after")),
    *(f"audit.{when}" for when in ("before", "during", "after")),
    *(f"request.{when}:PATCH" for when in ("before", "during", "after")),
    *(f"request.{when}:POST" for when in ("before", "during", "after")),
    *(f"number.{when}" for when in ("before", "after")),
)
# These are reached when there is something to create, or to ask for the first time: new tasks.
BY_NEW_TASKS = ("POST", "audit.")


@dataclass
class Annotators:
    """Three people who answer what they are asked, and now and then think again."""

    chaos: Chaos
    project: Json
    said: dict[int, Json] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def work(self, user: int) -> None:
        chance, mine = random.Random(user), []
        while not self.stopping.wait(0.02 + 0.05 * chance.random()):
            task = self.chaos.studio.next_task(self.project, user=user) if chance.random() < 0.3 else None
            try:
                if task is not None:
                    mine.append(self.chaos.studio.submit(task, truth(task), user=user))
                elif mine:
                    self.think_again(chance.choice(mine), str(chance.randrange(3)))
            except ApiError as error:  # a row that was replaced under an open task would be one
                raise AssertionError(f"a Submit failed: {error.detail}") from error
        for annotation in mine:
            self.said[annotation["id"]] = deepcopy(annotation)

    def think_again(self, annotation: Json, choice: str) -> None:
        values = {"result": choices(choice), "lead_time": 2.0}
        self.chaos.studio.state.patch_annotation(annotation["id"], values)


@pytest.fixture(scope="module")
def chaos(make_chaos: Callable[..., Any]) -> Iterator[Chaos]:
    with make_chaos(EXEMPLAR_POLL="1", EXEMPLAR_DEBOUNCE="0.02") as chaos:
        yield chaos


def test_killed_at_every_point_with_three_annotators_nothing_is_lost_or_there_twice(chaos: Chaos) -> None:
    project = chaos.project(N_TASKS, audit_share=0, batch_size=10)
    annotators = Annotators(chaos, project)
    threads = [threading.Thread(target=annotators.work, args=(user,)) for user in (1, 2, 3)]
    for thread in threads:
        thread.start()
    try:
        killed = Counter(
            kill(chaos, project, point) for point in itertools.islice(itertools.cycle(POINTS), N_KILLS)
        )
    finally:
        annotators.stopping.set()
        for thread in threads:
            thread.join()
    print(f"{killed.total()} kills: {dict(killed)}")
    assert killed.total() == N_KILLS
    died = "died (SIGKILL)"
    until(lambda: chaos.backend.log.count(died) >= N_KILLS, seconds=10, what=f"{N_KILLS} deaths in the log")

    state = chaos.studio.state
    assert {id_: a for id_, a in state.annotations.items() if a["project"] == project["id"]} == annotators.said
    calm = calm_twin(chaos, project)
    for one in (project, calm):
        full_refresh(chaos, one)
    assert len(chaos.rows(project)) == len(state.tasks_of(project["id"]))
    assert in_order(chaos, project) == in_order(chaos, calm)
    active = [hook for hook in state.webhooks_of(project["id"]) if hook["is_active"]]
    assert len(active) == 1, "each change is told once"


def kill(chaos: Chaos, project: Json, point: str) -> str:
    """Let whoever reaches the point next kill itself there."""
    armed = chaos.points / point
    armed.write_text("kill")
    # Each time twice as many: those that annotators open before a refresh comes get their rows by Label Studio.
    sizes = itertools.chain((2, 4, 8, 16), itertools.repeat(32))

    def is_dead() -> bool:
        if armed.exists() and any(part in point for part in BY_NEW_TASKS):
            chaos.upload(project, next(sizes))
            time.sleep(0.5)
        return not armed.exists()

    until(is_dead, seconds=30, what=f"somebody comes to {point}")
    return point


def calm_twin(chaos: Chaos, project: Json) -> Json:
    """Return a project that was never disturbed, with the same tasks and answers, connected afterwards."""
    state = chaos.studio.state
    twin = state.create_project({"title": "Calm", "label_config": project["label_config"]})
    tasks = state.tasks_of(project["id"])
    twins = state.import_tasks(twin["id"], [task["data"] for task in tasks])
    of = {task["id"]: other["id"] for task, other in zip(tasks, twins, strict=True)}
    for id_ in sorted(id_ for id_, a in state.annotations.items() if a["project"] == project["id"]):
        annotation = state.annotations[id_]
        values = {name: annotation[name] for name in ("result", "lead_time")}
        state.create_annotation(of[annotation["task"]], values, annotation["completed_by"])
    chaos.connect(twin, audit_share=0, batch_size=10)
    return twin


def full_refresh(chaos: Chaos, project: Json) -> None:
    store, (backend,) = chaos.store(project), chaos.studio.state.backends_of(project["id"])
    before = store.number("orders")
    chaos.studio.start_training(backend)
    assert store.number("orders") == before + 1
    until(lambda: chaos.is_settled(project), seconds=60, what="a full refresh")


def in_order(chaos: Chaos, project: Json) -> list[tuple[int, float]]:
    """Return what each row says and its score, by the position of its task in the project."""
    rows = chaos.rows(project)
    return [
        (said_by(rows[task["id"]]), rows[task["id"]]["score"])
        for task in chaos.studio.state.tasks_of(project["id"])
    ]


def said_by(row: Json) -> int:
    return int(row["result"][0]["value"]["choices"][0]) if row["result"] else -1
