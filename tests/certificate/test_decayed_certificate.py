"""Certificates of Theorem R: attacked by searches, dense Hessians and 50 digits."""

import itertools
import math
from dataclasses import replace
from itertools import pairwise

import jax
import mpmath as mp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from msgspec import structs

from exact_descent import distance, exact_run
from overparam import (
    InputError,
    Measure,
    Problem,
    TheoremViolatedError,
    anchor,
    certify,
    gauss_newton,
    gradient_descent,
    load_certificate,
)
from overparam.certificate.decayed_run import _Attempt, predict_decayed
from overparam.certificate.prediction import Prediction
from overparam.certificate.reason import DecayTooWeak, NotAtMinimum, StepTooLong, WouldTake
from overparam.certificate.trajectory_run import Run
from overparam.certificate.weight_decay import Decayed, measured_point
from overparam.kernel.empirical.tangent import objective_gradient, tangent_kernel
from overparam.train.decayed_minimum import decayed_minimum
from tiny import Tiny

TINY = Tiny((12,), "gelu", 1)


def problem_of(tiny, decay, loss="squared", *, centred=True, decay_to=None):
    start = tiny.start(0)
    centre = start if centred else None
    return Problem(tiny.model, tiny.measure(0), loss, centre, decay, decay_to=decay_to)


@pytest.fixture(scope="module")
def trained():
    problem = problem_of(TINY, 0.1)
    found = decayed_minimum(problem, TINY.start(0))
    assert found.converged
    return problem, found.params, anchor(problem, found.params)


def flat_objective(problem, params):
    with jax.enable_x64(True):
        flat, back = ravel_pytree(jax.tree.map(lambda a: np.asarray(a, np.float64), params))
        return np.asarray(flat), jax.jit(lambda v: problem.objective(back(v)))


def test_the_anchor_is_certified_and_says_what_is_not(trained, tmp_path):
    _, _, found = trained
    assert found.certified
    assert not found.exists
    assert found.existence_radius == math.inf
    assert found.theorem == "R"
    assert "whether a better one exists elsewhere is not known" in found.reason
    n = found.numbers
    assert n.weight_decay == 0.1
    assert n.strong_convexity == pytest.approx(0.1 - n.residual_curvature)
    assert n.loss_infimum == 0.0
    assert found.envelope(100) < found.envelope(0) == n.minimum_excess
    found.save(tmp_path / "c.json")
    assert load_certificate(tmp_path / "c.json") == found
    assert found.problem.weight_decay == 0.1
    assert found.problem.decay_sha256 == found.problem.center_sha256


@pytest.mark.slow
def test_the_hessian_has_its_bounds_all_over_the_ball(trained):
    """Dense Hessians, also where an adversary has pushed them as low and as high as he could."""
    problem, params, found = trained
    n, rng = found.numbers, np.random.default_rng(0)
    centre, objective = flat_objective(problem, params)
    with jax.enable_x64(True):
        hessian = jax.jit(jax.hessian(objective))
        worst, steepest = math.inf, 0.0
        for _ in range(12):
            way = rng.standard_normal(len(centre))
            way *= n.ball / np.linalg.norm(way)
            for _ in range(3):  # towards the lowest curvature
                eigenvalues, vectors = np.linalg.eigh(np.asarray(hessian(centre + way)))
                low, e = eigenvalues[0], vectors[:, 0]
                worst, steepest = min(worst, low), max(steepest, eigenvalues[-1])
                slope = np.asarray(jax.grad(lambda v, e=e: e @ (hessian(v) @ e))(centre + way))
                way = -slope * n.ball / np.linalg.norm(slope)
    assert n.strong_convexity <= worst
    assert steepest <= n.objective_smoothness
    assert steepest > 0.8 * n.objective_smoothness


