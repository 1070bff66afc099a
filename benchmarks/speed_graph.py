"""How fast tasks find their neighbours: the graph against pynndescent, updates against building anew.

.venv/bin/python benchmarks/speed_graph.py [--quick] [--runs 5]

The peer is no dependency: pip install pynndescent.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from data import embeddings
from machine import describe
from pynndescent import NNDescent
from stopwatch import interleaved
from threadpoolctl import threadpool_limits

from exemplar.engine.clustering import cluster
from exemplar.engine.neighbors import NEW, build_graph, neighbors_outside, update_graph

K, N_QUERIES = 10, 500


def rows(*, quick: bool = False, n_runs: int = 5) -> Iterator[dict[str, Any]]:
    """Yield what was measured, in seconds unless said otherwise; ``quick`` is a quarter of the tasks."""
    n_tasks = 25_000 if quick else 100_000
    n_clusters = n_tasks // 200
    # numba compiles on first use, which nobody waits for twice.
    NNDescent(embeddings(2000, 384), n_neighbors=K + 1)
    noise = np.random.default_rng(0).standard_normal((n_tasks, 128), dtype=np.float32)
    X = embeddings(n_tasks, 384)
    start = time.perf_counter()
    cluster_ids = cluster(X, n_clusters=n_clusters).cluster_ids
    clustered = time.perf_counter() - start
    yield from _graph("embeddings", X, cluster_ids, n_runs, recall="not below the peer's", speed=">= 2 x")
    yield _row(f"{n_clusters} clusters of these, given above and below", clustered, None, "", "")
    yield from _changes(X, cluster_ids, n_runs)
    of_noise = cluster(noise, n_clusters=n_clusters).cluster_ids
    yield from _graph("structureless", noise, of_noise, 1, recall=">= 0.95", speed="")


def _graph(
    name: str, X: np.ndarray, cluster_ids: np.ndarray, n_runs: int, *, recall: str, speed: str
) -> list[dict[str, Any]]:
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        graph = build_graph(X, cluster_ids, n_neighbors=K)
        found["ours"] = graph.rows[graph.neighbors][graph.node_of]

    def peers() -> None:
        found["peer"] = NNDescent(X, n_neighbors=K + 1, random_state=0).neighbor_graph[0]

    our_seconds, peer_seconds = interleaved(n_runs, ours, peers)
    queries = np.random.default_rng(1).choice(len(X), N_QUERIES, replace=False)
    true = _true_neighbors(X, queries)
    our_recall, peer_recall = (_recall(found[which][queries], true) for which in ("ours", "peer"))
    size = f"{name} {len(X):,} x {X.shape[1]}"
    return [
        _row(f"graph of {size}, clusters given", our_seconds, peer_seconds, "pynndescent", speed),
        _row(
            f"its recall on {N_QUERIES} queries (ratio ours / peer)", our_recall, peer_recall, "pynndescent", recall
        ),
    ]


def _changes(X: np.ndarray, cluster_ids: np.ndarray, n_runs: int, n_changes: int = 100) -> list[dict[str, Any]]:
    n_old = len(X) - n_changes
    graph = build_graph(X[:n_old], cluster_ids[:n_old], n_neighbors=K)
    come = np.append(np.arange(n_old), np.full(n_changes, NEW))
    come_and_go = np.append(np.arange(n_changes, n_old), np.full(n_changes, NEW))
    anew, joined, changed, outside, affinity = interleaved(
        n_runs,
        lambda: build_graph(X, cluster_ids, n_neighbors=K),
        lambda: update_graph(graph, X, come),
        lambda: update_graph(graph, X[n_changes:], come_and_go),
        lambda: neighbors_outside(graph, X, X[n_old:]),
        # A cached property: its function is called each time.
        lambda: type(graph).affinity.func(graph),  # type: ignore[attr-defined]
    )
    size = f"{len(X):,} x {X.shape[1]}"
    return [
        _row(f"{n_changes} tasks join {size}", joined, anew, "building anew", ""),
        _row("as many leave besides", changed, anew, "building anew", ""),
        _row(f"neighbours of {n_changes} tasks outside {size}", outside, None, "", ""),
        _row(f"affinity of {size}, graph given", affinity, None, "", ""),
    ]


def _true_neighbors(X: np.ndarray, queries: np.ndarray) -> np.ndarray:
    with threadpool_limits(1, user_api="blas"):
        squared = np.square(X).sum(axis=1) - 2 * X[queries] @ X.T
    squared[np.arange(len(queries)), queries] = np.inf
    return np.argpartition(squared, K, axis=1)[:, :K]


def _recall(found: np.ndarray, true: np.ndarray) -> float:
    return float((found[:, :, None] == true[:, None]).any(axis=1).mean())


def _row(what: str, ours: float, peer: float | None, peer_name: str, must: str) -> dict[str, Any]:
    ratio = None if peer is None else ours / peer if "recall" in what else peer / ours
    return {"what": what, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio, "must": must}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--runs", type=int, default=5)
    options = arguments.parse_args()
    print(describe("pynndescent", "numba", "scipy", "numpy"), "\n")
    print(f"{'what':56}{'ours':>9}{'peer':>9}{'ratio':>7}  {'must':22}peer")
    for row in rows(quick=options.quick, n_runs=options.runs):
        peer, ratio = ("" if row[key] is None else f"{row[key]:.3g}" for key in ("peer", "ratio"))
        print(
            f"{row['what']:56}{row['ours']:9.3g}{peer:>9}{ratio:>7}  {row['must']:22}{row['peer_name']}", flush=True
        )


if __name__ == "__main__":
    main()
