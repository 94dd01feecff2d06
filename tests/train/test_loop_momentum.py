"""Momentum with its step size in the state makes the steps of optax's own."""

import jax
import numpy as np
import optax
import pytest

from overparam.model.mlp import MLP
from overparam.precision import as_float64
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gradient_descent import train
from overparam.train.loop import accelerated


@pytest.mark.parametrize("step", [0.05, 0.2])
@pytest.mark.sample(1)
def test_accelerated_descent_is_optax_sgd_with_nesterov_momentum(step):
    rng = np.random.default_rng(0)
    problem = Problem(MLP(3, (8,), 1), Measure(rng.standard_normal((5, 3)), rng.standard_normal(5)))
    start = as_float64(problem.mlp.init(jax.random.key(0)))
    settings = {"steps": 30, "label": "momentum", "dtype": "float64"}
    ours = train(problem, start, accelerated(step), **settings).params
    theirs = train(problem, start, optax.sgd(step, momentum=0.9, nesterov=True), **settings).params
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
