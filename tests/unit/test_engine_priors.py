"""Priors: what names and other models say of a pool, and how much of it the answers let stand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exemplar.engine import (
    Geometry,
    Weight,
    infer,
    prior_of_names,
    prior_of_predictions,
    similarities,
    survey,
)
from exemplar.engine.propagation.inference import class_weights, with_classes_unseen
from exemplar.engine.propagation.weighing import NONE, Evidence, mixed, usual_answers, weigh
from exemplar.errors import InputError

N_CLASSES, N_EACH, N_FEATURES = 5, 60, 12
RNG = np.random.default_rng(0)
DIRECTIONS = RNG.standard_normal((N_CLASSES, N_FEATURES)).astype(np.float32)
TRUTH = np.repeat(np.arange(N_CLASSES), N_EACH)
POOL = (DIRECTIONS[TRUTH] + 0.9 * RNG.standard_normal((len(TRUTH), N_FEATURES))).astype(np.float32)
# A name lies in its class's direction, but not in its middle.
NAMES = (DIRECTIONS + 0.5 * RNG.standard_normal(DIRECTIONS.shape)).astype(np.float32)
GEOMETRY = survey(POOL, n_clusters=10)
ORDER = RNG.permutation(len(TRUTH))
Floats = NDArray[np.float32]


def answers(n: int, geometry: Geometry = GEOMETRY, truth: NDArray[np.intp] = TRUTH, n_classes: int = 5) -> Floats:
    shares = np.zeros((geometry.n_tasks, n_classes), np.float32)
    rows = ORDER[:n]
    shares[rows, truth[rows]] = 1
    return shares


def right(prior: Floats, truth: NDArray[np.intp] = TRUTH) -> float:
    return float(np.mean(prior.argmax(axis=1) == truth))


def accuracy(n: int, priors: list[Floats]) -> float:
    rest = ORDER[n:]
    return float(np.mean(infer(GEOMETRY, answers(n), priors=priors).scores.argmax(axis=1)[rest] == TRUTH[rest]))


# ── What names say ──────────────────────────────────────────────────────────────────────────────────────────


def test_spread_names_are_right_more_often_than_the_nearest_name() -> None:
    near = similarities(POOL, NAMES)
    assert right(prior_of_names(GEOMETRY, near)) > right(near) + 0.02
    assert right(near) > 0.6


def test_what_all_tasks_have_in_common_tells_nothing() -> None:
    shifted, names = POOL + 7, NAMES + 7
    np.testing.assert_allclose(similarities(shifted, names), similarities(POOL, NAMES), atol=1e-3)


def test_the_order_of_tasks_and_classes_does_not_matter() -> None:
    rows, classes = RNG.permutation(len(POOL)), RNG.permutation(N_CLASSES)
    prior = prior_of_names(GEOMETRY, similarities(POOL, NAMES))
    permuted = prior_of_names(survey(POOL[rows], n_clusters=10), similarities(POOL[rows], NAMES[classes]))
    np.testing.assert_allclose(permuted, prior[np.ix_(rows, classes)], rtol=0.02, atol=1e-6)


def test_each_name_counts_as_one_answer() -> None:
    prior = prior_of_names(GEOMETRY, similarities(POOL, NAMES))
    one_each = np.zeros((len(POOL), N_CLASSES), np.float32)
    one_each[[class_index * N_EACH for class_index in range(N_CLASSES)], range(N_CLASSES)] = 1
    assert prior.sum() == pytest.approx(infer(GEOMETRY, one_each, method="graph").scores.sum(), rel=0.3)


def test_tasks_that_tell_nothing_are_clear_for_nobody_and_get_what_their_neighbours_say() -> None:
    pool = POOL.copy()
    pool[:7] = 0
    near = similarities(pool, NAMES)
    assert not near[:7].any()
    np.testing.assert_allclose(near[7:].mean(axis=0), 0, atol=1e-4)
    prior = prior_of_names(survey(pool, n_clusters=10), near)
    assert right(prior[7:], TRUTH[7:]) > 0.7
    assert np.isfinite(prior).all()


def test_a_class_whose_name_tells_nothing_is_named_nowhere() -> None:
    names = NAMES.copy()
    names[2] = 0
    prior = prior_of_names(GEOMETRY, similarities(POOL, names))
    assert not prior[:, 2].any()
    others = TRUTH != 2
    assert right(prior[others], TRUTH[others]) > 0.7


@pytest.mark.parametrize("n_named", [0, 1])
def test_fewer_than_two_names_say_nothing(n_named: int) -> None:
    names = NAMES.copy()
    names[n_named:] = 0
    assert not prior_of_names(GEOMETRY, similarities(POOL, names)).any()


def test_one_class_needs_no_prior() -> None:
    assert not prior_of_names(GEOMETRY, similarities(POOL, NAMES[:1])).any()
    assert not prior_of_predictions(GEOMETRY, np.ones((len(POOL), 1), np.float32)).any()


def test_one_name_for_all_classes_says_nothing() -> None:
    near = similarities(POOL, np.tile(NAMES[:1], (N_CLASSES, 1)))
    found = infer(GEOMETRY, answers(15), priors=[prior_of_names(GEOMETRY, near)])
    assert found.weights == (NONE,)


@pytest.mark.parametrize(
    "pool", [np.zeros((4, 3)), np.ones((6, 3)), np.eye(2, 3), RNG.standard_normal((3, 3))], ids=str
)
def test_tiny_and_dull_pools_have_a_prior_without_nans(pool: NDArray[np.float64]) -> None:
    geometry = survey(pool.astype(np.float32))
    prior = prior_of_names(geometry, similarities(pool, RNG.standard_normal((5, 3))))
    assert prior.shape == (len(pool), 5)
    assert np.isfinite(prior).all()
    assert (prior >= 0).all()


@pytest.mark.parametrize(
    ("X", "names", "said"),
    [
        (np.zeros((3, 2)), np.zeros((2, 3)), "expected (n_tasks, n_features) and (n_classes, n_features)"),
        (np.full((3, 2), np.nan), np.zeros((2, 2)), "expected finite numbers"),
        (np.zeros((3, 2)), np.full((2, 2), np.inf), "expected finite numbers"),
    ],
)
def test_what_does_not_fit_is_told(X: Floats, names: Floats, said: str) -> None:
    with pytest.raises(InputError) as caught:
        similarities(X, names)
    assert said in str(caught.value)


def test_similarities_and_priors_of_another_pool_are_told() -> None:
    with pytest.raises(InputError, match=r"\(300, n_classes\)"):
        prior_of_names(GEOMETRY, np.zeros((3, 2), np.float32))
    with pytest.raises(InputError, match="a prior has the shape"):
        infer(GEOMETRY, answers(3), priors=[np.zeros((3, 5), np.float32)])
    with pytest.raises(InputError, match="none below 0"):
        infer(GEOMETRY, answers(3), priors=[np.full((300, 5), -1, np.float32)])


# ── What other models say ───────────────────────────────────────────────────────────────────────────────────


def predictions(share_right: float, *, said: float = 1.0) -> Floats:
    rng = np.random.default_rng(1)
    wrong, told = rng.random(len(TRUTH)) > share_right, rng.random(len(TRUTH)) < said
    classes = np.where(wrong, rng.integers(N_CLASSES, size=len(TRUTH)), TRUTH)
    shares = np.zeros((len(TRUTH), N_CLASSES), np.float32)
    shares[np.flatnonzero(told), classes[told]] = 1
    return shares


@pytest.mark.parametrize("said", [1.0, 0.2])
def test_predictions_of_another_model_are_mended_by_their_neighbours_and_reach_the_others(said: float) -> None:
    shares = predictions(0.7, said=said)
    prior = prior_of_predictions(GEOMETRY, shares)
    assert right(prior) > right(shares) + 0.1
    assert prior.any(axis=1).all()


def test_predictions_count_the_same_however_many_there_are() -> None:
    few, many = (prior_of_predictions(GEOMETRY, predictions(1, said=said)) for said in (0.2, 1.0))
    assert few.sum() == pytest.approx(many.sum(), rel=0.2)


def test_no_prediction_says_nothing() -> None:
    assert not prior_of_predictions(GEOMETRY, np.zeros((len(TRUTH), N_CLASSES), np.float32)).any()


# ── What the answers let stand ──────────────────────────────────────────────────────────────────────────────


def names_prior() -> Floats:
    return prior_of_names(GEOMETRY, similarities(POOL, NAMES))


def test_before_any_answer_the_prior_has_the_word_modestly() -> None:
    found = infer(GEOMETRY, answers(0), priors=[names_prior()])
    assert found.weights == (Weight(1, 0),)
    classes, confidence = found.distributions.argmax(axis=1), found.distributions.max(axis=1)
    assert np.mean(classes == TRUTH) > 0.7
    assert confidence.mean() < np.mean(classes == TRUTH)
    np.testing.assert_allclose(found.distributions.sum(axis=1), 1, rtol=1e-5)


def test_no_prior_and_no_answer_is_nothing() -> None:
    assert not infer(GEOMETRY, answers(0)).distributions.any()
    nothing = np.zeros((len(TRUTH), N_CLASSES), np.float32)
    assert not infer(GEOMETRY, answers(0), priors=[nothing]).distributions.any()


@pytest.mark.parametrize("n", [1, 3, 5])
def test_with_few_answers_names_are_far_better_than_none(n: int) -> None:
    assert accuracy(n, [names_prior()]) > accuracy(n, []) + 0.1


@pytest.mark.parametrize("n", [15, 30, 60, 120])
def test_with_more_answers_names_are_never_much_worse_than_none(n: int) -> None:
    assert accuracy(n, [names_prior()]) >= accuracy(n, []) - 0.005


@pytest.mark.parametrize("n", [15, 30, 60])
@pytest.mark.parametrize("seed", range(5))
def test_names_of_no_meaning_change_nothing(n: int, seed: int) -> None:
    names = np.random.default_rng(seed).standard_normal(NAMES.shape).astype(np.float32)
    nonsense = prior_of_names(GEOMETRY, similarities(POOL, names))
    # By chance a random direction may lie near its class; then it says something after all.
    if right(nonsense) < 0.4:
        assert abs(accuracy(n, [nonsense]) - accuracy(n, [])) <= 0.003


@pytest.mark.parametrize("n", [12, 30, 60])
def test_names_of_other_classes_change_nothing(n: int) -> None:
    exchanged = prior_of_names(GEOMETRY, similarities(POOL, np.roll(NAMES, 1, axis=0)))
    found = infer(GEOMETRY, answers(n), priors=[exchanged])
    assert found.weights == (NONE,)
    np.testing.assert_array_equal(found.distributions, infer(GEOMETRY, answers(n)).distributions)


def test_the_only_answers_of_their_classes_do_not_believe_a_prior_too_much() -> None:
    """One answer each of far-apart classes says all; a prior that is right in most cases must not overrule it."""
    centers = 20 * np.eye(8, dtype=np.float32)
    truth = np.repeat(np.arange(8), 20)
    pool = centers[truth] + RNG.normal(size=(160, 8)).astype(np.float32)
    geometry = survey(pool, n_clusters=8)
    shares = np.zeros((160, 8), np.float32)
    rows = np.arange(8) * 20
    shares[rows, truth[rows]] = 1
    # Of the answered tasks the prior is right; of two classes' others it is wrong.
    said = np.where(truth == 1, 0, np.where(truth == 3, 2, truth))
    said[rows] = truth[rows]
    prior = prior_of_predictions(geometry, np.eye(8, dtype=np.float32)[said])
    assert right(prior, truth) < 0.8
    assert right(infer(geometry, shares, priors=[prior]).scores, truth) == 1


def test_a_good_prior_is_used_beside_one_of_no_meaning() -> None:
    exchanged = prior_of_names(GEOMETRY, similarities(POOL, np.roll(NAMES, 1, axis=0)))
    both = infer(GEOMETRY, answers(12), priors=[exchanged, names_prior()])
    alone = infer(GEOMETRY, answers(12), priors=[names_prior()])
    assert both.weights == (NONE, *alone.weights)
    np.testing.assert_array_equal(both.distributions, alone.distributions)


def test_two_good_priors_do_no_worse_than_the_better_one() -> None:
    model = prior_of_predictions(GEOMETRY, predictions(0.8))
    for n in (5, 15, 30):
        found = infer(GEOMETRY, answers(n), priors=[names_prior(), model])
        assert sum(weight.share for weight in found.weights) <= 0.5
        assert accuracy(n, [names_prior(), model]) >= max(accuracy(n, [names_prior()]), accuracy(n, [])) - 0.02


def test_the_order_of_tasks_does_not_matter_to_what_is_learned() -> None:
    rows = RNG.permutation(len(POOL))
    found = infer(GEOMETRY, answers(15), priors=[names_prior()])
    permuted = infer(survey(POOL[rows], n_clusters=10), answers(15)[rows], priors=[names_prior()[rows]])
    assert permuted.weights == found.weights
    np.testing.assert_allclose(permuted.distributions, found.distributions[rows], atol=0.02)


def test_without_its_own_answer_is_said_with_the_prior() -> None:
    """The audits' estimate must be of the model that is served."""
    prior = names_prior()
    found = infer(GEOMETRY, answers(15), priors=[prior])
    assert any(found.weights)
    plain = infer(GEOMETRY, answers(15))
    at = GEOMETRY.graph.rows[found.columns.nodes]
    assert (found.left_out.argmax(axis=1) == TRUTH[at]).mean() >= (
        plain.left_out.argmax(axis=1) == TRUTH[at]
    ).mean()
    assert not np.array_equal(found.left_out, plain.left_out)


