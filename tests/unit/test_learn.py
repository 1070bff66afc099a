"""From answers to rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from exemplar import settings as settings_module
from exemplar.engine import PROPAGATIONS, STRATEGIES, UNLABELED, Pusher, survey
from exemplar.labelstudio.label_config import Labeling
from exemplar.labelstudio.tasks import Annotation, Task
from exemplar.project.learn import Answers, Learned, learn, read_answers
from exemplar.rows import is_asked
from exemplar.settings import CLASSIFIERS, QUEUES, Settings

# Four groups on a line, of 5, 4, 3 and 2 tasks.
X = np.float32([[v] for v in (0, 1, 2, 3, 4, 20, 21, 22, 23, 40, 41, 42, 60, 61)])
POOL = survey(X, n_clusters=4)
GROUP = np.repeat([0, 1, 2, 3], [5, 4, 3, 2])
FIRST_OF_EACH = [2, 6, 10, 12]
N_CLASSES = 3
TEXTBOOK = replace(
    Settings(),
    propagation="clusters",
    queue="representatives",
    classifier="logistic",
    audit_share=0.0,
    batch_size=6,
)
DEFAULT = replace(Settings(), batch_size=6, audit_share=0.0)
NO_AUDITS = np.empty(0, np.intp)


def answers_of(said: dict[int, int], skipped: tuple[int, ...] = (), n: int = len(X)) -> Answers:
    shares, y = np.zeros((n, N_CLASSES), np.float32), np.full(n, UNLABELED)
    for row, class_index in said.items():
        shares[row, class_index], y[row] = 1, class_index
    return Answers(shares, y, np.array([*said, *skipped], np.intp))


def learned(
    said: dict[int, int], skipped: tuple[int, ...] = (), base: Settings = TEXTBOOK, **options: Any
) -> Learned:
    return learn(POOL, answers_of(said, skipped), replace(base, **options), audits=NO_AUDITS)


def queue(found: Learned) -> list[int]:
    rows = np.flatnonzero(is_asked(found.scores))
    return rows[np.argsort(found.scores[rows])].tolist()


def test_settings_name_the_methods_that_the_engine_has() -> None:
    assert ("auto", *PROPAGATIONS) == settings_module.PROPAGATIONS
    assert tuple(STRATEGIES) == QUEUES


# ── Nothing known ────────────────────────────────────────────────────────────────────────────────────────


def test_before_anything_is_known_there_is_a_batch_to_ask_and_nothing_else() -> None:
    found = learned({})
    assert queue(found) == [*FIRST_OF_EACH, 1, 7]
    assert set(found.choices) == {UNLABELED}
    assert np.isnan(found.scores).sum() == len(X) - 6


@pytest.mark.parametrize("strategy", QUEUES)
@pytest.mark.parametrize("batch_size", [2, 6, 14, 100])
def test_the_first_queue_is_as_long_as_the_batch(batch_size: int, strategy: str) -> None:
    assert len(queue(learned({}, queue=strategy, batch_size=batch_size))) == min(batch_size, len(X))


@pytest.mark.parametrize("base", [TEXTBOOK, DEFAULT], ids=["textbook", "default"])
def test_a_pool_of_one_task_is_asked(base: Settings) -> None:
    found = learn(survey(np.zeros((1, 2))), answers_of({}, n=1), base, audits=NO_AUDITS)
    assert (is_asked(found.scores[0]), found.choices[0], found.classifier) == (True, UNLABELED, None)


# ── Something known ──────────────────────────────────────────────────────────────────────────────────────


def test_one_class_is_propagated_and_no_classifier_is_made() -> None:
    found = learned({2: 1})
    assert found.classifier is None
    assert found.choices[:5].tolist() == [1] * 5
    assert set(found.choices[9:]) == {UNLABELED}
    assert queue(found)[:3] == FIRST_OF_EACH[1:]


def test_two_classes_give_every_task_a_choice_and_a_score() -> None:
    found = learned({2: 0, 12: 2})
    assert not np.isnan(found.scores).any()
    assert found.choices.tolist()[:5] == [0] * 5
    assert found.choices.tolist()[-2:] == [2] * 2
    assert set(found.choices) == {0, 2}
    assert queue(found)[:2] == [6, 10]


def test_propagation_goes_before_the_classifier() -> None:
    found = learned({2: 0, 6: 1, 10: 0, 12: 1})
    assert found.choices.tolist() == [0] * 5 + [1] * 4 + [0] * 3 + [1] * 2


@pytest.mark.parametrize("base", [TEXTBOOK, DEFAULT], ids=["textbook", "default"])
def test_an_answered_task_keeps_its_answer_and_scores_one(base: Settings) -> None:
    found = learned({0: 0, 4: 1, 6: 2}, base=base)
    assert found.choices[[0, 4, 6]].tolist() == [0, 1, 2]
    assert found.scores[[0, 4, 6]].tolist() == [1, 1, 1]


def test_when_every_cluster_has_its_label_the_confidences_order_the_rest() -> None:
    found = learned(dict(zip([*FIRST_OF_EACH, 0], (0, 1, 2, 0, 0), strict=True)))  # a whole round
    assert not is_asked(found.scores).any()
    assert (found.scores[FIRST_OF_EACH] == 1).all()


# Three groups in the plane, of 20 tasks each.
ISLANDS = np.repeat([0, 1, 2], 20)
SEA = survey(np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32) + 9 * ISLANDS[:, None], n_clusters=3)


def test_the_default_gives_each_group_the_answer_of_its_member() -> None:
    found = learn(SEA, answers_of({0: 2, 20: 1, 40: 0}, n=60), DEFAULT, audits=NO_AUDITS)
    assert found.choices.tolist() == np.array([2, 1, 0])[ISLANDS].tolist()
    assert found.inference.distributions.argmax(axis=1).tolist() == found.choices.tolist()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("propagation", PROPAGATIONS)
def test_every_method_goes_with_every_classifier(propagation: str, classifier: str) -> None:
    options = replace(DEFAULT, propagation=propagation, classifier=classifier)
    said = {row: int(ISLANDS[row]) for row in (0, 1, 20, 21, 40, 41)}
    found = learn(SEA, answers_of(said, n=60), options, audits=NO_AUDITS)
    assert (found.choices == ISLANDS).mean() > 0.95
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert (found.classifier is None) == (classifier == "neighbors")


def test_two_annotators_who_differ_are_a_divided_answer() -> None:
    answers = answers_of({2: 0, 12: 2})
    answers.shares[2] = [0.5, 0.5, 0]
    found = learn(POOL, answers, DEFAULT, audits=NO_AUDITS)
    np.testing.assert_allclose(found.inference.distributions[2], [0.5, 0.5, 0])
    assert found.inference.distributions[1, :2].min() > 0.2


# ── The queue stays ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("base", [TEXTBOOK, DEFAULT], ids=["textbook", "default"])
def test_within_a_round_an_answer_moves_no_score_of_the_tasks_that_stay_queued(base: Settings) -> None:
    before = learned({}, base=base)
    first = queue(before)[0]
    after = learned({first: 1}, base=base)
    stay = [row for row in queue(before) if row != first]
    np.testing.assert_array_equal(after.scores[stay], before.scores[stay])


def test_a_skipped_task_is_not_asked_first_again() -> None:
    before, after = learned({2: 0, 12: 1}), learned({2: 0, 12: 1}, skipped=(6,))
    assert (queue(before)[0], queue(after)[0]) == (6, 10)
    assert not is_asked(after.scores[6])


@pytest.mark.parametrize("strategy", [name for name in QUEUES if name != "representatives"])
def test_sessions_ask_every_task_once_and_end_with_the_pool(strategy: str) -> None:
    said: dict[int, int] = {}
    while len(said) < len(X):
        asked = queue(learned(said, queue=strategy, base=DEFAULT))
        assert asked, f"the queue ended after {len(said)} of {len(X)} tasks"
        assert asked[0] not in said
        said[asked[0]] = int(GROUP[asked[0]] % N_CLASSES)
    assert queue(learned(said, queue=strategy, base=DEFAULT)) == []


# ── Audits ───────────────────────────────────────────────────────────────────────────────────────────────

LINE = survey(np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32))
AUDITS = np.array([7, 100, 33, 250])


def asked_in_order(share: float, n: int) -> dict[int, int]:
    """Return the answers of somebody who was asked n tasks, in their order."""
    said: dict[int, int] = {}
    options = replace(Settings(), audit_share=share)
    while len(said) < n:
        found = learn(LINE, answers_of(said, n=300), options, audits=AUDITS)
        said[queue(found)[0]] = len(said) % 2
    return said


def test_every_so_many_tasks_are_audits_and_no_other_reaches_them() -> None:
    asked = list(asked_in_order(10.0, 32))
    assert [asked.index(row) + 1 for row in AUDITS[:2]] == [20, 30], "not among the first twelve, who stand for all"
    assert not {33, 250} & set(asked)


def test_audits_are_blind_and_still_predicted() -> None:
    said = asked_in_order(10.0, 19)
    found = learn(LINE, answers_of(said, n=300), replace(Settings(), audit_share=10.0), audits=AUDITS)
    assert queue(found)[0] == 7
    assert 7 in found.blind
    assert found.choices[7] in (0, 1)


def test_a_prediction_that_is_written_down_stays_blind_until_it_is_annotated() -> None:
    options = replace(Settings(), audit_share=0.0)
    found = learn(LINE, answers_of({1: 0}, n=300), options, audits=AUDITS, frozen=np.array([33]))
    assert found.blind.tolist() == [33]


# ── What annotators said ─────────────────────────────────────────────────────────────────────────────────


def test_answers_are_read_by_their_votes_and_in_their_order() -> None:
    labeling = Labeling("digit", "image", "url", "image", ("a", "b", "c"))

    def said(id_: int, class_index: int, **flags: bool) -> Annotation:
        return Annotation(id_, 1, labeling.result(class_index), **{"cancelled": False, "unseen": False} | flags)

    tasks = [
        Task(1, "", "x", (said(9, 2), said(10, 1), said(11, 2))),
        Task(2, "", "x", ()),
        Task(3, "", "x", (said(4, 0, unseen=True),)),
        Task(4, "", "x", (said(5, 1),)),
    ]
    answers = read_answers(tasks, labeling)
    np.testing.assert_allclose(answers.shares, [[0, 1 / 3, 2 / 3], [0, 0, 0], [0, 0, 0], [0, 1, 0]], rtol=1e-6)
    assert answers.y.tolist() == [2, UNLABELED, UNLABELED, 1]
    assert answers.annotated.tolist() == [2, 3, 0]


# ── Properties ───────────────────────────────────────────────────────────────────────────────────────────

states = st.lists(st.sampled_from(["open", "skip", 0, 1, 2]), min_size=len(X), max_size=len(X))
bases = st.sampled_from([TEXTBOOK, DEFAULT])


@hypothesis_settings(max_examples=60, deadline=None)
@given(states, bases, st.floats(0.1, 100), st.integers(1, 20))
def test_rows_are_as_documented_whatever_was_said(
    said: list, base: Settings, percent: float, batch_size: int
) -> None:
    answers = {row: what for row, what in enumerate(said) if isinstance(what, int)}
    skipped = tuple(row for row, what in enumerate(said) if what == "skip")
    found = learned(answers, skipped, base, propagate_percent=percent, batch_size=batch_size)
    assert (np.isnan(found.scores) | ((found.scores > 0) & (found.scores <= 1))).all()
    assert (found.scores[[*answers]] == 1).all()
    assert found.choices[[*answers]].tolist() == list(answers.values())
    assert not is_asked(found.scores[list(skipped)]).any()
    assert not set(queue(found)) & {*answers, *skipped}
    assert len(queue(found)) <= batch_size
    n_open = len(X) - len(answers) - len(skipped)
    if base is DEFAULT:
        assert len(queue(found)) == min(n_open, batch_size)
    assert (found.choices[np.isnan(found.scores)] == UNLABELED).all()
    sums = found.inference.distributions.sum(axis=1)
    assert (np.isclose(sums, 1, atol=1e-5) | (sums == 0)).all()


@hypothesis_settings(max_examples=30, deadline=None)
@given(states, bases)
def test_same_answers_same_rows_bit_for_bit(said: list, base: Settings) -> None:
    answers = {row: what for row, what in enumerate(said) if isinstance(what, int)}
    one, two = learned(answers, base=base), learned(answers, base=base)
    assert one.scores.tobytes() == two.scores.tobytes()
    assert one.choices.tobytes() == two.choices.tobytes()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_an_answer_costs_one_push_whatever_was_answered_before(
    n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    geometry = survey(rng.normal(size=(90, 3)).astype(np.float32), n_clusters=5)
    shares, y = np.zeros((90, n_classes), np.float32), np.full(90, UNLABELED)
    rows = np.arange(13)
    y[rows] = rows % n_classes
    shares[rows, y[rows]] = 1
    before = Answers(
        np.where(np.arange(90)[:, None] < 12, shares, 0), np.where(np.arange(90) < 12, y, -1), rows[:12]
    )
    nobody = np.empty(0, np.intp)
    columns = learn(geometry, before, Settings(), audits=nobody).inference.columns
    pushed: list[int] = []
    push = Pusher.column
    monkeypatch.setattr(Pusher, "column", lambda pusher, node: pushed.append(node) or push(pusher, node))
    learn(geometry, Answers(shares, y, rows), Settings(), audits=nobody, columns=columns)
    assert pushed == [geometry.graph.node_of[12]]
