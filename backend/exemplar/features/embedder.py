"""What turns values into vectors: embedders, whose weights came with them, and those that are fitted on a pool.

Plain classes satisfy these protocols; an embedder is one object of such a class, made without arguments. Making it
checks that all it needs is there, and raises otherwise: then it is not available, with that reason. It may load its
weights then or with the first values.

Beside what the protocols ask for it may say of itself: ``about`` (one line), ``per_second`` (values that one thread
embeds, measured), ``megabytes`` (memory, measured) and ``keeps_length`` (true: where it alone makes up the vectors,
their lengths stay as they are). By ``weight_in(values)`` it says how much it counts in a pool of such
values (a sample does), times its weight in the default recipe; of files, which are not at hand any more, by
``weight_among(vectors)``, its own of some of them. A recipe that somebody wrote is taken as it is.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

KINDS = ("text", "html", "dialogue", "image", "sound", "row")
Vectors: TypeAlias = NDArray[np.float32]


@runtime_checkable
class Embedder(Protocol):
    """Values of some kinds → vectors of one identity, whatever pool they are of.

    Attributes
    ----------
    name : str
        As people type it.
    identity : str
        Name, version, model and digest of the weights: vectors of two identities never mix, and a value's vector
        is kept under it for good.
    kinds : tuple of str
        Of ``KINDS``.
    n_features : int
    batch_size : int
        How many values are given at once.
    """

    name: str
    identity: str
    kinds: tuple[str, ...]
    n_features: int
    batch_size: int

    def transform(self, values: Sequence[Any]) -> Vectors:
        """Return vectors of shape (n_values, n_features); zeros for a value of which there is nothing to tell."""


class PoolModel(Protocol):
    """What a pool embedder has learned of a pool: plain arrays and JSON, kept in the snapshot.

    Attributes
    ----------
    identity : str
        That of its embedder.
    n_features : int
    arrays : mapping of str to array
        Their names are parts of file names.
    facts : mapping
    """

    identity: str
    n_features: int

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Return all arrays that it is made of."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Return all else, as JSON."""

    def transform(self, values: Sequence[Any]) -> Vectors:
        """Return vectors of shape (n_values, n_features)."""


@runtime_checkable
class PoolEmbedder(Protocol):
    """What learns from a pool how to embed its values; the same values give the same model."""

    name: str
    identity: str
    kinds: tuple[str, ...]

    def fit(self, values: Sequence[Any]) -> PoolModel:
        """Return the model of a pool; of a large one a sample may do."""

    def restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> PoolModel:
        """Return the model that was made of these; ``facts`` have been JSON, so its tuples are lists."""


@dataclass(frozen=True)
class Fitted:
    """A pool model as the snapshot keeps it: whose it is, and all that it is made of."""

    embedder: str
    identity: str
    facts: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def key_of(value: Any) -> bytes:
    """Return the key of a value that stands in the task itself: the digest of what it says.

    That of a file's value is ``content_key_of`` its bytes.
    """
    if isinstance(value, str):
        return _digest(value.encode("utf-8", "surrogatepass")).digest()
    return _digest(b"\0" + json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).digest()


def content_key_of(file: BinaryIO) -> bytes:
    """Return the key of what a file holds, and be at its start again."""
    digest = _digest()
    while piece := file.read(2**20):
        digest.update(piece)
    file.seek(0)
    return digest.digest()


def _digest(content: bytes = b"") -> "hashlib.blake2b":
    return hashlib.blake2b(content, digest_size=16)
