"""Mini-batches with every rounding bounded, attacked by the same batches in 60 digits."""

import jax
import mpmath as mp
import numpy as np
import pytest

from exact_descent import Exact, distance, exact_run
from exact_network import exact_pass
from overparam import MLP, Measure, Problem, certify
from overparam.certificate.stochastic_run import BatchRun
from overparam.certificate.trajectory_movement import SPARE
from overparam.problem.batches import Batches
from tiny import Tiny

SLOW, SEED = pytest.mark.slow, 3


def shares_of(batches, measure):
    """What each point counts in a step, as docs/stochastic.md has it, to all digits."""

    def shares(step):
        found = [mp.mpf(0)] * measure.n
        for i in batches.drawn(measure, SEED, step):
            weight = measure.n * mp.mpf(measure.weights[i])
            found[i] += (1 if batches.sampling == "replacement" else weight) / batches.size
        return found

    return shares


@pytest.mark.parametrize(
    ("tiny", "sampling", "steps"),
    [
        (Tiny((4,), "gelu", 1, points=4), "subsets", 4),
        pytest.param(Tiny((5,), "tanh", 2, points=4), "replacement", 12, marks=SLOW),
        pytest.param(Tiny((3, 4), "tanh", 1, points=6), "epochs", 12, marks=SLOW),
        pytest.param(Tiny((3, 3, 3), "softplus", 1, points=4), "replacement", 12, marks=SLOW),
    ],
    ids=str,
)
def test_the_run_in_60_digits_stays_within_what_is_proved(tiny, sampling, steps):
    """At the end of every cell; and the proof is not idle: errors are seen."""
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    batches, eta = Batches(2, sampling), 0.05
    run, seen = BatchRun(problem, start, eta, batches, SEED, proved=True), []
    for point in run.followed():
        seen.append((run.steps, run.spread, point.params))
        if run.steps >= steps:
            break
    ends = [end for end in seen if end[0] <= max(steps, seen[1][0])]
    with mp.workdps(60):
        counted = shares_of(batches, problem.measure)
        exact = exact_run(tiny, problem, start, "squared", eta, ends[-1][0], counted=counted)
        for step, deviation, params in ends[1:]:
            assert 0 < distance(exact[step], params) <= deviation < 1e-8


@SLOW
@pytest.mark.parametrize("sampling", ["subsets", "epochs"])
def test_a_proved_run_obeys_its_certificate_in_60_digits(sampling):
    rng = np.random.default_rng(0)
    measure = Measure(rng.standard_normal((2, 3)), rng.standard_normal((2, 1)))
    model = MLP(3, (12,), 1, "tanh", output_scale=4.0)
    start = jax.tree.map(np.float64, model.init(jax.random.key(1)))
    problem, batches = Problem(model, measure, "squared", start), Batches(1, sampling)
    how = {"batch_size": 1, "sampling": sampling, "key": jax.random.key(SEED)}
    found = certify(problem, start, **how, rigor="proved", budget=600)
    n = found.numbers
    assert found.certified, found.reason
    assert {constant.kind for constant in found.constants.values()} == {"proved"}
    assert n.deviation >= SPARE * 1e-16
    loose = certify(problem, start, **how, budget=600)
    assert n.exit_probability >= loose.numbers.exit_probability
    steps = int(n.handover)
    tiny = Tiny((12,), "tanh", 1, points=2, output_scale=4.0, bias_scale=float(model.bias_scale))
    with mp.workdps(60):
        counted = shares_of(batches, measure)
        run = exact_run(tiny, problem, start, "squared", found.step_size, steps, counted=counted)
        first = outputs(model, run[0], measure)
        targets = [mp.mpf(y) for y in problem.targets[:, 0].tolist()]
        for t in [*range(0, steps, 5), steps]:
            now = outputs(model, run[t], measure)
            gaps = [a - b - y for a, b, y in zip(now, first, targets, strict=True)]
            excess = sum(gap**2 for gap in gaps) / 4
            assert excess <= found.envelope(float(t))
        assert excess <= n.handover_excess
        assert distance(run[steps], start) <= n.displacement


def outputs(model, params, measure):
    shown = exact_pass(model, tuple(Exact.of(part) for part in params), measure.x)
    return [v[0] for v in shown.outputs]
