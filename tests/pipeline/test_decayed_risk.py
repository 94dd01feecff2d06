"""Bounds on the risk of networks that were trained with weight decay."""

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem
from overparam.pipeline.generalisation import risk_bounds
from overparam.pipeline.prior_training import PriorTraining
from overparam.train.decayed_minimum import decayed_minimum


@pytest.mark.slow
def test_a_loss_that_needs_weight_decay_has_bounds_on_its_risk():
    """Other rows are learnt with the same weight decay: without it this loss has no minimum."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    model = MLP(3, (6,), 1)
    start = model.init(jax.random.key(0))
    measure = Measure(x, np.sign(x[:, :1]))
    problem = Problem(model, measure, "cross_entropy", start, 0.05)
    trained = decayed_minimum(problem, start, max_steps=4).params
    found = risk_bounds(problem, start, trained, prior=PriorTraining(steps=3, continuation=1))
    assert any(bound.name.startswith("G1") for bound in found)
    assert all(bound.value > 0 for bound in found)
