"""The bounds on extreme eigenvalues against exact integer arithmetic, and against sabotage."""

import numpy as np
import pytest
from exact_inertia import encloses_largest, encloses_smallest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import hadamard, lapack

from overparam.enclosures import Enclosure, eigenvalue, factor, max_eigenvalue, min_eigenvalue
from overparam.errors import InputError


def random_symmetric(rng: np.random.Generator, n: int) -> np.ndarray:
    A = rng.standard_normal((n, n))
    return A + A.T


def hadamard_conjugate(eigenvalues: np.ndarray) -> np.ndarray:
    """H D H^T / n for integers D below 2^40: an exact matrix with exactly these eigenvalues."""
    n = len(eigenvalues)
    H = hadamard(n)
    assert n * eigenvalues.max() < 2**52
    return ((H * eigenvalues) @ H.T).astype(float) / n  # integers, then a power of two


def test_singular_integer_matrices_have_zero_enclosed() -> None:
    rng = np.random.default_rng(1)
    completed = 0
    for _ in range(800):
        n = int(rng.integers(2, 30))
        B = rng.integers(-9, 10, (n, int(rng.integers(1, n)))).astype(float)
        A = B @ B.T  # integers below 2^53: exact, and of rank below n
        completed += lapack.dpotrf(A, lower=1)[1] == 0
        found = min_eigenvalue(A)
        assert found.lower <= 0 <= found.upper
        assert found.width <= 1e-14 * np.trace(A) + 1e-300
    assert completed > 0  # the unshifted factorisation is no proof: it "succeeds" on some of these


def test_integer_matrices_with_known_smallest_eigenvalue() -> None:
    rng = np.random.default_rng(2)
    for _ in range(800):
        n, c = int(rng.integers(2, 25)), int(rng.integers(-50, 50))
        B = rng.integers(-1000, 1000, (n, n - 1)).astype(float)
        found = min_eigenvalue(B @ B.T + c * np.eye(n))
        assert found.lower <= c <= found.upper


@pytest.mark.parametrize("n", [2, 8, 64, 256, 512])
@pytest.mark.parametrize("spread", [0, 10, 20, 30])
def test_graded_spectra_in_a_hadamard_basis_are_enclosed_tightly(n: int, spread: int) -> None:
    rng = np.random.default_rng(n + spread)
    D = np.rint(2.0 ** rng.uniform(0, spread, n)).astype(int) + 1
    A = hadamard_conjugate(D)
    smallest, largest = min_eigenvalue(A), max_eigenvalue(A)
    assert smallest.lower <= D.min() <= smallest.upper
    assert largest.lower <= D.max() <= largest.upper
    if D.min() > 1e-8 * D.sum():
        assert smallest.width <= 1e-6 * D.min()
    assert largest.width <= 1e-6 * D.max()


def test_householder_conjugates_are_enclosed() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        n = int(2 ** rng.integers(1, 6))
        v = rng.choice([-1, 1], n).astype(object)
        P = n * np.eye(n, dtype=int).astype(object) - 2 * np.outer(v, v)  # n times a reflection
        D = rng.integers(-(2**30), 2**30, n)
        exact = (P * D.astype(object)) @ P
        A = np.array(exact, dtype=float)
        assert all(int(a) == b for a, b in zip(A.ravel(), exact.ravel(), strict=True))
        A /= n**2
        smallest, largest = min_eigenvalue(A), max_eigenvalue(A)
        assert smallest.lower <= D.min() <= smallest.upper
        assert largest.lower <= D.max() <= largest.upper


