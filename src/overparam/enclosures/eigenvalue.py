r"""Rigorous enclosures of the extreme eigenvalues of a symmetric float64 matrix.

The lower end of lambda_min comes from a shifted Cholesky factor and its explicit defect
(`overparam.enclosures.cholesky`), the upper end from a Rayleigh quotient
(`overparam.enclosures.rayleigh`). The largest eigenvalue comes from a subspace
(`overparam.enclosures.subspace`) or is minus the smallest one of ``-K``.
If the matrix stands for another one that is off by at most ``r`` in spectral norm, both ends move
outward by ``r`` (Weyl's inequality). Proofs: ``docs/enclosures.md``.
"""

from math import frexp

import numpy as np
from numpy.typing import ArrayLike

from overparam.enclosures.checks import as_symmetric, error_radius
from overparam.enclosures.cholesky import Buffer, Vector, certified_lower
from overparam.enclosures.enclosure import Enclosure
from overparam.enclosures.guess import (
    DENSE_LIMIT,
    largest_eigenvector,
    smallest_eigenvector,
    top_subspace,
)
from overparam.enclosures.rayleigh import rayleigh_up
from overparam.enclosures.rounding import (
    UNDERFLOW,
    add_down,
    add_up,
    scale_down,
    scale_up,
    sub_down,
)
from overparam.enclosures.subspace import enclose_from_subspace
from overparam.numbers.sums import UNIT_ROUNDOFF
from overparam.precision import on_host

SUBSPACE_ORDER = 1025
"""From this order on, the largest eigenvalue is first sought with a subspace."""

SUBSPACES = ((32, 6), (128, 6))
"""Dimensions tried, and the number of products with the matrix for each."""

SUBSPACE_WIDTH, LOOSE_WIDTH = 1e-6, 1e-2
"""The relative width up to which its enclosure is accepted."""


@on_host
def min_eigenvalue(
    K: ArrayLike,
    *,
    entry_error: ArrayLike | float | None = None,
    norm_error: float = 0.0,
    overwrite: bool = False,
    sharp: bool = True,
) -> Enclosure:
    """Enclose the smallest eigenvalue of a symmetric matrix, rounding errors included.

    Args:
        K: Symmetric float64 matrix of shape (n, n), definite or not. float32 is accepted only
            with an error bound.
        entry_error: If K stands for a symmetric matrix known up to errors: a bound on the
            absolute error of the entries, a number or an array of shape (n, n).
        norm_error: A bound on the spectral norm of any error that `entry_error` leaves out.
        overwrite: Work in K's own memory where it is a contiguous float64 array; K's content is
            lost. Otherwise one copy of K is made. No other array of that size is used.
        sharp: Whether rounding may cost ``u trace`` (True) or ``n u trace``, and a guess 0.5 %
            of lambda_min, in half the time (False: enough while lambda_min is above 1e-9 trace).

    Returns:
        An enclosure of lambda_min of every symmetric matrix within the errors. For a singular
        matrix the lower end is negative, near ``-u |K|_F``.

    Raises:
        InputError: K is empty, not square, not symmetric, not finite, or float32 without an error
            bound; or an error bound is negative or of the wrong shape.
    """
    given = entry_error is not None or norm_error > 0
    array = as_symmetric(K, float32_allowed=given)
    radius = error_radius(len(array), entry_error, norm_error)
    W, exponent = _scaled_buffer(array, overwrite)
    diagonal = W.diagonal().copy()
    error = 2e-8 if sharp else 5e-3
    x = smallest_eigenvector(W, diagonal, error if sharp else error / 5)
    found = _smallest(W, diagonal, x, split=sharp, guess_error=error)
    return _widened(found, exponent, len(array), radius)


