"""The bound on the curvature of the residual against the whole Hessian."""

import jax
import numpy as np
import pytest

from networks import dense_hessian
from overparam import Measure, Problem
from overparam.certificate.trajectory_points import couplings_around, measure_point
from overparam.certificate.trajectory_steps import see_layers
from overparam.jacobian.bounds import jacobian_bounds
from overparam.jacobian.mlp_bounds import base_of
from overparam.theorems.trajectory_curvature import _block_norm, exact, layered_curvature
from tiny import Tiny


def hessian_norm(problem, params, ghat):
    """|D^2 <F, ghat>|, dense."""
    weighted = problem.measure.weights[:, None] * ghat
    hessian = dense_hessian(problem.mlp, params, problem.measure.x, weighted)
    return float(np.abs(np.linalg.eigvalsh(hessian)).max())


def seen_by(problem, params, ghat):
    with jax.enable_x64(True):
        found = see_layers(problem.mlp, params, problem.measure.x, problem.measure.weights, ghat)
        return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("hidden", [(6,), (6, 5), (5, 6, 4), (4, 4, 4, 3)], ids=str)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("activation", ["gelu", "tanh", "sin"])
@pytest.mark.sample(1)
def test_the_bound_is_above_the_hessians_norm(hidden, outputs, activation):
    """At the cell's first point and elsewhere in it, for residuals of any kind."""
    ratios = []
    for seed in range(2):
        tiny = Tiny(hidden, activation, outputs, weight_scale=1.3, bias_scale=0.4)
        problem, params = tiny.problem(seed), tiny.start(seed)
        rng = np.random.default_rng(seed)
        base = measure_point(problem, params, 0, proved=True).base
        couplings = couplings_around(problem, params, base, 0.1)
        for moved in (0.0, 0.09):
            there = jax.tree.map(lambda a: a + moved * _unit(rng, a), params)  # noqa: B023
            there = params if not moved else _within(params, there, 0.1)
            for ghat in (rng.standard_normal((5, outputs)), np.eye(5)[:, :1] * np.ones(outputs)):
                seen = seen_by(problem, there, ghat)
                bound = float(layered_curvature(seen, couplings, exact(problem.mlp.layers)))
                ratios.append(bound / hessian_norm(problem, there, ghat))
    assert min(ratios) >= 1
    assert max(ratios) < 12 * 4 ** len(hidden)  # crude in depth: matrices of weights separate


def test_the_worst_direction_of_a_linear_chain_is_nearly_met():
    """Scalars in a row, one point: R is then the Hessian of a product, which layers resolve."""
    tiny = Tiny((1, 1), "identity", 1, bias_scale=0.0)
    problem, params = tiny.problem(0), tiny.start(0)
    base = measure_point(problem, params, 0, proved=True).base
    couplings, ghat = couplings_around(problem, params, base, 0.0), np.eye(5)[:, :1]
    bound = layered_curvature(seen_by(problem, params, ghat), couplings, exact(3))
    assert 1 <= float(bound) / hessian_norm(problem, params, ghat) < 1.5


def test_squares_of_squares_do_not_vanish():
    """The fourth powers that Schatten norms take of these points are below float64's numbers."""
    tiny = Tiny((3, 4), "tanh", 1, bias_scale=0.0)
    problem, params = tiny.problem(0), tiny.start(0)
    x, ghat = 1e-90 * problem.measure.x, np.ones((5, 1))
    problem = Problem(tiny.model, Measure(x, problem.targets, problem.measure.weights), "squared")
    base = base_of(jacobian_bounds(problem, params))
    couplings = couplings_around(problem, params, base, 0.0)
    bound = float(layered_curvature(seen_by(problem, params, ghat), couplings, exact(3)))
    assert 1 <= bound / hessian_norm(problem, params, ghat) < 50


def test_points_outside_a_batch_hide_nothing():
    """Theirs is no weight; the squares of what is multiplied by the others' must be numbers."""
    tiny = Tiny((16, 16), "tanh", 1, points=40, in_dim=5, bias_scale=0.0)
    problem, (matrices, biases) = tiny.problem(0), tiny.start(0)
    small, large, last = (s * w for s, w in zip((0.05, 3.0, 0.05), matrices, strict=True))
    params, x = ((small, large, last), biases), problem.measure.x
    weights = np.where(np.arange(40) < 4, 0.25, 0.0)
    ghat = np.ones((40, 1))
    couplings = couplings_around(problem, params, base_of(jacobian_bounds(problem, params)), 0.0)
    with jax.enable_x64(True):
        seen = jax.tree.map(np.asarray, see_layers(problem.mlp, params, x, weights, ghat))
    bound = float(layered_curvature(seen, couplings, exact(3)))
    hessian = dense_hessian(problem.mlp, params, x, weights[:, None] * ghat)
    assert 1 <= bound / np.abs(np.linalg.eigvalsh(hessian)).max() < 3


def test_no_residual_and_a_point_of_almost_no_weight():
    """Nothing is divided by 0."""
    tiny = Tiny((3, 4), "tanh", 1)
    problem, params = tiny.problem(0), tiny.start(0)
    weights = np.array([1e-25, 1.0, 1.0, 1.0, 1.0])
    problem = Problem(tiny.model, Measure(problem.measure.x, problem.targets, weights), "squared")
    couplings = couplings_around(problem, params, base_of(jacobian_bounds(problem, params)), 0.0)
    seen = seen_by(problem, params, np.zeros((5, 1)))
    assert 0 <= layered_curvature(seen, couplings, exact(3)) < 1e-280


def test_products_of_what_is_off():
    """(1 + kappa)^p - 1, which p kappa is below."""
    off = exact(3)._replace(relative=0.5)
    assert [off.apart(p) for p in (1, 2, 3, 4)] == [0.5, 1.25, 2.375, 4.0625]
    assert exact(3).apart(4) == 0.0


def _unit(rng, a):
    return rng.standard_normal(np.shape(a))


def _within(a, b, radius):
    """The point of the segment from a to b at a distance of 99 % of a radius, or b."""
    gap = np.sqrt(sum(np.sum((p - q) ** 2) for p, q in _pairs(a, b)))
    share = min(1.0, 0.99 * radius / gap)
    return jax.tree.map(lambda p, q: p + share * (q - p), a, b)


def _pairs(a, b):
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


def test_the_norm_of_the_blocks():
    """Above the spectral radius, and close to it."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        half = rng.uniform(0, 1, (4, 4)) ** 4
        matrix = half + half.T
        exact_norm = np.linalg.eigvalsh(matrix)[-1]
        assert exact_norm <= _block_norm(matrix.tolist()) * (1 + 1e-14) <= 1.2 * exact_norm
    assert _block_norm([[0.0, 0.0], [0.0, 0.0]]) < 1e-280
