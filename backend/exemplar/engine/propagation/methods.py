"""From a few answers to many: answers spread over the pool, by the method of choice."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.clustering import Clustering, assign
from exemplar.engine.geometry import Geometry
from exemplar.engine.propagation.calibration import typical_mass
from exemplar.engine.propagation.columns import Columns, empty_columns, gp_weights
from exemplar.engine.propagation.prepared import pusher, spreader
from exemplar.engine.propagation.spreading import spread
from exemplar.errors import InputError

UNLABELED = -1
# Where the graph leads to no answer, the nearest answer has the word, as softly as this share of a usual one.
_WHISPER = np.float32(1e-3)
# How far answers may be off, as the variance of a Gaussian process.
NOISE = 0.1


def propagate(
    geometry: Geometry,
    shares: NDArray[np.float32],
    *,
    method: str = "auto",
    percent: float = 100.0,
    columns: Columns | None = None,
) -> NDArray[np.float32]:
    """Spread the answers over the pool.

    Parameters
    ----------
    geometry : Geometry
    shares : float array of shape (n_tasks, n_classes)
        The shares of the annotators' votes, adding up to 1 where there is an answer; zeros elsewhere.
    method : str
        ``auto``, see ``resolved``, or one of PROPAGATIONS. ``graph``: over the neighbour graph, in all of the pool.
        ``gaussian-process``: the same graph as the kernel of a regression, for a rare class among few.
        ``clusters``: to the members of the answer's cluster. ``label-spreading``, ``label-propagation``:
        scikit-learn's, over their own graph. ``self-training-forest``, ``self-training-logistic``: scikit-learn's
        self-training.
    percent : float in (0, 100]
        With ``clusters``: only the closest so many per cent of a cluster's members.
    columns : Columns, optional
        With ``gaussian-process``: what is kept of the graph; only the columns of other answers are computed.

    Returns
    -------
    scores : float32 array of shape (n_tasks, n_classes)
        Not negative; the larger, the more is known of the task; zeros where nothing is.

    Raises
    ------
    InputError
        If the shares do not fit the pool or are negative or not finite, or there is no such method.

    References
    ----------
    Zhou et al. (2004), "Learning with local and global consistency" (graph, label-spreading). Zhu, Ghahramani &
    Lafferty (2003), "Semi-supervised learning using Gaussian fields" (gaussian-process). Géron (2022),
    "Hands-On Machine Learning", ch. 9 (clusters). Zhu & Ghahramani (2002), "Learning from labeled and unlabeled
    data with label propagation". Yarowsky (1995), "Unsupervised word sense disambiguation rivaling supervised
    methods" (self-training).

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> geometry = survey(np.float32([[0], [1], [2], [9], [10], [11]]), n_clusters=2)
    >>> shares = np.float32([[1, 0], [0, 0], [0, 0], [0, 0], [0, 1], [0, 0]])
    >>> propagate(geometry, shares).argmax(axis=1)
    array([0, 0, 0, 1, 1, 1])
    """
    shares = checked_shares(geometry, shares)
    method = resolved(method, shares.shape[1])
    if method not in PROPAGATIONS:
        raise InputError(f"method={method!r}: expected one of auto, {', '.join(PROPAGATIONS)}")
    if not shares.any():
        return np.zeros_like(shares)
    if method == "clusters":
        return cluster_shares(geometry.clustering, shares, percent=percent)
    if method == "gaussian-process":
        return _by_gaussian_process(geometry, shares, columns)
    return PROPAGATIONS[method](geometry, shares)


def checked_shares(geometry: Geometry, shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the shares in float32, or raise an InputError if they do not fit the pool."""
    shares = np.asarray(shares, np.float32)
    if shares.ndim != 2 or len(shares) != geometry.n_tasks or shares.shape[1] == 0:
        raise InputError(f"shares has the shape {shares.shape}: expected ({geometry.n_tasks}, n_classes)")
    if not 0 <= shares.min() <= shares.max() < np.inf:
        raise InputError(f"shares holds {shares.min()} to {shares.max()}: expected finite shares, none below 0")
    return shares


def resolved(method: str, n_classes: int) -> str:
    """Return the method that ``auto`` stands for; any other as it is.

    Between two classes, of which one is often rare, a regression holds its own against the many answers of the
    other one; among more classes it gains nothing.

    >>> resolved("auto", 2), resolved("auto", 10), resolved("clusters", 2)
    ('gaussian-process', 'graph', 'clusters')
    """
    if method != "auto":
        return method
    return "gaussian-process" if n_classes == 2 else "graph"


