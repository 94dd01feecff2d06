"""Certificates of Theorem C are checked by another run; what it does not confirm is refused."""

import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from msgspec import structs

from altered import altered
from one_run import certified
from overparam import MLP, Measure, Problem, certify
from overparam.certificate.certificate import Course
from overparam.certificate.reason import Short
from overparam.model.activation import get_activation
from overparam.verification import own_run, verify
from overparam.verification.float_pass import FLOAT_ACTIVATIONS
from overparam.verification.subject import subject_of
from overparam.verification.verify import UNCHECKED
from tiny import Tiny


@pytest.fixture(params=["computed", "proved"])
def run(request):
    return certified(request.param)


@pytest.fixture
def proved():
    return certified("proved")


def test_what_is_true_passes(run, tmp_path):
    problem, start, certificate = run
    assert altered(certificate) == certificate
    assert verify(certificate, problem, start).ok
    certificate.save(tmp_path / "certificate.json")
    assert verify(tmp_path / "certificate.json", problem, start).ok


@pytest.mark.parametrize("rigor", ["computed", "proved"])
def test_a_model_that_only_rounding_moves_passes(rigor):
    """Linear in its parameters: no steps, no deviation, and a drift that is rounding alone."""
    tiny = Tiny((), "identity", 1, in_dim=8)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    certificate = certify(problem, start, theorem="C", rigor=rigor)
    assert certificate.certified
    assert certificate.constants["handover"].value == 0
    assert certificate.constants["kernel_drift"].value < 1e-11
    assert verify(certificate, problem, start).reasons == ()


@pytest.mark.slow
def test_two_hidden_layers_pass_and_their_probability_is_the_usual_one():
    tiny = Tiny((10, 10), "gelu", 1, points=3, output_scale=4.0)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    certificate = certify(problem, start, theorem="C", budget=3600)
    assert certificate.certified
    assert verify(certificate, problem, start).ok
    luckier = altered(certificate, failure_probability=1e-30)
    assert any("failure_probability" in why for why in verify(luckier, problem, start).reasons)


@pytest.mark.parametrize(("patience", "made"), [(49.0, [0]), (50.0, [0, 50])])
def test_a_run_is_made_again_with_steps_in_balls_unless_they_would_be_too_many(
    patience, made, monkeypatch
):
    class Lost(own_run._Run):
        """A run of which float64 says nothing unless 50 steps are made in balls."""

        def __init__(self, subject, step_size, early, say, batches):
            runs.append(early)
            super().__init__(subject, step_size, 0, say, batches)

        def until(self, steps):
            return replace(super().until(2), deviation=math.inf)

    runs: list[int] = []
    monkeypatch.setattr(own_run, "_Run", Lost)
    monkeypatch.setattr(own_run.OwnRun, "early", lambda found: 50)
    problem, start, certificate = certified("computed")
    subject, step = subject_of(problem, start), certificate.step_size
    own_run.own_run(subject, step, 1000, 0, lambda *told: None, patience=patience)
    assert runs == made


FORGERIES = {
    "one step fewer": ("handover", lambda c, v: v - 1),
    "one step more": ("handover", lambda c, v: v + 1),
    "half a step": ("handover", lambda c, v: v + 0.5),
    "another step size": ("step_size", lambda c, v: v * 1.001),
    "a smaller deviation": ("deviation", lambda c, v: v * 1e-7),
    "no deviation": ("deviation", lambda c, v: 0.0),
    "less amplification": ("exponent", lambda c, v: v / 2),
    "a shorter path": ("radius", lambda c, v: v * 0.999),
    "a nearer limit": ("limit_distance", lambda c, v: v * 0.999),
    "a farther limit": ("limit_distance_lower", lambda c, v: c.constants["limit_distance"].value),
    "a faster rate": ("rate", lambda c, v: v * 0.999),
    "no overshoot": ("overshoot", lambda c, v: 0.99),
    "a larger margin": ("margin", lambda c, v: v * 1.1),
    "more of sigma": ("sigma_end", lambda c, v: v * 1.05),
    "less excess": ("handover_excess", lambda c, v: v * 0.9),
    "a larger eigenvalue": ("handover_eigenvalue", lambda c, v: v * 1.01),
    "a kernel that does not drift": ("kernel_drift", lambda c, v: 1e-3),
    "a kernel that drifts less": ("kernel_drift", lambda c, v: v * 0.9),
    "the same, relative": ("relative_kernel_drift", lambda c, v: v * 0.9),
    "a kernel that drifts more": ("kernel_drift_lower", lambda c, v: v * 1.05),
    "a lazier network": ("linearisation_distance", lambda c, v: v * 0.99),
    "a less lazy one": ("linearisation_distance_lower", lambda c, v: v * 1.01),
    "nearer parameters": ("linearisation_parameter_distance", lambda c, v: v * 0.9),
    "farther ones": ("linearisation_parameter_distance_lower", lambda c, v: v * 1.05),
    "a kernel of another start": ("max_eigenvalue", lambda c, v: v * 0.99),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.sample(5)
def test_forgeries_are_refused(run, forgery):
    problem, start, certificate = run
    name, change = FORGERIES[forgery]
    forged = altered(certificate, **{name: change(certificate, certificate.constants[name].value)})
    result = verify(forged, problem, start)
    assert not result.ok
    assert not result.reasons[0].startswith(UNCHECKED)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "factor"), [("radius", 0.98), ("limit_distance_lower", 1.02), ("overshoot", 0.9)]
)
def test_an_excess_below_rounding_lends_distances_no_tolerance(name, factor):
    """At the hand-over the excess is nearly all deviation; how far the run went is not."""
    tiny = Tiny((10,), "silu", 1, points=3, output_scale=2.0, bias_scale=0.3)
    problem, start = tiny.problem(3, "log_cosh", centred=True), tiny.start(3)
    step = 1.5 / certify(problem, start, theorem="1").constants["max_eigenvalue"].value
    found = certify(problem, start, step, theorem="C", budget=3600)
    assert verify(found, problem, start).ok
    stated = getattr(found.numbers, name)
    forged = altered(found, **{name: factor * stated})
    assert not verify(forged, problem, start).ok


