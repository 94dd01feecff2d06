"""The defect of a factor and the Rayleigh quotient, each against exact integer arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from exact_inertia import is_semidefinite, shifted

from overparam.enclosures.cholesky import defect_up, factor_shifted, restore
from overparam.enclosures.rayleigh import rayleigh_up
from overparam.numbers.sums import UNIT_ROUNDOFF

ONE = 2**600  # all numbers here are integers over 2^600


def integers(A: np.ndarray) -> np.ndarray:
    scaled = [Fraction(float(a)) * ONE for a in A.ravel()]
    assert all(a.denominator == 1 for a in scaled)
    return np.array([int(a) for a in scaled], dtype=object).reshape(A.shape)


def definite(rng: np.random.Generator, n: int, smallest: float) -> np.ndarray:
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    A = (Q * 10.0 ** rng.uniform(np.log10(smallest), 0, n)) @ Q.T
    return np.asfortranarray(A + A.T) / 2


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("n", [1, 2, 20, 64, 65, 150])
@pytest.mark.sample(6)
def test_defect_is_above_the_exact_frobenius_norm(n: int, split: bool) -> None:
    rng = np.random.default_rng(n)
    for smallest in (0.5, 1e-6):
        A = definite(rng, n, smallest)
        W, diagonal, shift = A.copy(order="F"), A.diagonal().copy(), smallest / 3
        assert factor_shifted(W, diagonal, shift)
        bound = defect_up(W, diagonal, shift, split=split)
        # The rounding of a_ii - shift enters the bound by its spectral norm: left out here.
        rounded = A.copy()
        np.fill_diagonal(rounded, diagonal - shift)
        L = integers(np.tril(W))
        square = ((L @ L.T - ONE * integers(rounded)) ** 2).sum()
        left = Fraction(bound) - Fraction(UNIT_ROUNDOFF) * Fraction(
            float(abs(diagonal - shift).max())
        )
        assert square <= int(left * ONE**2) ** 2
        size = np.linalg.norm(A) if split else n * np.trace(A)
        assert bound <= 10 * UNIT_ROUNDOFF * size
        restore(W, diagonal)
        assert np.array_equal(W, A)


@pytest.mark.parametrize("split", [False, True])
def test_defect_is_above_the_exact_spectral_norm(split: bool) -> None:
    rng = np.random.default_rng(9)
    for _ in range(100):
        n, smallest = int(rng.integers(1, 7)), 10.0 ** rng.uniform(-9, -1)
        A = definite(rng, n, smallest) * 10.0 ** rng.uniform(-20, 20)
        W, diagonal, shift = A.copy(order="F"), A.diagonal().copy(), float(rng.random()) * A.max()
        while not factor_shifted(W, diagonal, shift):
            restore(W, diagonal)
            shift /= 2
        bound = Fraction(defect_up(W, diagonal, shift, split=split))
        L = [[Fraction(float(a)) for a in row] for row in np.tril(W)]
        product = [[sum(a * b for a, b in zip(x, y, strict=True)) for y in L] for x in L]
        exact = shifted(A, Fraction(shift))
        for sign in (1, -1):  # bound I - sign (L L^T - (A - s I)) is positive semidefinite
            assert is_semidefinite(
                [
                    [
                        (bound if i == j else 0) - sign * (product[i][j] - exact[i][j])
                        for j in range(n)
                    ]
                    for i in range(n)
                ]
            )


@pytest.mark.parametrize("split", [False, True])
def test_defect_sees_a_changed_entry(split: bool) -> None:
    A = definite(np.random.default_rng(0), 100, 0.1)
    W, diagonal = A.copy(order="F"), A.diagonal().copy()
    assert factor_shifted(W, diagonal, 0.0)
    W[70, 3] += 1e-3
    assert defect_up(W, diagonal, 0.0, split=split) >= 1e-3 * abs(W[3, 3])


@pytest.mark.parametrize("split", [False, True])
def test_rayleigh_quotient_is_above_the_exact_one_and_close(split: bool) -> None:
    rng = np.random.default_rng(1)
    for n in (1, 3, 40, 100):
        for smallest in (0.5, 1e-12):
            A = definite(rng, n, smallest) - rng.choice([0.0, 0.7]) * np.eye(n)
            A = np.asfortranarray(A)
            for x in (rng.standard_normal(n), np.linalg.eigh(A)[1][:, 0]):
                x = x / np.linalg.norm(x)
                v = integers(x)
                quotient = Fraction(v @ (integers(A) @ v), ONE * (v @ v))
                bound = Fraction(rayleigh_up(A, x, split=split))
                truth = min(quotient, Fraction(float(A.diagonal().min())))
                assert truth <= bound
                loss = 20 * abs(quotient) if split else n * n
                assert bound - truth <= UNIT_ROUNDOFF * (loss + np.linalg.norm(A))


@pytest.mark.parametrize("x", [np.zeros(3), np.full(3, np.nan), np.full(3, np.inf)])
def test_useless_vector_gives_the_smallest_diagonal_entry(x: np.ndarray) -> None:
    A = np.asfortranarray(np.diag([3.0, 1.0, 2.0]))
    assert rayleigh_up(A, x, split=True) == 1.0
