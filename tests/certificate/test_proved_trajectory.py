"""Theorem C with every rounding bounded, attacked by gradient descent in 50-digit arithmetic."""

import mpmath as mp
import numpy as np
import pytest

from exact_descent import distance, exact_run
from one_run import TINY
from overparam import InputError, certify, gradient_descent
from overparam.certificate import trajectory_run
from overparam.certificate.ball_steps import BallRun
from overparam.certificate.reason import Diverged
from overparam.certificate.trajectory_movement import SPARE
from overparam.certificate.trajectory_run import Run
from overparam.certificate.trajectory_steps import COLUMNS, Records, sums_of
from tiny import Tiny

CASES = [
    (Tiny((6,), "gelu", 1), "squared", 1.0),
    (Tiny((5,), "sin", 2, weight_scale=1.4), "squared", 2.3),
    (Tiny((6,), "erf", 1), "squared_hinge", 1.0),
    (Tiny((5,), "silu", 1), "pseudo_huber:0.7", 1.2),
    (Tiny((4, 3), "gelu", 1), "squared", 1.0),
    (Tiny((3, 4), "tanh", 1), "log_cosh", 1.5),
    (Tiny((3, 3, 3), "softplus", 1), "squared", 0.7),
]


def step_of(problem, start, factor):
    kernel_norm = certify(problem, start, theorem="1").constants["max_eigenvalue"].value
    return factor / (problem.loss.smoothness * kernel_norm)


def test_norms_of_a_hundred_million_parameters_are_known_to_no_more_than_their_sums():
    """Half a unit for each square in a sum: the root of what was lost one by one."""
    parameters = 10**8
    problem = Tiny((6,), "gelu", 1).problem(0)
    records = Records(np.ones((1, len(COLUMNS))), sums_of(problem, parameters))
    lost = np.sqrt(1 + parameters * 2.0**-54)
    for name in ("length", "moved", "distance", "size"):
        norm = records.enclosed(name)
        assert lost <= norm.upper[0] <= 1 + 5 * (lost - 1)
        assert norm.lower[0] <= 1 / lost
    assert records.enclosed("gradient").upper[0] < 1 + 1e-13


@pytest.mark.parametrize(("tiny", "loss", "factor"), CASES, ids=lambda v: str(v))
@pytest.mark.sample(1)
def test_the_run_in_50_digits_stays_within_what_is_proved(tiny, loss, factor):
    """At the end of every cell; and the proof is not idle: errors are seen."""
    problem, start = tiny.problem(0, loss, centred=True), tiny.start(0)
    eta = step_of(problem, start, factor)
    run, cells = Run(problem, start, eta, proved=True), []
    for cell in run.cells():
        cells.append(cell)
        if cell.start.step + len(cell.rows) >= 4:
            break
    ends = [cell.start.step + len(cell.rows) for cell in cells]
    last = max(end for end in ends if end <= max(10, ends[0]))
    with mp.workdps(50):
        exact = exact_run(tiny, problem, start, loss, eta, last)
        for cell, end in zip(cells, ends, strict=True):
            if end <= last:
                apart = distance(exact[end], cell.end)
                assert 0 < apart <= cell.deviations[-1] / SPARE
                assert cell.deviations[-1] < 1e-7


@pytest.mark.parametrize(
    "tiny", [Tiny((4,), "tanh", 2), Tiny((3, 2), "gelu", 1, points=3)], ids=str
)
def test_steps_in_balls_are_exact_but_for_their_radii(tiny):
    """30 digits at 128 bits, where float64 leaves 16."""
    problem, start = tiny.problem(1, centred=True), tiny.start(1)
    balls = BallRun(problem, start, 0.5, 128)
    errors = [balls.step() for _ in range(4)]
    assert all(0 < error < 1e-30 for error in errors)
    with mp.workdps(50):
        exact = exact_run(tiny, problem, start, "squared", 0.5, 4)[-1]
        spread = mp.mpf(0)
        for layer, theta in enumerate(balls._theta):
            for i in range(theta.nrows()):
                row = [mp.mpf(theta[i, j].str(45, radius=False)) for j in range(theta.ncols())]
                real = [*exact[0][layer][i, :], exact[1][layer][i]]
                spread += sum((a - b) ** 2 for a, b in zip(row, real, strict=True))
        assert float(mp.sqrt(spread)) <= 10 * sum(errors)
        assert distance(exact, balls.nearest()) <= 1e-15


