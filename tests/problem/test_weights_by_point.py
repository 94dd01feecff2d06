"""A loss with a weight for each point is evaluated at these points, and at no copies of them."""

import numpy as np
import pytest

from overparam import Measure, Problem
from overparam.losses import WeightedQuadratic

RNG = np.random.default_rng(0)
Y = RNG.standard_normal((5, 2))
NUMBERS = RNG.uniform(0.5, 2.0, (5, 2))
MATRICES = np.array([np.diag(row) + 0.1 for row in NUMBERS])


def constant(params, x):
    return params[None, :] + 0 * x


@pytest.mark.parametrize("weights", [NUMBERS, MATRICES], ids=["numbers", "matrices"])
def test_objective_and_excess_of_five_points(weights):
    shares = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    problem = Problem(constant, Measure(np.ones((5, 2)), Y, shares), WeightedQuadratic(weights))
    z = np.array([0.3, -1.0])
    full = weights if weights.ndim == 3 else np.array([np.diag(row) for row in weights])
    by_hand = sum(s * (z - y) @ w @ (z - y) / 2 for s, y, w in zip(shares, Y, full, strict=True))
    assert problem.objective(z) == pytest.approx(by_hand, rel=1e-14)
    assert problem.excess(z) == pytest.approx(by_hand, rel=1e-14)
