"""FLINT's precision belongs to the whole process: one user of balls at a time, and it is restored.

Importing this loads python-flint; :mod:`overparam.numbers` does not.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from flint import ctx

_FLINT = RLock()


@contextmanager
def balls(precision: int) -> Iterator[None]:
    """FLINT's precision in bits, and all of its threads, for one thread of ours at a time."""
    with _FLINT:
        threads = ctx.threads
        ctx.threads = os.cpu_count() or 1
        try:
            with ctx.workprec(precision):
                yield
        finally:
            ctx.threads = threads
