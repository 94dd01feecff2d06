"""The largest eigenvalues of operators that are never formed, with all their copies."""

import jax
import numpy as np
import pytest
import scipy.linalg
from scipy.sparse.linalg import LinearOperator

from networks import draw_inputs, draw_params
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.ntk_operator import ntk_operator
from overparam.kernel.spectrum.kernel_spectrum import spectrum
from overparam.kernel.spectrum.lanczos import lanczos_error, top_eigenvalues
from overparam.model.mlp import MLP


@pytest.mark.parametrize("n", [5, 400])
def test_top_eigenvalues_without_the_matrix(n):
    X = np.random.default_rng(0).standard_normal((n, 2 * n))
    K = X @ X.T / (2 * n)
    products = LinearOperator((n, n), matvec=lambda v: K @ v, dtype=np.float64)
    found, expected = top_eigenvalues(products, 4), scipy.linalg.eigvalsh(K)[::-1][:4]
    assert found.converged
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert np.all(found.values <= expected * (1 + 1e-12))
    for value, vector, residual in zip(found.values, found.vectors.T, found.residuals, strict=True):
        assert residual == pytest.approx(np.linalg.norm(K @ vector - value * vector), abs=1e-12)
    assert found.upper() >= expected[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.sample(1)
def test_top_of_a_networks_kernel_that_is_never_formed(dtype):
    model = MLP(4, (32,), 2, "gelu")
    params, x = draw_params(model, dtype), draw_inputs(60, model, 1).astype(dtype)
    found = top_eigenvalues(ntk_operator(model, params, x), 3, tolerance=1e-4)
    expected = scipy.linalg.eigvalsh(empirical_ntk(model, params, x).astype(np.float64))
    np.testing.assert_allclose(found.values, expected[::-1][:3], rtol=1e-4)
    assert expected[-1] <= found.upper() * (1 + 1e-5)


def with_eigenvalues(values, seed=1):
    """A dense symmetric matrix with a given spectrum."""
    n = len(values)
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    K = (Q * np.asarray(values)) @ Q.T
    return (K + K.T) / 2


MULTIPLE = {
    "four copies, and one close behind": (np.r_[np.full(4, 5.0), np.linspace(0, 4.999, 56)], 5),
    "two copies in the middle": (np.r_[3.0, 2.0, 2.0, np.linspace(0, 1.999, 97)], 4),
    "ten outputs": (np.repeat(1 / np.arange(1.0, 31) ** 2, 10), 32),
    "behind a dominant one": (np.r_[1e8, np.ones(4), np.linspace(0, 0.9, 95)], 5),
    "all of them equal": (np.ones(200), 5),
    "fewer than asked for": (np.r_[3.0, 3.0, 1.0, np.zeros(200)], 5),
    "none": (np.zeros(200), 5),
    "negative": (-np.repeat(np.arange(1.0, 31), 5), 8),
    "indefinite": (np.r_[1.0, 1.0, -1.0, np.full(97, -1000.0)], 4),
    "a cluster": (np.r_[1.0, np.full(59, 1 - 1e-4)], 3),
}


@pytest.mark.parametrize(("spectrum", "count"), MULTIPLE.values(), ids=MULTIPLE)
def test_every_copy_of_a_multiple_eigenvalue_is_found(spectrum, count):
    found = top_eigenvalues(with_eigenvalues(spectrum), count)
    expected = np.sort(spectrum)[::-1][:count]
    assert found.converged
    np.testing.assert_allclose(found.values, expected, rtol=2e-6, atol=1e-11 * abs(expected[0]))
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(count), atol=1e-12)
    if expected[0] > 0:
        assert found.upper() >= expected[0]


def test_copies_are_found_from_any_start_and_a_key_gives_the_same_bits():
    in_the_middle = MULTIPLE["two copies in the middle"][0]
    for values in (in_the_middle, np.r_[np.full(4, 5.0), np.linspace(1, 4.999, 290)]):
        K, expected = with_eigenvalues(values), np.sort(values)[::-1][:6]
        for seed in range(20):
            found = top_eigenvalues(K, 6, key=jax.random.key(seed))
            assert found.converged
            np.testing.assert_allclose(found.values, expected, rtol=1e-9)
    one, other = top_eigenvalues(K, 4), top_eigenvalues(K, 4)
    np.testing.assert_array_equal(one.vectors, other.vectors)


