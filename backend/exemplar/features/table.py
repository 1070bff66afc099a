"""Rows of a table as vectors: numbers beside numbers, categories beside categories, as the pool has them.

What a column holds is learned from the pool: a number is told by how far it is from the column's median, a category
by a place of its own or, where there are many, by a few that it shares; words by such places, too. Anything else
than expected in a column counts as missing, which has a place of its own where it happens.
"""

import json
import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Columns that most rows have come first; a table for people has fewer.
MAX_COLUMNS = 200
# A column is one of numbers if so many of its values are.
MOSTLY = 0.9
# So many categories of a column have a place of their own, the others share so many; words all share theirs.
OWN_PLACES, SHARED_PLACES, PLACES_OF_WORDS = 32, 8, 32
# Texts of so many words on average are no categories.
WORDS_OF_A_TEXT = 4
# Where so many rows have a category each, it is a name of the row and tells nothing.
ROWS_WITH_NAMES = 20
# Of a value so many characters are read.
MAX_CHARACTERS = 2000
# The middle half of a normal distribution is so many standard deviations wide.
MIDDLE_HALF = 1.349
# Beyond, float32 has none.
LARGEST = float(np.finfo(np.float32).max)
_MISSING = ("", "nan", "na", "n/a", "null", "none", "-", "?")

Floats = NDArray[np.float32]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """What a column holds: "numbers", "categories" or "words".

    ``middle`` and ``spread`` are those of its numbers, ``own`` the categories that have a place of their own.
    """

    name: str
    holds: str
    middle: float = 0.0
    spread: float = 1.0
    own: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """How many features it has; the last one says that the value is missing."""
        return {"numbers": 1, "categories": len(self.own) + SHARED_PLACES, "words": PLACES_OF_WORDS}[self.holds] + 1


@dataclass(frozen=True)
class TableModel:
    """The columns of a pool's rows."""

    columns: tuple[Column, ...]
    identity: str

    @property
    def n_features(self) -> int:
        """How many features a row has; one that says nothing, where no column does."""
        return max(sum(column.width for column in self.columns), 1)

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """None: all of it is JSON."""
        return {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """The columns."""
        return {"columns": [[c.name, c.holds, c.middle, c.spread, list(c.own)] for c in self.columns]}

    def transform(self, values: Sequence[Row]) -> Floats:
        """Return vectors, shape (n_rows, n_features)."""
        X = np.zeros((len(values), self.n_features), np.float32)
        start = 0
        for column in self.columns:
            own = {category: place for place, category in enumerate(column.own)}
            for row, value in enumerate(values):
                _put(X[row, start : start + column.width], column, own, value.get(column.name))
            start += column.width
        return X


class Table:
    """Numbers standardised by median and quartiles, categories and words each at places of their own."""

    name = "table"
    identity = "table-1"
    kinds: tuple[str, ...] = ("row",)
    keeps_length = True
    about = "numbers and categories of a row, standardised by the pool"

    def fit(self, values: Sequence[Row]) -> TableModel:
        """Learn what the columns of a pool hold; what tells nothing is left out."""
        present = Counter(name for row in values for name in row)
        names = sorted(sorted(present), key=lambda name: -present[name])[:MAX_COLUMNS]
        columns = (_column(name, [row.get(name) for row in values]) for name in sorted(names))
        return TableModel(tuple(column for column in columns if column is not None), self.identity)

    def restore(self, facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> TableModel:
        """Return the model that was made of these."""
        columns = (
            Column(name, holds, middle, spread, tuple(own)) for name, holds, middle, spread, own in facts["columns"]
        )
        return TableModel(tuple(columns), self.identity)


def _column(name: str, values: Sequence[Any]) -> Column | None:
    """Return what a column holds, or None if it tells nothing."""
    there = [value for value in values if not _is_missing(value)]
    if not there:
        return None
    numbers = [number for value in there if (number := _number(value)) is not None]
    if len(numbers) >= MOSTLY * len(there):
        low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
        spread = (high - low) / MIDDLE_HALF or float(np.std(numbers))
        if not spread > 0 and len(there) == len(values):
            return None
        return Column(name, "numbers", float(middle), float(spread) or 1.0)
    texts = [_text(value) for value in there]
    if sum(len(text.split()) for text in texts) >= WORDS_OF_A_TEXT * len(texts):
        return Column(name, "words")
    counts = Counter(texts)
    if len(counts) == 1 and len(there) == len(values):
        return None
    if len(counts) == len(texts) >= ROWS_WITH_NAMES:
        return None
    own = [category for category, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n > 1]
    return Column(name, "categories", own=tuple(own[:OWN_PLACES]))


def _put(features: Floats, column: Column, own: Mapping[str, int], value: Any) -> None:
    """Put one value at its places."""
    number = _number(value) if column.holds == "numbers" else None
    if _is_missing(value) or (column.holds == "numbers" and number is None):
        features[-1] = 1
    elif number is not None:
        # Far values are far, yet not so far that nothing else counts.
        features[0] = math.asinh((number - column.middle) / column.spread)
    elif column.holds == "categories":
        category = _text(value)
        features[own.get(category, len(own) + _hash(category) % SHARED_PLACES)] = 1
    else:
        words = _text(value).split()
        for word in words:
            hashed = _hash(word)
            features[hashed % PLACES_OF_WORDS] += 1 if hashed & 2**20 else -1
        features[:-1] /= np.linalg.norm(features[:-1]) or 1


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() in _MISSING
    return value is None or (isinstance(value, float) and not math.isfinite(value)) or value in ([], {})


def _number(value: Any) -> float | None:
    """Return what a value is as a number; None for one that is none, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value.strip().replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= LARGEST else None


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return " ".join(text[:MAX_CHARACTERS].casefold().split())


def _hash(text: str) -> int:
    return zlib.crc32(text.encode(errors="surrogatepass"))
