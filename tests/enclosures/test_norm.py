"""The enclosure of the spectral norm against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from exact_inertia import encloses_norm
from scipy.linalg import hadamard

from overparam.enclosures import Enclosure, spectral_norm
from overparam.errors import InputError


@pytest.mark.parametrize("scale", [1.0, 1e-300, 1e300, 2.0**-1060])
def test_small_matrices_against_exact_inertia(scale: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        m, n = rng.integers(1, 6, 2)
        A = rng.standard_normal((m, n)) * scale
        if rng.random() < 0.3:
            A *= 10.0 ** rng.uniform(-8, 0, (m, 1))
        found = spectral_norm(A)
        assert encloses_norm(A, found.lower, found.upper)
        if scale > 1e-301:
            assert found.width <= 1e-12 * found.upper


def test_rank_one_integer_matrices() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        u = rng.integers(-99, 99, rng.integers(1, 40))
        v = rng.integers(-99, 99, rng.integers(1, 40))
        found = spectral_norm(np.outer(u, v).astype(float))
        square = int(u @ u) * int(v @ v)  # |u v^T|^2 = |u|^2 |v|^2
        assert Fraction(found.lower) ** 2 <= square <= Fraction(found.upper) ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_hadamard_blocks(dtype: type) -> None:
    A = hadamard(512).astype(dtype)[
        :, :300
    ]  # orthogonal columns of length sqrt(512), not contiguous
    found = spectral_norm(A)
    assert Fraction(found.lower) ** 2 <= 512 <= Fraction(found.upper) ** 2
    assert found.width <= 1e-6 * found.upper
    assert spectral_norm(A.T).upper == pytest.approx(found.upper, rel=1e-7)


def test_gaussian_matrix_is_tight() -> None:
    A = np.random.default_rng(3).standard_normal((700, 500))
    found = spectral_norm(A)
    assert np.linalg.norm(A, 2) in found
    assert found.width <= 1e-6 * found.upper


def test_rounding_of_the_gram_matrix_is_counted() -> None:
    """Squares of half a unit in the last place are lost one by one beside a 1."""
    A = np.full((200_001, 1), 2.0**-27)
    A[0] = 1.0
    square = 1 + Fraction(200_000, 2**54)
    computed = Fraction(float((A.T @ A)[0, 0]))
    found = spectral_norm(A)
    assert Fraction(found.lower) ** 2 <= square <= Fraction(found.upper) ** 2
    assert computed < square * (1 - Fraction(1, 2**50))  # or this test would show nothing


def test_zero_matrix() -> None:
    assert spectral_norm(np.zeros((3, 2))) == Enclosure(0.0, 0.0)


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.zeros((0, 3)), "A has shape"),
        (np.ones(3), "A has shape"),
        (np.array([[np.nan]]), "not finite"),
        (np.ones((2, 2), dtype=int), "A is int64"),
    ],
)
def test_bad_input_is_refused(A: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spectral_norm(A)
