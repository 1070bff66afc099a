"""Texts as the terms that they consist of: TF-IDF of words or of character n-grams, reduced by SVD.

It is fitted on a pool, or on a sample of a large one, and is plain data then. Nothing in it is pretrained.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import TfidfVectorizer

from exemplar.engine import one_blas_thread
from exemplar.features.texts.beginning import beginning, each_once

N_COMPONENTS = 128
# Of functions of programs by package 1 to 2.5 points more are right than with 20 000, as many as with all terms.
MAX_TERMS = 50_000
# So many characters of a pool are learned from: more take minutes and gigabytes, and tell little new.
MAX_SAMPLE = 3_000_000
# … and from so many texts.
MAX_TEXTS = 20_000
GLANCE, GLANCE_CHARACTERS = 1_000, 400
# A word that nobody says: a name in a program, a path, an option.
_ascii = re.compile("[!-~]+")
_sign = re.compile(r"[_/\\=<>{}()\[\]][!-~]|[a-z][A-Z]|[a-z]\.[a-z]")
# Such words as "(and" make up so much of prose.
OF_PROSE = 0.04


Analyzer: TypeAlias = Callable[[str], Iterable[str]]


@dataclass(frozen=True)
class TermsModel:
    """A fitted model as plain data, so that new tasks get vectors of the same kind.

    Attributes
    ----------
    identity : str
    analyzer : callable
        Returns the terms of a text.
    terms : tuple of str
    idf : float32 array of shape (n_terms,)
    components : float32 array of shape (N_COMPONENTS, n_terms)

    References
    ----------
    Deerwester et al. (1990), "Indexing by latent semantic analysis".
    """

    identity: str
    analyzer: Analyzer
    terms: tuple[str, ...]
    idf: NDArray[np.float32]
    components: NDArray[np.float32]
    n_features = N_COMPONENTS

    @property
    def facts(self) -> dict[str, Any]:
        """Return what is no array of what the model is made of."""
        return {"terms": self.terms}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that the model is made of."""
        return {"idf": self.idf, "components": self.components}

    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of unit length, shape (n_texts, n_features); zero for an empty text.

        The characters of one without any known term are hashed, so that it can be told from others.
        """
        return each_once(texts, self._embedded, self.n_features)

    @cached_property
    def _counting(self) -> TfidfVectorizer:
        vectorizer = _vectorizer(self.analyzer, vocabulary=self.terms)
        vectorizer.idf_ = self.idf.astype(np.float64)
        return vectorizer

    @cached_property
    def _directions(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.components.T)  # a sparse matrix would copy it each time

    def _embedded(self, texts: list[str]) -> NDArray[np.float32]:
        X = np.zeros((len(texts), self.n_features), np.float32)
        if self.terms:
            with one_blas_thread():
                X = np.asarray(self._counting.transform(texts) @ self._directions, np.float32)
        strange = np.flatnonzero(~X.any(axis=1))
        if len(strange):
            X[strange] = _hashed([texts[row] for row in strange], self.n_features)
        norms = np.linalg.norm(X, axis=1, keepdims=True)
        return np.asarray(X / np.where(norms > 0, norms, 1), np.float32)


def fit_terms(texts: Sequence[str], analyzer: Analyzer, *, identity: str) -> TermsModel:
    """Learn terms and components from a pool; the same texts give the same model."""
    vectorizer = _vectorizer(analyzer, max_features=MAX_TERMS)
    try:
        counts = vectorizer.fit_transform(sample(texts))
    except ValueError:  # not a single term in the pool
        none = np.zeros((N_COMPONENTS, 0), np.float32)
        return TermsModel(identity, analyzer, (), np.zeros(0, np.float32), none)
    # With a single distinct text there is no variance to explain, which TruncatedSVD divides by.
    with one_blas_thread(), np.errstate(invalid="ignore"):
        components = _components(counts)
    terms = tuple(vectorizer.get_feature_names_out().tolist())
    return TermsModel(identity, analyzer, terms, vectorizer.idf_.astype(np.float32), components)


def sample(texts: Sequence[str]) -> list[str]:
    """Return the beginnings of texts at even distances in the pool, of MAX_SAMPLE characters altogether."""
    starts = [beginning(text) for text in texts[:: max(1, len(texts) // MAX_TEXTS)]]
    every = max(1, -(-sum(map(len, starts)) // MAX_SAMPLE))
    return starts[::every]


def glance(texts: Sequence[str]) -> list[str]:
    """Return the beginnings of a thousand texts at even distances in the pool: they tell what kind all are."""
    every = max(1, len(texts) // GLANCE)
    return [start for text in texts[::every] if (start := beginning(text)[:GLANCE_CHARACTERS])]


def share_of_code(texts: Sequence[str]) -> float:
    """Return how much of texts is words that nobody says, beyond what prose has of them.

    >>> share_of_code(["Where is my card?"]), share_of_code(["range(n_rows) self.rows"]) > 0.9
    (0.0, True)
    """
    n_characters = sum(map(len, texts))
    n_signs = sum(len(word) for text in texts for word in _ascii.findall(text) if _sign.search(word))
    return max(n_signs / max(n_characters, 1) - OF_PROSE, 0.0)


def _vectorizer(analyzer: Analyzer, **options: Any) -> TfidfVectorizer:
    return TfidfVectorizer(analyzer=analyzer, sublinear_tf=True, dtype=np.float32, **options)


def _components(counts: sparse.csr_matrix) -> NDArray[np.float32]:
    """Return N_COMPONENTS directions; the last ones are zero if there are fewer terms or texts."""
    n_terms = counts.shape[1]
    components = np.zeros((N_COMPONENTS, n_terms), np.float32)
    if n_terms <= N_COMPONENTS:
        components[:n_terms] = np.eye(n_terms)
    else:
        found = TruncatedSVD(N_COMPONENTS, random_state=0).fit(counts).components_
        components[: len(found)] = found
    return components


def _hashed(texts: list[str], n_features: int) -> NDArray[np.float32]:
    """Return sums of directions that runs of up to three characters are hashed to, eight coordinates each."""
    hasher = FeatureHasher(n_features, input_type="string", dtype=np.float32)
    return np.asarray(hasher.transform(map(_salted_runs, texts)).toarray(), np.float32)


def _salted_runs(text: str) -> Iterator[str]:
    for n in (1, 2, 3):
        for start in range(len(text) - n + 1):
            for salt in "abcdefgh":
                yield salt + text[start : start + n]
