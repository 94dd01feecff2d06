"""A small problem that Theorem 1 certifies, with a residual far above rounding."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from overparam.certificate.certificate import Certificate
from overparam.certificate.certify import anchor
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gauss_newton import gauss_newton


class Certified(NamedTuple):
    problem: Problem
    params: tuple
    certificate: Certificate


@pytest.fixture(scope="session")
def certified() -> Certified:
    model = MLP(3, (64,), 1, "tanh", output_scale=10.0)
    draw = np.random.default_rng(0)
    x = draw.standard_normal((4, 3))
    measure = Measure(x, np.array([1.0, -1.0, -1.0, 1.0]), np.array([1.0, 2.0, 1.0, 2.0]))
    initial = model.init(jax.random.key(0))
    problem = Problem(model, measure, centered_at=initial)
    found = gauss_newton(problem, initial, tolerance=1e-12)
    assert found.converged
    params = jax.tree.map(lambda a: a + 0.01 * draw.standard_normal(a.shape), found.params)
    params = jax.tree.map(np.float32, params)
    certificate = anchor(problem, params)
    assert certificate.certified
    assert certificate.residual > 0.01
    return Certified(problem, params, certificate)
