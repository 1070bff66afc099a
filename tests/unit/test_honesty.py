"""What a snapshot says of how right it is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exemplar.engine import MIN_AUDITS, UNLABELED, survey
from exemplar.labelstudio.tasks import Annotation, Task
from exemplar.project.honesty import LEAST_SHARE, Honesty, be_honest
from exemplar.project.learn import Answers, learn
from exemplar.settings import Settings
from exemplar.store.audit_log import AuditEntry

CLASSES = ("ant", "bee", "cat")
# Three groups in the plane, of 60 tasks each.
TRUTH = np.repeat([0, 1, 2], 60)
POOL = survey(np.random.default_rng(1).normal(size=(180, 2)).astype(np.float32) + 9 * TRUTH[:, None], n_clusters=3)


def tasks_of(rows: list[int]) -> list[Task]:
    said = Annotation(1, 1, [], cancelled=False, unseen=False)
    return [Task(100 + row, "", "", (said,) if row in rows else ()) for row in range(180)]


def entry(kind: str, row: int, choice: int) -> AuditEntry:
    return AuditEntry(kind=kind, task=100 + row, choice=choice, confidence=0.9, generation=1, snapshot=1, at=0.0)


def report(
    said: dict[int, int], log: list[AuditEntry], *, skipped: tuple[int, ...] = (), propagation: str = "auto"
) -> Honesty:
    shares, y = np.zeros((180, 3), np.float32), np.full(180, UNLABELED)
    for row, class_index in said.items():
        shares[row, class_index], y[row] = 1, class_index
    answers = Answers(shares, y, np.array([*said, *skipped], np.intp))
    learned = learn(
        POOL, answers, replace(Settings(), audit_share=0.0, propagation=propagation), audits=np.empty(0, np.intp)
    )
    tasks = tasks_of([*said, *skipped])
    return be_honest(tasks, POOL, answers, learned, log, (), classes=CLASSES, generation="exemplar-1")


AUDITS = list(range(0, 180, 5))  # 36, 12 of each group
TRUE = {row: int(TRUTH[row]) for row in AUDITS}


def test_below_thirty_audits_no_percentage_is_said() -> None:
    few = {row: TRUE[row] for row in AUDITS[: MIN_AUDITS - 1]}
    said = report(few, [entry("frozen", row, TRUE[row]) for row in few]).said
    assert (said["accuracy"]["is_shown"], said["accuracy"]["rate"]) == (False, None)
    assert said["leave_one_out"] is not None


def test_audits_count_by_what_the_model_says_without_their_own_answer() -> None:
    # What was frozen was wrong throughout; the model of now is right.
    said = report(TRUE, [entry("frozen", row, (TRUE[row] + 1) % 3) for row in AUDITS]).said["accuracy"]
    assert (said["n_audits"], said["rate"]) == (36, 1.0)
    assert 0.85 < said["low"] < 1
    assert said["generation"] == "exemplar-1"


def test_the_reliability_of_confidences_is_that_of_the_frozen_predictions() -> None:
    said = report(TRUE, [entry("frozen", row, (TRUE[row] + 1) % 3) for row in AUDITS]).said["accuracy"]
    assert sum(one["n"] for one in said["reliability"]) == 36
    assert {(one["confidence"], one["right"]) for one in said["reliability"]} == {(0.9, 0.0)}
    assert said["calibration_error"] == pytest.approx(0.9)


def test_other_methods_are_judged_by_what_was_frozen() -> None:
    log = [entry("frozen", row, (TRUE[row] + 1) % 3) for row in AUDITS]
    assert report(TRUE, log, propagation="clusters").said["accuracy"]["rate"] == 0.0


def test_an_audit_that_was_skipped_widens_the_interval() -> None:
    skipped = (1, 2, 3)
    log = [entry("frozen", row, int(TRUTH[row])) for row in (*AUDITS, *skipped)]
    plain, wide = report(TRUE, log), report(TRUE, log, skipped=skipped)
    assert wide.said["accuracy"]["n_unknown"] == 3
    assert wide.said["accuracy"]["low"] < plain.said["accuracy"]["low"]
    assert wide.said["accuracy"]["high"] == 1


def test_a_task_that_is_frozen_and_not_asked_yet_is_no_audit() -> None:
    log = [entry("frozen", row, int(TRUTH[row])) for row in (*AUDITS, 1, 2)]
    assert report(TRUE, log).said["accuracy"]["n_audits"] == 36


def test_what_annotators_saw_is_agreement_and_no_audit() -> None:
    said = report(TRUE, [entry("seen", 0, TRUE[0]), entry("seen", 5, 2)]).said
    assert said["agreement"] == {"n": 2, "n_same": 1}
    assert said["accuracy"]["n_audits"] == 0


def test_a_wrong_answer_is_worth_a_second_look_and_those_who_contradict_it_are_named() -> None:
    said = report(TRUE | {0: 2}, []).said
    [found] = said["second_look"]
    assert (found["task"], found["answer"], found["others_say"]) == (100, "cat", "ant")
    assert LEAST_SHARE <= found["share"] <= 1
    assert {TRUTH[task - 100] for task in found["others"]} == {0}
    assert said["conflicts"] == 1


def test_answers_that_are_right_are_worth_none() -> None:
    assert report(TRUE, []).said["second_look"] == []


def test_numbers_are_as_people_read_them() -> None:
    said = report(TRUE | {0: 2}, [entry("frozen", row, TRUE[row]) for row in AUDITS]).said
    assert said["accuracy"]["is_shown"]
    numbers = [number for number in floats(said) if number is not None]
    assert len(numbers) > 10
    assert all(number == round(number, 6) for number in numbers)
    json.dumps(said, allow_nan=False)


def floats(said: Any) -> Iterator[float]:
    if isinstance(said, float):
        yield said
    for part in said.values() if isinstance(said, dict) else said if isinstance(said, list) else ():
        yield from floats(part)


@pytest.mark.parametrize("n", [0, 1, 36])
def test_whatever_is_known_there_is_a_report(n: int) -> None:
    found = report({row: TRUE[row] for row in AUDITS[:n]}, [])
    assert found.said["advice"]["stop"] is False
    assert len(found.checkpoints) == min(n, 1)
