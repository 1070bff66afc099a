"""Do the figures that we show keep their word? Simulated sessions with audits, accept tests and wrong answers.

.venv/bin/python benchmarks/honesty.py [--sessions 100] [--queue-sees-audits]

A session: a random pool; a hash keeps 40 % of it from the queue, and every eighth question is one of these, an
audit (the large share is there to know the truth well, not to ask more of them). "True" is what an annotator would
answer, mistakes included: with 5 % wrong answers, of every task alike.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import data
import numpy as np
from machine import describe
from threadpoolctl import threadpool_limits

from exemplar.engine import (
    PROMISES,
    AccuracyEstimate,
    Columns,
    Geometry,
    Pusher,
    calibrated,
    draw,
    empty_columns,
    estimate_accuracy,
    hash_ranks,
    infer,
    judge,
    node_shares,
    plan_queue,
    reliability,
    sample_size,
    spread,
    survey,
    suspicion,
    typical_mass,
)

N_POOLS = 10
RESERVED = 0.4
EVERY = 8
NOISE = 0.05
N_LABELS = {"digits": 300, "mnist": 300, "banking77": 400}


@dataclass(frozen=True)
class Pool:
    """A pool and its G, as a whole and as the product stores its columns; ``y`` is the data set's."""

    geometry: Geometry
    G: np.ndarray
    columns: Columns
    y: np.ndarray
    n_classes: int


@dataclass(frozen=True)
class Outcome:
    """What one session showed, and what was true."""

    estimate: AccuracyEstimate
    true_of_reserved: float
    true_of_rest: float
    true_of_pool: float
    confidence: np.ndarray  # of the audits, and whether they were right
    right: np.ndarray
    accepted: list[tuple[float, str, bool]]  # promise, verdict, whether it is kept
    wrong_found: tuple[int, int]  # among the most suspicious fifth, and in all


def make_pool(name: str, seed: int) -> Pool:
    """Return a random pool: 1 400 tasks of digits, 2 000 of MNIST, 3 000 of Banking77."""
    if name == "banking77":
        split = data.banking()
        rows = np.random.default_rng(seed).permutation(len(split.X))[:3000]
    else:
        split = data.digits(seed) if name == "digits" else data.mnist(seed, 2000)
        rows = np.arange(len(split.X))
    geometry = survey(split.X[rows])
    S = geometry.graph.affinity
    G = spread(S, np.eye(S.shape[0], dtype=np.float32))
    columns = empty_columns().updated(Pusher(S), np.arange(S.shape[0], dtype=np.int32))
    return Pool(geometry, G, columns, split.y[rows], split.n_classes)


def run(name: str, pool_seed: int, seeds: range, queue_sees_audits: bool) -> dict[float, list[Outcome]]:
    """Return the outcomes of some sessions on one pool, without and with wrong answers."""
    with threadpool_limits(1):
        pool = make_pool(name, pool_seed)
        return {
            noise: [session(pool, N_LABELS[name], noise, seed, queue_sees_audits) for seed in seeds]
            for noise in (0.0, NOISE)
        }


def answers_to_all(pool: Pool, noise: float, seed: int) -> np.ndarray:
    """Return what an annotator would say of every task."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(pool.y)) < noise
    return np.where(wrong, (pool.y + rng.integers(1, pool.n_classes, len(pool.y))) % pool.n_classes, pool.y)


def shares_of(pool: Pool, said: np.ndarray, rows: np.ndarray) -> np.ndarray:
    shares = np.zeros((len(said), pool.n_classes), np.float32)
    shares[rows, said[rows]] = 1
    return shares


def scores_of(pool: Pool, said: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return what propagation makes of the answers to these rows, by the columns of G."""
    Y = node_shares(pool.geometry, shares_of(pool, said, rows))
    nodes = np.flatnonzero(Y.any(axis=1))
    return (pool.G[:, nodes] @ Y[nodes])[pool.geometry.graph.node_of]