def test_of_two_classes_the_prior_helps_as_well() -> None:
    truth = np.minimum(TRUTH, 1)
    names = np.stack([NAMES[0], NAMES[1:].mean(axis=0)])
    prior = prior_of_names(GEOMETRY, similarities(POOL, names))
    shares = answers(2, truth=truth, n_classes=2)
    rest = ORDER[2:]
    with_, without = (
        np.mean(infer(GEOMETRY, shares, priors=priors).scores.argmax(axis=1)[rest] == truth[rest])
        for priors in ([prior], [])
    )
    assert with_ >= without - 0.005
    assert right(infer(GEOMETRY, answers(0, n_classes=2), priors=[prior]).scores, truth) > 0.6


def test_methods_without_a_graph_know_no_prior() -> None:
    found = infer(GEOMETRY, answers(10), method="clusters", priors=[names_prior()])
    assert found.weights == ()
    np.testing.assert_array_equal(found.scores, infer(GEOMETRY, answers(10), method="clusters").scores)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0, 10), st.floats(0, 0.9))
def test_a_mean_keeps_what_is_known_of_each_task(seed: int, n_classes: int, n_answers: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.random((20, n_classes)) * (rng.random((20, n_classes)) < 0.5)).astype(np.float32)
    prior = (rng.random((20, n_classes)) * (rng.random((20, 1)) < 0.7)).astype(np.float32)
    even = np.ones(n_classes, np.float32)
    added = mixed(scores, [prior], (Weight(n_answers, 0),), even)
    drawn = mixed(scores, [prior], (Weight(n_answers, share),), even)
    np.testing.assert_allclose(drawn.sum(axis=1), added.sum(axis=1), rtol=1e-4, atol=1e-6)
    assert (drawn >= 0).all()
    says_nothing = ~prior.any(axis=1)
    np.testing.assert_allclose(
        drawn[says_nothing].argmax(axis=1), scores[says_nothing].argmax(axis=1) if says_nothing.any() else []
    )


