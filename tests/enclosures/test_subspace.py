"""The bound from a subspace against exact spectra, arbitrary bases and sabotage."""

import numpy as np
import pytest
from exact_inertia import encloses_largest
from scipy.linalg import hadamard

from overparam.enclosures import eigenvalue, max_eigenvalue
from overparam.enclosures.guess import top_subspace
from overparam.enclosures.subspace import _two_by_two_up, enclose_from_subspace


def clustered(n: int, outputs: int, decay: float) -> tuple[np.ndarray, int]:
    """An exact matrix whose top eigenvalues come in clusters of ``outputs``, and its largest."""
    ranks = np.arange(n) // outputs + 1
    D = np.rint(2.0**30 * ranks**-decay).astype(int) + np.arange(n)[::-1] % outputs + 1
    H = hadamard(n, dtype=float)
    return ((H * D) @ H.T) / n, int(D.max())  # integers below 2^53, a power of two


@pytest.mark.parametrize("outputs", [1, 3, 10])
@pytest.mark.parametrize("decay", [1.0, 2.0])
@pytest.mark.sample(3)
def test_clusters_are_enclosed_without_a_factorisation(
    outputs: int, decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    A, largest = clustered(2048, outputs, decay)
    if (outputs, decay) != (10, 1.0):  # ten copies of a slow decay: here it falls back

        def refused(*_: object, **__: object) -> None:
            raise AssertionError("fell back to the Cholesky factor")

        monkeypatch.setattr(eigenvalue, "_smallest", refused)
    found = max_eigenvalue(A)
    assert found.lower <= largest <= found.upper
    assert found.width <= 1e-6 * largest


@pytest.mark.parametrize("basis", ["random", "repeated", "zero", "infinite", "skew", "long"])
def test_any_basis_gives_a_true_bound(basis: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        n = int(rng.integers(3, 8))
        j = int(rng.integers(1, n))
        B = rng.standard_normal((n, n)) * 10.0 ** rng.uniform(-4, 0, n)
        A = B + B.T if rng.random() < 0.5 else B @ B.T
        A = (A + A.T) / 2
        values, vectors = np.linalg.eigh(A)
        V, theta = vectors[:, ::-1][:, :j].copy(), values[::-1][:j].copy()
        if basis == "random":
            V = np.linalg.qr(rng.standard_normal((n, j)))[0]
        elif basis == "repeated":
            V[:] = V[:, :1]
        elif basis == "zero":
            V[:] = 0
        elif basis == "infinite":
            V[0, 0] = np.inf
        elif basis == "skew":
            V = V + 0.05 * rng.standard_normal((n, j))
            theta = theta + 0.1 * rng.standard_normal(j)
        elif basis == "long":
            V *= 1.0 + 1e-3
        found = enclose_from_subspace(np.asfortranarray(A), V, theta)
        assert encloses_largest(A, found.lower, found.upper)


def test_the_bound_is_quadratic_in_the_residual() -> None:
    """Not merely theta + |R|, which a subspace a thousandth off would leave a thousandth wide."""
    D = np.diag(np.append(1.0, np.full(63, 1e-3)))
    V = np.eye(64)[:, :1] + 1e-3 * np.eye(64)[:, 1:2]
    V /= np.linalg.norm(V)
    found = enclose_from_subspace(D, V, np.array([float((V.T @ D @ V)[0, 0])]))
    assert found.lower <= 1.0 <= found.upper
    assert found.width < 1e-5


def test_two_by_two_matrices() -> None:
    rng = np.random.default_rng(2)
    for _ in range(2000):
        h, b, c = rng.standard_normal(3) * 10.0 ** rng.uniform(-200, 100, 3)
        b, c = abs(b), abs(c)
        upper = _two_by_two_up(h, b, c)
        A = np.array([[h, b], [b, c]])
        # The upper end is no smaller than the largest eigenvalue: exact inertia.
        assert encloses_largest(A, max(h, c), upper)
        assert upper <= max(h, c) + b + 1e-15 * max(abs(h), c, b)


def test_a_wrong_guess_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 1100
    D = np.arange(n, 0.0, -1.0)

    def wrong(W: np.ndarray, vectors: int, sweeps: int) -> tuple[np.ndarray, np.ndarray]:
        return np.eye(n)[:, -vectors:], np.full(vectors, 1e-3)

    monkeypatch.setattr(eigenvalue, "top_subspace", wrong)
    found = max_eigenvalue(np.diag(D))
    assert found.lower <= n <= found.upper
    assert found.width <= 1e-6 * n


def test_the_matrix_is_left_alone() -> None:
    A, _ = clustered(2048, 1, 2.0)
    kept = A.copy()
    max_eigenvalue(A)
    assert np.array_equal(A, kept)
    Q = top_subspace(A, 8, 3)[0]
    assert np.allclose(Q.T @ Q, np.eye(8), atol=1e-12)
