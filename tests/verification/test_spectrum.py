"""Proved eigenvalue bounds, against matrices whose spectrum is known exactly."""

from fractions import Fraction

import numpy as np
import pytest
from flint import arb, arb_mat, ctx, fmpq, fmpq_mat

from overparam.verification.balls import to_balls
from overparam.verification.spectrum import (
    inverse_form,
    largest_eigenvalue,
    operator_norm,
    spectrum_of,
)


@pytest.fixture(autouse=True)
def precision():
    with ctx.workprec(128):
        yield


def test_tridiagonal():
    """Eigenvalues 2 - 2 cos(j pi / (n + 1))."""
    n = 40
    spectrum = spectrum_of(to_balls(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)))
    smallest = 2 - 2 * (arb.pi() / (n + 1)).cos()
    largest = 2 - 2 * (n * arb.pi() / (n + 1)).cos()
    assert smallest * (1 - arb(1e-20)) < spectrum.smallest <= smallest
    assert largest <= spectrum.largest < largest * (1 + arb(1e-20))


@pytest.mark.parametrize("seed", range(6))
def test_bounds_against_exact_inertia(seed):
    """Shift a random Gram matrix by the bounds: all leading minors must say so, exactly."""
    rng = np.random.default_rng(seed)
    factor = rng.integers(-9, 10, (8, 8 + seed))
    gram = factor @ factor.T
    spectrum = spectrum_of(to_balls(gram))
    for shift, sign in ((spectrum.smallest, 1), (spectrum.largest, -1)):
        mantissa, exponent = shift.mid().man_exp()
        exact = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
        entries = [
            fmpq(int(sign * gram[i, j]))
            - (i == j) * sign * fmpq(exact.numerator, exact.denominator)
            for i in range(8)
            for j in range(8)
        ]
        matrix = fmpq_mat(8, 8, entries)
        for order in range(1, 9):
            minor = fmpq_mat([[matrix[i, j] for j in range(order)] for i in range(order)])
            assert minor.det() >= 0


@pytest.mark.parametrize("size", [2, 5, 30])
def test_a_singular_matrix_is_not_called_definite(size):
    ones = spectrum_of(to_balls(np.ones((size, size))))
    assert ones.smallest <= 0
    assert ones.smallest > -1e-10
    assert size <= ones.largest < size * (1 + 1e-12)


def test_repeated_and_tiny_eigenvalues():
    spectrum = spectrum_of(to_balls(np.diag([3.0, 3.0, 1e-14, 1e-14, 1e-14, 5.0])))
    assert 1e-14 * (1 - 1e-9) < spectrum.smallest <= arb(1e-14)


def test_the_balls_are_respected():
    """A radius of 0.25 on every entry moves lambda_min of the identity by up to 0.25 n."""
    n = 3
    blurred = arb_mat(n, n, [arb(float(i == j), 0.25) for i in range(n) for j in range(n)])
    assert spectrum_of(blurred).smallest <= 0.25


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (5, 9), (9, 5)])
def test_operator_norm(shape):
    matrix = np.random.default_rng(3).standard_normal(shape)
    norm = operator_norm(to_balls(matrix))
    assert float(norm) == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-13)
    rank_one = np.outer(np.arange(1.0, 4), [2.0, 6, 9])  # norm sqrt(14) * 11
    assert arb(14).sqrt() * 11 <= operator_norm(to_balls(rank_one)).upper()


def test_largest_eigenvalue_of_zero():
    assert largest_eigenvalue(arb_mat(3, 3)) >= 0
    assert largest_eigenvalue(arb_mat(3, 3)) < 1e-20


@pytest.mark.parametrize("seed", range(4))
def test_inverse_form_contains_the_rational_value(seed):
    rng = np.random.default_rng(seed)
    factor = rng.integers(-5, 6, (7, 9))
    gram, vector = factor @ factor.T, rng.integers(-5, 6, 7)
    exact = fmpq_mat(7, 7, [fmpq(int(v)) for v in gram.ravel()]).inv()
    column = fmpq_mat(7, 1, [fmpq(int(v)) for v in vector])
    value = (column.transpose() * exact * column)[0, 0]
    matrix = to_balls(gram)
    ball = inverse_form(matrix, [arb(int(v)) for v in vector], spectrum_of(matrix))
    assert ball is not None
    assert ball.contains(arb(value))
    assert ball.rad() < 1e-25


def test_inverse_form_of_a_singular_matrix_is_unknown():
    matrix = to_balls(np.ones((3, 3)))
    assert inverse_form(matrix, [arb(1)] * 3, spectrum_of(matrix)) is None
