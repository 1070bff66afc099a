"""How fast labels spread: the block solve against scikit-learn, one new label against a solve.

.venv/bin/python benchmarks/speed_spreading.py [--quick]
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from machine import describe
from scipy import sparse
from scipy.spatial import KDTree
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import kneighbors_graph
from sklearn.semi_supervised import LabelSpreading
from stopwatch import interleaved, row
from threadpoolctl import threadpool_limits

from exemplar.engine.clustering import cluster
from exemplar.engine.neighbors import build_graph
from exemplar.engine.propagation import ALPHA, Pusher, empty_columns, spread

K, N_CLASSES, N_LABELED = 10, 10, 500


def rows(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield what was measured, in seconds unless said otherwise; ``quick`` is a tenth of the nodes."""
    shrink = 10 if quick else 1
    yield from _push(100_000 // shrink, must="<= 0.005")
    yield from _push(1_000_000 // shrink, must="<= 0.010")
    yield from _block_solve(100_000 // shrink)


def _block_solve(n_nodes: int) -> list[dict[str, Any]]:
    X, y = _groups(n_nodes, n_features=16)
    y[np.random.default_rng(1).permutation(n_nodes)[N_LABELED:]] = -1
    start = time.perf_counter()
    clustering = cluster(X, n_clusters=400)
    clustered = time.perf_counter()
    graph = build_graph(X, clustering.cluster_ids, n_neighbors=K)
    S = graph.affinity
    linked, clusters = time.perf_counter() - clustered, clustered - start
    Y = np.zeros((S.shape[0], N_CLASSES), np.float32)
    Y[graph.node_of[y >= 0], y[y >= 0]] = 1

    neighbors = kneighbors_graph(X, K, include_self=True)
    ours, peer, peer_converged = interleaved(
        5,
        lambda: spread(S, Y),
        lambda: _label_spreading(X, y, lambda X, Y: neighbors.copy()),
        # As exact as ours: 0.9^131 = 1e-6.
        lambda: _label_spreading(X, y, lambda X, Y: neighbors.copy(), max_iter=131, tol=0),
    )
    (whole,) = interleaved(1, lambda: _label_spreading(X, y, "knn"))
    size = f"{n_nodes:,} x {N_CLASSES}"
    name = "LabelSpreading"
    return [
        row(f"spread {size}, graph given; peer's whole fit", ours, whole, name, ">= 10 x"),
        row(f"graph and spread {size}, clusters given", linked + ours, whole, name, ">= 10 x"),
        row(f"clusters, graph and spread {size}", clusters + linked + ours, whole, name, ""),
        row(f"spread {size} alone; peer ends after 30 steps", ours, peer, name, ""),
        row(f"spread {size} alone; both to 1e-6", ours, peer_converged, name, ""),
        row("share of nodes with the argmax of a solve to 1e-8", _agreement(S, Y), None, "", ">= 0.995"),
    ]


def _label_spreading(X: np.ndarray, y: np.ndarray, kernel: Any, **options: Any) -> None:
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        LabelSpreading(kernel=kernel, n_neighbors=K, alpha=ALPHA, **options).fit(X, y)


def _agreement(S: sparse.csr_array, Y: np.ndarray) -> float:
    S, F = S.astype(float), np.zeros_like(Y, float)
    for _ in range(175):  # 0.9^175 = 1e-8
        F = ALPHA * (S @ F) + (1 - ALPHA) * Y
    reached = F.any(axis=1)
    return float((spread(S, Y).argmax(axis=1) == F.argmax(axis=1))[reached].mean())


def _push(n_nodes: int, *, must: str, n_pushes: int = 200) -> list[dict[str, Any]]:
    S = _affinity(_groups(n_nodes, n_features=6)[0])
    nodes = np.random.default_rng(0).choice(n_nodes, n_pushes, replace=False).astype(np.int32)
    start = time.perf_counter()
    pusher = Pusher(S)
    prepared = time.perf_counter() - start
    columns = empty_columns().updated(pusher, nodes[1:])
    unit = np.zeros((n_nodes, 1), np.float32)
    unit[nodes[0]] = 1

    seconds, cpu = np.transpose([_timed(pusher, int(node)) for node in nodes])
    solve, update, answers = interleaved(
        3,
        lambda: spread(S, unit, tolerance=1e-3),
        lambda: columns.updated(pusher, nodes),
        lambda: columns.spread(np.ones((n_pushes - 1, N_CLASSES), np.float32), n_nodes),
    )
    size = f"{n_nodes:,} nodes"
    name = "solve of one column to 1e-3"
    return [
        row(f"one new label, {size}: median of {n_pushes}", float(np.median(seconds)), solve, name, must),
        row(f"the same: CPU time, {size}", float(np.median(cpu)), None, "", ""),
        row(f"the same: 95th percentile, {size}", float(np.percentile(seconds, 95)), solve, name, ""),
        row(f"its error / max g, largest of 8, {size}", _largest_error(S, pusher, nodes[:8]), None, "", "<= 0.001"),
        row(f"preparing a graph for pushes, {size}", prepared, solve, name, ""),
        row(f"{n_pushes}th label into the stored columns, {size}", update, solve, name, ""),
        row(f"scores of all from {n_pushes - 1} stored columns, {size}", answers, None, "", ""),
        row(f"nodes in a stored column, mean, {size}", columns.indptr[-1] / len(columns.nodes), None, "", ""),
    ]


def _timed(pusher: Pusher, node: int) -> tuple[float, float]:
    """Return seconds on the clock and of CPU: on a busy machine, the difference is what others took."""
    start, cpu_start = time.perf_counter(), time.thread_time()
    pusher.column(node)
    return time.perf_counter() - start, time.thread_time() - cpu_start


def _largest_error(S: sparse.csr_array, pusher: Pusher, nodes: np.ndarray) -> float:
    units = np.zeros((S.shape[0], len(nodes)), np.float32)
    units[nodes, np.arange(len(nodes))] = 1
    G = spread(S, units)
    errors = []
    for j, node in enumerate(nodes):
        peak = G[:, j].max()
        reached, values = pusher.column(int(node))
        G[reached, j] -= values
        errors.append(np.abs(G[:, j]).max() / peak)
    return float(max(errors))


def _groups(n_nodes: int, *, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return groups of some 250 to 750 points that overlap, and a class for each group's points."""
    rng = np.random.default_rng(0)
    n_groups = round(50 * (n_nodes / 1400) ** 0.5)
    centers = 4 * rng.normal(size=(n_groups, n_features)) / (n_features / 6) ** 0.5
    group = np.sort(rng.integers(n_groups, size=n_nodes))
    return (centers[group] + rng.normal(size=(n_nodes, n_features))).astype(np.float32), group % N_CLASSES


def _affinity(X: np.ndarray) -> sparse.csr_array:
    """Return the exact self-tuned graph of points in few dimensions."""
    distances, neighbors = KDTree(X).query(X, K + 1, workers=2)
    distances, neighbors = distances[:, 1:], neighbors[:, 1:].astype(np.int32)
    sigma = distances[:, -1]
    weights = np.exp(-(distances**2) / (sigma[:, None] * sigma[neighbors])).astype(np.float32)
    starts = np.arange(0, neighbors.size + 1, K, dtype=np.int32)
    W = sparse.csr_array((weights.ravel(), neighbors.ravel(), starts), shape=(len(X), len(X)))
    W = W.maximum(W.T.tocsr())
    root = 1 / np.sqrt(W.sum(axis=1))
    W.data *= np.repeat(root, np.diff(W.indptr)) * root[W.indices]
    return W


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true")
    quick = arguments.parse_args().quick
    print(describe("scikit-learn", "scipy", "numpy"), "\n")
    print(f"{'what':62}{'ours':>11}{'peer':>11}{'ratio':>8}  {'must':10}peer")
    for found in rows(quick=quick):
        peer, ratio = ("" if found[key] is None else f"{found[key]:.4g}" for key in ("peer", "ratio"))
        print(
            f"{found['what']:62}{found['ours']:11.4g}{peer:>11}{ratio:>8}  {found['must']:10}{found['peer_name']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
