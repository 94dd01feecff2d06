"""Where rounding would turn a bound on the risk around: means at the clip, margins far away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from overparam import MLP, Activation, InputError, Measure, Problem
from overparam.pipeline.generalisation import risk_bounds
from overparam.pipeline.prior_training import PriorTraining
from overparam.risk.binary_kl import binary_kl, kl_upper_inverse
from overparam.risk.bounded_loss import ClippedSquared, Ramp
from overparam.risk.derandomised import derandomised_terms
from overparam.risk.gaussian_outputs import GaussianOutputs
from overparam.risk.one_draw import one_draw, one_draw_terms
from overparam.risk.pac_bayes import pac_bayes_kl_terms

ROWS = 29
"""The mean of so many losses 0.3 is above 0.3 in float64."""


def clipped_mean() -> float:
    losses = ClippedSquared(0.3)(np.full((ROWS, 1), 9.0), np.zeros((ROWS, 1)))
    mean = float(losses.mean())
    assert mean > 0.3
    return mean


def test_a_predictor_that_is_wrong_everywhere_has_a_bound_all_the_same():
    mean = clipped_mean()
    common = {"sample_size": ROWS, "loss_bound": 0.3, "confidence": 0.9}
    drawn = one_draw_terms(empirical_risk=mean, log_ratio=1.0, **common)
    around = pac_bayes_kl_terms(empirical_risk=mean, draws=ROWS, divergence=1.0, **common)
    itself = derandomised_terms(empirical_risk=mean, raised=mean, tau=1.0, divergence=1.0, **common)
    for terms in (drawn, around, itself):
        assert sum(terms.values()) >= 0.3 * (1 - 1e-12)
    for mean in (0.31, -0.01, np.nan):
        with pytest.raises(InputError, match="between 0 and 1"):
            one_draw_terms(empirical_risk=mean, log_ratio=1.0, **common)


def test_a_mean_that_is_hardly_a_number_is_as_good_as_none():
    for q in (1e-300, 1e-310, 5e-324):
        assert binary_kl(q, 0.1) == pytest.approx(binary_kl(0.0, 0.1), rel=1e-14)
        assert kl_upper_inverse(q, 0.05) == pytest.approx(kl_upper_inverse(0.0, 0.05), rel=1e-14)


@pytest.mark.parametrize("spread", [0.1, 1e17])
def test_what_is_hidden_raises_the_ramp_however_large_it_is(spread):
    target, mean = np.ones((1, 1)), np.ones((1, 1))
    covariance, last = np.full((1, 1, 1), spread**2), 0.0
    for hidden in (0.0, 1.0, 1e6, 1e15, 1e17, 1e30):
        outputs = GaussianOutputs(mean, covariance, np.array([hidden]))
        raised = float(Ramp(0.5).raised(outputs, target, 1.0)[0])
        assert raised >= last
        last = raised
    assert last == 1.0


def test_the_noise_is_not_the_data_of_the_same_seed():
    x = np.random.default_rng(3).standard_normal((5, 2))
    noise = one_draw({"w": np.zeros((5, 2))}, 1.0, seed=3)["w"]
    assert not np.isclose(noise, x).any()


@pytest.mark.slow
def test_seeds_are_told_exactly_and_bounds_on_slopes_that_are_taken_on_trust():
    x = np.random.default_rng(0).standard_normal((8, 3))
    mine = Activation("mine", jnp.arctan, slope_bound=1.0, curvature_bound=0.65)
    model = MLP(3, (4,), activation=mine)
    problem, start = Problem(model, Measure(x, x[:, :1])), model.init(jax.random.key(1))
    key = jax.random.split(jax.random.key(0))[1]  # 64 bits of it
    bounds = risk_bounds(problem, start, start, key=key, prior=PriorTraining(steps=2))
    assert {b.name[:2] for b in bounds if b.kind == "assumed"} == {"G1", "G6"}
    loss = ClippedSquared(2.0)
    for found in (b for b in bounds if b.name.startswith("G7 one draw around the init")):
        drawn = one_draw(start, found.details["scale"], int(found.details["seed"]))
        risk = loss(problem.predict(drawn), problem.targets).mean()
        assert found.terms["empirical risk"] == pytest.approx(risk, rel=1e-12)
