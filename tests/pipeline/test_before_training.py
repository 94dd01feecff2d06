"""G6 before training: what is said of a run that has not begun, held against the run."""

import jax
import numpy as np
import pytest

from overparam import MLP, InputError, Measure, Problem
from overparam.kernel.empirical.tangent import pull_back, push_forward
from overparam.model.function import parameter_norm
from overparam.pipeline.before_training import risk_before_training
from overparam.pipeline.derandomised import derandomise
from overparam.precision import as_float64
from overparam.risk.binary_kl import kl_lower_inverse
from overparam.risk.bounded_loss import ClippedSquared, ZeroOne
from overparam.train.gradient_descent import gradient_descent

MODEL = MLP(3, (64,), 1, activation="tanh", output_scale=20.0)
START = as_float64(MODEL.init(jax.random.key(0)))


def draw(seed: int, n: int) -> Measure:
    x = np.random.default_rng(seed).standard_normal((n, 3))
    return Measure(x, np.sign(x @ np.array([[1.0], [-2.0], [0.5]])))


def on(measure: Measure) -> Problem:
    return Problem(MODEL, measure, centered_at=START)


@pytest.fixture(scope="module")
def problem():
    return on(draw(0, 120))


@pytest.fixture(scope="module")
def bound(problem):
    return risk_before_training(problem, START, most=2)


def run(problem, bound):
    steps, eta = int(bound.details["steps"]), bound.details["step_size"]
    return gradient_descent(problem, START, eta, steps, dtype="float64").params


def test_it_says_something_of_a_network_that_is_yet_to_be_trained(bound):
    assert not bound.vacuous
    assert bound.value < 0.9
    assert bound.kind == "computed"
    assert 1 <= bound.details["steps"] <= 2


def test_the_run_stays_as_near_to_its_linearisation_as_was_said(problem, bound):
    eta, n, w = bound.details["step_size"], problem.measure.n, jax.tree.map(np.zeros_like, START)
    for _ in range(int(bound.details["steps"])):  # the linearised run, step by step
        missing = problem.targets[:, 0] / np.sqrt(n) - push_forward(problem, START, w).ravel()
        step = pull_back(problem, START, missing)
        w = jax.tree.map(lambda a, b: a + eta * np.asarray(b), w, step)
    away = jax.tree.map(np.subtract, run(problem, bound), START)
    apart = parameter_norm(jax.tree.map(np.subtract, away, w))
    assert 0.01 * bound.details["apart"] < apart <= bound.details["apart"] + 1e-12
    assert parameter_norm(away) <= bound.details["distance"]


def test_it_is_above_the_bound_after_training_and_near_it(problem):
    loss = ClippedSquared(1.0)
    before = risk_before_training(problem, START, most=1, loss=loss, caveats=["means"])
    assert before.kind == "assumed"
    assert "means were fitted" in before.caveats[0]
    terms, _ = derandomise(problem, START, run(problem, before), loss, 0.95, shape=np.ones(2))
    after = sum(terms.values())
    assert after <= before.value <= 1.3 * after


def test_what_it_does_not_speak_of_is_refused(problem):
    with pytest.raises(InputError, match="least squares"):
        risk_before_training(Problem(MODEL, problem.measure, "log_cosh"), START)
    kinked = MLP(3, (8,), 1, activation="relu")
    with pytest.raises(InputError, match="second derivative"):
        risk_before_training(Problem(kinked, problem.measure), kinked.init(jax.random.key(0)))
    with pytest.raises(InputError, match="at most"):
        risk_before_training(problem, START, step_size=1e3)
    narrow = MLP(3, (2,), 1, activation="tanh", output_scale=1e-3)
    start = as_float64(narrow.init(jax.random.key(0)))
    with pytest.raises(InputError, match="width or output_scale"):
        risk_before_training(Problem(narrow, problem.measure, centered_at=start), start, most=1)


@pytest.mark.slow
def test_it_fails_no_more_often_than_it_may():
    fresh, wrong = on(draw(10**6, 20_000)), 0
    for seed in range(40):
        bound = risk_before_training(on(draw(seed, 60)), START, most=3, confidence=0.5)
        params = run(on(draw(seed, 60)), bound)
        risk = float(np.mean(ZeroOne()(np.asarray(fresh.predict(params)), fresh.targets)))
        wrong += kl_lower_inverse(risk, np.log(1e6) / 20_000) > bound.value
    assert wrong <= 20