def test_answers_that_judge_more_draw_the_weight_from_the_usual() -> None:
    """A prior that only errs where it is judged ends below the usual weight of its first answers."""
    Y = np.eye(2, dtype=np.float32).repeat(20, axis=0)
    left_out = 0.9 * Y + 0.1 * (1 - Y)
    F = left_out
    poor = np.where(np.arange(40)[:, None] % 3 == 0, 1 - Y, Y).astype(np.float32)
    evidence = Evidence(F, left_out, Y, np.arange(40), class_weights)
    [weight] = weigh(evidence, [poor])
    assert weight.answers <= usual_answers(Y.sum(axis=0))
    assert weight.share == 0


# ── Classes that nobody has met ─────────────────────────────────────────────────────────────────────────────


def test_after_one_answer_nothing_is_certain() -> None:
    found = infer(GEOMETRY, answers(1))
    rest = ORDER[1:]
    assert found.distributions[rest].max() <= 2 / 6 + 1e-6
    assert (found.distributions[rest].argmax(axis=1) == TRUTH[ORDER[0]]).all()


@given(st.integers(1, 40), st.integers(2, 20), st.integers(0, 10**6))
def test_unseen_classes_get_their_part_and_no_more(n: int, n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_answers = np.bincount(rng.integers(n_classes, size=n), minlength=n_classes)
    seen = n_answers > 0
    p = np.zeros((9, n_classes), np.float32)
    p[:, seen] = rng.dirichlet(np.ones(seen.sum()), size=9)
    q = with_classes_unseen(p, n_answers)
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(q[:, ~seen], 1 / (n + n_classes), rtol=1e-5)
    if seen.all():
        np.testing.assert_array_equal(p, q)