def ask(pool: Pool, said: np.ndarray, ranks: np.ndarray, n: int, queue_sees_audits: bool) -> np.ndarray:
    """Return the rows that are asked, in order: the queue's, and each eighth the next audit."""
    reserved = ranks < RESERVED
    audits = iter(np.argsort(ranks))
    asked: list[int] = []
    while len(asked) < n:
        rows = np.array(asked, np.intp)
        seen = rows if queue_sees_audits else rows[~reserved[rows]]
        labeled, askable = np.zeros(len(said), bool), ~reserved
        labeled[seen], askable[rows] = True, False
        batch = max(8, len(asked) // 6)
        scores = scores_of(pool, said, seen)
        for row in plan_queue(pool.geometry, scores, labeled=labeled, askable=askable, n=batch).tolist():
            if (len(asked) + 1) % EVERY == 0:
                asked.append(int(next(audits)))
            asked.append(row)
    return np.array(asked[:n])


def session(pool: Pool, n_labels: int, noise: float, seed: int, queue_sees_audits: bool) -> Outcome:
    geometry, said = pool.geometry, answers_to_all(pool, noise, seed)
    ranks = hash_ranks([str(row) for row in range(len(said))], seed=seed)
    asked = ask(pool, said, ranks, n_labels, queue_sees_audits)
    found = infer(geometry, shares_of(pool, said, asked), columns=pool.columns)
    scores, nodes, mass = found.scores, found.columns.nodes, typical_mass(found.scores)
    q_of_nodes = np.zeros((len(geometry.graph.rows), pool.n_classes), np.float32)
    q_of_nodes[nodes] = found.left_out
    q = q_of_nodes[geometry.graph.node_of[asked]]

    predicted = scores.argmax(axis=1)
    predicted[asked] = np.where(q.any(axis=1), q.argmax(axis=1), -1)
    confidence = calibrated(scores, found.temperature, typical_mass=mass).max(axis=1)
    confidence[asked] = calibrated(q, found.temperature, typical_mass=mass).max(axis=1)

    right, reserved, open_ = predicted == said, ranks < RESERVED, np.ones(len(said), bool)
    open_[asked] = False
    audits = asked[reserved[asked]]
    estimate = estimate_accuracy(predicted[audits], said[audits], population="reserved", generation=str(seed))
    Y = node_shares(geometry, shares_of(pool, said, asked))[nodes]
    worst = np.argsort(-suspicion(found.columns.among_labeled(), Y))[: len(nodes) // 5]
    wrong = Y.argmax(axis=1) != pool.y[geometry.graph.rows[nodes]]
    return Outcome(
        estimate,
        float(right[reserved].mean()),
        float(right[open_ & ~reserved].mean()),
        float(right.mean()),
        confidence[audits],
        right[audits],
        accept(np.where(open_, confidence, -1), predicted, said, seed),
        (int(wrong[worst].sum()), int(wrong.sum())),
    )


def accept(
    confidence: np.ndarray, predicted: np.ndarray, said: np.ndarray, seed: int
) -> list[tuple[float, str, bool]]:
    """Try each promise on the tasks that are as confident, after a refusal once more on those twice as sure."""
    found = []
    for promise in PROMISES:
        for attempt, least in enumerate((promise, (1 + promise) / 2), start=1):
            rows = np.flatnonzero(confidence >= least)
            if len(rows) == 0:
                break
            n = sample_size(promise, attempt=attempt, n_tasks=len(rows))
            drawn = draw(rows, n, random_state=1000 * seed + attempt)
            test = judge(predicted[drawn], said[drawn], promise=promise, attempt=attempt, n_tasks=len(rows))
            kept = bool((predicted[rows] == said[rows]).mean() >= promise)
            found.append((promise, test.verdict, kept))
            if test.verdict == "accepted":
                break
    return found


def covered(outcomes: list[Outcome], truth: Callable[[Outcome], float]) -> int:
    return sum(o.estimate.low <= truth(o) <= o.estimate.high for o in outcomes)


def report(name: str, noise: float, outcomes: list[Outcome]) -> None:
    rates = np.array([o.estimate.rate for o in outcomes])
    true = np.array([o.true_of_reserved for o in outcomes])
    error = (rates - true).std(ddof=1) / np.sqrt(len(rates))
    width = np.mean([o.estimate.high - o.estimate.low for o in outcomes])
    print(
        f"{name:10}{noise:5.0%}{len(outcomes):5}{np.mean([o.estimate.n_audits for o in outcomes]):7.0f}"
        f"{100 * true.mean():7.1f}{100 * (rates - true).mean():+7.1f} ±{100 * error:4.1f}{100 * width:7.1f}"
        f"{covered(outcomes, lambda o: o.true_of_reserved):9}{covered(outcomes, lambda o: o.true_of_rest):6}"
        f"{covered(outcomes, lambda o: o.true_of_pool):6}"
        f"{sum(o.estimate.low <= o.true_of_rest for o in outcomes):12}",
        flush=True,
    )


def report_acceptance(name: str, noise: float, outcomes: list[Outcome]) -> None:
    for promise in PROMISES:
        tried = [[t for t in o.accepted if t[0] == promise] for o in outcomes]
        accepted = [t for tests in tried for t in tests if t[1] == "accepted"]
        n_kept = sum(kept for _, _, kept in accepted)
        print(
            f"{name:10}{noise:5.0%}{promise:8.0%}{sum(map(len, tried)):7}{len(accepted):10}{n_kept:6}"
            f"{len(outcomes) - (len(accepted) - n_kept):24} of {len(outcomes)}"
        )


def report_rest(name: str, noise: float, outcomes: list[Outcome]) -> None:
    table = reliability(
        np.concatenate([o.confidence for o in outcomes]), np.concatenate([o.right for o in outcomes]), n_bins=5
    )
    bins = "  ".join(f"{c:.2f}→{a:.2f}" for c, a in zip(table.confidence, table.accuracy, strict=True))
    found, wrong = np.sum([o.wrong_found for o in outcomes], axis=0)
    suspects = f"{found} of {wrong} wrong answers" if wrong else "–"
    print(f"{name:10}{noise:5.0%}{table.error:8.3f}   {bins}   {suspects}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100, help="for each data set and share of wrong answers")
    parser.add_argument("--queue-sees-audits", action="store_true", help="what goes wrong if it does")
    options = parser.parse_args()
    start = time.perf_counter()
    print(describe("scikit-learn", "numpy", "scipy"))
    print(
        f"{N_POOLS} pools each; population: what a hash keeps from the queue; the queue "
        f"{'SEES' if options.queue_sees_audits else 'does not see'} audits\n\n"
        f"{'':27}{'accuracy, %':>27}{'':2}{'interval covers the truth of':>30}\n"
        f"{'set':10}{'wrong':>5}{'n':>5}{'audits':>7}{'true':>7}{'estimate-true':>14}{'width':>7}"
        f"{'reserved':>9}{'rest':>6}{'pool':>6}{'rest >= low':>12}"
    )
    results = []
    with ProcessPoolExecutor(2) as processes:
        for name in filter(data.is_there, N_LABELS):
            some = [range(*np.array([i, i + 1]) * options.sessions // N_POOLS) for i in range(N_POOLS)]
            work = partial(run, name, queue_sees_audits=options.queue_sees_audits)
            found = list(processes.map(work, range(N_POOLS), some))
            for noise in found[0]:
                outcomes = [outcome for runs in found for outcome in runs[noise]]
                report(name, noise, outcomes)
                results.append((name, noise, outcomes))
    print(
        f"\n{'set':10}{'wrong':>5}{'promise':>8}{'tried':>7}{'accepted':>10}{'kept':>6}{'sessions not misled':>28}"
    )
    for result in results:
        report_acceptance(*result)
    print(f"\n{'set':10}{'wrong':>5}{'error':>8}   confidence → right, of all audits; found in the worst fifth")
    for result in results:
        report_rest(*result)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