@pytest.mark.slow
def test_the_first_steps_in_balls_lower_what_rounding_does():
    """The same run, its first steps with more bits: nearer to the exact one, and still right."""
    tiny = Tiny((4,), "gelu", 1)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    eta, known = step_of(problem, start, 1.0), {}
    for early in (0, 4):
        for cell in Run(problem, start, eta, proved=True, early=early).cells():
            known[early, cell.start.step + len(cell.rows)] = cell
            if cell.start.step + len(cell.rows) >= 4:
                break
    # Up to where steps are in balls only the rounding to float64 is left.
    in_balls = known[4, 4]
    with mp.workdps(50):
        exact = exact_run(tiny, problem, start, "squared", eta, 4)[-1]
        assert distance(exact, in_balls.end) <= in_balls.deviations[-1] < 1e-13
    plain = max((cell for (early, _), cell in known.items() if not early), key=_end)
    assert in_balls.deviations[-1] < plain.deviations[-1]


def _end(cell):
    return cell.start.step + len(cell.rows)


DEEPER = Tiny((10, 10), "gelu", 1, points=3, output_scale=4.0)


@pytest.fixture(
    scope="module",
    params=[TINY, pytest.param(DEEPER, marks=pytest.mark.slow)],
    ids=str,
)
def proved(request):
    tiny = request.param
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    return problem, start, certify(problem, start, theorem="C", rigor="proved", budget=3600)


def test_a_dozen_units_are_proved_from_initialisation(proved):
    _, _, certificate = proved
    assert certificate.certified, certificate.reason
    assert certificate.rigor == "proved"
    assert certificate.theorem == "C"
    assert {constant.kind for constant in certificate.constants.values()} == {"proved"}
    assert "failure_probability" not in certificate.constants


def test_every_claim_holds_in_the_run(proved):
    problem, start, certificate = proved
    T = int(certificate.constants["handover"].value)
    found = gradient_descent(
        problem, start, certificate.step_size, T + 300, certificate=certificate, dtype="float64"
    )
    assert found.certificate_held
    history = found.history
    envelope = certificate.envelope(np.arange(T + 301))
    assert (history.excess <= envelope * (1 + 1e-9)).all()
    assert history.path_length[-1] <= certificate.radius
    constants = certificate.constants
    assert history.distance.max() <= constants["displacement"].value
    assert history.excess[T] <= constants["handover_excess"].value


def test_what_is_proved_is_hardly_weaker_than_what_is_computed(proved):
    problem, start, certificate = proved
    computed = certify(problem, start, theorem="C", budget=3600)
    for name in ("radius", "limit_distance", "displacement"):
        ours, theirs = (c.constants[name].value for c in (certificate, computed))
        assert ours == pytest.approx(theirs, rel=0.1)


@pytest.mark.parametrize("where", ["measure_point", "noise_around"])
@pytest.mark.sample(1)
def test_a_run_that_leaves_the_range_of_known_rounding_ends_with_a_reason(where, monkeypatch):
    problem, start = TINY.problem(0, centred=True), TINY.start(0)
    known = getattr(trajectory_run, where)

    def refused(problem, at, step, *more):
        if (step if where == "measure_point" else at.step) > 0:
            raise InputError("pre-activations may reach 1e9")
        return known(problem, at, step, *more)

    monkeypatch.setattr(trajectory_run, where, refused)
    found = certify(problem, start, theorem="C", rigor="proved", budget=3600)
    assert not found.certified
    assert isinstance(found.why, Diverged)
