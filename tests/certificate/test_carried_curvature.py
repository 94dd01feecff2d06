"""Bounds on |R| that are derived from an earlier step's (Lemma C12), against dense Hessians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam import gradient_descent
from overparam.certificate.trajectory_points import measure_point, third_around
from overparam.certificate.trajectory_steps import CHUNK, COLUMNS, cell_program
from overparam.jacobian.curvature import input_grams, neuron_curvature
from overparam.jacobian.random_curvature import DRAWINGS
from tiny import Tiny

CASES = [Tiny((5,), "gelu", 1, points=8), Tiny((4,), "tanh", 2, points=9)]
REACH, STEPS = 0.1, 100


@pytest.mark.parametrize("tiny", CASES, ids=str)
@pytest.mark.sample(1)
def test_derived_bounds_are_above_the_hessian_and_near_those_made_anew(tiny):
    problem, start = tiny.problem(3, centred=True), tiny.start(3)
    x, weights = problem.measure.x, problem.measure.weights
    point = measure_point(problem, start, 0, False)
    eta = 0.002 / point.jacobian_norm**2
    bends = point.bounds.lipschitz(REACH), third_around(problem, point, REACH)
    grams = input_grams(problem.mlp, x)
    data = (x, problem.targets, weights, problem.offset, None, grams)
    with jax.enable_x64(True):
        cell = cell_program(problem.mlp, problem.loss, "neurons", DRAWINGS[0], CHUNK)
        limits = np.float64(REACH), np.float64(np.inf), np.int32(STEPS), np.float64(0.0)
        draws = jax.random.key(0), np.int32(0)
        _, rows, ghats, made, _ = cell(start, start, start, data, eta, bends, limits, draws)
        bounds = np.asarray(rows)[: int(made), COLUMNS.index("curvature")]
        _, back = ravel_pytree(start)
        bent = jax.jit(jax.hessian(lambda t, g: jnp.vdot(g, problem.mlp.apply(back(t), x))))
        derived = 0
        for step in range(3, len(bounds), 23):
            here = gradient_descent(problem, start, eta, step, dtype="float64").params
            weighted = weights[:, None] * ghats[step]
            hessian = np.asarray(bent(ravel_pytree(here)[0], weighted))
            anew = float(neuron_curvature(problem.mlp, here, grams, x, weighted))
            assert np.abs(np.linalg.eigvalsh(hessian)).max() <= bounds[step] <= 1.15 * anew
            derived += bool(bounds[step] > anew * (1 + 1e-5))
    assert derived
