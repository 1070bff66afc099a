"""Runs of characters of a pool's texts: what the forms of a word, names and code have in common, in any script."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.features.texts.terms import N_COMPONENTS, TermsModel, fit_terms

# Kana, ideographs and hangul: one of them says as much as several letters, and few spaces tell where words end.
DENSE = (
    r"\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9d"
    r"\U00020000-\U0003ffff"
)
_words = re.compile(f"([{DENSE}]+)|[^\\s{DENSE}]+").finditer


class CharacterNgrams:
    """Learns from a pool which runs of characters tell its texts apart."""

    name = "ngrams"
    identity = f"ngrams-3-5-1-3-svd-{N_COMPONENTS}-1"
    kinds = ("text", "html", "dialogue")
    about = "TF-IDF of runs of characters, reduced by SVD, learned from the pool: any script, names, code"
    per_second = 2_000

    def fit(self, values: Sequence[str]) -> TermsModel:
        """Learn from a pool's texts; the same ones give the same model."""
        return fit_terms(values, runs, identity=self.identity)

    def restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TermsModel:
        """Return the model that was made of these."""
        idf, components = (np.asarray(arrays[name], np.float32) for name in ("idf", "components"))
        return TermsModel(self.identity, runs, tuple(facts["terms"]), idf, components)


def runs(text: str) -> Iterator[str]:
    """Return the runs of three to five characters of each word with its borders, of one to three in dense scripts.

    >>> list(runs("To 北京"))
    [' to', 'to ', ' to ', '北', '京', '北京']
    """
    for found in _words(text.lower()):
        dense = found[1] is not None
        word = found[0] if dense else f" {found[0]} "
        lengths = range(1, 4) if dense else range(3, 6)
        for n in lengths:
            for start in range(len(word) - n + 1):
                yield word[start : start + n]