def adversarial(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    A = random_symmetric(rng, n)
    if kind == "graded":
        d = 10.0 ** rng.uniform(-12, 4, n)
        A = (A @ A) * np.outer(d, d)
    elif kind == "nearly singular":
        B = rng.standard_normal((n, n - 1))
        A = B @ B.T + 10.0 ** rng.uniform(-20, -10) * np.eye(n)
    elif kind == "kernel":
        x = rng.standard_normal(n)
        A = np.exp(-((x[:, None] - x[None, :]) ** 2) * 10.0 ** rng.uniform(-6, 1))
    elif kind == "huge":
        A *= 2.0**1010
    elif kind == "tiny":
        A *= 2.0**-1060  # subnormal entries
    elif kind == "uneven":
        A *= 2.0 ** rng.integers(-1000, 900, (n, n)).clip(-1000, 900)
    elif kind == "definite":
        A = A @ A
    return (A + A.T) / 2


KINDS = ["random", "definite", "graded", "kernel", "huge", "tiny", "uneven", "nearly singular"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.sample(2)
def test_exact_inertia_confirms_both_ends(kind: str) -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        A = adversarial(rng, kind, int(rng.integers(2, 7)))
        smallest, largest = min_eigenvalue(A), max_eigenvalue(A)
        assert encloses_smallest(A, smallest.lower, smallest.upper)
        assert encloses_largest(A, largest.lower, largest.upper)
        if kind != "uneven":
            assert smallest.width <= 1e-14 * np.abs(A).sum() + 2.0**-1070


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda n: arrays(float, (n, n), elements=st.floats(-(2.0**40), 2.0**40))
    )
)
def test_any_floats(B: np.ndarray) -> None:
    A = np.triu(B) + np.triu(B, 1).T
    smallest, largest = min_eigenvalue(A), max_eigenvalue(A)
    assert encloses_smallest(A, smallest.lower, smallest.upper)
    assert encloses_largest(A, largest.lower, largest.upper)


@pytest.mark.parametrize("c", [-1000, 0, 1, 7])
def test_lanczos_path_on_singular_indefinite_and_definite_matrices(c: int) -> None:
    rng = np.random.default_rng(5)
    B = rng.integers(-9, 10, (300, 200)).astype(float)
    found = min_eigenvalue(B @ B.T + c * np.eye(300))
    assert found.lower <= c <= found.upper
    assert found.width <= 1e-7 * abs(c) + 1e-14 * np.sum(B * B)


def test_zero_and_scalar_matrices() -> None:
    for n in (1, 3, 300):
        for c in (0.0, 1.0, -2.0, 3e-310):
            for found in (min_eigenvalue(c * np.eye(n)), max_eigenvalue(c * np.eye(n))):
                assert c in found
                assert found.width <= 3e-7 * abs(c) + 2.0**-1000


