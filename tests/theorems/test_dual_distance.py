"""Theorem 4 by a vector v: maps with minimisers at known distances, and the best v there is."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from overparam.rounding.dual import Duals
from overparam.theorems.distance import Dual, distance_to_minimisers
from overparam.theorems.majorant import Majorant
from overparam.theorems.ridge_duals import RidgeDuals
from quadratic_map import QuadraticMap


def linear(slope: float, farthest: float, nodes: int = 2000) -> Majorant:
    radii = np.linspace(0, farthest, nodes + 1)[1:]
    return Majorant(0.1, radii, slope * radii)


def bound(majorant: Majorant, jacobian: np.ndarray, residual: np.ndarray) -> float:
    found = Duals(jacobian @ jacobian.T, residual, 0.0, 0.0)
    return distance_to_minimisers(
        majorant=majorant,
        jacobian_norm=float(np.linalg.norm(jacobian, 2)),
        smoothness=1.0,
        excess=float(residual @ residual) / 2,
        dual=found.best(majorant.radii, majorant.modulus),
    )


def test_the_bound_by_hand():
    majorant = Majorant(1.0, np.array([1.0, 3.0]), np.array([0.5, 1.5]))
    common = {"majorant": majorant, "jacobian_norm": 1e9, "smoothness": 1.0, "excess": 0.0}
    # 2 d + 4 Omega(d) = 4 at d = 1, and 8 d - 4 beyond.
    assert distance_to_minimisers(**common, dual=Dual(4.0, 2.0, 4.0)) == 1.0
    assert distance_to_minimisers(**common, dual=Dual(12.0, 2.0, 4.0)) == 2.0
    assert distance_to_minimisers(**common, dual=Dual(-1.0, 2.0, 4.0)) == 0.0
    assert distance_to_minimisers(**common, dual=Dual(0.0, 0.0, 0.0)) == 0.0


def random_map(seed: int) -> tuple[QuadraticMap, float]:
    """A map with a minimiser at a known distance, often where omega is beyond sigma_0."""
    rng = np.random.default_rng(seed)
    outputs, distance = int(rng.integers(1, 4)), 10.0 ** rng.uniform(-2, 1)
    p = outputs + int(rng.integers(0, 4))
    bend = rng.standard_normal((outputs, p, p))
    bend = 0.3 * (bend + np.swapaxes(bend, 1, 2))
    slope = rng.standard_normal((outputs, p)) * 10.0 ** rng.uniform(-2, 0, (outputs, 1))
    start = QuadraticMap(slope, bend, np.zeros(outputs))
    there = rng.standard_normal(p)
    there *= distance / np.linalg.norm(there)
    return QuadraticMap(slope, bend, start.value(there)), distance


def test_no_minimiser_at_a_known_distance_is_excluded():
    slack = []
    for seed in range(60):
        problem, distance = random_map(seed)
        majorant = linear(problem.curvature, 2 * distance)
        slack.append(distance / bound(majorant, problem.slope, problem.target))
    assert min(slack) >= 1 - 1e-9
    assert min(slack) < 1.2


def test_it_is_sharp_where_the_map_bends_towards_the_target():
    """F(theta) = s theta + b theta^2 / 2: the minimiser is the root, and so is the bound."""
    slope, bend, there = 0.3, 2.0, 5.0
    target = np.array([slope * there + bend * there**2 / 2])
    found = bound(linear(bend, 6.0), np.array([[slope]]), target)
    assert there * 0.999 <= found <= there


def test_of_a_linear_map_it_is_the_least_norm_solution():
    rng = np.random.default_rng(2)
    jacobian, residual = rng.standard_normal((4, 7)), rng.standard_normal(4)
    found = bound(linear(0.0, 100.0), jacobian, residual)
    assert found == pytest.approx(np.linalg.norm(np.linalg.pinv(jacobian) @ residual), rel=1e-5)


def least_miss(jacobian: np.ndarray, residual: np.ndarray, radius: float) -> float:
    """min |r - J w| over |w| <= radius, by its Lagrange multiplier."""
    values, vectors = np.linalg.eigh(jacobian @ jacobian.T)
    c = vectors.T @ residual

    def reach(log_shift: float) -> float:
        return float(np.linalg.norm(np.sqrt(values) * c / (values + math.exp(log_shift)))) - radius

    shift = math.exp(brentq(reach, -60, 60)) if reach(-60.0) > 0 else 0.0
    return float(np.linalg.norm(shift * c / (values + shift)))


@pytest.mark.parametrize("seed", range(6))
def test_no_other_vector_says_more(seed):
    """Theorem 4': the bound ends where |r_0 - J_0 w| <= Omega(d) has a solution of length d."""
    rng = np.random.default_rng(seed)
    jacobian = rng.standard_normal((6, 9)) * 10.0 ** rng.uniform(-2, 0, (6, 1))
    residual, slope = rng.standard_normal(6), 10.0 ** rng.uniform(-3, 0)
    exact = brentq(lambda d: least_miss(jacobian, residual, d) - slope * d**2 / 2, 1e-9, 1e3)
    found = bound(linear(slope, 1.1 * exact), jacobian, residual)
    assert 0.997 * exact <= found <= exact


def test_few_products_with_the_kernel_will_do(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    kernel = vectors * np.logspace(0, -8, 200) @ vectors.T
    majorant = linear(0.05, 1e3)
    nodes = majorant.radii, majorant.modulus
    whole = RidgeDuals(kernel, vectors.sum(axis=1)).best(*nodes)[1]
    monkeypatch.setattr("overparam.theorems.ridge_duals.KRYLOV", 30)
    assert RidgeDuals(kernel, vectors.sum(axis=1)).best(*nodes)[1] >= 0.99 * whole


def test_what_the_numbers_may_be_off_by_weakens_the_bound():
    rng = np.random.default_rng(1)
    jacobian, residual = rng.standard_normal((3, 5)), rng.standard_normal(3)
    exact = Duals(jacobian @ jacobian.T, residual, 0.0, 0.0)
    off = Duals(jacobian @ jacobian.T, residual, 0.1, 0.2)
    v = rng.standard_normal(3)
    worth, less = exact.worth(v), off.worth(v)
    assert worth.alignment == pytest.approx(v @ residual)
    assert worth.pull == pytest.approx(np.linalg.norm(jacobian.T @ v), rel=1e-5)
    assert less.alignment == pytest.approx(v @ residual - 0.2 * np.linalg.norm(v), rel=1e-5)
    assert less.pull**2 == pytest.approx(worth.pull**2 + 0.1 * v @ v, rel=1e-4)
