"""Texts as vectors: TF-IDF of words and word pairs, reduced by SVD (latent semantic analysis)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from exemplar.engine import one_blas_thread

N_COMPONENTS = 128
MAX_TERMS = 20_000
# What stands behind so many characters says little more about a text's class, and takes gigabytes.
MAX_CHARACTERS = 100_000
IDENTITY = f"tfidf-svd-{N_COMPONENTS}-1"


@dataclass(frozen=True)
class TextModel:
    """A fitted model as plain data, so that new tasks get vectors of the same kind.

    Attributes
    ----------
    terms : tuple of str
    idf : float32 array of shape (n_terms,)
    components : float32 array of shape (n_components, n_terms)
    analyzer : str
        "word", or "char" for a pool without any word.

    References
    ----------
    Deerwester et al. (1990), "Indexing by latent semantic analysis".
    """

    terms: tuple[str, ...]
    idf: NDArray[np.float32]
    components: NDArray[np.float32]
    analyzer: str = "word"
    identity = IDENTITY

    @property
    def n_features(self) -> int:
        """Return the length of a vector."""
        return len(self.components)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that the model is made of."""
        return {"idf": self.idf, "components": self.components}

    @property
    def facts(self) -> dict[str, Any]:
        """Return all else that it is made of."""
        return {"terms": self.terms, "analyzer": self.analyzer}

    def transform(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of unit length (zero where no term is known), shape (n_texts, n_components)."""
        if not texts:
            return np.empty((0, len(self.components)), np.float32)
        vectorizer = _vectorizer(vocabulary=self.terms, analyzer=self.analyzer)
        vectorizer.idf_ = self.idf.astype(np.float64)
        with one_blas_thread():
            X = np.asarray(vectorizer.transform(map(_beginning, texts)) @ self.components.T, np.float32)
        norms = np.linalg.norm(X, axis=1, keepdims=True)
        return np.asarray(X / np.where(norms > 0, norms, 1), np.float32)


class Words:
    """Fits text models."""

    name = "words"
    identity = IDENTITY
    kinds = ("text",)
    about = "TF-IDF of words and word pairs, reduced by SVD, learned from the pool"
    per_second = 16_000
    megabytes = 20

    def fit(self, values: Sequence[str]) -> TextModel:
        """Learn terms and components from a pool."""
        return fit_text_model(values)

    def restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TextModel:
        """Return the model that was made of these."""
        return TextModel(tuple(facts["terms"]), arrays["idf"], arrays["components"], facts["analyzer"])


def fit_text_model(texts: Sequence[str]) -> TextModel:
    """Learn terms and components from a pool; the same texts give the same model."""
    texts = [_beginning(text) for text in texts]
    try:
        vectorizer = _vectorizer(max_features=MAX_TERMS)
        terms_of_texts = vectorizer.fit_transform(texts)
    except ValueError:  # not a single word in the pool: characters will do
        vectorizer = _vectorizer(max_features=MAX_TERMS, analyzer="char")
        terms_of_texts = vectorizer.fit_transform(texts)
    n_terms = terms_of_texts.shape[1]
    # With a single distinct text there is no variance to explain, which TruncatedSVD divides by.
    with one_blas_thread(), np.errstate(invalid="ignore"):
        components = _components(terms_of_texts, n_terms)
    return TextModel(
        terms=tuple(vectorizer.get_feature_names_out()),
        idf=vectorizer.idf_.astype(np.float32),
        components=components.astype(np.float32),
        analyzer=vectorizer.analyzer,
    )


def _beginning(text: str) -> str:
    return text[:MAX_CHARACTERS]


def _vectorizer(**options: object) -> TfidfVectorizer:
    return TfidfVectorizer(**{"ngram_range": (1, 2), "sublinear_tf": True, "dtype": np.float32, **options})


def _components(terms_of_texts: object, n_terms: int) -> NDArray[np.float32]:
    if n_terms <= N_COMPONENTS:
        return np.eye(n_terms, dtype=np.float32)
    svd = TruncatedSVD(N_COMPONENTS, random_state=0).fit(terms_of_texts)
    return np.asarray(svd.components_, np.float32)
