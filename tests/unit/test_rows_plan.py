"""What a pass over the rows in Label Studio would write."""

from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exemplar.labelstudio.label_config import Labeling
from exemplar.rows.generation import generation_name, generation_number
from exemplar.rows.plan import NOTHING, Plan, Row, plan
from exemplar.rows.scores import NOTHING_KNOWN, SAME, queue_scores

LABELING = Labeling("animal", "img", "picture", "image", ("cat", "dog", "cow"))
CAT, DOG = 0, 1
NOW = 4
# The scores of the queue, by position.
Q = queue_scores(np.arange(20)).tolist()


def there(
    id_: int, task: int, choice: int, score: float | None, version: str | None = "exemplar-4"
) -> dict[str, Any]:
    return {
        "id": id_,
        "task": task,
        "result": LABELING.result(choice),
        "score": score,
        "model_version": version,
    }


def planned(desired: dict[int, Row], predictions: list[dict[str, Any]], tolerance: float = 0.05) -> Plan:
    return plan(desired, predictions, LABELING, generation=NOW, tolerance=tolerance)


def patched(steps: Plan) -> list[int]:
    return [patch.prediction_id for patch in steps.patch]


# ── By hand ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_missing_is_created_in_the_order_that_was_desired() -> None:
    desired = {7: Row(-1, Q[0]), 3: Row(-1, Q[1]), 9: Row(CAT, 0.8)}
    steps = planned(desired, [there(1, 3, -1, Q[1])])
    assert list(steps.create.items()) == [(7, Row(-1, Q[0])), (9, Row(CAT, 0.8))]
    assert (steps.patch, steps.retire) == ([], [])


def test_what_is_as_it_should_be_is_left_alone() -> None:
    assert (
        planned({7: Row(CAT, 0.8), 8: Row(-1, Q[0])}, [there(1, 7, CAT, 0.8), there(2, 8, -1, Q[0])]).n_writes == 0
    )


def test_another_choice_is_patched() -> None:
    (patch,) = planned({7: Row(DOG, 0.8)}, [there(1, 7, CAT, 0.8)]).patch
    assert (patch.prediction_id, patch.row) == (1, Row(DOG, 0.8))


@pytest.mark.parametrize("score", [0.8, Q[0]])
def test_a_row_without_a_score_is_patched(score: float) -> None:
    assert patched(planned({7: Row(CAT, score)}, [there(1, 7, CAT, None)])) == [1]


def test_of_two_rows_for_one_task_the_newer_is_retired() -> None:
    steps = planned({7: Row(CAT, 0.8)}, [there(5, 7, CAT, 0.8), there(2, 7, CAT, 0.8), there(9, 7, DOG, 0.8)])
    assert steps.retire == [5, 9]
    assert (steps.create, steps.patch) == ({}, [])


def test_a_task_of_which_nothing_is_known_any_more_gets_an_empty_row() -> None:
    (patch,) = planned({}, [there(1, 7, CAT, 0.8)]).patch
    assert patch.row == NOTHING


@pytest.mark.parametrize("version", ["exemplar-3", "exemplar-40", "exemplar-0", "resnet", "exemplar", "", None])
def test_what_stands_under_another_name_is_not_touched(version: str | None) -> None:
    steps = planned({7: Row(CAT, 0.8)}, [there(1, 7, DOG, 0.1, version), there(2, 8, DOG, -0.1, version)])
    assert steps == Plan({7: Row(CAT, 0.8)}, [], [])


# ── Tolerance ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("before", "after", "writes"),
    [
        (0.80, 0.84, 0),
        (0.80, 0.86, 1),
        (Q[1], Q[2], 1),
        (Q[9], 0.01, 1),
        (0.01, Q[9], 1),
        (Q[0], NOTHING_KNOWN, 1),
        (NOTHING_KNOWN, 0.01, 0),
        # As an earlier version wrote them: a place in the queue, and a task of which nothing is known.
        (-0.5, Q[1], 1),
        (-1 / 50, 0.01, 1),
        (0.0, NOTHING_KNOWN, 1),
    ],
)
def test_a_confidence_may_drift_and_the_queue_may_not(before: float, after: float, writes: int) -> None:
    assert planned({7: Row(CAT, after)}, [there(1, 7, CAT, before)]).n_writes == writes


def test_without_tolerance_every_move_counts() -> None:
    assert planned({7: Row(CAT, 0.81)}, [there(1, 7, CAT, 0.8)], tolerance=0).n_writes == 1


def test_another_choice_counts_however_little_the_score_moved() -> None:
    assert planned({7: Row(DOG, 0.8)}, [there(1, 7, CAT, 0.8)], tolerance=1).n_writes == 1


