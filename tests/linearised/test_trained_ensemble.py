"""The infinite ensemble beside 1,000 networks that are trained, not linearised."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import draw_inputs
from overparam.linearised.ensemble import infinite_ensemble
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

NETWORKS, TOGETHER = 1000, 50
NARROW, WIDE = (MLP(3, (width,), 1, "gelu", bias_scale=0.3) for width in (512, 2048))
X, NEW = draw_inputs(6, WIDE, 1), draw_inputs(4, WIDE, 2)
Y = np.random.default_rng(3).standard_normal((6, 1))


def trained(model, step, steps):
    """Predictions at NEW of networks after full-batch gradient descent, shape (NETWORKS, 4)."""

    def loss(params):
        return jnp.mean((model.apply(params, X) - Y) ** 2) / 2

    def descend(params, _):
        move = jax.tree.map(lambda p, g: p - step * g, params, jax.grad(loss)(params))
        return move, None

    def end(key):
        params, _ = jax.lax.scan(descend, model.init(key), length=steps)
        return model.apply(params, NEW)[:, 0]

    keys = jax.random.split(jax.random.key(0), NETWORKS).reshape(-1, TOGETHER)
    several = jax.jit(jax.vmap(end))
    return np.concatenate([np.asarray(several(part), dtype=np.float64) for part in keys])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 40])
def test_mean_and_covariance_are_those_of_trained_networks(steps):
    """The covariance at width 2,048 within four Monte Carlo errors, and so the mean.

    But for its bias of the order 1 / width, which after 40 steps is seen: at a quarter of the width
    it is four times as large.
    """
    problem = Problem(WIDE, Measure(X, Y))
    step = 1 / float(infinite_ensemble(problem).curve.eigenvalues[-1])
    ensemble = infinite_ensemble(problem, step_size=step)
    exact = ensemble.predict(NEW, steps)
    narrow, found = (trained(model, step, steps) for model in (NARROW, WIDE))
    bias = np.abs(narrow.mean(0) - exact.mean[:, 0]) / 4
    error = exact.std * math.sqrt((1 + 1 / 16) / NETWORKS)
    np.testing.assert_array_less(np.abs(found.mean(0) - exact.mean[:, 0]), bias + 4 * error)
    covariance, variances = exact.covariance, np.diag(exact.covariance)
    noise = np.sqrt((np.outer(variances, variances) + covariance**2) / NETWORKS)
    np.testing.assert_array_less(np.abs(np.cov(found.T) - covariance), 4 * noise)
    # This would tell: the covariance after four times the steps is beyond reach.
    later = ensemble.predict(NEW, 4 * steps).covariance
    assert np.any(np.abs(later - covariance) > 8 * noise)
