"""FLINT's precision belongs to the whole process: one user of balls at a time, and it is restored.

Importing this loads python-flint; :mod:`overparam.numbers` does not.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import numpy as np
from flint import arb_mat, ctx

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


LEAST = 1e-290
"""Radii below what float64 holds count as this much together."""


def norm_of_radii(matrix: arb_mat) -> float:
    """At least the Euclidean norm of the radii, whose squares may be no numbers in float64."""
    radii = np.array([float(e.rad()) for e in matrix.entries()])
    largest = float(radii.max(initial=LEAST))
    return largest * float(np.linalg.norm(radii / largest)) * (1 + 2.0**-20) + LEAST
