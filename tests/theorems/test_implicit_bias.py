"""Theorems 5 and 5' on maps whose modulus is exact, and against closed forms."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from overparam.theorems.implicit_bias import Limit, descent_limit, distance_ratio
from overparam.theorems.majorant import Majorant
from quadratic_map import QuadraticMap, random_map


def linear(sigma: float, slope: float, nodes: int = 4000) -> Majorant:
    radii = np.linspace(0, sigma / slope, nodes + 1)[1:]
    return Majorant(sigma, radii, slope * radii)


def test_the_limit_solves_its_equation():
    sigma, slope, path, rho = 1.3, 0.7, 0.8, 0.3
    found = descent_limit(
        majorant=linear(sigma, slope), path=path, displacement=path, target_norm=rho
    )
    nu = slope * path**2 / 2 / sigma
    exact = brentq(lambda d: d**2 - (rho + slope * d**2 / 2 / sigma) ** 2 - nu**2, 0, path)
    assert found.kernel_part == pytest.approx(nu, rel=1e-3)
    assert exact <= found.distance <= exact * 1.001


def test_a_smaller_displacement_counts_where_the_path_is_longer():
    majorant = linear(1.0, 0.5)
    found = descent_limit(majorant=majorant, path=1.0, displacement=0.25, target_norm=0.1)
    # omega(min(s, 1/4)) = min(s, 1/4) / 2: a triangle and a rectangle.
    assert found.kernel_part == pytest.approx(0.25**2 / 4 + 0.75 / 8, rel=1e-3)


def test_other_losses_are_left_with_the_displacement():
    found = descent_limit(majorant=linear(1.0, 0.5), path=1.0, displacement=0.9)
    assert found.distance == 0.9


def test_nothing_follows_where_nothing_is_certified():
    majorant = linear(1.0, 0.5)
    limit = descent_limit(majorant=majorant, path=math.inf, displacement=math.inf, target_norm=1.0)
    assert math.isinf(limit.distance)
    assert math.isinf(distance_ratio(majorant=majorant, limit=limit, closest=1.0, unique=True))


def test_the_ratio_is_one_over_the_cosine_of_two_angles():
    majorant, limit = linear(1.0, 0.5), Limit(distance=0.2, kernel_part=0.01)
    ratio = distance_ratio(majorant=majorant, limit=limit, closest=0.15, unique=True)
    angle = math.asin(0.1) + math.asin(0.01 / 0.15)
    assert ratio == pytest.approx(1 / math.cos(angle), rel=1e-3)
    assert ratio < 0.2 / 0.15
    other = distance_ratio(majorant=majorant, limit=limit, closest=0.15, unique=False)
    assert other == pytest.approx(0.2 / 0.15)
    for closest in (0.0, 0.005):  # no bound; astray by more than the whole distance
        found = distance_ratio(majorant=majorant, limit=limit, closest=closest, unique=True)
        assert found == (0.2 / closest if closest else math.inf)


def descend(problem: QuadraticMap, eta: float):
    theta = np.zeros(problem.slope.shape[1])
    for _ in range(20_000):
        missing = problem.target - problem.value(theta)
        if np.linalg.norm(missing) <= 1e-9 * np.linalg.norm(problem.target):
            break
        theta = theta + eta * problem.jacobian(theta).T @ missing
    return theta, float(np.linalg.norm(missing))


def closest_minimiser(problem: QuadraticMap) -> float:
    """The shortest of what projections onto the linearised constraints reach."""
    theta = np.zeros(problem.slope.shape[1])
    for _ in range(200):
        jacobian = problem.jacobian(theta)
        theta = np.linalg.pinv(jacobian) @ (
            problem.target - problem.value(theta) + jacobian @ theta
        )
    assert np.linalg.norm(problem.value(theta) - problem.target) <= 1e-9
    return float(np.linalg.norm(theta))


def attack(seed: int, margin: float) -> tuple[float, float]:
    """Slack of the limit's distance, and how much of ratio - 1 was attained."""
    problem = random_map(seed, margin)
    result = problem.converges()
    if not result.certified:
        return math.inf, 0.0
    bounds = problem.consequences(result)
    end, missing = descend(problem, result.step_size)
    tail = missing / (result.step_fraction * result.sigma_end)
    distance, nearest = float(np.linalg.norm(end)), closest_minimiser(problem)
    assert distance <= bounds["limit"].distance * (1 + 1e-9) + tail
    stray = end - np.linalg.pinv(problem.slope) @ (problem.slope @ end)
    assert np.linalg.norm(stray) <= bounds["limit"].kernel_part * (1 + 1e-9) + tail
    assert bounds["closest"] <= nearest * (1 + 1e-9)
    assert distance - tail <= bounds["ratio"] * nearest * (1 + 1e-9)
    excess = bounds["ratio"] - 1
    return bounds["limit"].distance / distance, (distance / nearest - 1) / excess if excess else 0.0


@pytest.mark.parametrize("margin", [1.05, 2.0, 10.0])
@pytest.mark.sample(1)
def test_maps_with_an_exact_modulus_do_not_exceed_the_bounds(margin):
    found = np.array([attack(seed, margin) for seed in range(30)])
    slack = found[:, 0][np.isfinite(found[:, 0])]
    assert len(slack) >= 20
    assert slack.min() < 1 + 3 / margin  # and it is not far from sharp


def test_the_ratio_tends_to_one_to_second_order():
    excess = []
    for margin in (100.0, 1000.0):
        problem = random_map(3, margin)
        excess.append(problem.consequences(problem.converges())["ratio"] - 1)
    assert excess[1] == pytest.approx(excess[0] / 100, rel=0.1)
