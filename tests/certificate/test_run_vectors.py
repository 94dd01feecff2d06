"""Random vectors of runs: each step and each run has its own, none where Lemma C6 fails."""

from itertools import count

import jax
import numpy as np
import pytest
from flint import arb, arb_mat

from overparam import InputError, Problem, certify
from overparam.certificate import trajectory
from overparam.certificate.ball_steps import BallRun
from overparam.certificate.hypotheses import measure_hypotheses
from overparam.certificate.prediction import Prediction, predict_run
from overparam.certificate.reason import Lost
from overparam.certificate.trajectory_attempt import Attempt
from overparam.certificate.trajectory_run import Run
from overparam.jacobian.random_curvature import ATTEMPTS, DRAWINGS, Drawing
from overparam.kernel.empirical.expansion import Expansion
from overparam.numbers.balls import LEAST, norm_of_radii
from tiny import Tiny

DEEP = Tiny((4, 4), "gelu", 1, points=4)


def test_each_step_has_a_vector_of_its_own_in_balls_and_out_of_them():
    problem, start = DEEP.problem(0, centred=True), DEEP.start(0)
    run = Run(problem, start, 0.02, sampled=True, early=40, persists=True)
    steps, advance = list[int](), run._advance

    def noted(*given):
        found = advance(*given)
        steps.extend(range(int(given[-1][1]), int(given[-1][1]) + int(found[3])))
        return found

    run._advance = noted
    for cell in run.cells():
        if cell.start.step > 60:
            break
    assert steps == list(range(len(steps)))
    assert len(steps) > 60


def test_each_run_has_vectors_of_its_own_and_there_are_not_more_than_share_the_probability(
    monkeypatch,
):
    """Whatever becomes of the runs: here each is lost, and those in balls, too."""
    problem, start, runs = DEEP.problem(0, centred=True), DEEP.start(0), []
    fates = count()

    def attempt(problem, run, settings):
        runs.append(run)
        lost = Attempt(problem, run, settings)
        lost.why, lost.lost, lost.adrift = Lost(9, 1.0, 30.0), True, next(fates) % 2 == 0
        return lost, None

    monkeypatch.setattr(trajectory, "make_attempt", attempt)
    predicted = Prediction(1, 1.0, True, DRAWINGS[-1])
    monkeypatch.setattr(trajectory, "predict_run", lambda *given, **how: predicted)
    assert not certify(problem, start, theorem="C").certified
    sampled = [run for run in runs if run.randomised]
    keys = {tuple(jax.random.key_data(run.key).tolist()) for run in sampled}
    assert len(keys) == len(sampled) == len(runs) <= ATTEMPTS
    assert len(runs) > 4
    assert [run.drawing for run in runs[:2]] == [DRAWINGS[-1], DRAWINGS[0]]


def test_a_run_that_a_loose_bound_on_curvature_loses_is_made_again_with_a_sharper_one(monkeypatch):
    loose = Drawing(0.5, 8, 4)
    predicted = Prediction(100, 100.0, True, loose)
    monkeypatch.setattr(trajectory, "predict_run", lambda *given, **how: predicted)
    runs, made = [], trajectory.make_attempt

    def attempt(problem, run, settings):
        runs.append(run)
        return made(problem, run, settings)

    monkeypatch.setattr(trajectory, "make_attempt", attempt)
    wide = Tiny((32, 32), "tanh", 1, points=4)
    problem, start = wide.problem(0, centred=True), wide.start(0)
    found = certify(problem, start, theorem="C")
    assert found.certified
    assert [run.drawing for run in runs] == [loose, DRAWINGS[0]]
    assert runs[0].step_size == runs[1].step_size
    # log((t + 1)(t + 2) / p) / 0.5 alone is more than float64 affords
    assert runs[0].slack(1) > 50 > found.constants["exponent"].value


def test_a_step_beyond_what_weight_decay_allows_rests_on_no_vectors():
    """Lemma C6 divides by 1 - eta lambda."""
    start, measure = DEEP.start(0), DEEP.measure(0)
    problem = Problem(DEEP.model, measure, weight_decay=40.0)
    with pytest.raises(InputError, match=r"too long: take 0\.0125 or less"):
        Run(problem, start, 1.3 / 40, sampled=True)
    found = certify(problem, start, step_size=1.3 / 40)
    assert "failure_probability" not in found.constants


def test_a_looser_bound_is_for_wide_networks_that_meet_little_curvature(monkeypatch):
    """By a forecast, whose work counts the vectors' products."""
    wide = Tiny((32, 32), "tanh", 1, points=4)
    problem, start = wide.problem(0, centred=True), wide.start(0)
    hypotheses = measure_hypotheses(Expansion(problem, start))
    step = 1 / hypotheses.jacobian_norm**2
    monkeypatch.setattr("overparam.certificate.prediction.SAMPLED", 0.0)
    assert predict_run(hypotheses, step, loose=True).drawing is None
    monkeypatch.setattr("overparam.jacobian.random_curvature.SMALL", 0)
    loose, sharp = (predict_run(hypotheses, step, loose=which) for which in (True, False))
    assert loose.drawing == DRAWINGS[2]
    assert sharp.drawing is None
    assert loose.work < sharp.work
    monkeypatch.setattr("overparam.jacobian.random_curvature.LITTLE", 0.0)
    assert predict_run(hypotheses, step, loose=True) == sharp


@pytest.mark.parametrize("bits", [128, 700, 2000])
def test_a_step_in_balls_is_never_taken_to_be_exact(bits):
    """Radii of which float64 knows neither the squares nor, at 2,000 bits, themselves."""
    problem, start = DEEP.problem(0, centred=True), DEEP.start(0)
    assert 0 < BallRun(problem, start, 0.1, bits).step() < 1e-30


@pytest.mark.parametrize("exponent", [-40, -400, -900])
def test_the_norm_of_radii_bounds_them_whatever_their_size(exponent):
    radius = arb(2) ** exponent
    matrix = arb_mat(3, 3, [arb(1.0, radius)] * 9)
    found = norm_of_radii(matrix)
    assert 3 * 2.0**exponent <= found <= 3.001 * 2.0**exponent + 2 * LEAST
    assert np.isfinite(found)
