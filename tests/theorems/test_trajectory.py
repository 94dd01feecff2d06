"""Theorem C on maps where everything is known: quadratic ones, and one that is solved by hand."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from overparam.theorems.handover import excess_within, takes_over
from overparam.theorems.trajectory import Ball, exp_up, next_spread
from quadratic_map import QuadraticMap, random_map


def follow(
    problem: QuadraticMap, eta: float, points: np.ndarray, reach: float = 1e-2, decay: float = 0.0
):
    """delta_0, delta_1, ... along given points, with errors and constants that are exact."""
    spread, found = 0.0, [0.0]
    for here, ahead in pairwise(points):
        ghat = problem.value(here) - problem.target
        image = here - eta * (problem.jacobian(here).T @ ghat + decay * here)
        curvature = np.linalg.norm(np.einsum("kpq,k->pq", problem.bend, ghat), 2)
        spread = next_spread(
            spread=spread,
            slack=1.0,
            ball=Ball(
                radius=reach,
                jacobian_norm=np.linalg.norm(problem.jacobian(here), 2) + problem.curvature * reach,
                lipschitz=problem.curvature,
                third=0.0,
            ),
            gradient=float(np.linalg.norm(ghat)),
            exponent=eta * curvature,
            error=float(np.linalg.norm(ahead - image)),
            step_size=eta,
            smoothness=1.0,
            decay=decay,
        )
        if spread is None:
            return found
        found.append(float(spread))
    return found


def descend(problem: QuadraticMap, eta: float, kicks: np.ndarray, decay: float = 0.0):
    """Gradient descent from 0, kicked at each step; weight decay is towards 0."""
    theta = [np.zeros(problem.slope.shape[1])]
    for kick in kicks:
        gradient = problem.jacobian(theta[-1]).T @ (problem.value(theta[-1]) - problem.target)
        theta.append(theta[-1] - eta * (gradient + decay * theta[-1]) + kick)
        if np.linalg.norm(theta[-1]) > 1e6:
            break  # it diverges, which is no obstacle to staying close
    return np.array(theta)


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.9, 2.3])
def test_the_exact_run_stays_within_the_deviation(factor):
    """The points are kicked off the exact run at every step, by far more than rounding."""
    ratios = []
    for seed in range(60):
        problem = random_map(seed, margin=0.5)
        rng = np.random.default_rng(seed)
        eta, p = factor / np.linalg.norm(problem.slope, 2) ** 2, problem.slope.shape[1]
        kicks = rng.standard_normal((40, p)) * 10.0 ** rng.uniform(-8, -4)
        kicked = descend(problem, eta, kicks)
        bounds = follow(problem, eta, kicked)
        exact = descend(problem, eta, 0 * kicks)[: len(bounds)]
        bounds = bounds[: len(exact)]
        apart = np.linalg.norm(kicked[: len(exact)][: len(bounds)] - exact[: len(bounds)], axis=1)
        assert (apart <= np.array(bounds) * (1 + 1e-9) + 1e-14).all()
        ratios.append(float(apart[-1] / bounds[-1]))
        if len(bounds) > 20:
            ratios.append(float(apart[20] / bounds[20]))
    assert max(ratios) > 0.1  # and the bound is not an idle one


@pytest.mark.parametrize("factor", [0.3, 1.0, 1.9])
@pytest.mark.sample(1)
def test_with_weight_decay_a_deviation_stops_growing(factor):
    """However many steps: what is kicked off the exact run is forgotten at the decay's rate."""
    forgotten = 0
    for seed in range(30):
        problem = random_map(seed, margin=8.0)
        rng = np.random.default_rng(seed)
        steepest, p = np.linalg.norm(problem.slope, 2) ** 2, problem.slope.shape[1]
        decay = 0.3 * steepest
        eta = factor / (steepest + 2 * decay)
        kicks = rng.standard_normal((300, p)) * 1e-8
        kicked = descend(problem, eta, kicks, decay)
        bounds = follow(problem, eta, kicked, decay=decay)
        exact = descend(problem, eta, 0 * kicks, decay)[: len(bounds)]
        apart = np.linalg.norm(kicked[: len(exact)] - exact, axis=1)
        assert (apart <= np.array(bounds[: len(exact)]) * (1 + 1e-9) + 1e-15).all()
        if len(bounds) == 301 and bounds[300] <= 1.05 * bounds[150]:
            forgotten += 1
            assert apart[-1] > bounds[-1] / 300
    assert forgotten > 10


