"""One BLAS thread at a time: with several, a busy machine comes to a halt, and sums differ from run to run."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


@cache
def _controller() -> ThreadpoolController:
    """Return the libraries that are loaded; to look for them takes 5 ms, as long as much of what is limited."""
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS and OpenMP run in the calling thread alone.

    >>> with one_blas_thread():
    ...     {library["num_threads"] for library in _controller().info()}
    {1}
    """
    limited: AbstractContextManager[Any] = _controller().limit(limits=1)
    return limited