@pytest.mark.parametrize("n", [5, 300])
@pytest.mark.parametrize("vector", ["zero", "nan", "wrong"])
def test_a_useless_guess_costs_tightness_only(
    n: int, vector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = {"zero": np.zeros(n), "nan": np.full(n, np.nan), "wrong": np.eye(n)[-1]}[vector]
    monkeypatch.setattr(eigenvalue, "smallest_eigenvector", lambda W, diagonal, tolerance: x)
    D = np.arange(1.0, n + 1)
    v = np.ones(n)
    A = np.diag(D) + np.outer(v, v)  # lambda_min lies between 1 and 2
    found = min_eigenvalue(A)
    assert found.lower <= np.linalg.eigvalsh(A)[0] <= found.upper
    assert np.isfinite(found.lower)


@pytest.mark.parametrize("damage", [1e-10, 1e-3, 1.0, 1e3, 1e250, np.nan])
def test_a_wrong_factorisation_is_noticed(damage: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAPACK claims success on an indefinite matrix and returns a damaged factor."""
    original = lapack.dpotrf

    def lying(a: np.ndarray, **options: int) -> tuple[np.ndarray, int]:
        shift = 100 * np.eye(len(a))
        a[:] = np.triu(a, 1) + np.tril(original(np.asfortranarray(a + shift), lower=1)[0])
        a[-1, 0] += damage
        return a, 0

    monkeypatch.setattr(factor.lapack, "dpotrf", lying)
    A = random_symmetric(np.random.default_rng(6), 40)
    monkeypatch.setattr(eigenvalue, "rayleigh_up", lambda W, x, split: 50.0)  # far above the truth
    with np.errstate(all="ignore"):
        found = min_eigenvalue(A)
    assert found.lower <= np.linalg.eigvalsh(A)[0]


def test_matrices_within_the_errors_are_covered() -> None:
    rng = np.random.default_rng(7)
    for _ in range(100):
        n = int(rng.integers(2, 6))
        K = random_symmetric(rng, n)
        E = np.abs(random_symmetric(rng, n)) * 2.0**-20
        x = np.linalg.eigh(K)[1][:, 0]
        nearby = K - E * np.sign(np.outer(x, x))  # the worst sign pattern for lambda_min
        found = min_eigenvalue(K, entry_error=E * 1.0000001)
        assert found.lower <= min_eigenvalue(nearby).lower
        radius = float(np.linalg.norm(E, 2)) * 1.0000001
        assert min_eigenvalue(K, norm_error=radius).lower <= min_eigenvalue(nearby).lower
        assert min_eigenvalue(K, entry_error=float(E.max())).lower <= found.lower


def test_overwriting_gives_the_same_answer_in_either_memory_order() -> None:
    A = random_symmetric(np.random.default_rng(8), 300)
    expected = min_eigenvalue(A)
    kept = A.copy()
    assert min_eigenvalue(A) == expected
    assert np.array_equal(A, kept)
    for order in ("C", "F"):
        assert min_eigenvalue(np.array(A, order=order), overwrite=True) == expected
    read_only = A.copy()
    read_only.flags.writeable = False
    assert min_eigenvalue(read_only, overwrite=True) == expected


def test_float32_needs_an_error_bound() -> None:
    K = np.eye(3, dtype=np.float32)
    with pytest.raises(InputError, match="recompute it in float64, or pass norm_error"):
        min_eigenvalue(K)
    found = min_eigenvalue(K, norm_error=1e-6)
    assert isinstance(found, Enclosure)
    assert found.lower <= 1 - 1e-6


@pytest.mark.parametrize(
    ("K", "options", "message"),
    [
        (np.zeros((0, 0)), {}, "K has shape"),
        (np.ones(3), {}, "K has shape"),
        (np.ones((2, 3)), {}, "give a square symmetric matrix"),
        (np.array([[1.0, 2.0], [2.1, 1.0]]), {}, "K is not symmetric"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), {}, "not finite"),
        (np.array([[np.inf, 0.0], [0.0, 1.0]]), {}, "not finite"),
        (np.eye(2, dtype=complex), {}, "K is complex128"),
        (np.eye(2), {"norm_error": -1.0}, "norm_error = -1.0"),
        (np.eye(2), {"norm_error": float("nan")}, "norm_error = nan"),
        (np.eye(2), {"entry_error": np.ones(2)}, "entry_error has shape"),
        (np.eye(2), {"entry_error": -np.ones((2, 2))}, "negative or not finite"),
    ],
)
@pytest.mark.parametrize("function", [min_eigenvalue, max_eigenvalue])
def test_bad_input_is_refused_in_one_line(function, K, options, message) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        function(K, **options)
    assert "\n" not in str(refusal.value)


def test_a_loose_largest_eigenvalue_is_still_an_enclosure_and_not_wider_than_a_percent():
    """A cluster of ten, then a decay too slow for the sharp subspace bound."""
    rng = np.random.default_rng(0)
    values = np.concatenate([np.linspace(1.0, 0.8, 10), 0.4 * np.arange(1.0, 1191.0) ** -0.75])
    Q = np.linalg.qr(rng.standard_normal((1200, 1200)))[0]
    K = (Q * values) @ Q.T
    loose = max_eigenvalue((K + K.T) / 2, sharp=False)
    assert loose.lower <= 1 + 1e-12
    assert loose.upper >= 1 - 1e-12
    assert loose.width <= 1e-2


def test_the_cheap_smallest_eigenvalue_is_still_an_enclosure():
    """Conjugates of integer spectra by I - v v^T / 8, |v|^2 = 16: exact in float64."""
    rng = np.random.default_rng(1)
    for n in (300, 1200):
        values = rng.integers(8, 10**6, n).astype(float)
        values[0] = 7.0
        K = np.diag(values)
        for _ in range(4):
            v = np.zeros(n)
            v[rng.choice(n, 16, replace=False)] = rng.choice([-1.0, 1.0], 16)
            K -= np.outer(v, v @ K) / 8
            K -= np.outer(K @ v, v) / 8
        found = min_eigenvalue(K, sharp=False)
        assert found.lower <= 7.0 <= found.upper
        assert found.width <= 0.06
