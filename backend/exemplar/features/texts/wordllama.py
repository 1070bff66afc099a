"""Texts as the mean of their words' vectors: WordLlama, the words of large language models made small.

Its package is not imported: that would load an HTTP client and compiled code that nobody needs here, and turn on
everybody's log messages. The libraries that it reads its files with read them here.

References
----------
Miller (2024), "WordLlama: Recycled Token Embeddings from Large Language Models".
"""

import re
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from exemplar.features.texts.beginning import each_once
from exemplar.features.texts.pinned import Loaded, pinned_file
from exemplar.features.texts.terms import glance, share_of_code

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "wordllama"
WEIGHTS = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
TOKENS = "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68"

# Characters a token: from so many on, or up to so many, a pool's words are read, or spelt.
READ, SPELT = 4.2, 3.8
# A pool of programs has so many words that nobody says; the mean of words tells them apart worse than all else.
CODE = 0.3
_words = re.compile(r"[^\W\d_]+").findall


class WordLlama:
    """Embeds the words of texts, English ones best.

    >>> WordLlama().transform(["a text", ""]).shape
    (2, 256)

    Raises
    ------
    InputError
        If its weights are missing, or others than those that were measured.
    """

    name = "wordllama"
    identity = f"wordllama-l2-supercat-256-{WEIGHTS[:12]}-{TOKENS[:12]}-1"
    kinds = ("text", "html", "dialogue")
    n_features = 256
    batch_size = 1024
    about = "WordLlama: the mean of what words mean, of English ones best"
    per_second = 11_000
    megabytes = 70

    def __init__(self) -> None:
        weights = pinned_file(PACKAGE, ("weights", "l2_supercat_256.safetensors"), sha256=WEIGHTS)
        tokens = pinned_file(PACKAGE, ("tokenizers", "l2_supercat_tokenizer_config.json"), sha256=TOKENS)
        self._loaded = Loaded(lambda: _load(str(weights), str(tokens)))

    def transform(self, values: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of unit length, shape (n_texts, 256); zero for an empty text."""
        return each_once(values, self._embedded, self.n_features)

    def weight_in(self, values: Sequence[str]) -> float:
        """Return how much it counts in a pool: nothing in code, and where it spells words, as of most languages.

        Of words of letters alone, English and code have 4.3 to 5.3 characters a token; French, German, Italian and
        Spanish 3.4 to 3.9, other languages fewer, Chinese one. Measured on pools: single sentences vary more.
        """
        tokens, _ = self._loaded()
        beginnings = glance(values)
        texts = [" ".join(_words(text)) for text in beginnings]
        n_tokens = sum(len(tokens.encode(text, add_special_tokens=False).ids) for text in texts)
        per_token = sum(map(len, texts)) / max(n_tokens, 1)
        of_prose = max(1 - share_of_code(beginnings) / CODE, 0.0)
        return of_prose * min(max((per_token - SPELT) / (READ - SPELT), 0.0), 1.0)

    def _embedded(self, texts: list[str]) -> NDArray[np.float32]:
        tokens, table = self._loaded()
        # One by one: a batch is tokenized by all processors.
        ids = [tokens.encode(text, add_special_tokens=False).ids for text in texts]
        # Special tokens may have numbers beyond the table; its library takes the last row for them, too.
        columns = np.minimum(np.fromiter(chain.from_iterable(ids), np.intp), len(table) - 1)
        ends = np.cumsum([0, *map(len, ids)])
        counts = sparse.csr_matrix(
            (np.ones(len(columns), np.float32), columns, ends), shape=(len(texts), len(table))
        )
        X = counts @ table
        norms = np.linalg.norm(X, axis=1, keepdims=True)
        return np.asarray(X / np.where(norms > 0, norms, 1), np.float32)


def _load(weights: str, tokens: str) -> "tuple[Tokenizer, NDArray[np.float32]]":
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokens)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, load_file(weights)["embedding.weight"].astype(np.float32)