def test_no_other_minimum_is_found_in_the_ball(trained):
    """Newton's method on the gradient from all over the ball, which finds saddles, too."""
    problem, params, found = trained
    centre, objective = flat_objective(problem, params)
    n, rng, ends = found.numbers, np.random.default_rng(1), []
    with jax.enable_x64(True):
        gradient, hessian = jax.jit(jax.grad(objective)), jax.jit(jax.hessian(objective))
        for _ in range(60):
            way = rng.standard_normal(len(centre))
            theta = centre + n.ball * way / np.linalg.norm(way)
            for _ in range(8):
                theta = theta - np.linalg.solve(np.asarray(hessian(theta)), gradient(theta))
            if np.linalg.norm(theta - centre) <= n.ball:
                ends.append(np.linalg.norm(theta - centre))
    assert len(ends) > 30
    assert max(ends) <= n.limit_distance + 1e-12


@pytest.mark.parametrize("factor", [1.0, 1.03])
def test_in_50_digits_descent_contracts_as_fast_as_it_says(trained, factor):
    """Successive steps of the exact map shrink by rho; so does the distance to their limit."""
    problem, params, _ = trained
    step = anchor(problem, params).step_size
    found = anchor(problem, params, factor * step)
    assert found.certified
    with mp.workdps(50):
        first = tuple([mp.matrix(a.tolist()) for a in arrays] for arrays in params)
        for layer in first[0]:  # away from the minimum, within the ball
            layer[0, 0] += mp.mpf(found.numbers.ball) / 8
        run = exact_run(TINY, problem, TINY.start(0), "squared", found.step_size, 24, first=first)
        steps = [gap(a, b) for a, b in pairwise(run)]
        rates = [b / a for a, b in pairwise(steps)]
    assert max(rates) <= found.numbers.contraction
    assert max(rates) > 0.5 * found.numbers.contraction


def gap(a, b):
    parts = [x - y for u, v in zip(a, b, strict=True) for x, y in zip(u, v, strict=True)]
    return mp.sqrt(mp.fsum(e**2 for part in parts for e in part))


@pytest.mark.sample(1)
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize(
    "tiny", [Tiny((5,), "gelu", 1), Tiny((4, 3), "tanh", 2), Tiny((), "identity", 1)], ids=str
)
def test_the_run_in_50_digits_stays_within_delta(tiny, centred):
    """With weight decay towards the start, or towards 0: as near as Theorem R' says."""
    problem, start = problem_of(tiny, 0.3, centred=centred), tiny.start(0)
    norm = float(np.linalg.norm(tangent_kernel(problem, start), 2))
    eta = 1.0 / (norm + 0.6)
    run, cells, done = Run(problem, start, eta), [], 0
    for cell in run.cells():
        cells.append(cell)
        done += len(cell.rows)
        if done >= 8:
            break
    cells = [cell for cell in cells if cell.start.step + len(cell.rows) <= 24] or cells[:1]
    last = min(cells[-1].start.step + len(cells[-1].rows), 24)
    with mp.workdps(50):
        exact = exact_run(tiny, problem, start, "squared", eta, last)
        for cell in cells:
            ahead = cell.start.step + len(cell.rows)
            if ahead <= last:
                apart = distance(exact[ahead], cell.end)
                assert apart <= cell.deviations[-1] < 1e-6


@pytest.fixture(scope="module")
def from_start():
    problem = problem_of(TINY, 0.1)
    return problem, TINY.start(0), certify(problem, TINY.start(0), budget=3600)


def test_from_the_initialisation_to_the_minimum_that_newton_finds(trained, from_start):
    problem, start, found = from_start
    assert found.certified, found.reason
    assert found.start == "initialisation"
    n = found.numbers
    away = ravel_pytree(jax.tree.map(np.subtract, trained[1], start))[0]
    reached = float(np.linalg.norm(np.asarray(away, np.float64)))
    assert n.limit_distance_lower - 1e-6 <= reached <= n.limit_distance + 1e-6
    assert n.limit_distance - n.limit_distance_lower < 1e-6
    assert reached <= found.radius
    assert n.region_minimum == pytest.approx(problem.excess(trained[1]), rel=1e-8)
    assert n.deviation < 1e-9
    with jax.enable_x64(True):
        result = gradient_descent(
            problem, start, found.step_size, 600, certificate=found, dtype="float64"
        )
    assert result.certificate_held
    gaps = result.history.excess - n.region_minimum
    assert (gaps <= found.envelope(np.arange(601)) + 1e-12).all()
    assert gaps[-1] < 1e-8


