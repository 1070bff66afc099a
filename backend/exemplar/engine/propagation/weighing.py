"""How much a prior counts beside the answers: the answers themselves decide, each without its own.

A prior enters twice. Its votes are added as some more answers of each class, which is what helps while classes have
no answer yet; and the outcome is drawn to it by a geometric mean, which helps where it errs elsewhere than the
answers do. Both weights are chosen together, by what is said of each answered task without its own answer.

Leaving out the only answer of a class leaves that class nothing, and so believes the prior too much: an answer
judges the more, the more others its class has. Until then the share of the classes that have no answer is what the
prior stands in for. And a prior that says of the answered tasks what chance would say is not used at all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.propagation.calibration import USUAL_TEMPERATURE, log_shares, typical_mass

# The weights to choose from. More than half of a geometric mean is never given to a prior: the answers are next to
# borders, where the graph is weaker than elsewhere, so that leave-one-out flatters the prior (4 points lost on
# package descriptions with 100 answers at three quarters).
ANSWERS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
SHARES = (0.0, 0.25, 0.5)
# What a prior is drawn to: as many answers as ``usual_answers`` says, and a small share of the mean. How far off it
# may be, in units of the logarithm and of the share; a share the less, the more answers there are.
MOST_USUAL, LEAST_USUAL, STEEPNESS = 5.0, 0.1, 1.3
SPREAD_OF_LOG, SPREAD_OF_SHARE = 1.0, 0.3
MANY_ANSWERS = 8
USUAL_SHARE = 0.1
# Not to use a prior at all costs so much of log-likelihood.
COST_OF_NONE = 3.0
# Odds, before any answer, that a prior says something, and how often it is right then.
ODDS, RIGHT = 4.0, 0.75
# No answer counts for more than so much log-loss: one that is wrong shall not decide.
MOST_LOSS = 6.0
_LITTLE = 1e-3
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weight:
    """What a prior counts: as so many ``answers`` of each class, and with this ``share`` of a geometric mean."""

    answers: float
    share: float

    def __bool__(self) -> bool:
        """Whether the prior is used."""
        return self.answers > 0


NONE = Weight(0.0, 0.0)
# Before any answer nothing competes.
ALONE = Weight(1.0, 0.0)
CANDIDATES = (NONE, *(Weight(answers, share) for answers in ANSWERS[1:] for share in SHARES))
Weights = tuple[Weight, ...]


@dataclass(frozen=True)
class Evidence:
    """What the answers say, of the pool and of each other.

    Attributes
    ----------
    F : float32 array of shape (n_tasks, n_classes)
        What answers say of the pool, classes not weighed.
    left_out : float32 array of shape (n_labeled, n_classes)
        What they say of each answered node without its own answer.
    Y : float32 array of shape (n_labeled, n_classes)
        The nodes' answers.
    rows : int array of shape (n_labeled,)
        A task of each node.
    class_weights : callable
        From numbers of answers, shape (..., n_classes), to the weights of the classes.
    """

    F: Floats
    left_out: Floats
    Y: Floats
    rows: NDArray[np.integer]
    class_weights: Callable[[NDArray[np.floating]], Floats]

    def mixed(self, priors: Sequence[Floats], weights: Weights) -> Floats:
        """Return the scores of the pool, the classes weighed, with priors of these weights."""
        extra = sum(weight.answers for weight in weights)
        return mixed(self.F, priors, weights, self.class_weights(self.Y.sum(axis=0) + extra))

    def left_out_mixed(self, priors: Sequence[Floats], weights: Weights) -> Floats:
        """Return the same of each answered node without its own answer."""
        extra = sum(weight.answers for weight in weights)
        at_nodes = [prior[self.rows] for prior in priors]
        return mixed(self.left_out, at_nodes, weights, self.class_weights(self.Y.sum(axis=0) - self.Y + extra))

    def typical_mass(self, priors: Sequence[Floats], answers: Sequence[float]) -> float:
        """Return the typical mass of ``mixed``, whatever the shares: a geometric mean leaves it as it is."""
        of_class = self.class_weights(self.Y.sum(axis=0) + sum(answers))
        with one_blas_thread():
            mass = self.F @ of_class
            for prior, n_answers in zip(priors, answers, strict=True):
                if n_answers:
                    mass += np.float32(n_answers) * (prior @ of_class)
        return typical_mass(mass[:, None])


def mixed(scores: Floats, priors: Sequence[Floats], weights: Weights, class_weights: Floats) -> Floats:
    """Return scores with the priors in them: their votes added, then drawn to them by a geometric mean.

    Parameters
    ----------
    scores : float32 array of shape (n, n_classes)
        Not negative.
    priors : sequence of float32 arrays of that shape
    weights : tuple of Weight
        One for each prior; their shares add up to less than 1.
    class_weights : float32 array of shape (n_classes,) or (n, n_classes)

    Returns
    -------
    scores : float32 array of shape (n, n_classes)
        The mean keeps each row's sum; where a prior says nothing, it leaves the row as it is.

    Examples
    --------
    >>> scores, prior, even = np.float32([[3, 1]]), np.float32([[1, 3]]), np.float32([1, 1])
    >>> mixed(scores, [prior], (Weight(1, 0),), even), mixed(scores, [prior], (Weight(1, 0.5),), even).round(2)
    (array([[4., 4.]], dtype=float32), array([[2.93, 5.07]], dtype=float32))
    """
    total = np.array(scores, np.float32)
    for prior, weight in zip(priors, weights, strict=True):
        if weight:
            total += np.float32(weight.answers) * prior
    total *= class_weights
    shared = [(prior, weight.share) for prior, weight in zip(priors, weights, strict=True) if weight.share]
    if not shared:
        return total
    mass = total.sum(axis=1, keepdims=True)
    own = _log(total)
    drawn = own.copy()
    for prior, share in shared:
        says = prior.any(axis=1)
        drawn[says] += np.float32(share) * (_log(prior[says]) - own[says])
    mean = np.exp(drawn)
    mean *= mass / mean.sum(axis=1, keepdims=True)
    return mean


def weigh(evidence: Evidence, priors: Sequence[Floats]) -> Weights:
    """Return what each prior counts, by the answers.

    Each is weighed with the others as they are, the one that is right more often first, and the first once more.

    Parameters
    ----------
    evidence : Evidence
    priors : sequence of float32 arrays of shape (n_tasks, n_classes)

    Returns
    -------
    weights : tuple of Weight
        ``ALONE`` for each while there is no answer; ``NONE`` for one that says nothing, or what chance would say.
    """
    if not len(evidence.Y):
        return tuple(ALONE if prior.any() else NONE for prior in priors)
    weights = [NONE] * len(priors)
    useful = [i for i, prior in enumerate(priors) if prior.any() and says_something(evidence, prior)]
    useful.sort(key=lambda i: -_n_right(evidence, priors[i]))
    masses: dict[tuple[float, ...], float] = {}
    for i in useful + useful[: len(useful) > 1]:
        candidates = [
            (*weights[:i], candidate, *weights[i + 1 :])
            for candidate in CANDIDATES
            if candidate.share + sum(weight.share for weight in weights[:i] + weights[i + 1 :]) <= SHARES[-1]
        ]
        losses = [_loss(evidence, priors, chosen, masses) + _unusual(evidence, chosen[i]) for chosen in candidates]
        weights[i] = candidates[int(np.argmin(losses))][i]
    return tuple(weights)


def says_something(evidence: Evidence, prior: Floats) -> bool:
    """Return whether a prior is right about the answered tasks more often than chance; more likely than not.

    Two hypotheses: that it is right in three cases of four, or as often as its own frequencies and the answers'
    agree by chance. A prior that says nothing of them is given the benefit of the doubt.

    Examples
    --------
    >>> from exemplar.engine.propagation.inference import class_weights
    >>> none, Y = np.zeros((9, 3), np.float32), np.eye(3, dtype=np.float32).repeat(3, axis=0)
    >>> evidence = Evidence(none, none, Y, np.arange(9), class_weights)
    >>> says_something(evidence, Y), says_something(evidence, np.roll(Y, 1, axis=1))
    (True, False)
    """
    said, given = prior[evidence.rows], evidence.Y.argmax(axis=1)
    told = said.any(axis=1)
    n, n_right = int(np.count_nonzero(told)), _n_right(evidence, prior)
    n_classes = prior.shape[1]
    says = prior.any(axis=1)
    of_prior = np.bincount(prior[says].argmax(axis=1), minlength=n_classes) / max(int(np.count_nonzero(says)), 1)
    of_answers = np.bincount(given[told], minlength=n_classes) / max(n, 1)
    by_chance = float(np.clip(of_prior @ of_answers, 0.5 / n_classes, RIGHT - 0.05))
    odds = math.log(ODDS) + n_right * math.log(RIGHT / by_chance)
    return odds + (n - n_right) * math.log((1 - RIGHT) / (1 - by_chance)) > 0


def _n_right(evidence: Evidence, prior: Floats) -> int:
    said = prior[evidence.rows]
    return int(np.count_nonzero((said.argmax(axis=1) == evidence.Y.argmax(axis=1)) & said.any(axis=1)))


def _loss(
    evidence: Evidence, priors: Sequence[Floats], weights: Weights, masses: dict[tuple[float, ...], float]
) -> float:
    """Return the log-loss of leave-one-out; an answer counts the more, the more others its class has.

    Classes that have others are not those that have none: the more of the answers judge, the more they count.
    ``masses`` keeps what is the same for many weights, and takes long on a large pool.
    """
    y = evidence.Y.argmax(axis=1)
    n_answers = evidence.Y.sum(axis=0)[y]
    judges = np.maximum(n_answers - 1, 0) / np.maximum(n_answers, 1)
    if not judges.any():
        return 0.0
    scores = evidence.left_out_mixed(priors, weights).astype(np.float64)
    answers = tuple(weight.answers for weight in weights)
    if answers not in masses:
        masses[answers] = evidence.typical_mass(priors, answers)
    said = log_softmax(log_shares(scores, masses[answers]) / USUAL_TEMPERATURE, axis=1)[np.arange(len(y)), y]
    return float(judges.mean() * (judges @ np.minimum(-said, MOST_LOSS)))


def _unusual(evidence: Evidence, weight: Weight) -> float:
    """Return what it costs a prior to count otherwise than usual, as a log-likelihood."""
    if not weight:
        return COST_OF_NONE
    n_answers = evidence.Y.sum(axis=0)
    off = math.log(weight.answers / usual_answers(n_answers)) / SPREAD_OF_LOG
    drawn = (weight.share - USUAL_SHARE) * (1 + float(n_answers.mean()) / MANY_ANSWERS) / SPREAD_OF_SHARE
    return off**2 / 2 + drawn**2 / 2


def usual_answers(n_answers: NDArray[np.floating]) -> float:
    """Return as how many answers of each class a prior usually counts: the more classes have none, the more.

    Answers cannot find a class that has none, so that their share bounds how often they are right; a prior can.

    >>> usual_answers(np.zeros(9)), round(usual_answers(np.array([1, 0])), 1), usual_answers(np.ones(9))
    (5.0, 2.0, 0.1)
    """
    unanswered = float(np.mean(np.asarray(n_answers) == 0))
    return max(MOST_USUAL * math.pow(unanswered, STEEPNESS), LEAST_USUAL)


def _log(scores: Floats) -> Floats:
    """Return the logarithms of each row's shares, zeros taken for little; of rows of zeros, all the same."""
    shares = scores / np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    shares += np.float32(_LITTLE / scores.shape[1])
    logs: Floats = np.log(shares, out=shares)
    return logs
