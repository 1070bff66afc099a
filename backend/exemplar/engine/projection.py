"""Fewer features where there are many: distances in a pool mean more, and cost less, along its main directions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.utils.extmath import randomized_svd

from exemplar.engine.blas import one_blas_thread
from exemplar.engine.checks import checked_pool
from exemplar.errors import InputError

# Up to so many features are kept; of more, so many principal components (on MNIST, 64 to 150 do as well).
N_COMPONENTS = 128
# The directions are those of at most so many tasks, drawn at random.
N_FITTED = 20_000
CHUNK = 512


@dataclass(frozen=True)
class Projection:
    """A linear map to fewer features.

    Attributes
    ----------
    mean : float32 array of shape (n_features,)
    components : float32 array of shape (n_components, n_features)
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the tasks along the components; float32 of shape (n_tasks, n_components).

        Raises
        ------
        InputError
            If X has another number of features.
        """
        X = np.asarray(X, np.float32)
        if X.ndim != 2 or X.shape[1] != len(self.mean):
            raise InputError(f"X has the shape {X.shape}: expected (n_tasks, {len(self.mean)})")
        Z = np.empty((len(X), len(self.components)), np.float32)
        # Always as many rows at a time: BLAS rounds by shape, and a task's vector must not depend on its company.
        block = np.zeros((CHUNK, X.shape[1]), np.float32)
        with one_blas_thread():
            for start in range(0, len(X), CHUNK):
                rows = X[start : start + CHUNK]
                block[: len(rows)] = rows - self.mean
                Z[start : start + CHUNK] = (block @ self.components.T)[: len(rows)]
        return Z


def fit_projection(X: NDArray[np.float32], *, random_state: int = 0) -> Projection | None:
    """Find the principal components of a pool, or return None where it has few features.

    Parameters
    ----------
    X : array of shape (n_tasks, n_features)
    random_state : int
        For the sample of a big pool.

    Raises
    ------
    InputError
        If X is no finite matrix with at least one row.

    References
    ----------
    Hotelling (1933), "Analysis of a complex of statistical variables into principal components".

    Examples
    --------
    >>> fit_projection(np.zeros((3, 128), np.float32)) is None
    True
    >>> fit_projection(np.eye(200, dtype=np.float32)).transform(np.eye(200)[:5]).shape
    (5, 128)
    """
    X = checked_pool(X)
    if X.shape[1] <= N_COMPONENTS:
        return None
    if len(X) > N_FITTED:
        X = X[np.sort(np.random.default_rng(random_state).choice(len(X), N_FITTED, replace=False))]
    if len(X) == 1:
        return Projection(X[0].copy(), np.zeros((1, X.shape[1]), np.float32))
    with one_blas_thread():
        pca = PCA(min(N_COMPONENTS, len(X)), svd_solver="covariance_eigh").fit(X.astype(np.float64))
    return Projection(pca.mean_.astype(np.float32), pca.components_.astype(np.float32))


def main_directions(differences: NDArray[np.float32], n_directions: int) -> NDArray[np.float32]:
    """Return the orthogonal directions that differences from a middle mostly have; float32 (n_features, n).

    Each difference counts alike, lest a few wild ones decide.

    References
    ----------
    Visuri, Koivunen & Oja (2000), "Sign and rank covariance matrices"; found by Halko, Martinsson & Tropp (2011),
    "Finding structure with randomness".

    Examples
    --------
    >>> abs(main_directions(np.float32([[3, 0], [-5, 0], [0, 1], [1, 0]]), 1)).round(3).tolist()
    [[1.0], [0.0]]
    """
    lengths = np.linalg.norm(differences, axis=1, keepdims=True)
    signs = np.divide(differences, lengths, out=np.zeros_like(differences), where=lengths > 0)
    return np.ascontiguousarray(randomized_svd(signs, n_directions, n_iter=2, random_state=0)[2].T)
