"""|R| at a point by a random vector, against the dense Hessian."""

import math

import jax
import mpmath as mp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam.jacobian import point_curvature
from overparam.jacobian.point_curvature import DEGREE, curvature_at
from tiny import Tiny

CASES = [Tiny((6,), "gelu", 1), Tiny((5, 4), "tanh", 2), Tiny((4, 3, 3), "softplus", 1)]


def dense(problem, params, weighted):
    """The largest absolute eigenvalue of the Hessian of <F, ghat>."""
    with jax.enable_x64(True):
        flat, back = ravel_pytree(params)
        against = jax.hessian(
            lambda p: (weighted * problem.function(back(p), problem.measure.x)).sum()
        )
        return float(np.abs(np.linalg.eigvalsh(np.asarray(against(flat)))).max())


@pytest.mark.parametrize("tiny", CASES, ids=str)
def test_the_bound_holds_and_is_close(tiny):
    problem = tiny.problem(0)
    for seed in range(4):
        params = tiny.start(seed + 1)
        ghat = problem.predict(params) - problem.targets
        weighted = problem.measure.weights[:, None] * ghat
        exact = dense(problem, params, weighted)
        found = curvature_at(problem.function, params, problem.measure.x, weighted, seed=seed)
        assert exact <= found <= 1.2 * exact


def test_a_guess_that_is_far_too_low_costs_sharpness_only(monkeypatch):
    tiny = CASES[1]
    problem, params = tiny.problem(0), tiny.start(1)
    weighted = problem.measure.weights[:, None] * (problem.predict(params) - problem.targets)
    exact = dense(problem, params, weighted)
    for share in (0.05, 0.5, 0.9):
        monkeypatch.setattr(point_curvature, "ABOVE", share)
        found = curvature_at(problem.function, params, problem.measure.x, weighted)
        assert exact <= found <= 1.4 * exact


def test_it_scales_with_ghat_down_to_the_smallest_numbers():
    tiny = CASES[0]
    problem, params = tiny.problem(0), tiny.start(1)
    weighted = problem.measure.weights[:, None] * (problem.predict(params) - problem.targets)
    one = curvature_at(problem.function, params, problem.measure.x, weighted)
    tiny_one = curvature_at(problem.function, params, problem.measure.x, 2.0**-900 * weighted)
    assert tiny_one == pytest.approx(2.0**-900 * one, rel=1e-9)
    assert curvature_at(problem.function, params, problem.measure.x, 0 * weighted) == 0.0
    linear = Tiny((), "identity", 1)
    problem, params = linear.problem(0), linear.start(0)
    ghat = np.ones((linear.points, 1))
    assert curvature_at(problem.function, params, problem.measure.x, ghat) == 0.0


def test_the_probability_is_not_larger_than_it_is_said_to_be(monkeypatch):
    """With p = 0.3, thousands of one-dimensional draws: that is where a vector fails most easily.

    In one dimension, with a guess below |R|, the bound is wrong exactly if |x| <= epsilon.
    """
    p, ratio, rng = 0.3, 1.4, np.random.default_rng(0)
    x = np.abs(rng.standard_normal(200_000))
    epsilon = p * math.sqrt(math.pi / 2)
    left = np.cosh(DEGREE * np.arccosh(ratio)) * x
    bound = np.cosh(np.arccosh(np.maximum(1, left / epsilon)) / DEGREE)
    wrong = float((bound < ratio * (1 - 1e-12)).mean())
    assert wrong <= p
    exact = float(mp.erf(epsilon / mp.sqrt(2)))
    assert wrong == pytest.approx(exact, abs=4 * math.sqrt(p / len(x)))