def test_a_false_claim_is_found_out_by_the_run(from_start):
    problem, start, found = from_start
    n = found.numbers
    for change in (
        {"radius": n.radius / 3},
        {"rate": n.rate**12},
        {"region_minimum": 0.9 * n.region_minimum},
    ):
        forged = found.__class__(
            **{**_fields(found), "numbers": structs.replace(found.numbers, **change)}
        )
        with pytest.raises(TheoremViolatedError):
            gradient_descent(
                problem, start, found.step_size, 300, certificate=forged, dtype="float64"
            )


def _fields(certificate):
    return {name: getattr(certificate, name) for name in certificate.__struct_fields__}


def test_too_little_decay_names_one_that_does():
    tiny = Tiny((6, 5), "tanh", 2)
    problem, start = problem_of(tiny, 0.1), tiny.start(0)
    found = anchor(problem, decayed_minimum(problem, start).params)
    assert not found.certified
    assert isinstance(found.why, DecayTooWeak)
    assert "would do" in found.reason
    better = problem_of(tiny, found.why.enough)
    assert anchor(better, decayed_minimum(better, start).params).certified


def test_elsewhere_the_gradient_is_what_is_missing(trained):
    problem, params, certified = trained
    moved = jax.tree.map(lambda a: a + 3e-3, params)
    found = anchor(problem, moved)
    assert isinstance(found.why, NotAtMinimum)
    assert found.numbers.gradient_norm > found.why.needed
    assert "decayed_minimum" in found.reason
    long = anchor(problem, params, 2.01 / certified.numbers.objective_smoothness)
    assert isinstance(long.why, StepTooLong)
    assert not long.certified


def test_a_deep_network_rests_on_a_random_vector_and_says_so():
    tiny = Tiny((6, 5), "tanh", 2)
    problem = problem_of(tiny, 0.3)
    found = anchor(problem, decayed_minimum(problem, tiny.start(0)).params)
    assert found.certified, found.reason
    assert found.numbers.failure_probability == 1e-12
    assert any("random vectors" in clause for clause in found.assumptions)


def test_how_far_the_objective_is_off_counts_that_steps_are_no_gradients():
    """At the minimum steps are rounding, and the gradient may be eps / eta longer than they say."""
    problem = problem_of(TINY, 0.1)
    run = Run(problem, TINY.start(0), 1.0)
    cell = next(run.cells())
    still = np.zeros_like(cell.deviations) + 1e-3
    cell = replace(cell, rows=0 * cell.rows, deviations=still, errors=0 * cell.errors + 1e-2)
    attempt = _Attempt(problem, run, Prediction(1, 1.0), 0.0, 0.0, None, itertools.count())
    attempt._keep(cell)
    assert (attempt.errors[0] >= 1e-3 * 1e-2 / run.step_size).all()


@pytest.mark.slow
def test_of_the_kernel_nothing_is_needed():
    """Two rows contradict each other: no network fits them, and Theorem 1 has nothing to say."""
    measure = TINY.measure(0)
    x = np.concatenate([measure.x, measure.x[:1] + 1e-9])
    y = np.concatenate([measure.y, -measure.y[:1]])
    problem = Problem(TINY.model, Measure(x, y), "squared", TINY.start(0), 0.2)
    found = anchor(problem, decayed_minimum(problem, TINY.start(0)).params)
    assert found.min_eigenvalue < 1e-12
    assert found.certified, found.reason