def test_converged_is_never_said_with_a_copy_missing():
    """Spectra drawn at random from few levels, close ones among them."""
    rng = np.random.default_rng(0)
    for seed in range(40):
        levels = np.cumsum(10.0 ** rng.integers(-5, 1, 12))
        spectrum = np.repeat(levels, rng.integers(1, 9, 12))
        spectrum = np.r_[spectrum, rng.uniform(0, levels[0], 60)]
        count = int(rng.integers(2, 20))
        found = top_eigenvalues(with_eigenvalues(spectrum, seed), count, key=jax.random.key(seed))
        if found.converged:
            expected = np.sort(spectrum)[::-1][:count]
            np.testing.assert_allclose(found.values, expected, rtol=4e-6)


def test_both_ends_of_a_large_kernel_have_all_their_copies():
    values = np.r_[np.full(4, 5.0), np.linspace(1, 4.999, 290), np.full(6, 0.01)]
    found = spectrum(with_eigenvalues(values), complete_order=100, top=6)
    assert not found.complete
    np.testing.assert_allclose(found.eigenvalues, np.sort(values)[::-1][:6], rtol=1e-9)
    np.testing.assert_allclose(found.smallest_eigenvalues, np.sort(values)[:8], rtol=1e-6)


def test_what_did_not_converge_is_a_lower_bound_all_the_same():
    K = np.diag(np.linspace(0.0, 1.0, 2000))  # crowded at the top
    found = top_eigenvalues(K, 3, tolerance=1e-12, restarts=1)
    assert not found.converged
    assert np.all(found.values <= [1.0, 1999 / 2000, 1998 / 2000])
    assert found.upper() >= 1.0


@pytest.mark.parametrize("krylov", [1, 2, 5, 12])
def test_the_chance_that_lanczos_misses_is_at_most_the_one_stated(krylov):
    """One eigenvalue 1 far from a continuum that is as hard as the proof's: Chebyshev nodes."""
    n, trials, chance = 40, 2000, 0.2
    error = lanczos_error(n, krylov, chance)
    nodes = np.cos(np.pi * (np.arange(n - 1) + 0.5) / (n - 1))
    values = np.append((1 - error) * (1 + nodes) / 2, 1.0)
    rng = np.random.default_rng(krylov)
    missed = 0
    for _ in range(trials):
        basis = np.vander(values / values.max(), krylov) * rng.standard_normal((n, 1))
        Q = np.linalg.qr(basis)[0]
        missed += np.linalg.eigvalsh(Q.T @ (values[:, None] * Q))[-1] < 1 - error
    assert missed / trials <= chance + 3 * np.sqrt(chance / trials)


def test_the_error_of_lanczos_by_hand_and_its_limits():
    # q = 1: 2 sqrt((n - 1) / (2 pi)) sqrt((1 - e) / e) = delta.
    odds = (0.1 / (2 * np.sqrt(9 / (2 * np.pi)))) ** 2
    assert lanczos_error(10, 1, 0.1) == pytest.approx(1 / (1 + odds))
    errors = [lanczos_error(10**4, q, 1e-6) for q in (10, 40, 160, 640)]
    assert errors == sorted(errors)[::-1]
    # T_{q-1} doubles its exponent with q: a quarter of the error, nearly.
    assert errors[2] / errors[3] == pytest.approx(16, rel=0.3)


@pytest.mark.parametrize(
    ("operator", "count", "complaint"),
    [
        (np.ones((2, 3)), 1, "give a square one"),
        (np.eye(3), 0, "give a number from 1 to 3"),
        (np.full((50, 50), np.nan), 1, "not finite"),
    ],
)
def test_unusable_operators(operator, count, complaint):
    with pytest.raises(InputError, match=complaint):
        top_eigenvalues(operator, count)


def test_an_upper_bound_needs_a_semidefinite_operator_and_a_probability():
    with pytest.raises(InputError, match="semidefinite"):
        top_eigenvalues(-np.eye(4)).upper()
    with pytest.raises(InputError, match="a probability between 0 and 1"):
        lanczos_error(10, 3, 1.0)
