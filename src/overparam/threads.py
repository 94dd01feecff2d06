"""How many threads the linear algebra runs on.

A product or an eigenvalue problem of a few hundred rows is over before a second thread has woken
up, and a BLAS lets its threads spin for a while after each: a job of thousands of small ones then
costs several times the processor time, and no less of the clock's.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
T = TypeVar("T")

SMALL = 2048
"""Rows of the largest kernel whose linear algebra one thread does."""


@contextmanager
def threads_for(rows: int) -> Iterator[None]:
    """Within, BLAS and LAPACK run on one thread if kernels have at most ``SMALL`` rows.

    The limit is the whole process', as BLAS knows no other.

    Args:
        rows: n k.
    """
    if rows > SMALL:
        yield
        return
    with _LIMIT.held():
        yield


def threads_by(rows: Callable[P, int]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator: :func:`threads_for` as many rows as its argument makes of a call's."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def limited(*args: P.args, **kwargs: P.kwargs) -> T:
            with threads_for(rows(*args, **kwargs)):
                return function(*args, **kwargs)

        return limited

    return decorate


def one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, its linear algebra on one thread while it runs."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with _LIMIT.held():
            return function(*args, **kwargs)

    return alone


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Limit:
    """One thread for the linear algebra, as long as anybody holds it: two threads may."""

    def __init__(self) -> None:
        self.lock, self.holders, self.limits = threading.Lock(), 0, ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, linear algebra runs on one thread."""
        with self.lock:
            if not self.holders:
                self.limits.enter_context(_libraries().limit(limits=1))
            self.holders += 1  # who got no limit holds none
        try:
            yield
        finally:
            with self.lock:
                self.holders -= 1
                if not self.holders:
                    self.limits.close()


_LIMIT = _Limit()


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """The libraries loaded by now; looking for them takes longer than a small eigenvalue."""
    return ThreadpoolController()
