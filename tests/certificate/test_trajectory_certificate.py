"""Certificates of Theorem C, attacked by gradient descent in 50-digit arithmetic."""

import jax
import mpmath as mp
import numpy as np
import pytest
from msgspec.structs import replace

from exact_descent import distance, exact_run
from exact_network import ACTIVATIONS
from one_run import certified
from overparam import (
    MLP,
    InputError,
    Measure,
    Problem,
    certify,
    gradient_descent,
    load,
    load_certificate,
    verify,
)
from overparam.certificate.certify import _step
from overparam.certificate.hypotheses import measure_hypotheses
from overparam.certificate.prediction import predict_run
from overparam.certificate.reason import count, duration
from overparam.certificate.trajectory_run import Run
from overparam.certificate.trajectory_steps import COLUMNS
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.losses import CustomIntegrand
from tiny import Tiny

CASES = [
    (Tiny((6,), "gelu", 1), "squared", 1.0),
    (Tiny((4,), "tanh", 2, output_scale=2.0), "squared", 1.8),
    (Tiny((5,), "sin", 1, weight_scale=1.4), "squared", 2.3),
    (Tiny((6,), "erf", 1), "squared_hinge", 1.0),
    (Tiny((5,), "silu", 1), "pseudo_huber:0.7", 1.2),
    (Tiny((4, 3), "gelu", 1), "squared", 1.0),
    (Tiny((3, 4), "tanh", 1), "log_cosh", 1.5),
    (Tiny((3, 3, 3), "softplus", 1), "squared", 0.7),
    (Tiny((), "identity", 1), "squared", 1.9),
]


def step_of(problem, start, factor):
    kernel_norm = np.linalg.norm(tangent_kernel(problem, start), 2)
    return factor / (problem.loss.smoothness * float(kernel_norm))


@pytest.mark.parametrize(("tiny", "loss", "factor"), CASES, ids=lambda v: str(v))
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.sample(1)
def test_the_run_in_50_digits_stays_within_delta(tiny, loss, factor, centred):
    """At the end of every cell the exact iterate is as near as Theorem C says."""
    assert not tiny.hidden or tiny.activation in ACTIVATIONS
    problem, start = tiny.problem(0, loss, centred=centred), tiny.start(0)
    eta = step_of(problem, start, factor)
    run, cells, done = Run(problem, start, eta), [], 0
    for cell in run.cells():
        cells.append(cell)
        done += len(cell.rows)
        if done >= 8:
            break
    assert done >= 3, run.why
    cells = [cell for cell in cells if cell.start.step + len(cell.rows) <= 24] or cells[:1]
    last = min(cells[-1].start.step + len(cells[-1].rows), 24)
    with mp.workdps(50):
        exact = exact_run(tiny, problem, start, loss, eta, last)
        for cell in cells:
            ahead = cell.start.step + len(cell.rows)
            if ahead <= last:
                apart = distance(exact[ahead], cell.end)
                assert apart <= cell.deviations[-1]
                assert cell.deviations[-1] < 1e-6


@pytest.fixture(scope="module")
def small():
    return certified()


def test_a_dozen_units_are_certified_from_initialisation(small):
    problem, start, certificate = small
    assert certificate.certified
    assert certificate.theorem == "C"
    assert certificate.margin > 1
    assert not certify(problem, start, theorem="1").certified
    tried_last = certify(problem, start)  # after 1, with more radii for that, and P
    for name in ("theorem", "why", "step_size", "radius", "rate", "margin", "problem"):
        assert getattr(tried_last, name) == getattr(certificate, name)
    assert not certify(problem, start, budget=0).certified


def test_every_claim_holds_in_the_run(small):
    problem, start, certificate = small
    T = int(certificate.constants["handover"].value)
    found = gradient_descent(
        problem, start, certificate.step_size, T + 500, certificate=certificate, dtype="float64"
    )
    assert found.certificate_held
    steps = np.arange(T + 501)
    assert (found.history.excess <= certificate.envelope(steps) * (1 + 1e-6)).all()
    assert found.history.path_length[-1] <= certificate.radius
    assert found.history.path_length[-1] > 0.5 * certificate.radius
    gone = found.history.distance
    assert gone.max() <= certificate.constants["displacement"].value
    end = gradient_descent(problem, start, certificate.step_size, 40 * T, dtype="float64").history
    lower = certificate.constants["limit_distance_lower"].value
    assert lower * (1 - 1e-9) <= end.distance[-1] <= certificate.constants["limit_distance"].value


