"""Data → vectors: what tasks show as rows of a feature matrix.

This is its face. An embedder makes vectors of values of some kind (``embedder``); the registry knows which there
are and which are taken (``registry``); X is made of their blocks (``blocks``). Nothing is loaded before it is used.
"""

from exemplar.features.blocks import Block, columns_of, identity_of, put
from exemplar.features.embedder import (
    KINDS,
    Embedder,
    Fitted,
    PoolEmbedder,
    PoolModel,
    Vectors,
    content_key_of,
    key_of,
)
from exemplar.features.registry import (
    DEFAULTS,
    AnyEmbedder,
    Choice,
    choose,
    decoder,
    embedder,
    fitted,
    put_out_of_order,
    restored,
)

__all__ = [
    "DEFAULTS",
    "KINDS",
    "AnyEmbedder",
    "Block",
    "Choice",
    "Embedder",
    "Fitted",
    "PoolEmbedder",
    "PoolModel",
    "Vectors",
    "choose",
    "columns_of",
    "content_key_of",
    "decoder",
    "embedder",
    "fitted",
    "identity_of",
    "key_of",
    "put",
    "put_out_of_order",
    "restored",
]
