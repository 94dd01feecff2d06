"""The variational autoencoder on a few digits: trained, certified, and what its minimum is."""

import jax
import numpy as np
import pytest

from overparam.applications.variational import variational_autoencoder
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

SETTINGS = {"hidden_widths": (64,), "weight_scale": 1.5}


@pytest.fixture
def app(small_digits, key):
    return variational_autoencoder(small_digits[0][:5], 4, key, **SETTINGS)


def test_the_objective_is_the_negative_elbo(app):
    """By hand in NumPy: two perceptrons, the reparametrised code, the closed form of the KL."""
    x, noise = app.problem.measure.x[:, :16], app.problem.measure.x[:, 16:]

    def perceptron(params, h):
        (w1, w2), (b1, b2) = jax.tree.map(np.float64, params)
        h = np.tanh(1.5 / np.sqrt(h.shape[1]) * h @ w1.T + 0.1 * b1[None])
        return 1.5 / np.sqrt(h.shape[1]) * h @ w2.T + 0.1 * b2[None]

    code = 0.2 * perceptron(app.params[0], x)  # keeps the log-variances below the cap
    params = (jax.tree.map(np.float64, app.params[0]), app.params[1])
    (w1, w2), (b1, b2) = params[0]
    params = (((w1, 0.2 * w2), (b1, 0.2 * b2)), params[1])
    mean, log_variance = code[:, :4], code[:, 4:]
    decoded = perceptron(params[1], mean + np.exp(log_variance / 2) * noise)
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(axis=1)
    by_hand = np.mean(0.5 * ((decoded - x) ** 2).sum(axis=1) + divergence)
    assert log_variance.max() < np.log(2)
    assert app.problem.objective(params) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.slow
def test_it_reaches_a_certified_anchor_which_has_memorised_the_noise(app, train_to_anchor):
    params, certificate = train_to_anchor(app)
    assert certificate.rigor == "estimated"
    assert certificate.reason.startswith("estimated")
    x, noise = app.problem.measure.x[:, :16], app.problem.measure.x[:, 16:]
    mean, deviation = app.encode(params, x)
    np.testing.assert_allclose(mean, 0.0, atol=1e-8)  # the posterior has collapsed
    np.testing.assert_allclose(deviation, 1.0, atol=1e-8)
    np.testing.assert_allclose(app.decode(params, noise), x, atol=1e-8)
    assert app.sample(params, jax.random.key(1), 3).shape == (3, 16)


@pytest.mark.slow
def test_several_draws_at_a_point(small_digits, key, train_to_anchor):
    app = variational_autoencoder(small_digits[0][:3], 3, key, samples=2, beta=0.5, **SETTINGS)
    assert app.problem.outputs == 2 * 3 + 2 * 16
    params, _ = train_to_anchor(app)
    decoded = app.decode(params, app.problem.measure.x[:, 16:].reshape(-1, 3))
    np.testing.assert_allclose(decoded, np.repeat(small_digits[0][:3], 2, axis=0), atol=1e-7)


def test_the_same_point_twice_is_refused_and_would_make_the_kernel_singular(small_digits, key, app):
    twice = small_digits[0][[0, 1, 0]]
    with pytest.raises(InputError, match=r"points 1 and 3 are equal.*samples=2"):
        variational_autoencoder(twice, 2, key, **SETTINGS)
    point = app.problem.measure.x[0]
    pairs = np.stack([point, np.append(point[:16], np.ones(4))])
    measure = Measure(pairs, app.problem.targets[[0, 0]])
    problem = Problem(app.network, measure, app.problem.loss)
    spectrum = np.linalg.eigvalsh(tangent_kernel(problem, app.params))
    assert abs(spectrum[0]) < 1e-12 * spectrum[-1]
    assert (np.abs(spectrum) < 1e-12 * spectrum[-1]).sum() == 8  # mean and log-variance, once each


@pytest.mark.slow
def test_ten_whole_digits(digits, key, train_to_anchor):
    app = variational_autoencoder(digits[0][:10], 6, key, hidden_widths=(256,), weight_scale=1.5)
    params, _ = train_to_anchor(app)
    np.testing.assert_allclose(app.encode(params, digits[0][:10])[1], 1.0, atol=1e-7)
