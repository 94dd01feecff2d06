"""Theorem R on maps where everything is known, in 60 digits, and under attack."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from flint import arb

from overparam.numbers import Interval, safe
from overparam.theorems.weight_decay import best_step, unique_minimiser
from quadratic_map import random_map


def gradient(problem, decay, theta):
    """Of 1/2 |F - y|^2 + lambda / 2 |theta|^2."""
    return problem.jacobian(theta).T @ (problem.value(theta) - problem.target) + decay * theta


def objective(problem, decay, theta):
    gap = problem.value(theta) - problem.target
    return 0.5 * float(gap @ gap) + 0.5 * decay * float(theta @ theta)


def hypotheses(problem, decay, centre, radius):
    """What holds on a ball, with constants that are exact but for one triangle inequality."""
    bend, g = problem.curvature, problem.value(centre) - problem.target
    norm = float(np.linalg.norm(problem.jacobian(centre), 2)) + bend * radius
    own, more = np.linalg.eigvalsh(np.einsum("kpq,k->pq", problem.bend, g)), bend * norm * radius
    return {
        "decay": decay,
        "down": max(more - own[0], 0.0),
        "up": max(own[-1] + more, 0.0),
        "gradient": float(np.linalg.norm(gradient(problem, decay, centre))),
        "radius": radius,
        "jacobian_norm": norm,
        "smoothness": 1.0,
    }


def certified_balls(count, step=None):
    """Random maps, decays and balls around points near a minimum, as far as they certify."""
    found = []
    for seed in range(100 * count):
        rng = np.random.default_rng(seed)
        problem = random_map(seed, margin=float(10.0 ** rng.uniform(-1, 0.5)))
        p = problem.slope.shape[1]
        decay = float(10.0 ** rng.uniform(-2, 0.3)) * np.linalg.norm(problem.slope, 2) ** 2
        theta = np.zeros(p)
        eta = 0.5 / (np.linalg.norm(problem.slope, 2) ** 2 + decay)
        for _ in range(int(rng.integers(5, 300))):
            theta = theta - eta * gradient(problem, decay, theta)
        size = float(np.linalg.norm(gradient(problem, decay, theta)))
        radius = size / decay * 10.0 ** rng.uniform(0.3, 3) + 1e-9
        known = hypotheses(problem, decay, theta, radius)
        shared = {
            name: known[name] for name in ("decay", "down", "up", "jacobian_norm", "smoothness")
        }
        longest = best_step(**shared)
        away = float(rng.uniform(0, 0.5)) * radius if rng.random() < 0.5 else 0.0
        ball = unique_minimiser(**known, away=away, step_size=(step or 1.0) * longest)
        if ball.certified:
            found.append((problem, decay, theta, radius, away, ball))
        if len(found) == count:
            return found
    raise AssertionError(f"only {len(found)} balls were certified")


def test_a_parabola_is_known_to_the_last_digit():
    """F(theta) = a theta, 1/2 (F - y)^2: the minimiser is a y / (a^2 + lambda)."""
    a, y, decay, theta = 3.0, 2.0, 0.5, 0.75
    slope = a * (a * theta - y) + decay * theta
    exact = Fraction(6) / Fraction(19, 2)
    shared = {"decay": decay, "down": 0.0, "up": 0.0, "jacobian_norm": a, "smoothness": 1.0}
    step = best_step(**shared)
    ball = unique_minimiser(**shared, gradient=abs(slope), radius=100.0, step_size=step)
    assert ball.certified
    assert ball.strong_convexity == decay
    assert ball.smoothness == a * a + decay
    assert abs(theta - exact) <= ball.distance
    # Along F nothing is strongly convex but through the decay, so the bound is what it may be.
    assert ball.distance == pytest.approx(abs(slope) / decay)
    assert ball.contraction == pytest.approx(1 - step * decay)
    assert step == pytest.approx(2 / (a * a + 2 * decay))
    flat = unique_minimiser(
        **{**shared, "jacobian_norm": 0.0}, gradient=decay * theta, radius=2.0, step_size=1 / decay
    )
    assert flat.certified
    assert flat.distance == theta  # F = 0: exactly the reference
    assert flat.excess == decay * theta**2 / 2
    assert 0.0 <= flat.contraction <= 2**-48  # one step leads there, but for rounding


def test_the_factor_two_and_the_border_of_every_condition():
    shared = {"decay": 1.0, "down": 0.5, "up": 0.5, "radius": 4.0, "jacobian_norm": 1.0}
    shared |= {"smoothness": 1.0, "step_size": 0.1}
    assert unique_minimiser(**shared, gradient=0.999).certified
    assert not unique_minimiser(**shared, gradient=1.001).certified
    assert not unique_minimiser(**shared, gradient=0.999, away=0.1).certified
    assert not unique_minimiser(**{**shared, "down": 1.0, "up": 1.0}, gradient=0.0).certified
    assert not unique_minimiser(**{**shared, "down": math.nan, "up": 1.0}, gradient=0.0).certified
    assert not unique_minimiser(**{**shared, "down": 0.5, "up": math.inf}, gradient=0.0).certified
    steepest = 1.0 + 0.5 + 1.0
    for factor, holds in ((0.999, True), (1.001, False)):
        step = {**shared, "step_size": factor * 2 / steepest}
        assert unique_minimiser(**step, gradient=0.1).certified is holds
    short = unique_minimiser(**shared, gradient=2.0)
    assert short.margin == pytest.approx(0.5)
    assert short.distance == math.inf


@pytest.mark.parametrize("factor", [0.2, 1.0, 1.3])
def test_descent_stays_and_converges_at_the_rate_from_the_whole_sphere(factor):
    """Starts on the sphere of radius delta, and steps beyond 2 / (l + m)."""
    slack = []
    for seed, (problem, decay, centre, radius, away, ball) in enumerate(
        certified_balls(25, factor)
    ):
        rng = np.random.default_rng(seed)
        best = newton(problem, decay, centre)
        assert np.linalg.norm(best - centre) <= ball.distance * (1 + 1e-9) + 1e-12
        for _ in range(4):
            way = rng.standard_normal(len(centre))
            theta = centre + away * way / np.linalg.norm(way)
            path, start = 0.0, float(np.linalg.norm(theta - best))
            for t in range(60):
                apart = float(np.linalg.norm(theta - best))
                assert apart <= ball.contraction**t * ball.reach * (1 + 1e-9) + 1e-12
                assert np.linalg.norm(theta - centre) <= radius * (1 + 1e-12)
                risen = objective(problem, decay, theta) - objective(problem, decay, best)
                allowed = ball.smoothness / 2 * (ball.contraction**t * ball.reach) ** 2
                assert risen <= allowed * (1 + 1e-9) + 1e-12
                step = ball.step_size * gradient(problem, decay, theta)
                path += float(np.linalg.norm(step))
                theta = theta - step
            assert path <= ball.path * (1 + 1e-9) + 1e-11
            slack.append(float(np.linalg.norm(theta - best)) / max(start, 1e-300))
    assert min(slack) < 0.5  # they do move


def newton(problem, decay, theta):
    """The minimiser nearby."""
    for _ in range(60):
        g = problem.value(theta) - problem.target
        J = problem.jacobian(theta)
        hessian = J.T @ J + np.einsum("kpq,k->pq", problem.bend, g) + decay * np.eye(len(theta))
        theta = theta - np.linalg.solve(hessian, gradient(problem, decay, theta))
    return theta


def test_no_other_critical_point_is_found_in_the_ball():
    """Newton's method on the gradient from hundreds of starts finds saddles and maxima, too."""
    elsewhere = 0
    for seed, (problem, decay, centre, radius, _, ball) in enumerate(certified_balls(25)):
        rng = np.random.default_rng(seed)
        best = newton(problem, decay, centre)
        for _ in range(40):
            way = rng.standard_normal(len(centre))
            scale = radius if rng.random() < 0.5 else 10.0 ** rng.uniform(-1, 2)
            start = centre + scale * rng.random() * way / np.linalg.norm(way)
            found = newton(problem, decay, start)
            if not np.linalg.norm(gradient(problem, decay, found)) <= 1e-9:
                continue
            inside = np.linalg.norm(found - centre) <= radius * (1 - 1e-9)
            elsewhere += not inside
            if inside:
                assert np.linalg.norm(found - best) <= 1e-7 * (1 + ball.reach)
    assert elsewhere > 0  # there are other critical points: the objective is not convex


