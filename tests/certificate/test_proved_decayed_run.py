"""Runs with weight decay of which every rounding is bounded, attacked in 60 digits."""

import mpmath as mp
import pytest

from exact_descent import Exact, distance, exact_run
from exact_network import exact_pass
from overparam import Problem, certify
from overparam.certificate.trajectory_movement import SPARE
from overparam.certificate.trajectory_run import Run
from overparam.verification import verify
from tiny import Tiny

SLOW = pytest.mark.slow
SMALL, DECAY = Tiny((4,), "gelu", 1, points=3), 0.5


def problem_of(tiny, loss="squared", trainable="all"):
    return Problem(tiny.model, tiny.measure(0), loss, tiny.start(0), DECAY, trainable=trainable)


@pytest.mark.parametrize(
    ("tiny", "loss"),
    [
        (SMALL, "squared"),
        pytest.param(Tiny((3, 3), "tanh", 1, points=3), "log_cosh", marks=SLOW),
    ],
    ids=str,
)
def test_the_run_in_60_digits_stays_within_what_is_proved(tiny, loss):
    problem, start = problem_of(tiny, loss), tiny.start(0)
    run, ends = Run(problem, start, 0.05, proved=True), []
    for cell in run.cells():
        ends.append((cell.start.step + len(cell.rows), cell))
        if ends[-1][0] >= 4:
            break
    with mp.workdps(60):
        exact = exact_run(tiny, problem, start, loss, 0.05, min(ends[-1][0], 20))
        for step, cell in ends:
            if step < len(exact):
                apart = distance(exact[step], cell.end)
                assert 0 < apart <= cell.deviations[-1] / SPARE < 1e-8


@SLOW
def test_a_run_obeys_its_proved_certificate_in_60_digits():
    """Envelope, distances and the region's minimum, which the run goes on to."""
    problem, start = problem_of(SMALL), SMALL.start(0)
    found = certify(problem, start, rigor="proved", budget=600)
    n = found.numbers
    assert found.certified, found.reason
    assert {constant.kind for constant in found.constants.values()} == {"proved"}
    steps = int(n.handover)
    with mp.workdps(60):
        run = exact_run(SMALL, problem, start, "squared", found.step_size, 2 * steps)
        heights = [objective(problem, params, run[0]) for params in run[:: steps // 12]]
        least = objective(problem, run[-1], run[0])
        assert n.region_minimum >= least >= n.region_minimum - mp.mpf(10) ** -8
        for i, height in enumerate(heights):
            left = height - least
            assert left <= found.envelope(float(i * (steps // 12))) + mp.mpf(10) ** -40
        assert 0 < heights[0] - least <= n.minimum_excess
        gone = distance(run[-1], start)
        assert n.limit_distance_lower <= gone <= n.limit_distance


def objective(problem, params, first):
    """phi_lambda in mpmath, of a model that is centred where the run starts."""
    model, x = problem.model, problem.measure.x
    shown, at_first = (
        exact_pass(model, tuple(Exact.of(part) for part in theta), x) for theta in (params, first)
    )
    total = mp.mpf(0)
    for i, (w, y) in enumerate(zip(problem.measure.weights, problem.targets[:, 0], strict=True)):
        total += mp.mpf(w) * (shown.outputs[i][0] - at_first.outputs[i][0] - mp.mpf(y)) ** 2 / 2
    for ours, theirs in zip(params, first, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            total += mp.mpf(DECAY) / 2 * mp.fsum((u - v) ** 2 for u, v in zip(a, b, strict=True))
    return total


@SLOW
@pytest.mark.parametrize(
    ("loss", "trainable"),
    [
        ("squared", "all"),
        ("smoothed_cross_entropy:0.2", "layers.0"),
        ("squared_hinge", "all"),
    ],
)
def test_the_re_check_grants_no_tolerance(loss, trainable):
    problem, start = problem_of(SMALL, loss, trainable), SMALL.start(0)
    found = certify(problem, start, rigor="proved", budget=600)
    assert found.certified, found.reason
    assert found.rigor == "proved"
    assert verify(found, problem, start).reasons == ()
