"""Matrices of balls: to and from NumPy, and the elementwise work that FLINT leaves to callers."""

from collections.abc import Iterable

import numpy as np
from flint import arb, arb_mat


def to_balls(array: np.ndarray) -> arb_mat:
    """A matrix of floats, exactly."""
    return arb_mat(np.asarray(array, dtype=np.float64).tolist())


def midpoints(matrix: arb_mat) -> np.ndarray:
    """The nearest floats."""
    flat = np.fromiter((float(e) for e in matrix.entries()), np.float64)
    return flat.reshape(matrix.nrows(), matrix.ncols())


def magnitudes(matrix: arb_mat) -> np.ndarray:
    """Upper bounds on the absolute values."""
    flat = np.fromiter((float(e.abs_upper()) for e in matrix.entries()), np.float64)
    return np.nextafter(flat, np.inf).reshape(matrix.nrows(), matrix.ncols())


def column(entries: Iterable[arb]) -> arb_mat:
    """A column vector."""
    return arb_mat([[entry] for entry in entries])


def diagonal(matrix: arb_mat) -> list[arb]:
    """The diagonal of a square matrix."""
    return [matrix[i, i] for i in range(matrix.nrows())]


def dot(a: arb_mat, b: arb_mat) -> arb:
    """The scalar product of two columns."""
    return (a.transpose() * b)[0, 0]


def scale_rows(matrix: arb_mat, factors: list[arb]) -> arb_mat:
    """diag(factors) times a matrix."""
    columns = matrix.ncols()
    entries = matrix.entries()
    return arb_mat(
        matrix.nrows(),
        columns,
        [f * e for i, f in enumerate(factors) for e in entries[i * columns : (i + 1) * columns]],
    )