def test_beyond_the_condition_there_are_two_minima():
    """F = theta^2 below its target with mu just above lambda: nothing certified, rightly."""
    # phi = 1/2 (theta^2 - 1)^2 + lambda / 2 theta^2, R = 2 (theta^2 - 1): minima +-sqrt(1 - l/2).
    for decay, certified in ((1.9, False), (2.1, True)):
        ball = unique_minimiser(
            decay=decay,
            down=2.0,
            up=2.0,
            gradient=0.0,
            radius=0.5,
            jacobian_norm=1.0,
            smoothness=1.0,
            step_size=0.1,
        )
        assert ball.certified is certified
    assert 0.5 * (0.05 - 1) ** 2 + 0.95 * 0.05 < 0.5  # with 1.9, sqrt(0.05) is lower than 0


def over(number, values):
    """Theorem R over numbers of a type."""
    return unique_minimiser(**{name: number(value) for name, value in values.items()})


def test_the_three_number_types_agree_and_intervals_are_on_the_safe_side():
    rng = np.random.default_rng(1)
    decided = 0
    for _ in range(200):
        decay = float(10.0 ** rng.uniform(-4, 0))
        values = {
            "decay": decay,
            "down": decay * float(rng.uniform(0.1, 1.1)),
            "up": decay * float(rng.uniform(0.1, 3.0)),
            "radius": float(10.0 ** rng.uniform(-6, 0)),
            "jacobian_norm": float(10.0 ** rng.uniform(-1, 1)),
            "smoothness": 1.0,
        }
        values["gradient"] = decay * values["radius"] * float(rng.uniform(0, 0.7))
        values["away"] = values["radius"] * float(rng.uniform(0, 0.5))
        B = values["jacobian_norm"]
        values["step_size"] = float(rng.uniform(0.1, 2.1)) / (B * B + 2 * decay)
        plain = over(float, values)
        proved = safe(over(Interval.exact, values))
        balls = over(arb, values)
        assert plain.certified == proved.certified == balls.certified
        decided += plain.certified
        if not plain.certified:
            continue
        with mp.workdps(60):
            v = {k: mp.mpf(x) for k, x in values.items()}
            m = v["decay"] - v["down"]
            top = v["jacobian_norm"] ** 2 + v["decay"] + v["up"]
            rho = max(1 - v["step_size"] * m, v["step_size"] * top - 1)
            reach = v["gradient"] / m + v["away"]
            exact = {
                "strong_convexity": m,
                "smoothness": top,
                "contraction": rho,
                "distance": v["gradient"] / m,
                "excess": v["gradient"] ** 2 / (2 * m),
                "path": (1 + rho) / (1 - rho) * reach,
            }
            for name, value in exact.items():
                side = -1 if name == "strong_convexity" else 1
                assert side * (mp.mpf(getattr(proved, name)) - value) >= 0
                assert getattr(plain, name) == pytest.approx(float(value), rel=1e-9)
                assert float(getattr(balls, name).mid()) == pytest.approx(float(value), rel=1e-9)
    assert 30 < decided < 170
