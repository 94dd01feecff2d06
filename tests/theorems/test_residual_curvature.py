"""The bound on the curvature of the residual against the whole Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam.certificate.trajectory_points import couplings_around, measure_point
from overparam.certificate.trajectory_steps import see_layers
from overparam.theorems.residual_curvature import Off, _block_norm, two_layer_curvature
from tiny import Tiny

EXACT = Off(0.0, 1.0, (0.0, 0.0), (0.0, 0.0), 0.0)


def hessian_norm(problem, params, ghat):
    """|D^2 <F, ghat>|, dense."""
    weighted, x = problem.measure.weights[:, None] * ghat, problem.measure.x
    with jax.enable_x64(True):
        flat, back = ravel_pytree(params)
        value = lambda t: jnp.vdot(weighted, problem.mlp.apply(back(t), x))  # noqa: E731
        return float(np.abs(np.linalg.eigvalsh(np.asarray(jax.hessian(value)(flat)))).max())


def seen_by(problem, params, ghat):
    with jax.enable_x64(True):
        found = see_layers(problem.mlp, params, problem.measure.x, problem.measure.weights, ghat)
        return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize("activation", ["gelu", "tanh", "sin"])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.sample(2)
def test_two_hidden_layers(activation, outputs):
    """Above the Hessian's norm, by no more than a factor that small networks show."""
    ratios = []
    for seed in range(3):
        tiny = Tiny((6, 5), activation, outputs, weight_scale=1.3, bias_scale=0.4)
        problem, params = tiny.problem(seed), tiny.start(seed)
        rng = np.random.default_rng(seed)
        point = measure_point(problem, params, 0, proved=True)
        couplings = couplings_around(problem, point, 0.1)
        for moved in (0.0, 0.09):
            there = jax.tree.map(lambda a: a + moved * _unit(rng, a), params)  # noqa: B023
            there = params if not moved else _within(params, there, 0.1)
            for ghat in (rng.standard_normal((5, outputs)), np.eye(5)[:, :1] * np.ones(outputs)):
                bound = float(two_layer_curvature(seen_by(problem, there, ghat), couplings, EXACT))
                ratios.append(bound / hessian_norm(problem, there, ghat))
    assert min(ratios) >= 1
    assert max(ratios) < 40


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
        a, b, c, d, e = rng.uniform(0, 1, 5) ** 4
        exact = np.linalg.eigvalsh(np.array([[a, b, c], [b, d, e], [c, e, 0]]))[-1]
        assert exact <= _block_norm(a, b, c, d, e) * (1 + 1e-14) <= 1.2 * exact
    assert _block_norm(0.0, 0.0, 0.0, 0.0, 0.0) == 0
