"""Balls to and from floating point, and the elementwise work that FLINT leaves to callers."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flint import arb, arb_mat

from overparam.numbers.upper import EXTENDED, Upper

UNIT = 2.0**-53
"""The unit roundoff of float64."""


def raised(*lengths: int) -> float:
    """More than 1 by what float64 rounds in sums of numbers >= 0, and in what is made of them.

    Args:
        *lengths: Terms of the sums, one inside the other; some hundred operations may follow.
    """
    return 1 + 2 * (sum(lengths) + 128) * UNIT  # a float: a multiple of 2^-52


def exact(values: object) -> Upper:
    """Nonnegative floats taken as they are, in extended precision."""
    return Upper.exact(values, EXTENDED)


def upper_of(balls: Sequence[arb] | arb) -> Upper:
    """The upper ends of nonnegative balls, rounded to nearest."""
    if isinstance(balls, arb):
        return Upper(_rounded(balls), 2)
    return Upper(np.array([_rounded(ball) for ball in balls], dtype=EXTENDED), 2)


def bound_of(number: Upper) -> arb:
    """A proved upper bound on the largest entry."""
    top = number.values.max()
    high = float(top)
    value = arb(high) + arb(float(top - EXTENDED(high)))
    return (value / (1 - arb(2) ** -number.roundoff_bits) ** number.roundings).upper()


def _rounded(ball: arb) -> Any:
    """The upper end, relative error at most 2 u: a double plus what it leaves over."""
    top = ball.abs_upper()
    high = float(top)
    return EXTENDED(high) + EXTENDED(float(top - arb(high)))


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


def above(ball: arb) -> float:
    """A float that no number of a ball is above; 0 of 0."""
    return 0.0 if ball.is_zero() else math.nextafter(float(ball.upper()), math.inf)


def below(ball: arb) -> float:
    """A float >= 0 that no number >= 0 of a ball is below."""
    return max(math.nextafter(float(ball.lower()), -math.inf), 0.0)


def total(terms: Iterable[arb]) -> arb:
    """Their sum."""
    return sum(terms, arb(0))


def squared(entries: Iterable[arb]) -> arb:
    """The sum of their squares."""
    return total(e * e for e in entries)
