"""Proved bounds on the extreme eigenvalues of a symmetric matrix of balls.

Let Q be any square matrix, P = Q^T A Q and S = Q^T Q. If P - s S is positive definite, then Q is
injective, hence invertible, and A - s I is positive definite by congruence: lambda_min(A) > s. As Q
take float64 eigenvectors, trusted for nothing. P - s S is then nearly diagonal, and with D its
diagonal it is positive definite if D > 0 and the off-diagonal part of D^-1/2 (P - s S) D^-1/2 has
a Frobenius norm below 1. P and S are computed once, in balls; trying another s costs n^2.

A bound on the largest eigenvalue is a bound on the smallest of -A. Errors of Q enter squared, so
the bounds are tight to far more digits than float64 has unless eigenvalues lie very close.
"""

from dataclasses import dataclass

import numpy as np
from flint import arb, arb_mat

from overparam.numbers.eigenvectors import eigh
from overparam.verification.balls import column, diagonal, dot, magnitudes, midpoints, to_balls


@dataclass(frozen=True)
class Congruence:
    """What a congruence says about a symmetric matrix A.

    Attributes:
        smallest: Proved lower bound on lambda_min(A).
        largest: Proved upper bound on lambda_max(A).
        attained: Proved lower bound on lambda_max(A): a Rayleigh quotient.
        values: Float64 eigenvalues, a guess.
        vectors: Float64 eigenvectors, a guess.
    """

    smallest: arb
    largest: arb
    attained: arb
    values: np.ndarray
    vectors: np.ndarray


def spectrum_of(matrix: arb_mat) -> Congruence:
    """Bounds on the extreme eigenvalues of a symmetric matrix of balls."""
    middle = midpoints(matrix)
    values, vectors = eigh((middle + middle.T) / 2)
    q = to_balls(vectors)
    qt = q.transpose()
    p, s = qt * (matrix * q), qt * q
    p_diagonal, s_diagonal = diagonal(p), diagonal(s)
    p_size, s_size = magnitudes(p), magnitudes(s)
    by_entries = arb(2 * float(magnitudes(matrix).sum()))  # |A| <= sum of |a_ij|, rounding included
    lower = _lower_bound(p_diagonal, s_diagonal, p_size, s_size, by_entries)
    upper = -_lower_bound([-e for e in p_diagonal], s_diagonal, p_size, s_size, by_entries)
    attained = p_diagonal[-1] / s_diagonal[-1]
    return Congruence(lower, upper, attained.lower(), values, vectors)


def largest_eigenvalue(matrix: arb_mat) -> arb:
    """Upper bound on lambda_max of a symmetric, positive semidefinite matrix of balls."""
    if matrix.nrows() == 1:
        return matrix[0, 0].upper()
    return spectrum_of(matrix).largest.max(arb(0)).upper()


def operator_norm(matrix: arb_mat) -> arb:
    """Upper bound on |A|, from the smaller of A A^T and A^T A."""
    other = matrix.transpose()
    wide = matrix.nrows() <= matrix.ncols()
    return largest_eigenvalue(matrix * other if wide else other * matrix).sqrt().upper()


def inverse_form(matrix: arb_mat, vector: list[arb], spectrum: Congruence) -> arb | None:
    """A ball that contains r^T A^-1 r, for positive definite A; None if that is not proved.

    For any x, with e = r - A x:  r^T A^-1 r = 2 r^T x - x^T A x + e^T A^-1 e, and the last term
    lies between 0 and |e|^2 / lambda_min(A).
    """
    if not spectrum.smallest > 0:
        return None
    inverses = 1 / np.where(spectrum.values > 0, spectrum.values, 1.0)
    r = column(vector)
    x = column([arb(0)] * len(vector))
    error = r
    for _ in range(4):
        guess = spectrum.vectors.T @ midpoints(error)[:, 0] * inverses
        x = x + to_balls((spectrum.vectors @ guess)[:, None])
        error = r - matrix * x
    known = 2 * dot(r, x) - dot(x, matrix * x)
    rest = (dot(error, error) / spectrum.smallest).upper()
    return known + arb(0).union(rest)


def _lower_bound(
    p: list[arb], s: list[arb], p_size: np.ndarray, s_size: np.ndarray, by_entries: arb
) -> arb:
    """The largest bound found that passes the test, from close to the guess downwards."""
    guess = p[0] / s[0]
    for a, b in zip(p, s, strict=True):
        guess = guess.min(a / b)
    guess = guess.lower()
    scale = max(abs(float(p[0])), abs(float(p[-1])), 1e-200)
    gap = scale * 2.0**-100
    while gap < 4 * scale * len(p):
        bound = (guess - gap).lower()
        if _exceeds(bound, p, s, p_size, s_size):
            return bound
        gap *= 4
    return -by_entries


def _exceeds(
    bound: arb, p: list[arb], s: list[arb], p_size: np.ndarray, s_size: np.ndarray
) -> bool:
    """Whether P - bound S is proved positive definite."""
    pivots = np.array([float((a - bound * b).lower()) for a, b in zip(p, s, strict=True)])
    pivots = np.nextafter(pivots, -np.inf)
    if not np.all(pivots > 0):
        return False
    # All terms are nonnegative; float64 errors are far below the factor 2 left to the limit 1.
    with np.errstate(all="ignore"):
        size = p_size + float(bound.abs_upper()) * s_size
        np.fill_diagonal(size, 0.0)
        squares = (size / pivots[:, None]) * (size / pivots)
        return bool(squares.sum() < 0.5)
