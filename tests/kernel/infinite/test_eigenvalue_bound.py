"""Bounds on lambda_min of the limiting kernels against computed spectra: never above."""

import numpy as np
import pytest

from overparam.errors import InputError
from overparam.kernel.infinite.eigenvalue_bound import (
    dual_eigenvalue_bound,
    hadamard_eigenvalues,
    infinite_eigenvalue_bound,
)
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.activation import ACTIVATIONS
from overparam.model.mlp import MLP


def draw(n, d, seed, sphere):
    x = np.random.default_rng(seed).standard_normal((n, d))
    return x * np.sqrt(d) / np.linalg.norm(x, axis=1, keepdims=True) if sphere else x


def spectra(model, x):
    got = infinite_ntk(model, x)
    return np.linalg.eigvalsh(got.ntk)[0], np.linalg.eigvalsh(got.nngp)[0], np.trace(got.ntk)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.sample(3)
def test_bounds_are_below_the_spectrum(name):
    cases = [(6, 8, True, 1), (20, 3, False, 2), (15, 40, False, 1), (9, 9, True, 0)]
    for seed, (n, d, sphere, depth) in enumerate(cases):
        model = MLP(d, (1,) * depth, 1, name, weight_scale=1.4, bias_scale=0.2, output_scale=1.3)
        x = draw(n, d, seed, sphere)
        ntk, nngp, trace = spectra(model, x)
        bound = infinite_eigenvalue_bound(model, x)
        assert bound.ntk <= ntk + 1e-12 * trace
        assert bound.nngp <= nngp + 1e-12 * trace
        assert bound.ntk >= bound.nngp >= 0


@pytest.mark.parametrize("gap", [1e-1, 1e-2, 1e-3])
def test_near_neighbours_do_not_break_the_bounds(gap):
    x = draw(8, 5, 9, True)
    x[1] = x[0] + gap * x[2]
    for name in ("relu", "gelu", "erf"):
        model = MLP(5, (1, 1), 1, name, bias_scale=0.0)
        ntk, nngp, trace = spectra(model, x)
        bound = infinite_eigenvalue_bound(model, x, powers=30)
        assert 0 < bound.ntk <= ntk + 1e-12 * trace
        assert bound.nngp <= nngp + 1e-12 * trace


def test_the_bound_is_attained_by_orthogonal_points():
    """R = I: every power has eigenvalue 1, and only the constant term is lost."""
    model = MLP(6, (1,), 1, "relu", weight_scale=np.sqrt(2), bias_scale=0.0)
    x = np.sqrt(6) * np.eye(6)
    ntk, nngp, _ = spectra(model, x)
    bound = infinite_eigenvalue_bound(model, x)
    np.testing.assert_allclose(bound.nngp, nngp, rtol=1e-12)
    np.testing.assert_allclose(bound.ntk, ntk, rtol=1e-12)


def test_slack_on_random_points_is_moderate():
    """Recorded: one hidden layer of relu, 30 points in 20 dimensions; a factor below 3."""
    model = MLP(20, (1,), 1, "relu", bias_scale=0.0)
    x = draw(30, 20, 3, True)
    ntk, _, _ = spectra(model, x)
    bound = infinite_eigenvalue_bound(model, x)
    assert 1 <= ntk / bound.ntk < 3


def test_hadamard_powers_grow():
    x = draw(12, 4, 1, True) / 2
    found = hadamard_eigenvalues(x @ x.T, 20)
    assert found[0] == found[1] == found[2] == 0 or found[1] < 1e-12  # rank 4, then 10, of 12
    assert np.all(np.diff(found) >= 0)
    direct = [max(np.linalg.eigvalsh((x @ x.T) ** k)[0], 0) for k in range(1, 21)]
    np.testing.assert_allclose(found[1:], direct, atol=1e-14)


def test_the_theorem_on_a_polynomial():
    """Four coefficients that depend on the point: the matrix minus diag(t) is semidefinite."""
    rng = np.random.default_rng(5)
    x = draw(7, 6, 2, True) / np.sqrt(6)
    correlation, a = x @ x.T, rng.standard_normal((7, 4))
    matrix = sum(np.outer(a[:, k], a[:, k]) * correlation**k for k in range(4))
    for powers in (1, 2, 3, 4, 6):
        squares = np.pad(a**2, ((0, 0), (0, 4)))[:, :powers]
        t = dual_eigenvalue_bound(
            squares=squares,
            second_moments=(a**2).sum(1),
            eigenvalues=hadamard_eigenvalues(correlation, powers),
        )
        assert np.linalg.eigvalsh(matrix - np.diag(t))[0] >= -1e-12


def test_inputs_without_a_bound_are_refused():
    model = MLP(2, (1,), 1, "relu", bias_scale=0.0)
    with pytest.raises(InputError, match=r"zero in row 2 .* leave the row out"):
        infinite_eigenvalue_bound(model, np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(InputError, match="powers must be a whole number, 1 or more, not 0"):
        infinite_eigenvalue_bound(model, np.ones((1, 2)), powers=0)
