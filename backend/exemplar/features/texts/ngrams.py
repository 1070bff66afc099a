"""Runs of characters of a pool's texts: what the forms of a word, names and code have in common, in any script."""

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exemplar.features.texts.terms import N_COMPONENTS, TermsModel, fit_terms, glance, share_of_code

# Kana, ideographs and hangul: one of them says as much as several letters, and few spaces tell where words end.
DENSE = (
    r"\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9d"
    r"\U00020000-\U0003ffff"
)
_words = re.compile(f"([{DENSE}]+)|[^\\s{DENSE}]+").finditer
_dense = re.compile(f"[{DENSE}]")
# From so many letters on a text shares runs with those that it is like; a dense character counts three.
ENOUGH = 100
LEAST, MOST = 0.1, 3.0
# The runs of so short words are kept.
SHORT = 16


class CharacterNgrams:
    """Learns from a pool which runs of characters tell its texts apart."""

    name = "ngrams"
    identity = f"ngrams-3-5-1-3-svd-{N_COMPONENTS}-2"
    kinds = ("text", "html", "dialogue")
    about = "TF-IDF of runs of characters, reduced by SVD, learned from the pool: any script, names, code"
    per_second = 6_000
    megabytes = 40

    def fit(self, values: Sequence[str]) -> TermsModel:
        """Learn from a pool's texts; the same ones give the same model."""
        return fit_terms(values, runs, identity=self.identity)

    def restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TermsModel:
        """Return the model that was made of these."""
        idf, components = (np.asarray(arrays[name], np.float32) for name in ("idf", "components"))
        return TermsModel(self.identity, runs, tuple(facts["terms"]), idf, components)

    def weight_in(self, values: Sequence[str]) -> float:
        """Return how much runs of characters count in a pool, beside what its texts mean.

        A quarter of it for prose; several times that for code, and for dense scripts, whose runs are words; hardly
        anything for titles, which have runs in common by chance. Chosen on messages of customers, titles of
        packages, sayings in two languages, manuals in four, and functions of programs.

        >>> weight_in = CharacterNgrams().weight_in
        >>> weight_in(["Where is my card?"]) < weight_in(["for i in range(n_rows): print(rows[i])"])
        True
        """
        texts = glance(values)
        n_characters = sum(map(len, texts))
        if not n_characters:
            return LEAST
        n_dense = [len(_dense.findall(text)) for text in texts]
        length = statistics.median(len(text) + 2 * n for text, n in zip(texts, n_dense, strict=True))
        of_code = share_of_code(texts)
        weight = 0.25 + 0.75 * sum(n_dense) / n_characters + 4 * of_code * (1 + 3 * of_code)
        return float(min(max(min(length / ENOUGH, 1) ** 2 * weight, LEAST), MOST))


def runs(text: str) -> Iterator[str]:
    """Return the runs of three to five characters of each word with its borders, of one to three in dense scripts.

    >>> list(runs("To 北京"))
    [' to', 'to ', ' to ', '北', '京', '北京']
    """
    text = text.lower()
    if not _dense.search(text):
        return chain.from_iterable(map(_of_word, text.split()))
    return chain.from_iterable(_cut(found[0], 1, 3) if found[1] else _of_word(found[0]) for found in _words(text))


def _of_word(word: str) -> Sequence[str]:
    return _of_short_word(word) if len(word) <= SHORT else _cut(f" {word} ", 3, 5)


@lru_cache(4096)
def _of_short_word(word: str) -> tuple[str, ...]:
    """Return the runs of a word, kept: most words of a pool come again."""
    return tuple(_cut(f" {word} ", 3, 5))


def _cut(word: str, shortest: int, longest: int) -> list[str]:
    return [word[start : start + n] for n in range(shortest, longest + 1) for start in range(len(word) - n + 1)]
