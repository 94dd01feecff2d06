"""Of a loss that is known to be convex near its minimisers, kappa_t is M where it is not."""

import math

import jax.numpy as jnp
import pytest

from overparam.certificate.trajectory_run import Run
from overparam.losses import CustomIntegrand
from overparam.theorems.trajectory import Ball, next_spread
from tiny import Tiny

EDGE = math.asinh(1.5) ** 2 / 2
"""asinh(r)^2 / 2 is convex for |r| below 1.509."""

BALL = Ball(radius=1.0, jacobian_norm=1.0, lipschitz=1.0, third=1.0)


@pytest.fixture(scope="module")
def run():
    loss = CustomIntegrand(
        "asinh_near",
        lambda z, y: jnp.sum(jnp.arcsinh(z - y) ** 2) / 2,
        smoothness=1.0,
        pl_constant=lambda e: math.cosh(min(math.sqrt(2 * e), 300.0)) ** -2,
        nearest_minimiser=lambda z, y: y,
        nonconvexity=lambda e: 0.0 if e <= EDGE else math.inf,
    )
    tiny = Tiny((4,), "gelu", 1)
    return Run(tiny.problem(0, loss), tiny.start(0), 0.1)


@pytest.mark.parametrize(("residual", "kappa"), [(1.4, 0.0), (3.0, 1.0)])
def test_an_unknown_bend_is_one_that_smoothness_allows(run, residual, kappa):
    found = run._nonconvexity(math.asinh(residual), 0.0, BALL, 0.0)
    assert found == kappa
    given = {"spread": 0.0, "slack": 1.0, "gradient": 1.0, "exponent": 0.0, "error": 1e-16}
    first = next_spread(**given, ball=BALL, step_size=0.5, smoothness=1.0, nonconvexity=found)
    assert first == 1e-16  # nothing has deviated yet: 0 times whatever
