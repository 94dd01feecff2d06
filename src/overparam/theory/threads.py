"""Threads of the linear algebra library, where problems are many and small.

A ball's bounds take hundreds of eigenvalues of small matrices. Waking all of a machine's threads
for each of them costs many times what they save.
"""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
T = TypeVar("T")


def one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, its linear algebra on one thread while it runs."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with _libraries().limit(limits=1):
            return function(*args, **kwargs)

    return alone


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """The libraries loaded by now; looking for them takes longer than a small eigenvalue."""
    return ThreadpoolController()
