"""How fast the next tasks are chosen: herding against scikit-activeml, and after one more answer.

scikit-activeml is needed here alone: pip install --no-deps scikit-activeml makefun

.venv/bin/python benchmarks/speed_selection.py [--quick]
"""

import argparse
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from machine import describe
from sklearn.datasets import load_digits
from stopwatch import interleaved, row
from threadpoolctl import threadpool_limits

from exemplar.engine.clustering import cluster
from exemplar.engine.neighbors import build_graph
from exemplar.engine.query import Herding, bandwidth, margin_uncertainty, random_order, representatives, typiclust

BUDGET, N_FEATURES, ALPHA = 50, 64, 0.9


def rows(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield what was measured, in seconds unless said otherwise; ``quick`` is a tenth of the tasks, 2 splits."""
    shrink = 10 if quick else 1
    yield from _against_peer(10_000 // shrink)
    yield from _one_more_answer(20_000 // shrink, must="<= 0.2")
    yield from _one_more_answer(1_000_000 // shrink, must="")
    yield from _accuracy(2 if quick else 10)


def _against_peer(n_tasks: int) -> list[dict[str, Any]]:
    Z, nobody = _groups(n_tasks), np.zeros(n_tasks, bool)
    ours: list[Callable[[], object]] = [
        lambda: _max_herding(Z, BUDGET),
        lambda: typiclust(Z, nobody, ~nobody, BUDGET),
    ]
    names = ["MaxHerding", "TypiClust"]
    if find_spec("skactiveml") is None:
        seconds = [*interleaved(3, *ours), None, None]
    else:
        seconds = interleaved(3, *ours, *(lambda name=name: _peer(name, Z, BUDGET) for name in names))
    size = f"{BUDGET} of {n_tasks:,} x {N_FEATURES}"
    must = (">= 5 x", "")
    return [
        row(f"{name}, {size}, bandwidth too", seconds[i], seconds[2 + i], f"skactiveml {name}", must[i])
        for i, name in enumerate(names)
    ]


def _one_more_answer(n_tasks: int, *, must: str, n_answers: int = 30) -> list[dict[str, Any]]:
    Z, rng = _groups(n_tasks), np.random.default_rng(1)
    labeled = np.zeros(n_tasks, bool)
    uncertainty = rng.random(n_tasks).astype(np.float32)
    start = time.perf_counter()
    sigma2 = bandwidth(Z, BUDGET)
    found = time.perf_counter()
    herding = Herding(Z, bandwidth=sigma2)
    plan = herding.choose(uncertainty, labeled, ~labeled, BUDGET)
    first, seconds = time.perf_counter() - found, []
    for _ in range(n_answers):
        labeled[plan[0]] = True
        uncertainty *= rng.uniform(0.98, 1, n_tasks).astype(np.float32)
        began = time.perf_counter()
        plan = herding.choose(uncertainty, labeled, ~labeled, BUDGET)
        seconds.append(time.perf_counter() - began)
    size = f"{n_tasks:,} x {N_FEATURES}"
    return [
        row(f"{BUDGET} planned after one more answer, {size}: median", float(np.median(seconds)), must=must),
        row(f"the same: largest of {n_answers}", max(seconds)),
        row(f"the first plan, kernel too, {size}", first, must="< 1.5" if must else ""),
        row(f"the bandwidth, {size}", found - start),
        row(f"MB at the peak, beside Z, {size}", _peak_megabytes(Z, sigma2), must="<= 200" if must else ""),
    ]


def _peak_megabytes(Z: np.ndarray, sigma2: float) -> float:
    nobody = np.zeros(len(Z), bool)
    tracemalloc.start()
    Herding(Z, bandwidth=sigma2).choose(None, nobody, ~nobody, BUDGET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _accuracy(n_splits: int) -> list[dict[str, Any]]:
    """Compare the accuracy of the labels that spread from the chosen tasks, by label spreading over digits."""
    strategies: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]] = {
        "uncertainty herding": _uncertainty_herding,
        "MaxHerding": lambda Z, y, G, n: _max_herding(Z, n),
        "TypiClust": lambda Z, y, G, n: typiclust(Z, ~np.ones(len(Z), bool), np.ones(len(Z), bool), n),
        "random": lambda Z, y, G, n: random_order(np.ones(len(Z), bool), n),
    }
    peers = {"MaxHerding": "MaxHerding", "uncertainty herding": "MaxHerding", "TypiClust": "TypiClust"}
    measured = []
    splits = [_digits(seed) for seed in range(n_splits)]
    for n in (20, 50, 100):
        for name, strategy in strategies.items():
            ours = float(np.mean([_spread_accuracy(y, G, strategy(Z, y, G, n)) for Z, y, G in splits]))
            peer = None
            if name in peers and find_spec("skactiveml") is not None:
                peer = float(np.mean([_spread_accuracy(y, G, _peer(peers[name], Z, n)) for Z, y, G in splits]))
            what = f"% of labels right from {n}, digits, {n_splits} splits: {name}"
            peer_name = "" if peer is None else f"skactiveml {peers[name]}"
            measured.append({**row(what, ours, peer, peer_name), "ratio": None if peer is None else ours / peer})
    return measured


def _digits(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a pool of 1 400, its answers, and G: what an answer to each task says of each."""
    X, y = load_digits(return_X_y=True)
    pool = np.random.default_rng(seed).permutation(len(X))[:1400]
    Z = X[pool].astype(np.float32)
    graph = build_graph(Z, cluster(Z, n_clusters=50).cluster_ids, n_neighbors=10)
    with threadpool_limits(1):
        G = (1 - ALPHA) * np.linalg.inv(np.eye(len(graph.rows)) - ALPHA * graph.affinity.toarray())
    return Z, y[pool], G[np.ix_(graph.node_of, graph.node_of)]


def _spread_accuracy(y: np.ndarray, G: np.ndarray, asked: np.ndarray) -> float:
    return float(100 * np.mean(_scores(y, G, asked).argmax(axis=1) == y))


def _scores(y: np.ndarray, G: np.ndarray, asked: np.ndarray) -> np.ndarray:
    return np.maximum(G[:, asked] @ np.eye(10)[y[asked]], 0)  # tiny negatives are the inverse's rounding


def _max_herding(Z: np.ndarray, n: int) -> np.ndarray:
    nobody = np.zeros(len(Z), bool)
    return Herding(Z, bandwidth=bandwidth(Z, n)).choose(None, nobody, ~nobody, n)


def _uncertainty_herding(Z: np.ndarray, y: np.ndarray, G: np.ndarray, n: int) -> np.ndarray:
    """Choose as in production: a few representatives, then in batches of a tenth of what is answered."""
    labeled = np.zeros(len(Z), bool)
    starters = cluster(Z, n_clusters=int(max(min(10, n / 2), n / 4)))
    asked = representatives(starters, askable=~labeled, settled=labeled)
    herding = Herding(Z, bandwidth=bandwidth(Z, n))
    while len(asked) < n:
        labeled[asked] = True
        batch = min(max(1, len(asked) // 10), n - len(asked))
        chosen = herding.choose(margin_uncertainty(_scores(y, G, asked)), labeled, ~labeled, batch)
        asked = np.append(asked, chosen)
    return asked


def _peer(name: str, Z: np.ndarray, n: int) -> np.ndarray:
    import skactiveml.pool

    strategy = getattr(skactiveml.pool, name)(random_state=0)
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen: np.ndarray = strategy.query(Z.astype(float), np.full(len(Z), np.nan), batch_size=n)
    return chosen


def _groups(n_tasks: int) -> np.ndarray:
    """Return 200 groups of different sizes and widths that overlap."""
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=1.5, size=(200, N_FEATURES)).astype(np.float32)
    group = rng.choice(200, size=n_tasks, p=rng.dirichlet(np.full(200, 0.5)))
    Z = rng.standard_normal((n_tasks, N_FEATURES), np.float32)
    Z *= rng.uniform(0.3, 1, size=(n_tasks, 1)).astype(np.float32)
    Z += centers[group]
    return Z


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    quick = arguments.parse_args().quick
    peers = ["scikit-activeml"] if find_spec("skactiveml") else []
    print(describe("scikit-learn", "numpy", *peers), "\n")
    if not peers:
        print("scikit-activeml is not installed: its columns are empty\n")
    print(f"{'what':68}{'ours':>11}{'peer':>11}{'ratio':>8}  {'must':10}peer")
    for found in rows(quick=quick):
        peer, ratio = ("" if found[key] is None else f"{found[key]:.4g}" for key in ("peer", "ratio"))
        print(
            f"{found['what']:68}{found['ours']:11.4g}{peer:>11}{ratio:>8}  {found['must']:10}{found['peer_name']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
