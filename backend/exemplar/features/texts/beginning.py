"""What is read of a text: its beginning, in characters that every encoding holds."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

# On news and manuals so much was as good as all; a text of 244 000 took 18 s and 1.3 GB.
MAX_CHARACTERS = 2_000


def beginning(text: str) -> str:
    r"""Return what is read of a text: empty if it is nothing but white space.

    Half a surrogate pair, which JSON can hold and UTF-8 cannot, is spelt out.

    >>> beginning("  a text \ud83d ")
    'a text \\ud83d'
    """
    start = text.lstrip()[:MAX_CHARACTERS].rstrip()
    return start.encode("utf-8", "backslashreplace").decode()[:MAX_CHARACTERS]


def each_once(
    texts: Sequence[str], embed: Callable[[list[str]], NDArray[np.float32]], n_features: int
) -> NDArray[np.float32]:
    """Embed the beginnings of texts, equal ones once, so that they have equal vectors; empty ones have zeros."""
    starts = [beginning(text) for text in texts]
    distinct = {start: row for row, start in enumerate(dict.fromkeys(filter(None, starts)))}
    vectors = np.zeros((len(distinct) + 1, n_features), np.float32)
    if distinct:
        vectors[:-1] = embed(list(distinct))
    return vectors[[distinct.get(start, -1) for start in starts]]
