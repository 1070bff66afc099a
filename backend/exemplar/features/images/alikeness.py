"""How alike a block finds all pictures of a pool: what it tells such pictures apart by is noise."""

import numpy as np
from numpy.typing import NDArray


def mean_cosine(vectors: NDArray[np.float32]) -> float:
    """Return the mean cosine of all pairs of vectors, zeros left out; 0 where there is no pair.

    >>> mean_cosine(np.array([[1, 0], [2, 0], [0, 0]], np.float32))
    1.0
    """
    lengths = np.linalg.norm(vectors, axis=1)
    directions = vectors[lengths > 0] / lengths[lengths > 0, None]
    n = len(directions)
    if n < 2:
        return 0.0
    return float((np.square(directions.sum(axis=0, dtype=np.float64)).sum() - n) / (n * (n - 1)))


def falling(alike: float, *, whole: float, least: float, at_least: float = 0.0) -> float:
    """Return a weight: 1 for an alikeness up to ``whole``, then falling, and ``at_least`` from ``least`` on.

    >>> [falling(alike, whole=0.6, least=0.8) for alike in (0.5, 0.7, 0.9)]
    [1.0, 0.5, 0.0]
    """
    share = min(max((least - alike) / (least - whole), 0.0), 1.0)
    return round(at_least + (1 - at_least) * share, 3)