@pytest.mark.slow
def test_a_computed_run_that_float64_loses_begins_in_balls():
    """One unit at ten points, four steps of which float64 loses, each shorter than the last."""
    data = load("digits", target="parity", samples=10, test_fraction=0, standardize="sphere").train
    model = MLP(data.dim, (1,), 1, activation="gelu")
    start = jax.tree.map(lambda a: np.asarray(a, np.float64), model.init(jax.random.key(0)))
    problem = Problem(model, data, centered_at=start)
    found = certify(problem, start, theorem="C", budget=3600)
    assert found.certified, found.reason
    assert found.rigor == "computed"
    early, T = int(found.numbers.steps_in_balls), int(found.numbers.handover)
    assert 0 < early < T
    assert found.numbers.exponent > 25  # more than float64 bears
    course = found.course
    assert course.at(np.array([early // 2]))[0] < 1e-12  # of the records alone
    assert 1e-12 < course.deviations[-1] < 1e-4


@pytest.mark.slow
def test_a_catapult_is_certified():
    """Beyond 2 / lambda_max the excess rises first; the envelope and the factor say so."""
    tiny = Tiny((24,), "gelu", 1, points=3)
    problem, start = tiny.problem(1, centred=True), tiny.start(1)
    certificate = certify(problem, start, step_of(problem, start, 2.15), theorem="C", budget=3600)
    assert certificate.certified, certificate.reason
    constants = certificate.constants
    T = int(constants["handover"].value)
    run = gradient_descent(
        problem, start, certificate.step_size, T + 200, certificate=certificate, dtype="float64"
    )
    assert run.history.excess[1:].max() > run.history.excess[0]
    assert constants["overshoot"].value > 1
    assert constants["rate_since"].value == T
    assert (run.history.excess <= certificate.envelope(np.arange(T + 201)) * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    "tiny",
    [
        Tiny((4, 4), "tanh", 1, points=3, in_dim=4, output_scale=10.0),
        Tiny((8, 8), "tanh", 1, points=4),
        Tiny((5, 5, 5), "tanh", 1, points=4),
    ],
    ids=str,
)
@pytest.mark.slow
def test_deeper_networks_need_no_luck_or_state_its_probability(tiny, monkeypatch):
    """Layer by layer; with random vectors where that bound adds up to too much."""
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    certificate = certify(problem, start, theorem="C", budget=3600)
    assert certificate.certified, certificate.reason
    assert "failure_probability" not in certificate.constants
    monkeypatch.setattr("overparam.certificate.prediction.SAMPLED", 0.0)
    found = certify(problem, start, theorem="C", budget=3600)
    assert found.certified, found.reason
    assert found.constants["failure_probability"].value == 1e-12
    assert "(probability 1e-12)" in found.assumptions[-1]


@pytest.mark.slow
def test_other_losses_and_several_outputs_are_certified():
    tiny = Tiny((16,), "gelu", 2)
    certificate = certify(tiny.problem(0, "log_cosh"), tiny.start(0), theorem="C", budget=3600)
    assert certificate.certified, certificate.reason


@pytest.mark.slow
def test_what_theorem_1_said_of_another_step_is_not_repeated():
    tiny = Tiny((12,), "gelu", 1)
    margin = certify(tiny.problem(0, centred=True), tiny.start(0), theorem="1").margin
    problem = tiny.problem(0, centred=True, target_scale=0.5 * margin)
    first, found = (certify(problem, tiny.start(0), theorem=name) for name in ("1", "C"))
    assert first.certified
    assert found.certified
    assert found.step_size != first.step_size
    assert np.isfinite(first.constants["kernel_drift"].value)
    drifts = [c.constants["kernel_drift"].value for c in (first, found)]
    assert found.constants["kernel_drift_lower"].value < drifts[1] < 0.5 * drifts[0]
    assert found.constants["limit_distance"].value < 1.5 * first.constants["limit_distance"].value


@pytest.mark.slow
def test_a_run_that_would_take_too_long_says_how_long(small):
    problem, start, certificate = small
    slow = certify(problem, start, certificate.step_size / 3e4, theorem="C", budget=0.2)
    assert not slow.certified
    assert "steps" in slow.reason
    assert "larger budget" in slow.reason
    assert slow.constants["predicted_steps"].value > 1e5
    assert slow.rate == 1
    assert np.isinf(slow.radius)
    unasked = certify(problem, start, certificate.step_size / 3e4, budget=0.2)
    assert unasked.theorem == "1"
    assert unasked.reason.startswith("short by a factor")
    assert "larger budget" in unasked.reason
    assert verify(unasked, problem, start).ok


def test_what_theorem_c_does_not_reach_is_refused():
    def refused(tiny, loss="squared", **options):
        with pytest.raises(InputError) as error:
            certify(tiny.problem(0, loss), tiny.start(0), theorem="C", **options)
        return str(error.value)

    assert "three derivatives" in refused(Tiny((6,), "relu", 1))
    parabola = CustomIntegrand(
        "mine", lambda z, y: ((z - y) ** 2).sum() / 2, smoothness=1.0, pl_constant=1.0, infimum=0.0
    )
    assert "convex" in refused(Tiny((6,), "gelu", 1), parabola)
    assert "rigor" in refused(Tiny((6,), "gelu", 1), rigor="estimated")
    with pytest.raises(InputError, match="budget"):
        certify(Tiny((6,), "gelu", 1).problem(0), Tiny((6,), "gelu", 1).start(0), budget=-1.0)


def test_the_file_comes_back(small, tmp_path):
    problem, start, certificate = small
    certificate.save(tmp_path / "certificate.json")
    assert load_certificate(tmp_path / "certificate.json") == certificate
    assert verify(tmp_path / "certificate.json", problem, start).ok


@pytest.mark.parametrize("change", ["theorem", "params"])
def test_a_forged_certificate_is_not_verified(small, change):
    problem, start, certificate = small
    if change == "theorem":  # Theorem C's numbers under Theorem 1's name
        assert not verify(replace(certificate, theorem="1"), problem, start).ok
    else:
        other = jax.tree.map(lambda a: a + 1e-9, start)
        assert not verify(certificate, problem, other).ok
        with pytest.raises(InputError, match="another problem"):
            gradient_descent(problem, other, certificate.step_size, 3, certificate=certificate)


def test_the_run_is_gradient_descent(small):
    problem, start, certificate = small
    run = Run(problem, start, certificate.step_size)
    cell = next(run.cells())
    history = gradient_descent(
        problem, start, certificate.step_size, len(cell.rows), dtype="float64"
    ).history
    rows = dict(zip(COLUMNS, cell.rows.T, strict=True))
    assert rows["excess"] == pytest.approx(history.excess[:-1], rel=1e-12)
    assert rows["distance"] == pytest.approx(history.distance[:-1], rel=1e-9, abs=1e-15)


def test_numbers_and_times_are_said_as_people_say_them():
    assert [count(n) for n in (7, 689, 17_920, 1_304_000, 2 * 10**11)] == [
        *("7", "690", "18,000", "1.3 million", "200 billion")
    ]
    assert [duration(s) for s in (3.0, 130.0, 8e3, 2e5)] == [
        *("3 seconds", "2 minutes", "2 hours", "2 days")
    ]


@pytest.mark.slow
def test_a_run_that_nobody_could_make_is_not_begun():
    """Two points close to each other: the linearised run knows how long it would be."""
    x = np.array([[1.0, 0.0], [1.0, 1e-5]])
    model = MLP(2, (8,), 1, "tanh")
    start = model.init(jax.random.key(0))
    problem = Problem(model, Measure(x, np.array([1.0, -1.0])))
    certificate = certify(problem, start)
    assert not certificate.certified
    assert certificate.theorem == "1"
    assert "would take about" in certificate.reason
    asked = certify(problem, start, theorem="C", budget=0.5)
    assert asked.constants["steps_made"].value > 0


def test_a_run_whose_rate_rounds_to_one_is_not_predicted():
    """Theorem 1 would take over at once, were its rate below 1: a budget would be spent in vain."""
    tiny = Tiny((48,), "gelu", 1)
    problem, start = tiny.problem(0, centred=True, target_scale=1e-3), tiny.start(0)
    hypotheses = measure_hypotheses(Expansion(problem, start))
    assert predict_run(hypotheses, 1e-17) is None
    assert predict_run(hypotheses, 1e-9) is not None


@pytest.mark.parametrize("scale", [1e-100, 1e-40, 1e40])
def test_where_a_runs_curvature_would_vanish_nothing_is_certified(scale):
    """Its square, and the square of that, have to be numbers: or rounding seems not to grow."""
    model = MLP(2, (4,), 1, "tanh", output_scale=scale)
    x, y = np.array([[1.0, 0.2], [-0.3, 1.0]]), scale * np.array([1.0, -1.0])
    problem, start = Problem(model, Measure(x, y)), model.init(jax.random.key(0))
    found = certify(problem, start, theorem="C")
    assert not found.certified
    assert "rescale" in found.reason


def test_a_step_of_low_precision_is_the_number_that_it_is():
    """Or NumPy would do the sums over a run in its type."""
    for coarse in (np.float16(0.7), np.float32(0.7), jax.numpy.asarray(0.7)):
        assert type(_step(coarse)) is float
        assert _step(coarse) == float(coarse)
    for unusable in (True, "0.1", [0.1]):
        with pytest.raises(InputError, match="step_size must be positive"):
            _step(unusable)


@pytest.mark.slow
def test_the_least_distance_gone_is_below_what_is_gone():
    """Where the run reaches rounding within a cell, the two bounds nearly touch."""
    for seed in range(2):
        tiny = Tiny((5,), "tanh", 1, points=1)
        problem, start = tiny.problem(seed, centred=True), tiny.start(seed)
        certificate = certify(problem, start, theorem="C", budget=3600)
        run = gradient_descent(problem, start, certificate.step_size, 2000, dtype="float64")
        pairs = zip(jax.tree.leaves(run.params), jax.tree.leaves(start), strict=True)
        gone = np.sqrt(sum(np.sum((np.asarray(a) - b) ** 2) for a, b in pairs))
        assert certificate.constants["limit_distance_lower"].value <= gone
        assert gone <= certificate.constants["limit_distance"].value


def test_a_budget_that_is_used_up_before_the_run_begins_is_said_and_saved(tmp_path):
    """Less than no time is left: the forecast's time is not negative."""
    tiny = Tiny((6,), "gelu", 1)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    found = certify(problem, start, 1e-6, theorem="C", budget=1e-9)
    assert found.why.seconds >= 0
    found.save(tmp_path / "certificate.json")
    assert load_certificate(tmp_path / "certificate.json") == found


@pytest.mark.slow
def test_ten_classes_are_certified_from_their_initialisation():
    """Whose curvature only random vectors bound sharply enough, and the run goes on as it says."""
    measure = load("digits", samples=40, test_fraction=0, standardize="sphere").train
    model = MLP(measure.dim, (128, 128), measure.outputs)
    start = jax.tree.map(lambda a: np.asarray(a, np.float64), model.init(jax.random.key(0)))
    problem = Problem(model, measure, centered_at=start)
    found = certify(problem, start, theorem="C", budget=300)
    assert found.certified
    assert found.constants["failure_probability"].value == 1e-12
    steps = int(found.constants["handover"].value)
    run = gradient_descent(problem, start, found.step_size, 3 * steps, dtype="float64")
    excess = np.asarray(run.history.excess)
    assert (excess <= [found.envelope(t) * (1 + 1e-9) for t in range(len(excess))]).all()
    gone = np.linalg.norm(
        np.concatenate(
            [
                np.ravel(a - b)
                for a, b in zip(*map(jax.tree.leaves, (run.params, start)), strict=True)
            ]
        )
    )
    limit = found.constants["limit_distance"].value
    assert found.constants["limit_distance_lower"].value <= gone + 1e-3 * limit
    assert gone <= limit * (1 + 1e-9)