def test_a_proved_deviation_has_no_tolerance(proved):
    """A tenth of it is less than the re-check's own run can prove."""
    problem, start, certificate = proved
    less = altered(certificate, deviation=certificate.constants["deviation"].value / 10)
    assert any("deviation" in reason for reason in verify(less, problem, start).reasons)


@pytest.mark.parametrize("forgery", ["smaller", "not increasing", "shorter", "without the end"])
def test_a_forged_course_is_refused(proved, forgery):
    problem, start, certificate = proved
    steps, deviations = certificate.course.steps, certificate.course.deviations
    assert len(steps) > 2
    course = {
        "smaller": (steps, (*(0.01 * delta for delta in deviations[:-1]), deviations[-1])),
        "not increasing": (steps, (2 * deviations[-1], *deviations[1:])),
        "shorter": (steps[:-1], deviations[:-1]),
        "without the end": (steps, (*deviations[:-1], deviations[-2])),
    }[forgery]
    forged = structs.replace(certificate, course=Course(steps=course[0], deviations=course[1]))
    assert any("course" in reason for reason in verify(forged, problem, start).reasons)


def test_an_iterate_is_not_taken_for_the_start(run):
    """Nor the start's weights with two of its units in another order."""
    problem, start, certificate = run
    (first, second), (bias, last) = start
    order = np.array([1, 0, *range(2, len(first))])
    swapped = (first[order], second[:, order]), (bias[order], last)
    for other in (jax.tree.map(lambda a: a + 1e-13, start), swapped):
        assert "not those" in verify(certificate, problem, other).reasons[0]


@pytest.mark.parametrize("extra", ["seed", "cells", "iterates"])
def test_what_is_no_part_of_a_certificate_is_refused(run, extra, tmp_path):
    """It has no seed, no iterate and no order of cells: none that could be forged."""
    problem, start, certificate = run
    content = json.loads(certificate.to_json())
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps({**content, extra: [0, 1]}))
    assert "schema" in verify(path, problem, start).reasons[0]
    content["numbers"][extra] = 1.0
    path.write_text(json.dumps(content))
    assert "schema" in verify(path, problem, start).reasons[0]


def test_a_reason_that_its_numbers_do_not_give_is_refused(run):
    problem, start, certificate = run
    forged = structs.replace(certificate, why=Short())
    assert "why" in verify(forged, problem, start).reasons[0]


@pytest.mark.slow
def test_a_run_that_was_not_finished_is_not_checked():
    problem, start, certificate = certified("computed")
    short = certify(problem, start, certificate.step_size / 1e5, theorem="C", budget=0.2)
    assert not short.certified
    assert verify(short, problem, start).reasons[0].startswith(UNCHECKED)


def test_activations_and_their_second_derivatives_are_within_their_margins():
    """Against the package's own, which are held to 40 digits elsewhere."""
    z = np.concatenate([np.linspace(-12, 12, 4001), [0.0, 1e-9, -1e-9, 30.0, -30.0]])
    for name, found in FLOAT_ACTIVATIONS.items():
        act = get_activation(name)
        with jax.enable_x64(True):
            places = jax.numpy.asarray(z)
            slope, bend = jax.jvp(act.slope, (places,), (jax.numpy.ones_like(places),))
            exact = [np.asarray(a) for a in (act.fn(places), slope, bend)]
        seen = found.derivatives(z)
        for ours, theirs, margin in zip(seen, exact, (2e-15, 4e-15, 1e-13), strict=True):
            assert np.abs(ours - theirs).max() <= margin * max(1.0, np.abs(theirs).max()), name
        assert act.third_bound is not None
        assert act.third_bound <= found.third


@pytest.mark.slow
def test_a_run_with_cross_entropy_is_followed():
    tiny = Tiny((8,), "tanh", 1, points=3)
    problem, start = tiny.problem(0, "smoothed_cross_entropy:0.3", centred=True), tiny.start(0)
    found = certify(problem, start, theorem="C", budget=3600)
    assert found.certified
    assert verify(found, problem, start).ok


@pytest.mark.parametrize("seed", [4, 5])
def test_an_end_below_the_rounding_of_float64_is_checked_in_balls(seed):
    """A computed run goes on until its residual is 1e-11: the re-check's bounds outweigh that."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((10, (3, 8, 10)[seed % 3]))
    y = rng.standard_normal((10, 1)) if seed % 2 else np.sign(rng.standard_normal((10, 1)))
    model = MLP(x.shape[1], (16,), 1)
    start = jax.tree.map(lambda a: np.asarray(a, np.float64), model.init(jax.random.key(seed)))
    problem = Problem(model, Measure(x, y))
    certificate = certify(problem, start, theorem="C")
    assert certificate.constants["handover_excess"].value < 1e-18
    assert verify(certificate, problem, start).ok
    excess = certificate.numbers.handover_excess / 3
    numbers = structs.replace(certificate.numbers, handover_excess=excess)
    assert not verify(structs.replace(certificate, numbers=numbers), problem, start).ok