def test_newton_leaves_nothing_of_the_gradient_and_descends(trained):
    problem, params, _ = trained
    start = TINY.start(0)
    first = ravel_pytree(objective_gradient(problem, start))[0]
    last = ravel_pytree(objective_gradient(problem, params))[0]
    assert np.linalg.norm(last) <= 1e-10 * np.linalg.norm(first)
    assert problem.objective(params) < problem.objective(start)
    with pytest.raises(InputError, match="no weight decay"):
        decayed_minimum(problem_of(TINY, 0.0), start)


def test_a_run_that_would_take_too_long_is_not_made():
    problem, start = problem_of(TINY, 1e-7), TINY.start(0)
    found = certify(problem, start, budget=1.0)
    assert isinstance(found.why, WouldTake)
    assert found.numbers.predicted_steps > 1e6
    assert "budget" in found.reason
    known = Decayed(problem, measured_point(problem, start), curvature=False)
    assert predict_decayed(known, found.step_size).steps == found.numbers.predicted_steps


def test_what_theorem_r_does_not_speak_of():
    start, problem = TINY.start(0), problem_of(TINY, 0.1)
    for theorem in ("1", "P", "C"):
        with pytest.raises(InputError, match=f"Theorem {theorem} is about problems without"):
            certify(problem, start, theorem=theorem)
    with pytest.raises(InputError, match="Gauss-Newton to interpolation is about problems without"):
        gauss_newton(problem, start)
    with pytest.raises(InputError, match="Theorem R is about weight decay"):
        certify(problem_of(TINY, 0.0), start, theorem="R")
    with pytest.raises(InputError, match="Theorem R knows no rigor"):
        anchor(problem, start, rigor="estimated")
    relu = Tiny((5,), "relu", 1)
    with pytest.raises(InputError, match="three derivatives"):
        anchor(problem_of(relu, 0.1), relu.start(0))
    function = Problem(TINY.model.apply, TINY.measure(0), "squared", None, 0.1)
    with pytest.raises(InputError, match="Theorem R is known for an MLP"):
        anchor(function, start)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tiny", "loss"),
    [
        (Tiny((8,), "gelu", 1), "cross_entropy"),
        (Tiny((8,), "tanh", 2), "huber:0.3"),
        (Tiny((8,), "gelu", 1), "squared_hinge"),
    ],
    ids=str,
)
def test_losses_without_a_pl_constant_and_others(tiny, loss):
    """Of cross-entropy, unsmoothed, the infimum is not attained; with weight decay it need not."""
    problem, start = problem_of(tiny, 0.1, loss), tiny.start(0)
    result = decayed_minimum(problem, start)
    found = anchor(problem, result.params)
    assert found.certified, found.reason
    centre, objective = flat_objective(problem, result.params)
    with jax.enable_x64(True):
        least, *_, most = np.linalg.eigvalsh(np.asarray(jax.hessian(objective)(centre)))
        slope = np.linalg.norm(np.asarray(jax.grad(objective)(centre)))
    assert found.numbers.strong_convexity <= least
    assert most <= found.numbers.objective_smoothness
    assert slope <= found.numbers.gradient_norm
    run = certify(problem, start, budget=3600)
    assert run.certified, run.reason
    held = gradient_descent(problem, start, run.step_size, 200, certificate=run, dtype="float64")
    assert held.certificate_held


def test_unsmoothed_cross_entropy_is_the_logistic_loss_and_needs_decay():
    tiny = Tiny((4,), "gelu", 1)
    problem, params = problem_of(tiny, 0.1, "cross_entropy"), tiny.start(3)
    z, y = problem.predict(params), problem.targets
    logistic = float(problem.measure.weights @ np.logaddexp(0, -z * y).sum(axis=1))
    assert problem.objective(params) - problem.penalty(params) == pytest.approx(logistic)
    slope = np.asarray(problem.loss.gradient(z, y))
    np.testing.assert_allclose(slope, -y / (1 + np.exp(z * y)), rtol=1e-12)
    assert problem.loss.smoothness == 0.25
    assert problem.infimum == 0.0
    with pytest.raises(InputError, match="no certificate can exist for the loss 'cross_entropy'"):
        problem_of(tiny, 0.0, "cross_entropy")
