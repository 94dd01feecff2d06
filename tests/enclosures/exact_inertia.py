"""Exact references: is a matrix of floats positive semidefinite? In integer arithmetic."""

from fractions import Fraction

import numpy as np


def as_fractions(A: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(float(a)) for a in row] for row in A]


def shifted(A: np.ndarray, shift: Fraction, sign: int = 1) -> list[list[Fraction]]:
    """sign * (A - shift I), exactly."""
    rows = as_fractions(A)
    return [
        [sign * (a - (shift if i == j else 0)) for j, a in enumerate(row)]
        for i, row in enumerate(rows)
    ]


def is_semidefinite(rows: list[list[Fraction]]) -> bool:
    """Exact test of positive semidefiniteness by fraction-free elimination with pivoting."""
    scale = 1
    for row in rows:
        for a in row:
            scale = max(scale, a.denominator)  # all denominators are powers of two
    M = [[int(a * scale) for a in row] for row in rows]
    previous = 1
    while M:
        pivot = max(range(len(M)), key=lambda i: M[i][i])
        p = M[pivot][pivot]
        if p < 0 or any(M[i][i] < 0 for i in range(len(M))):
            return False
        if p == 0:
            return all(a == 0 for row in M for a in row)
        kept = [i for i in range(len(M)) if i != pivot]
        M = [[(p * M[i][j] - M[i][pivot] * M[pivot][j]) // previous for j in kept] for i in kept]
        previous = p
    return True


def smallest_at_least(A: np.ndarray, bound: float) -> bool:
    """Whether lambda_min(A) >= bound, exactly."""
    return is_semidefinite(shifted(A, Fraction(bound)))


def smallest_above(A: np.ndarray, bound: float) -> bool:
    """Whether lambda_min(A) > bound, to within 2^-1200: no float64 lies in between."""
    return is_semidefinite(shifted(A, Fraction(bound) + Fraction(1, 2**1200)))


def encloses_smallest(A: np.ndarray, lower: float, upper: float) -> bool:
    return smallest_at_least(A, lower) and not smallest_above(A, upper)


def encloses_largest(A: np.ndarray, lower: float, upper: float) -> bool:
    return encloses_smallest(-A, -upper, -lower)


def gram(A: np.ndarray) -> list[list[Fraction]]:
    rows = as_fractions(A)
    columns = list(zip(*rows, strict=True))
    return [[sum(a * b for a, b in zip(x, y, strict=True)) for y in columns] for x in columns]


def encloses_norm(A: np.ndarray, lower: float, upper: float) -> bool:
    """Whether lower <= |A| <= upper: the inertia of upper^2 I - A^T A, and of lower^2 I - A^T A."""
    G = gram(A)

    def at_most(bound: Fraction) -> bool:
        return is_semidefinite(
            [[(bound if i == j else 0) - g for j, g in enumerate(row)] for i, row in enumerate(G)]
        )

    below = Fraction(lower) ** 2 - Fraction(1, 2**4000)
    return at_most(Fraction(upper) ** 2) and (lower == 0 or not at_most(below))
