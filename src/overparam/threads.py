"""How many threads the linear algebra runs on.

A product or an eigenvalue problem of a few hundred rows is over before a second thread has woken
up, and a BLAS lets its threads spin for a while after each: a job of thousands of small ones then
costs several times the processor time, and no less of the clock's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

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
    with threadpool_limits(limits=1, user_api="blas"):
        yield