# ── Urgency ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_asked_next_goes_first_then_what_is_affected_then_the_rest_of_the_queue() -> None:
    desired = {
        1: Row(CAT, 0.5),  # moved by 0.1
        2: Row(CAT, 0.9),  # moved by 0.8
        3: Row(DOG, 0.7),  # changed, surely
        4: Row(DOG, 0.3),  # changed, hardly sure
        5: Row(CAT, 1.0),  # was asked next and is answered
        6: Row(-1, Q[1]),  # comes second in the queue
        7: Row(-1, Q[0]),  # comes first in the queue
        8: Row(DOG, Q[2]),  # stays in the queue, changed
        9: Row(-1, Q[9]),  # comes tenth in the queue
    }
    predictions = [
        there(11, 1, CAT, 0.4),
        there(12, 2, CAT, 0.1),
        there(13, 3, CAT, 0.7),
        there(14, 4, CAT, 0.3),
        there(15, 5, CAT, Q[1]),
        there(16, 6, -1, Q[3]),
        there(17, 7, -1, NOTHING_KNOWN),
        there(18, 8, CAT, Q[2]),
        there(19, 9, -1, Q[19]),
    ]
    steps = plan(desired, predictions, LABELING, generation=NOW, tolerance=0.05, affected={1, 4})
    assert patched(steps) == [17, 16, 18, 15, 14, 11, 19, 13, 12]


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 10**9))
def test_a_generations_name_gives_its_number_back(generation: int) -> None:
    assert generation_number(generation_name(generation)) == generation


@pytest.mark.parametrize(
    "name",
    [
        "exemplar-",
        "exemplar-x",
        "exemplar--1",
        "my-exemplar-4",
        "exemplar-4b",
        "exemplar-4\n",
        "EXEMPLAR-4",
        "exemplar-04",
        "exemplar-٤",
    ],
)
def test_a_name_that_we_never_gave_is_not_ours(name: str) -> None:
    assert generation_number(name) is None


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────

scores = st.floats(-1, 1, width=32) | st.sampled_from([0.0, -0.0, -1.0, 1.0, NOTHING_KNOWN, *Q])
task_ids = st.integers(1, 8)
desires = st.dictionaries(task_ids, st.builds(Row, st.integers(-1, 2), scores))
versions = st.sampled_from(["exemplar-4", "exemplar-4", "exemplar-3", "exemplar-0", "resnet", None])
in_label_studio = st.lists(st.tuples(task_ids, st.integers(-1, 2), st.none() | scores, versions), max_size=16).map(
    lambda rows: [there(id_, *row) for id_, row in enumerate(rows, 1)]
)


def carried_out(steps: Plan, predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What Label Studio holds after a plan."""
    held = {prediction["id"]: dict(prediction) for prediction in predictions}
    new_id = count(1000)
    for task, row in steps.create.items():
        id_ = next(new_id)
        held[id_] = there(id_, task, row.choice, row.score)
    for patch in steps.patch:
        held[patch.prediction_id] |= {"result": LABELING.result(patch.row.choice), "score": patch.row.score}
    for id_ in steps.retire:
        held[id_]["model_version"] = generation_name(0)
    return list(held.values())


@given(desires, in_label_studio, st.floats(0, 0.5))
def test_a_plan_carried_out_leaves_nothing_to_write(
    desired: dict[int, Row], predictions: list[dict[str, Any]], tolerance: float
) -> None:
    after = carried_out(planned(desired, predictions, tolerance), predictions)
    assert planned(desired, after, tolerance).n_writes == 0


@given(desires, in_label_studio)
def test_an_exact_plan_leaves_one_row_a_task_as_desired(
    desired: dict[int, Row], predictions: list[dict[str, Any]]
) -> None:
    after = carried_out(planned(desired, predictions, tolerance=0), predictions)
    ours = [prediction for prediction in after if prediction["model_version"] == generation_name(NOW)]
    rows = {row["task"]: row for row in ours}
    assert len(rows) == len(ours)
    for task, want in desired.items():
        assert LABELING.class_index(rows[task]["result"]) == want.choice
        assert rows[task]["score"] == pytest.approx(want.score, abs=SAME)
    assert all(row["score"] == NOTHING_KNOWN for task, row in rows.items() if task not in desired)


@given(desires, in_label_studio, st.floats(0, 0.5))
def test_predictions_of_other_names_stay_as_they_are(
    desired: dict[int, Row], predictions: list[dict[str, Any]], tolerance: float
) -> None:
    after = carried_out(planned(desired, predictions, tolerance), predictions)
    others = [prediction for prediction in predictions if prediction["model_version"] != generation_name(NOW)]
    assert all(other in after for other in others)


@given(desires, in_label_studio, st.randoms(use_true_random=False))
def test_the_order_in_which_predictions_arrive_does_not_matter(
    desired: dict[int, Row], predictions: list[dict[str, Any]], random: Any
) -> None:
    shuffled = random.sample(predictions, len(predictions))
    assert planned(desired, shuffled) == planned(desired, predictions)