def test_negative_curvature_is_amplified_as_fast_as_it_is_allowed_to_be():
    """F = a b far below its target: along the saddle a kick grows by 1 + eta mu a step."""
    problem = QuadraticMap(np.zeros((1, 2)), np.array([[[0.0, 1.0], [1.0, 0.0]]]), np.array([2.0]))
    eta, start = 0.02, np.zeros(2)
    kick = np.array([1e-9, 1e-9]) / math.sqrt(2)
    exact = np.array([start] * 151)  # the saddle is stationary
    points = np.array([start, *(descend_from(problem, eta, start + kick, 149))])
    bounds = follow(problem, eta, points, reach=1e-4)
    apart = np.linalg.norm(points - exact, axis=1)
    assert np.all(apart <= np.array(bounds) * (1 + 1e-12))
    assert apart[-1] > 0.8 * bounds[-1]
    assert apart[-1] > 100 * apart[1]


def descend_from(problem, eta, theta, steps):
    found = [theta]
    for _ in range(steps):
        gradient = problem.jacobian(found[-1]).T @ (problem.value(found[-1]) - problem.target)
        found.append(found[-1] - eta * gradient)
    return found


def test_a_deviation_that_leaves_the_ball_is_no_result():
    ball = Ball(radius=1e-3, jacobian_norm=1.0, lipschitz=1.0, third=0.0)
    shared = {"gradient": 0.0, "exponent": 0.0, "error": 0.0, "step_size": 1.0, "smoothness": 1.0}
    assert next_spread(spread=1e-3, slack=1.0, ball=ball, **shared) is not None
    assert next_spread(spread=1e-3, slack=1.1, ball=ball, **shared) is None
    assert next_spread(spread=math.nan, slack=1.0, ball=ball, **shared) is None


def test_a_step_beyond_the_stable_one_expands():
    """eta M B^2 = 3: an error may double in a step although nothing is curved."""
    ball = Ball(radius=1.0, jacobian_norm=math.sqrt(3), lipschitz=0.0, third=0.0)
    shared = {"gradient": 0.0, "exponent": 0.0, "error": 0.0, "step_size": 1.0, "smoothness": 1.0}
    reached = next_spread(spread=1e-6, slack=1.0, ball=ball, **shared)
    assert 2e-6 <= reached <= 2.8e-6


@pytest.mark.parametrize("y", [0.0, -1e-9, -0.3, -5.0, 1e-12, 0.01, 0.3, 0.5, 0.7, 3.0, 40.0])
def test_exponentials_are_bounded_from_above(y):
    exact = sum((Fraction(y) ** n / math.factorial(n) for n in range(250)), Fraction(0))
    found = exp_up(y)
    assert Fraction(found) * (1 + Fraction(1, 2**44)) >= exact
    if y >= -0.5:
        assert found <= float(exact) * (1 + (0.11 if y >= 0 else 0.25) * y**2 + 1e-12) ** max(
            1.0, y
        )


@pytest.mark.parametrize("seed", range(8))
def test_the_hand_over_holds_for_all_parameters_nearby(seed):
    """Theorem 1 measured at a point, for a run from elsewhere: it converges as promised."""
    problem = random_map(seed, margin=12.0)
    away = 0.02 * problem.majorant().sigma / problem.curvature
    start = np.zeros(problem.slope.shape[1])
    norm = float(np.linalg.norm(problem.slope, 2))
    residual = problem.value(start) - problem.target
    excess = excess_within(
        excess=0.5 * float(residual @ residual),
        smoothness=1.0,
        jacobian_norm=norm + problem.curvature * away,
        away=away,
    )
    eta = 0.5 / norm**2
    tail = takes_over(
        on_balls=lambda radii: problem.curvature * np.stack([radii, np.ones_like(radii)], axis=1),
        away=away,
        sigma=problem.majorant().sigma,
        jacobian_norm=norm,
        smoothness=1.0,
        pl_constant=1.0,
        excess=excess,
        step_size=eta,
    )
    assert tail.certified
    rng = np.random.default_rng(seed)
    for _ in range(20):
        direction = rng.standard_normal(len(start))
        theta = start + away * direction / np.linalg.norm(direction)
        run = np.array(descend_from(problem, eta, theta, 400))
        values = [problem.value(t) - problem.target for t in run]
        excesses = 0.5 * np.array([v @ v for v in values])
        assert excesses[0] <= excess
        assert (excesses <= excess * tail.rate ** np.arange(401) * (1 + 1e-9) + 1e-28).all()
        assert np.linalg.norm(np.diff(run, axis=0), axis=1).sum() <= tail.radius


def test_the_hand_over_at_no_distance_is_theorem_1():
    problem = random_map(3, margin=2.5)
    free = problem.converges()
    norm = float(np.linalg.norm(problem.slope, 2))
    tail = takes_over(
        on_balls=lambda radii: problem.curvature * np.stack([radii, np.ones_like(radii)], axis=1),
        away=0.0,
        sigma=problem.majorant().sigma,
        jacobian_norm=norm,
        smoothness=1.0,
        pl_constant=1.0,
        excess=0.5 * float(problem.target @ problem.target),
        step_size=free.step_size,
    )
    assert tail.certified
    assert tail.rate == pytest.approx(free.rate, rel=0.02)
