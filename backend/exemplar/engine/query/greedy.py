"""Lazy greedy: which column adds most to what is covered, computing few gains again and again."""

import heapq

import numpy as np
from numpy.typing import NDArray

from exemplar.engine.query.kernel import Column


class LazyGreedy:
    """Chooses the column that adds most to the coverage, again and again."""

    def __init__(self, importance: NDArray[np.float32], coverage: Column) -> None:
        self._importance, self._coverage = importance, coverage
        self._bounds: dict[int, float] = {}
        self._added, self._weighed = np.empty_like(coverage), np.empty_like(importance)

    def choose(self, columns: dict[int, Column], n: int) -> list[int]:
        """Return the best at most n rows; what was chosen before must not be among the columns."""
        heap = [(-self._bounds.get(row, np.inf), row) for row in columns]
        heapq.heapify(heap)
        chosen = []
        for _ in range(min(n, len(heap))):
            row = self._pop(heap, columns)
            np.maximum(self._coverage, columns[row], out=self._coverage)
            chosen.append(row)
        self._bounds = {row: -negative for negative, row in heap}
        return chosen

    def _pop(self, heap: list[tuple[float, int]], columns: dict[int, Column]) -> int:
        """Take the row of the largest gain out of a heap of (-upper bound, row)."""
        is_exact: set[int] = set()
        while (row := heap[0][1]) not in is_exact:
            heapq.heapreplace(heap, (-self._gain(columns[row]), row))
            is_exact.add(row)
        return heapq.heappop(heap)[1]

    def _gain(self, column: Column) -> float:
        np.maximum(column, self._coverage, out=self._added)
        np.subtract(self._added, self._coverage, out=self._added)
        np.copyto(self._weighed, self._added)
        return float(self._weighed @ self._importance)
