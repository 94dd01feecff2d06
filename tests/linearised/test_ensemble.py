"""The infinite ensemble against matrix formulas in NumPy, and against trained networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.linalg import expm, solve
from scipy.stats import chi2

from limiting_kernels import arc_cosine_limits
from networks import draw_inputs, draw_params
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.linearised.ensemble import infinite_ensemble, nngp_posterior
from overparam.linearised.training_curve import kernel_curve, training_curve
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

MODEL = MLP(3, (8,), 2, "relu", bias_scale=0.3)
X, NEW = draw_inputs(6, MODEL, 1), draw_inputs(4, MODEL, 2)
Y = np.random.default_rng(3).standard_normal((6, 2))
WEIGHTS = np.arange(1.0, 7.0)


def closed_form(transition, ridge, weights):
    """Equations 14 and 15 of Lee et al. (2019), with weights and a ridge, written anew.

    ``transition`` makes of (K + mu I) what is left of a residual: exp(-t .) or (I - eta .)^t.
    """
    w = np.full(6, 1 / 6) if weights is None else weights / weights.sum()
    every = np.concatenate([X, NEW])
    theta, sigma = arc_cosine_limits(every, every, bias_scale=0.3)
    rates = theta[:6, :6] @ np.diag(w) + ridge * np.eye(6)  # of the dual, in plain coordinates
    learned = np.diag(w) @ solve(rates, np.eye(6) - transition(rates))
    b = theta[6:, :6] @ learned
    whole = np.hstack([-b, np.eye(4)])  # F_t = b y + whole (F_0(X), F_0(NEW))
    return b @ Y, whole @ sigma @ whole.T


TRANSITIONS = {
    "flow": (2.5, None, lambda rates: expm(-2.5 * rates)),
    "steps": (7, 0.3, lambda rates: np.linalg.matrix_power(np.eye(6) - 0.3 * rates, 7)),
    "one step": (1, 0.3, lambda rates: np.eye(6) - 0.3 * rates),
    "the end": (math.inf, None, lambda rates: np.zeros((6, 6))),
    "the start": (0, 0.3, lambda rates: np.eye(6)),
}


@pytest.mark.parametrize("ridge", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["uniform", "weighted"])
@pytest.mark.parametrize("case", TRANSITIONS)
def test_mean_and_covariance_are_those_of_the_matrix_formula(case, weights, ridge):
    t, step, transition = TRANSITIONS[case]
    problem = Problem(MODEL, Measure(X, Y, weights))
    ensemble = infinite_ensemble(problem, step_size=step, ridge=ridge)
    found = ensemble.predict(NEW, t)
    mean, covariance = closed_form(transition, ridge, weights)
    np.testing.assert_allclose(found.mean, mean, atol=1e-10)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-10)
    np.testing.assert_allclose(ensemble.std(NEW, t), found.std, atol=1e-8)
    np.testing.assert_allclose(found.std, np.sqrt(np.diag(covariance)), atol=1e-8)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["uniform", "weighted"])
def test_the_bayesian_posterior_is_the_conditional_gaussian(weights):
    """By conditioning on one row at a time, which needs no matrix inverse."""
    problem = Problem(MODEL, Measure(X, Y, weights))
    found = nngp_posterior(problem, NEW, noise=0.4)
    every = np.concatenate([X, NEW])
    covariance, mean = arc_cosine_limits(every, every, bias_scale=0.3)[1], np.zeros((10, 2))
    counts = np.ones(6) if weights is None else 6 * weights / weights.sum()
    for row, count in enumerate(counts):
        gain = covariance[:, row] / (covariance[row, row] + 0.4 / count)
        mean = mean + np.outer(gain, Y[row] - mean[row])
        covariance = covariance - np.outer(gain, covariance[row])
    np.testing.assert_allclose(found.mean, mean[6:], atol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance[6:, 6:], atol=1e-12)


def test_training_nothing_but_the_last_layer_is_bayes_without_noise():
    """With Sigma for Theta the two posteriors agree: Lee et al. (2019), section 2.4."""
    problem = Problem(MODEL, Measure(X, Y))
    ensemble = infinite_ensemble(problem)
    sigma = ensemble.prior
    last = kernel_curve(problem, sigma / 6)
    cross = infinite_ntk(MODEL, NEW, X).nngp
    bayes = nngp_posterior(problem, NEW, noise=1e-11)
    np.testing.assert_allclose(last.predict(math.inf, cross), bayes.mean, atol=1e-7)


def test_a_ridge_is_descent_with_a_price_on_the_way():
    """a <- a + eta (r - K a - mu a), step by step, for a network of finite width."""
    model = MLP(3, (8,), 2, "tanh")
    problem = Problem(model, Measure(X, Y, WEIGHTS))
    params = draw_params(model)
    kernel, start = tangent_kernel(problem, params), np.asarray(problem.predict(params))
    curve = kernel_curve(problem, kernel, start, step_size=0.2, ridge=0.3)
    roots = np.repeat(np.sqrt(problem.measure.weights), 2)
    first = roots * (Y - start).ravel()
    dual = np.zeros(12)
    for t in range(40):
        fitted = (Y - (first - kernel @ dual).reshape(6, 2) / roots.reshape(6, 2)).ravel()
        np.testing.assert_allclose(curve.train(t).ravel(), fitted, atol=1e-12)
        np.testing.assert_allclose(curve.dual(t), dual, atol=1e-12)
        assert curve.excess(t) == pytest.approx(np.sum((first - kernel @ dual) ** 2) / 2)
        dual = dual + 0.2 * (first - kernel @ dual - 0.3 * dual)
    end = np.linalg.solve(kernel + 0.3 * np.eye(12), first)
    np.testing.assert_allclose(curve.dual(math.inf), end, atol=1e-12)
    assert curve.largest_step == pytest.approx(2 / (np.linalg.eigvalsh(kernel)[-1] + 0.3))


def test_samples_have_the_mean_and_the_covariance():
    found = infinite_ensemble(Problem(MODEL, Measure(X, Y))).predict(NEW)
    draws = found.sample(jax.random.key(0), 20_000)
    assert draws.shape == (20_000, 4, 2)
    np.testing.assert_array_equal(found.sample(jax.random.key(0), 20_000), draws)
    error = np.sqrt(np.diag(found.covariance) / 20_000)[:, None]
    assert np.all(np.abs(draws.mean(0) - found.mean) < 5 * error)
    for output in range(2):
        assert_covariance(np.cov(draws[:, :, output].T), found.covariance, 20_000)
    between = np.mean(np.prod(draws - found.mean, axis=2), axis=0)
    assert np.all(np.abs(between) < 5 * np.diag(found.covariance) / math.sqrt(20_000))


def assert_covariance(found, exact, draws, deviations=5.0, bias=0.0):
    """A sample covariance of normal draws, within its standard errors."""
    variances = np.diag(exact)
    error = np.sqrt((np.outer(variances, variances) + exact**2) / draws)
    assert np.all(np.abs(found - exact) < deviations * error + bias * np.abs(exact).max())


def test_training_points_are_certain_at_the_end():
    """Apart from rounding: an interpolant does not vary where it interpolates."""
    ensemble = infinite_ensemble(Problem(MODEL, Measure(X, Y)))
    found = ensemble.predict(X)
    np.testing.assert_allclose(found.mean, Y, atol=1e-9)
    np.testing.assert_allclose(found.covariance, 0, atol=1e-9)
    assert np.all(ensemble.std(X) < 1e-4)
    assert np.all(ensemble.std(NEW) > 0.01)


def test_held_out_targets_are_covered_as_often_as_said():
    """Targets drawn from the prior with noise: the posterior's standardised errors are normal."""
    rng = np.random.default_rng(5)
    model = MLP(2, (1,), 1, "erf", bias_scale=0.5)
    x = rng.standard_normal((220, 2))
    prior = np.asarray(infinite_ntk(model, x).nngp, dtype=np.float64)
    values = rng.multivariate_normal(np.zeros(220), prior)
    y = values + 0.3 * rng.standard_normal(220)
    found = nngp_posterior(Problem(model, Measure(x[:60], y[:60])), x[60:], noise=0.09)
    covariance = found.covariance + 0.09 * np.eye(160)
    gap = y[60:] - found.mean[:, 0]
    statistic = gap @ np.linalg.solve(covariance, gap)
    assert chi2.cdf(statistic, 160) == pytest.approx(0.5, abs=0.49)
    inside = np.abs(gap) < 1.645 * np.sqrt(np.diag(covariance))
    assert 0.8 < inside.mean() < 0.98


