"""Checks of matrices handed to this subpackage: bad input is refused in one line."""

from math import isfinite

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from overparam.enclosures.rounding import add_up, frobenius_up, mul_up
from overparam.errors import InputError
from overparam.numbers.sums import gamma

_ROWS = 512  # rows looked at together: temporaries stay small beside the matrix


def check_finite(a: np.ndarray, name: str) -> None:
    """Refuse an array with a NaN or an infinity."""
    for start in range(0, a.shape[0], _ROWS):
        if not np.isfinite(a[start : start + _ROWS]).all():
            raise InputError(
                f"{name} has an entry that is not finite:"
                " remove NaN and infinities, or look for an overflow in what made it."
            )


def as_matrix(a: ArrayLike, name: str) -> np.ndarray:
    """A two-dimensional, nonempty, finite array of float32 or float64, without a copy."""
    array = np.asarray(a)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"{name} has shape {array.shape}: give a matrix with rows and columns.")
    if array.dtype not in (np.float32, np.float64):
        raise InputError(f"{name} is {array.dtype}: give float64 (or, where it is exact, float32).")
    check_finite(array, name)
    return array


def as_symmetric(K: ArrayLike, *, float32_allowed: bool) -> np.ndarray:
    """A finite symmetric (n, n) array, without a copy.

    Args:
        K: What the caller gave.
        float32_allowed: Whether the caller has said how far a float32 matrix may be off.

    Returns:
        K as an array of float32 or float64.

    Raises:
        InputError: K is empty, not square, not symmetric, not finite, or of another dtype.
    """
    array = as_matrix(K, "K")
    if array.shape[0] != array.shape[1]:
        raise InputError(f"K has shape {array.shape}: give a square symmetric matrix.")
    if array.dtype == np.float32 and not float32_allowed:
        raise InputError(
            "K is float32, whose rounding moves small eigenvalues:"
            " recompute it in float64, or pass norm_error (a bound on the spectral norm of the"
            " error)."
        )
    for start in range(0, len(array), _ROWS):
        rows = slice(start, start + _ROWS)
        if not np.array_equal(array[rows], array[:, rows].T):
            raise InputError(
                "K is not symmetric: pass (K + K.T) / 2, and if K was only rounded,"
                " what symmetrising moved as entry_error."
            )
    return array


def error_radius(n: int, entry_error: ArrayLike | float | None, norm_error: float) -> float:
    """An upper bound on the spectral norm of the difference between the true matrix and K.

    Args:
        n: Order of the matrix.
        entry_error: None, or a bound on every entry of one part of the difference: a number or an
            array of shape (n, n).
        norm_error: A bound on the spectral norm of the rest of the difference.

    Returns:
        The sum of both parts, rounded up. For a symmetric D, |D| is at most the largest row sum
        of absolute values and at most the Frobenius norm.
    """
    if not (isfinite(norm_error) and norm_error >= 0):
        raise InputError(f"norm_error = {norm_error}: give a finite number >= 0.")
    if entry_error is None:
        return float(norm_error)
    entries = np.asarray(entry_error, dtype=np.float64)
    if entries.shape not in ((), (n, n)):
        raise InputError(
            f"entry_error has shape {entries.shape}: give a number or shape {(n, n)}, like K."
        )
    if not (np.isfinite(entries).all() and (entries >= 0).all()):
        raise InputError("entry_error has an entry that is negative or not finite: give bounds.")
    return add_up(_spectral_norm_of_bound(n, entries), float(norm_error))


def _spectral_norm_of_bound(n: int, entries: Float[np.ndarray, "..."]) -> float:
    if entries.ndim == 0:
        return mul_up(float(n), float(entries))
    with np.errstate(over="ignore"):
        row_sum = float(entries.sum(axis=1).max())
    return min(frobenius_up(entries), mul_up(row_sum, add_up(1.0, gamma(2 * n))))
