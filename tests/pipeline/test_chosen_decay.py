"""A weight decay that all rows have chosen is no part of a prior that half must not know."""

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem
from overparam.choices import DECAYS
from overparam.data import load
from overparam.pipeline import from_initialisation_decayed, prior_training, run
from overparam.pipeline.generalisation import risk_bounds
from overparam.pipeline.prior_training import PriorTraining
from overparam.pipeline.settings import JobSettings


def test_the_prior_is_trained_with_the_decay_that_is_given():
    x = np.random.default_rng(0).standard_normal((12, 3))
    model = MLP(3, (4,), 1)
    start = model.init(jax.random.key(0))
    problem, seen = Problem(model, Measure(x, np.sign(x[:, :1])), "squared", start, 0.05), []

    def recipe(half, params):
        seen.append((half.measure.n, half.weight_decay))
        return params

    for decay in (None, 0.2):
        risk_bounds(problem, start, start, prior=PriorTraining(recipe=recipe, weight_decay=decay))
    assert seen == [(6, 0.05), (6, 0.2)]


@pytest.mark.slow
def test_a_job_that_chooses_trains_its_prior_with_another(monkeypatch):
    train, seen = prior_training.train, []

    def spied(problem, *rest, **named):
        seen.append((problem.measure.n, problem.weight_decay))
        return train(problem, *rest, **named)

    monkeypatch.setattr(prior_training, "train", spied)
    monkeypatch.setattr(from_initialisation_decayed, "LEAVING_OUT", 0.0)
    data = load("iris", samples=20)
    settings = JobSettings(width=24, depth=1, weight_decay="auto", steps=2, budget=0)
    found = run.run_job(data, settings)
    chosen, rows = found.decays.best.weight_decay, data.train.n
    assert chosen != min(DECAYS)
    assert {decay for n, decay in seen if n < rows} == {min(DECAYS)}
    assert {decay for n, decay in seen if n == rows} == {chosen}
