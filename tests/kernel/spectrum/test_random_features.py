"""Random features: unbiased, with the variance that was proved and the error they say."""

import jax
import numpy as np
import pytest

from limiting_kernels import arc_cosine_limits
from networks import dense_jacobian, draw_inputs, draw_params
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.spectrum.random_features import (
    RandomFeatures,
    sampled_kernels,
    tangent_sketch,
)
from overparam.model.mlp import MLP

MODEL = MLP(3, (6, 5), 2, "tanh", weight_scale=1.2, bias_scale=0.4)
PARAMS = draw_params(MODEL)
X = draw_inputs(4, MODEL, 1)
J = dense_jacobian(MODEL, PARAMS, X)
K = J @ J.T


def sketch(features, seed=0, **settings):
    return tangent_sketch(MODEL, PARAMS, X, features, jax.random.key(seed), **settings)


def variance():
    """Of an entry of a single-feature estimate, as docs/spectrum.md proves it."""
    return np.outer(K.diagonal(), K.diagonal()) + K**2 - 2 * (J**2) @ (J**2).T


@pytest.mark.slow
def test_the_sketch_is_unbiased_with_the_variance_proved():
    m = 20_000
    factor = sketch(m).factor * np.sqrt(m)
    products = np.einsum("im,jm->ijm", factor, factor)
    error = np.sqrt(variance() / m)
    assert np.all(np.abs(products.mean(axis=2) - K) <= 5 * error + 1e-12)
    # The variance of a variance is at most a moment of order 8: sampled, too.
    squares = np.square(products - K[:, :, None])
    spread = squares.std(axis=2, ddof=1) / np.sqrt(m)
    assert np.all(np.abs(squares.mean(axis=2) - variance()) <= 5 * spread + 1e-12)


def test_signs_are_exact_on_the_diagonal_of_a_network_with_one_parameter():
    def line(params, x):
        return params * x

    features = tangent_sketch(line, np.array(0.3), X[:, :1], 8, jax.random.key(0), batches=2)
    np.testing.assert_allclose(features.factor @ features.factor.T, X[:, :1] @ X[:, :1].T)


@pytest.mark.slow
def test_the_error_it_states_is_the_error_it_makes():
    m, rows, columns = 64, np.array([0, 3, 5]), np.array([0, 1, 5])
    scores, estimates, actual = [], [], []
    for seed in range(200):
        found = sketch(m, seed)
        means, errors = found.entries(rows, columns)
        np.testing.assert_allclose(means, (found.factor @ found.factor.T)[rows, columns])
        scores.append((means - K[rows, columns]) / errors)
        estimates.append(found.frobenius_error() ** 2)
        actual.append(np.square(found.factor @ found.factor.T - K).sum())
    # Student's t with 7 degrees of freedom has the variance 7 / 5; 600 dependent scores.
    assert np.abs(np.mean(scores)) <= 0.3
    assert np.mean(np.square(scores)) == pytest.approx(7 / 5, rel=0.3)
    exact = variance().sum() / m
    for mean in (estimates, actual):
        assert np.abs(np.mean(mean) - exact) <= 4 * np.std(mean) / np.sqrt(200)


def test_frobenius_error_by_the_definition():
    found = RandomFeatures(np.random.default_rng(0).standard_normal((5, 12)), batches=4)
    parts = [4 * b @ b.T for b in np.split(found.factor, 4, axis=1)]
    mean = sum(parts) / 4
    expected = np.sqrt(sum(np.square(part - mean).sum() for part in parts) / 12)
    assert found.frobenius_error() == pytest.approx(expected)


@pytest.mark.slow
def test_the_same_key_gives_features_that_fit_new_points():
    key, new = jax.random.key(5), draw_inputs(3, MODEL, 2)
    both = tangent_sketch(MODEL, PARAMS, np.concatenate([X, new]), 32, key)
    apart = [tangent_sketch(MODEL, PARAMS, x, 32, key).factor for x in (X, new)]
    np.testing.assert_allclose(both.factor, np.concatenate(apart), rtol=1e-12)
    other = tangent_sketch(MODEL, PARAMS, X, 32, jax.random.key(6))
    assert not np.allclose(other.factor, apart[0])


@pytest.mark.slow
def test_float32_stays_float32():
    narrow = jax.tree.map(np.float32, PARAMS)
    found = tangent_sketch(MODEL, narrow, X.astype(np.float32), 16, jax.random.key(0))
    assert found.factor.dtype == np.float32
    np.testing.assert_allclose(found.factor, sketch(16).factor, rtol=1e-3, atol=1e-4)


def test_regression_with_many_features_is_regression_with_the_kernel():
    y = np.random.default_rng(0).standard_normal(len(K))
    found = sketch(20_000)
    exact = np.linalg.solve(K + 3.0 * np.eye(len(K)), y)
    np.testing.assert_allclose(found.solve(y, 3.0), exact, atol=0.08 * np.abs(exact).max())
    np.testing.assert_allclose(
        found.factor @ found.fit(y, 3.0), y - 3.0 * found.solve(y, 3.0), atol=1e-10
    )


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"features": 10}, "features = 10, batches = 8"),
        ({"features": 4}, "features = 4, batches = 8"),
        ({"features": 4, "batches": 1}, "give 2 or more batches"),
    ],
)
def test_unusable_settings(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        sketch(**settings)


# --- Limiting kernels ----


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.sample(1)
def test_means_over_networks_are_the_limits_with_one_hidden_layer(given):
    model = MLP(3, (40,), 5, "relu", weight_scale=1.3, bias_scale=0.5, output_scale=2.0)
    x = draw_inputs(4, model, 1)
    y = draw_inputs(3, model, 2) if given else None
    found = sampled_kernels(model, x, y, draws=100, key=jax.random.key(0))
    ntk, nngp = arc_cosine_limits(x, x if y is None else y, 2.0, 1.3, 0.5)
    assert np.all(np.abs(found.ntk - ntk) <= 4.5 * found.ntk_error)
    assert np.all(np.abs(found.nngp - nngp) <= 4.5 * found.nngp_error)
    assert np.all(found.ntk_error <= 0.05 * ntk.max())


def test_means_and_standard_errors_are_those_of_the_draws():
    model, key = MLP(3, (8,), 1, "tanh"), jax.random.key(1)
    with jax.enable_x64(True):
        draws = [model.init(jax.random.fold_in(key, i), dtype=np.float64) for i in range(5)]
        every = jax.jit(jax.vmap(hidden, in_axes=(None, 0)))
        covariances = [every(p, X) for p in draws]
    kernels = np.array([empirical_ntk(model, params, X) for params in draws])
    found = sampled_kernels(model, X, draws=5, key=key)
    np.testing.assert_allclose(found.ntk, kernels.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.ntk_error, kernels.std(axis=0, ddof=1) / np.sqrt(5), rtol=1e-9)
    nngp = np.array([np.asarray(h) @ np.asarray(h).T / 8 + 0.01 for h in covariances])
    np.testing.assert_allclose(found.nngp, nngp.mean(axis=0), rtol=1e-10)


def hidden(params, x):
    (first, _), (bias, _) = params
    return jax.numpy.tanh(first @ x / np.sqrt(3) + 0.1 * bias)


def test_one_network_has_no_standard_error():
    with pytest.raises(InputError, match="draws must be a whole number, 2 or more"):
        sampled_kernels(MODEL, X, draws=1, key=jax.random.key(0))
