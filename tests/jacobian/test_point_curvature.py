"""|R| at a point by a random vector, against the dense Hessian."""

import math

import mpmath as mp
import numpy as np
import pytest

from networks import dense_hessian
from overparam.jacobian import point_curvature
from overparam.jacobian.point_curvature import DEGREE, Bend, bend_at
from tiny import Tiny

CASES = [Tiny((6,), "gelu", 1), Tiny((5, 4), "tanh", 2), Tiny((4, 3, 3), "softplus", 1)]


def dense(problem, params, weighted):
    """The extreme eigenvalues of the Hessian of <F, ghat>."""
    found = np.linalg.eigvalsh(dense_hessian(problem.mlp, params, problem.measure.x, weighted))
    return -found[0], found[-1]


def at(tiny, seed):
    problem, params = tiny.problem(0), tiny.start(seed)
    ghat = problem.predict(params) - problem.targets
    return problem, params, problem.measure.weights[:, None] * ghat


@pytest.mark.parametrize("tiny", CASES, ids=str)
@pytest.mark.sample(1)
def test_the_bounds_hold_on_both_sides_and_are_close(tiny):
    for seed in (1, 2):
        problem, params, weighted = at(tiny, seed)
        down, up = dense(problem, params, weighted)
        found = bend_at(problem.function, params, problem.measure.x, weighted, seed=seed)
        assert down <= found.down <= down + 0.1 * (down + up)
        assert up <= found.up <= up + 0.1 * (down + up)


@pytest.mark.parametrize("share", [-0.3, -0.2, -0.05])
def test_a_guess_that_is_far_too_low_costs_sharpness_only(monkeypatch, share):
    monkeypatch.setattr(point_curvature, "BEYOND", share)
    problem, params, weighted = at(CASES[1], 1)
    down, up = dense(problem, params, weighted)
    found = bend_at(problem.function, params, problem.measure.x, weighted)
    assert down <= found.down <= down + 0.4 * (down + up)
    assert up <= found.up <= up + 0.4 * (down + up)


def test_it_scales_with_ghat_down_to_the_smallest_numbers():
    problem, params, weighted = at(CASES[0], 1)
    one = bend_at(problem.function, params, problem.measure.x, weighted)
    small = bend_at(problem.function, params, problem.measure.x, 2.0**-900 * weighted)
    assert small.down == pytest.approx(2.0**-900 * one.down, rel=1e-9)
    nothing = bend_at(problem.function, params, problem.measure.x, 0 * weighted)
    assert (nothing.down, nothing.up) == (0.0, 0.0)
    problem, params, weighted = at(Tiny((), "identity", 1), 1)
    linear = bend_at(problem.function, params, problem.measure.x, weighted)
    assert 0 < max(linear.down, linear.up) < 1e-12 * np.abs(weighted).max()  # it is not known


@pytest.mark.parametrize("factor", [0.7, -0.7])
def test_a_guess_of_width_zero_is_widened(monkeypatch, factor):
    """Of factor |theta|^2 / 2 every vector is an eigenvector, and without rounding that is seen."""
    guess = Bend(-factor, factor)
    monkeypatch.setattr(point_curvature, "guess_bend", lambda *_, **__: guess)
    found = bend_at(lambda p, x: x * (p @ p) / 2, np.ones(3), np.ones((1, 1)), np.array([[factor]]))
    assert max(factor, 0.0) <= found.up < max(factor, 0.0) + 0.1
    assert max(-factor, 0.0) <= found.down < max(-factor, 0.0) + 0.1


def test_the_probability_is_not_larger_than_it_is_said_to_be():
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
