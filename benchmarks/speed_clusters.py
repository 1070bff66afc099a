"""The speed of clustering and of assignment, next to a bare matrix product, scikit-learn and faiss, in one run.

.venv/bin/python benchmarks/speed_clusters.py [--runs 5]

Every contestant runs once in each round; a figure is the median of the rounds. faiss-cpu is needed for this
script only.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from data import embeddings
from machine import describe
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import pairwise_distances_argmin
from threadpoolctl import threadpool_limits

from exemplar.engine.clustering import assign, assignment, cluster

N_TASKS, N_FEATURES, N_CLUSTERS = 100_000, 384, 500


def rows(runs: int = 5) -> Iterator[dict[str, Any]]:
    """Yield what was measured: ours, the peer's, peer / ours, and what that ratio must be."""
    pool = embeddings(N_TASKS, N_FEATURES)
    yield from _assignment("embeddings", pool, runs, one_thread=True, must=">= 2 x")
    yield from _assignment("embeddings", pool, runs, must=">= 2 x")
    pool = _blobs()
    yield from _assignment("round blobs", pool, runs)
    yield from _clustering("round blobs", pool, runs)


def _blobs() -> np.ndarray:
    """300 Gaussian clusters that overlap, 4 standard deviations apart; no direction says more than another."""
    half = 0.25
    X, _ = make_blobs(N_TASKS, N_FEATURES, centers=300, center_box=(-half, half), random_state=0)
    return X.astype(np.float32)


def _row(what: str, ours: float, peer: float, peer_name: str, must: str) -> dict[str, Any]:
    return {"what": what, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": peer / ours, "must": must}


def _assignment(
    name: str, X: np.ndarray, runs: int, *, one_thread: bool = False, must: str = ""
) -> list[dict[str, Any]]:
    start = cluster(X[:30_000], n_clusters=N_CLUSTERS).centers
    with _threads(one_thread):  # KMeans keeps the number of threads that it was fitted with
        kmeans = KMeans(N_CLUSTERS, init=start, n_init=1, max_iter=1).fit(X)
    centers = kmeans.cluster_centers_
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(centers)
    contestants = {
        "ours": lambda: assign(X, centers),
        "bare GEMM": lambda: _bare_gemm(X, centers),
        "KMeans.predict": lambda: kmeans.predict(X),
        "pairwise_distances_argmin": lambda: pairwise_distances_argmin(X, centers),
        "faiss IndexFlatL2": lambda: index.search(X, 1),
    }
    with _threads(one_thread):
        seconds = _medians(contestants, runs)
    threads = "one thread" if one_thread else "defaults"
    what = f"assign {name} {len(X):,} x {X.shape[1]}, k={N_CLUSTERS}, {threads} (s)"
    return [
        _row(what, seconds["ours"], seconds[peer], peer, ">= 0.77 x" if peer == "bare GEMM" else must)
        for peer in contestants
        if peer != "ours"
    ]


def _bare_gemm(X: np.ndarray, centers: np.ndarray) -> None:
    """The product that no assignment can do without, over the same chunks, by as many threads."""
    columns = centers.T
    with threadpool_limits(1):
        for _ in assignment.in_chunks(len(X), lambda chunk: len(X[chunk] @ columns)):
            pass


def _clustering(name: str, X: np.ndarray, runs: int) -> list[dict[str, Any]]:
    centers: dict[str, list[np.ndarray]] = {"ours": [], "scikit-learn": [], "faiss": []}

    def ours() -> None:
        centers["ours"].append(cluster(X, n_clusters=N_CLUSTERS, random_state=len(centers["ours"])).centers)

    def scikit_learn() -> None:
        with threadpool_limits(1, user_api="blas"):
            kmeans = KMeans(N_CLUSTERS, n_init=1, random_state=len(centers["scikit-learn"])).fit(X)
        centers["scikit-learn"].append(kmeans.cluster_centers_)

    def of_faiss() -> None:
        kmeans = faiss.Kmeans(N_FEATURES, N_CLUSTERS, niter=25, seed=1 + len(centers["faiss"]))
        kmeans.train(X)
        centers["faiss"].append(kmeans.centroids)

    seconds = _medians({"ours": ours, "scikit-learn": scikit_learn, "faiss": of_faiss}, runs)
    inertia = {name: float(np.median([_inertia(X, found) for found in all_])) for name, all_ in centers.items()}
    what = f"cluster {name} {len(X):,} x {X.shape[1]}, k={N_CLUSTERS}"
    sklearn_name = "scikit-learn KMeans, n_init=1, BLAS=1"
    return [
        _row(f"{what} (s)", seconds["ours"], seconds["scikit-learn"], sklearn_name, ">= 10 x"),
        _row(f"{what} (s)", seconds["ours"], seconds["faiss"], "faiss.Kmeans", ">= 1 x"),
        _row(f"{what}, inertia", inertia["ours"], inertia["scikit-learn"], sklearn_name, ">= 0.995 x"),
        _row(f"{what}, inertia", inertia["ours"], inertia["faiss"], "faiss.Kmeans", ""),
    ]


def _inertia(X: np.ndarray, centers: np.ndarray) -> float:
    return float(np.square(assign(X, centers)[1], dtype=np.float64).sum())


@contextmanager
def _threads(one: bool) -> Iterator[None]:
    """Hold everybody to one thread of any kind, or let all have their defaults."""
    default, faiss_default = assignment.N_THREADS, faiss.omp_get_max_threads()
    if not one:
        yield
        return
    try:
        assignment.N_THREADS = 1
        faiss.omp_set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        assignment.N_THREADS = default
        faiss.omp_set_num_threads(faiss_default)


def _medians(contestants: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(taken)) for name, taken in seconds.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    runs = arguments.parse_args().runs

    print(describe("numpy", "scipy", "scikit-learn", "faiss-cpu"))
    print(f"Medians of {runs} interleaved runs; at most {assignment.N_THREADS} threads of our own\n")
    print(f"{'what':62}{'ours':>11}{'peer':>11}{'ratio':>8}  {'must':12}peer")
    for row in rows(runs):
        print(
            f"{row['what']:62}{row['ours']:11.5g}{row['peer']:11.5g}{row['ratio']:8.3f}"
            f"  {row['must']:12}{row['peer_name']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