@on_host
def max_eigenvalue(
    K: ArrayLike,
    *,
    entry_error: ArrayLike | float | None = None,
    norm_error: float = 0.0,
    overwrite: bool = False,
    sharp: bool = True,
) -> Enclosure:
    """Enclose the largest eigenvalue of a symmetric matrix, rounding errors included.

    Args:
        K: As in `min_eigenvalue`.
        entry_error: As in `min_eigenvalue`.
        norm_error: As in `min_eigenvalue`.
        overwrite: As in `min_eigenvalue`. No copy is made where a subspace suffices.
        sharp: If False, a width of a percent is enough, which spares large kernels with several
            outputs a factorisation.

    Returns:
        An enclosure of lambda_max, for positive semidefinite K of relative width about 1e-7, at
        most 1e-6 beyond order 1,024.

    Raises:
        InputError: As in `min_eigenvalue`.
    """
    given = entry_error is not None or norm_error > 0
    array = as_symmetric(K, float32_allowed=given)
    radius = error_radius(len(array), entry_error, norm_error)
    W, exponent = _scaled_buffer(array, overwrite, read_only=True)
    tolerance = SUBSPACE_WIDTH if sharp else LOOSE_WIDTH
    found = _largest_from_subspace(W, tolerance) if len(W) >= SUBSPACE_ORDER else None
    if found is None:
        if np.may_share_memory(W, array) and not (overwrite and array.flags.writeable):
            W = W.copy(order="F")
        x = largest_eigenvector(W)
        np.negative(W, out=W)
        negative = _smallest(W, W.diagonal().copy(), x, split=False, guess_error=1e-7)
        found = Enclosure(-negative.upper, -negative.lower)
    return _widened(found, exponent, len(array), radius)


def _largest_from_subspace(W: Buffer, tolerance: float) -> Enclosure | None:
    """Enclose lambda_max without a factorisation, or None where that is not tight."""
    squares = float(np.linalg.norm(W)) ** 2
    for vectors, sweeps in SUBSPACES:
        V, theta = top_subspace(W, vectors, sweeps)
        found = enclose_from_subspace(W, V, theta)
        if found.width <= tolerance * abs(found.lower):
            return found
        # Even were the eigenvalues still to be found as large as the last one: too slow a decay.
        missing = SUBSPACES[-1][0] - vectors
        if squares - float(theta @ theta) - missing * theta[-1] ** 2 >= theta[0] ** 2:
            return None
    return None


def _smallest(
    W: Buffer, diagonal: Vector, x: Vector, *, split: bool, guess_error: float
) -> Enclosure:
    """Enclose lambda_min of the matrix in W, whose content is lost, from an approximate vector."""
    norm = float(np.linalg.norm(W))
    if norm == 0:  # the largest entry is not tiny, see `_scaled_buffer`, unless there is none
        return Enclosure(0.0, 0.0)
    upper = rayleigh_up(W, x, split=split)
    # Below this the factorisation would fail by its own rounding, or by the guess's error.
    rounding = 2.0 * UNIT_ROUNDOFF * np.sqrt(len(W)) * norm
    guess_error = 0.0 if len(W) <= DENSE_LIMIT else guess_error
    slack = float(max(rounding, guess_error * abs(upper), UNDERFLOW))
    return Enclosure(certified_lower(W, diagonal, upper, slack, split=split), upper)


def _scaled_buffer(
    array: np.ndarray, overwrite: bool, *, read_only: bool = False
) -> tuple[Buffer, int]:
    """A Fortran-ordered float64 buffer W, and an exponent e, with ``2^e W`` equal to the matrix.

    Scaling keeps squares of entries from overflowing or vanishing. It is exact, but for entries
    that underflow beside one above 2^100 (see `_widened`). A matrix that will only be read, and
    needs no scaling, is its own buffer.
    """
    keep = read_only and frexp(max(float(array.max()), -float(array.min())))[1] in range(-100, 101)
    if array.dtype == np.float64 and (keep or (overwrite and array.flags.writeable)):
        W = array if array.flags.f_contiguous else array.T
    else:
        W = np.array(array, dtype=np.float64, order="C").T
    if not W.flags.f_contiguous:
        W = np.asfortranarray(W)
    largest = max(float(W.max()), -float(W.min()))
    exponent = frexp(largest)[1]
    if abs(exponent) <= 100:
        return W, 0
    exponent = max(-1000, min(1000, exponent))
    W *= 2.0**-exponent
    return W, exponent


def _widened(found: Enclosure, exponent: int, n: int, radius: float) -> Enclosure:
    """Undo the scaling and add the error of the matrix: Weyl's inequality."""
    underflow = n * UNDERFLOW if exponent > 0 else 0.0
    lower = scale_down(add_down(found.lower, -underflow) if underflow else found.lower, exponent)
    upper = scale_up(add_up(found.upper, underflow) if underflow else found.upper, exponent)
    if radius:
        return Enclosure(sub_down(lower, radius), add_up(upper, radius))
    return Enclosure(lower, upper)