def cluster_shares(
    clustering: Clustering, shares: NDArray[np.float32], *, percent: float = 100.0
) -> NDArray[np.float32]:
    """Spread the answers in each cluster over its members.

    Parameters
    ----------
    clustering : Clustering
    shares : float array of shape (n_tasks, n_classes)
        As in ``propagate``.
    percent : float in (0, 100]
        Only the closest so many per cent of a cluster's members get its label: those whose distance to
        the centre is at most that percentile of the cluster's distances.

    Returns
    -------
    label_distributions : float32 array of shape (n_tasks, n_classes)
        The shares of the cluster's answers for a member, the answer itself for an answered task, zeros
        where nothing is known.

    Examples
    --------
    >>> pool = Clustering(np.zeros((2, 1)), np.int32([0, 0, 0, 1]), np.float32([1, 0, 9, 0]))
    >>> cluster_shares(pool, np.float32([[0, 0], [0, 1], [0, 0], [0, 0]])).tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    >>> cluster_shares(pool, np.float32([[0, 0], [0, 1], [0, 0], [0, 0]]), percent=60).tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    answered = shares.any(axis=1)
    votes = np.zeros((len(clustering.centers), shares.shape[1]), np.float32)
    np.add.at(votes, clustering.cluster_ids[answered], shares[answered])
    votes /= np.maximum(votes.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    label_distributions: NDArray[np.float32] = votes[clustering.cluster_ids]
    label_distributions[~closest(clustering, percent)] = 0
    label_distributions[answered] = shares[answered]
    return label_distributions


def closest(clustering: Clustering, percent: float) -> NDArray[np.bool_]:
    """Return which tasks are among the closest ``percent`` of their cluster; shape (n_tasks,)."""
    if percent >= 100:
        return np.ones(len(clustering.cluster_ids), bool)
    near = np.zeros(len(clustering.cluster_ids), bool)
    for cluster_id in np.unique(clustering.cluster_ids):
        members = np.flatnonzero(clustering.cluster_ids == cluster_id)
        distances = clustering.distances[members]
        near[members] = distances <= np.percentile(distances, percent)
    return near


def node_shares(geometry: Geometry, shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the shares by node of the graph: duplicates that were answered have one vote each.

    Examples
    --------
    >>> from exemplar.engine.geometry import survey
    >>> twins = survey(np.float32([[0], [0], [1]]), n_clusters=2)
    >>> node_shares(twins, np.float32([[1, 0], [0, 1], [0, 0]]))[twins.graph.node_of[0]]
    array([0.5, 0.5], dtype=float32)
    """
    answered = np.flatnonzero(shares.any(axis=1))
    nodes = geometry.graph.node_of[answered]
    by_node = np.zeros((len(geometry.graph.rows), shares.shape[1]), np.float32)
    np.add.at(by_node, nodes, shares[answered])
    by_node[nodes] /= np.bincount(nodes, minlength=len(by_node))[nodes, None]
    return by_node


def _by_graph(geometry: Geometry, shares: NDArray[np.float32]) -> NDArray[np.float32]:
    Y = node_shares(geometry, shares)
    return _reached(geometry, Y, spreader(geometry).spread(Y))


def _by_gaussian_process(
    geometry: Geometry, shares: NDArray[np.float32], columns: Columns | None = None
) -> NDArray[np.float32]:
    Y = node_shares(geometry, shares)
    nodes = np.flatnonzero(Y.any(axis=1)).astype(np.int32)
    columns = (columns or empty_columns()).updated(pusher(geometry), nodes)
    weights = np.zeros_like(Y)
    weights[nodes] = gp_weights(columns.among_labeled(), Y[nodes], noise=NOISE)
    # G is linear, and spreading takes no negative shares.
    for_, against = np.maximum(weights, 0), np.maximum(-weights, 0)
    F = spread(geometry.graph.affinity, for_) - spread(geometry.graph.affinity, against)
    return _reached(geometry, Y, np.maximum(F, 0))


def _reached(geometry: Geometry, Y: NDArray[np.float32], F: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the tasks' scores; where the graph leads to no answer, the nearest answer's."""
    unreached = np.flatnonzero(~F.any(axis=1))
    if len(unreached):
        answered, Z = np.flatnonzero(Y.any(axis=1)), geometry.Z[geometry.graph.rows]
        nearest, _ = assign(Z[unreached], Z[answered])
        F[unreached] = _WHISPER * np.float32(typical_mass(F)) * Y[answered[nearest]]
    scores: NDArray[np.float32] = F[geometry.graph.node_of]
    return scores


def _by_scikit_learn(model: Callable[[], Any]) -> Callable[[Geometry, NDArray[np.float32]], NDArray[np.float32]]:
    def by_model(geometry: Geometry, shares: NDArray[np.float32]) -> NDArray[np.float32]:
        answered = shares.any(axis=1)
        y = np.where(answered, shares.argmax(axis=1), UNLABELED)
        classes = np.unique(y[answered])
        if len(classes) == 1:  # a classifier wants two, and there is nothing to find
            return np.broadcast_to(np.eye(shares.shape[1], dtype=np.float32)[classes[0]], shares.shape).copy()
        scores = np.zeros_like(shares)
        # What no answer reaches is divided by its sum, zero.
        with one_blas_thread(), np.errstate(invalid="ignore", divide="ignore"):
            fitted = model().fit(geometry.Z, y)
            proba = getattr(fitted, "label_distributions_", None)
            scores[:, fitted.classes_] = fitted.predict_proba(geometry.Z) if proba is None else proba
        scores[answered] = shares[answered]
        return np.nan_to_num(scores)

    return by_model


def _neighbors(model: Any, **options: Any) -> Callable[[], Any]:
    return lambda: model(kernel="knn", n_neighbors=10, max_iter=1000, **options)


# scikit-learn's alpha of 0.2 clamps to the answers' surroundings; the graph's own is 0.9.
PROPAGATIONS: dict[str, Callable[[Geometry, NDArray[np.float32]], NDArray[np.float32]]] = {
    "graph": _by_graph,
    "gaussian-process": _by_gaussian_process,
    "clusters": lambda geometry, shares: cluster_shares(geometry.clustering, shares),
    "label-spreading": _by_scikit_learn(_neighbors(LabelSpreading)),
    "label-propagation": _by_scikit_learn(_neighbors(LabelPropagation)),
    "self-training-forest": _by_scikit_learn(
        lambda: SelfTrainingClassifier(RandomForestClassifier(random_state=0))
    ),
    "self-training-logistic": _by_scikit_learn(lambda: SelfTrainingClassifier(LogisticRegression(max_iter=1000))),
}