@pytest.mark.slow
def test_the_marginal_likelihood_can_be_maximised_by_an_optimiser_of_jax():
    """Scales that the data were drawn with are found again, roughly: they have a likelihood."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 2))
    true = infinite_ntk(MLP(2, (1,), 1, "erf", weight_scale=1.7, bias_scale=0.6), x).nngp
    y = np.linalg.cholesky(true + 0.01 * np.eye(40)) @ rng.standard_normal(40)

    def loss(logs):
        weight, bias = jnp.exp(logs)
        model = MLP(2, (1,), 1, "erf", weight_scale=weight, bias_scale=bias)
        root = jnp.linalg.cholesky(infinite_ntk(model, jnp.asarray(x)).nngp + 0.01 * jnp.eye(40))
        white = jax.scipy.linalg.solve_triangular(root, jnp.asarray(y), lower=True)
        return white @ white / 2 + jnp.log(jnp.diag(root)).sum()

    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(loss))
        start = logs = jnp.zeros(2)
        adam = optax.adam(0.1)
        state = adam.init(logs)
        for _ in range(100):
            _, gradient = value_and_grad(logs)
            change, state = adam.update(gradient, state)
            logs = optax.apply_updates(logs, change)
        value, gradient = value_and_grad(logs)
        assert np.linalg.norm(gradient) < 0.5
        assert value < value_and_grad(start)[0] - 5
        assert value <= value_and_grad(jnp.log(jnp.array([1.7, 0.6])))[0] + 1e-2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ridge": -1.0}, "ridge must be 0 or more"),
        ({"ridge": math.nan}, "ridge must be 0 or more"),
        ({"step_size": 0.0}, "step_size must be positive"),
    ],
)
def test_arguments_out_of_range_are_named(given, says):
    with pytest.raises(InputError, match=says):
        infinite_ensemble(Problem(MODEL, Measure(X, Y)), **given)


def test_a_centred_network_does_not_vary():
    problem = Problem(MODEL, Measure(X, Y), centered_at=draw_params(MODEL))
    with pytest.raises(InputError, match="centred network"):
        infinite_ensemble(problem)
    with pytest.raises(InputError, match="centred network"):
        nngp_posterior(problem, NEW, noise=0.1)
    free = Problem(MODEL, Measure(X, Y))
    for noise in (0.0, -1.0, math.inf):
        with pytest.raises(InputError, match="noise must be a positive"):
            nngp_posterior(free, NEW, noise=noise)
    with pytest.raises(InputError, match="diverges along"):
        infinite_ensemble(free, step_size=100.0).predict(NEW)
    with pytest.raises(InputError, match="whole number of steps"):
        infinite_ensemble(free, step_size=0.1).predict(NEW, 1.5)


@pytest.mark.slow
@pytest.mark.parametrize("t", [3, 40])
def test_a_thousand_trained_networks_of_width_2048(t):
    """Linearised networks, each with its own kernel: the rest is Monte Carlo and 1 / width."""
    model = MLP(3, (2048,), 1, "gelu", bias_scale=0.3)
    problem = Problem(model, Measure(X, Y[:, :1]))
    step = 1.0 / float(infinite_ensemble(problem).curve.eigenvalues[-1])
    ends = []
    for seed in range(1000):
        params = model.init(jax.random.key(seed))
        curve = training_curve(problem, params, step_size=step)
        cross = empirical_ntk(model, params, NEW, X)
        start = np.asarray(problem.predict(params, NEW))
        ends.append(curve.predict(t, np.asarray(cross, dtype=np.float64), start)[:, 0])
    found = infinite_ensemble(problem, step_size=step).predict(NEW, t)
    ends = np.array(ends)
    error = found.std / math.sqrt(1000)
    np.testing.assert_array_less(np.abs(ends.mean(0) - found.mean[:, 0]), 4 * error + 2e-3)
    assert_covariance(np.cov(ends.T), found.covariance, 1000, deviations=4.0, bias=2e-3)
