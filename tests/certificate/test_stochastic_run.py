"""Mini-batches certified from the initialisation: a run with given batches, then Theorem S."""

from itertools import pairwise

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, certify
from overparam.certificate.stochastic_run import BatchRun
from overparam.problem.batches import Batches

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 1))
MEASURE = Measure(X, Y)
MODEL = MLP(3, (32,), 1, "tanh", output_scale=2.0)
START = MODEL.init(jax.random.key(0))
PROBLEM = Problem(MODEL, MEASURE, "squared", centered_at=START)
SEED, EXTENDED = 3, np.longdouble


def exact_run(batches, step_size, steps):
    """The same batches in extended precision, by hand: parameters before each step and after."""
    (w1, w2), (b1, b2) = (
        [np.array(leaf, np.float64).astype(EXTENDED) for leaf in part] for part in START
    )
    x, y = X.astype(EXTENDED), Y.astype(EXTENDED)
    c1, c2 = 1 / np.sqrt(EXTENDED(3)), 2 / np.sqrt(EXTENDED(32))
    bias = EXTENDED(float(MODEL.bias_scale))

    def outputs(w1, w2, b1, b2):
        h = np.tanh(c1 * x @ w1.T + bias * b1)
        return h, c2 * h @ w2.T + 2 * bias * b2

    offset = outputs(w1, w2, b1, b2)[1]
    for t in range(steps):
        yield (w1, w2), (b1, b2)
        h, out = outputs(w1, w2, b1, b2)
        pull = np.zeros_like(out)
        rows = batches.drawn(MEASURE, SEED, t)
        np.add.at(pull, rows, (out - offset - y)[rows] / EXTENDED(batches.size))
        inner = c2 * pull @ w2 * (1 - h**2)
        w2, b2 = w2 - step_size * c2 * pull.T @ h, b2 - step_size * 2 * bias * pull.sum(axis=0)
        w1, b1 = w1 - step_size * c1 * inner.T @ x, b1 - step_size * bias * inner.sum(axis=0)
    yield (w1, w2), (b1, b2)


def apart(a, b):
    gaps = [np.asarray(u, EXTENDED) - v for u, v in zip(*map(jax.tree.leaves, (a, b)), strict=True)]
    return float(np.sqrt(sum((gap**2).sum() for gap in gaps)))


def check_deviations(sampling, steps):
    """delta_t at the first points of some cells, beside the same run with eleven more bits."""
    batches, eta = Batches(2, sampling), 0.15
    run = BatchRun(PROBLEM, START, eta, batches, SEED)
    seen = []
    for point in run.followed():
        seen.append((run.steps, run.deviation, point.params))
        if run.steps >= steps:
            break
    exact = list(exact_run(batches, EXTENDED(eta), seen[-1][0]))
    assert len(seen) > 2
    for step, deviation, params in seen:
        assert apart(params, exact[step]) <= deviation
    assert 0 < seen[-1][1] < 1e-9


def test_exact_steps_are_as_close_as_stated():
    check_deviations("subsets", 20)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["subsets", "replacement", "epochs"])
def test_exact_steps_are_as_close_as_stated_in_a_longer_run(sampling):
    check_deviations(sampling, 1500)


@pytest.fixture(scope="module")
def certificate():
    return certify(PROBLEM, START, batch_size=2, key=jax.random.key(SEED), budget=600)


@pytest.mark.slow
def test_it_is_certified_from_the_initialisation(certificate):
    found, n = certificate, certificate.numbers
    assert found.certified
    assert (found.theorem, found.start) == ("S", "initialisation")
    assert 0 < n["exit_probability"] <= 1e-3
    assert n["deviation"] < 1e-4
    assert "steps with given batches were made" in found.reason


@pytest.mark.slow
def test_the_exact_run_obeys_the_envelope(certificate):
    """Up to the hand-over every exact run with these batches, in extended precision."""
    n, x = certificate.numbers, X.astype(EXTENDED)
    steps = int(n["handover"])
    run = list(exact_run(Batches(2), EXTENDED(certificate.step_size), steps))
    assert apart(run[-1], run[0]) <= n.displacement
    length = sum(apart(a, b) for a, b in pairwise(run))
    assert length <= certificate.radius

    def outputs(params):
        (w1, w2), (b1, b2) = params
        bias = EXTENDED(float(MODEL.bias_scale))
        h = np.tanh(x @ w1.T / np.sqrt(EXTENDED(3)) + bias * b1)
        return 2 / np.sqrt(EXTENDED(32)) * h @ w2.T + 2 * bias * b2

    first = outputs(run[0])
    excess = np.array([float(((outputs(p) - first - Y) ** 2).mean() / 2) for p in run])
    assert (excess <= certificate.envelope(np.arange(steps + 1.0))).all()


@pytest.mark.slow
def test_rho_is_that_of_the_start_or_none(certificate):
    """Not that of the point where Theorem S takes over, which is measured with it."""
    key = jax.random.key(SEED)
    without = certify(PROBLEM, START, batch_size=2, key=key, budget=600, target_norm=False)
    assert without.certified
    assert "target_norm" not in without.numbers
    at_start = certify(PROBLEM, START, budget=0).numbers.target_norm
    assert certificate.numbers.target_norm == at_start


def test_a_run_beyond_the_budget_is_forecast():
    found = certify(PROBLEM, START, 1e-9, batch_size=2, budget=1)
    assert not found.certified
    assert "with a larger budget" in found.reason
