"""Theorems 6 and 7 on maps whose modulus is exact, and against closed forms."""

import math

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from overparam import MLP, Measure, Problem, certify, jacobian_modulus
from overparam.theorems.lazy import kernel_drift, linearisation_distance, prediction_distance
from overparam.theorems.majorant import Majorant
from quadratic_map import random_map
from tiny import Tiny


def linear(sigma: float, slope: float, nodes: int = 4000) -> Majorant:
    radii = np.linspace(0, sigma / slope, nodes + 1)[1:]
    return Majorant(sigma, radii, slope * radii)


def test_the_drift_by_hand():
    majorant = Majorant(2.0, np.array([1.0, 3.0]), np.array([0.5, 1.5]))
    assert kernel_drift(majorant=majorant, displacement=0.7, jacobian_norm=4.0) == 4.25
    assert kernel_drift(majorant=majorant, displacement=1.0, jacobian_norm=4.0) == 4.25
    assert kernel_drift(majorant=majorant, displacement=1.1, jacobian_norm=4.0) == 14.25
    assert kernel_drift(majorant=majorant, displacement=0.0, jacobian_norm=4.0) == 0.0
    assert math.isinf(kernel_drift(majorant=majorant, displacement=math.inf, jacobian_norm=4.0))


def test_the_linearisation_distance_in_closed_form():
    """With rho_K so large that the displacement stays at s*: the integrals of s and s / (1 - s)."""
    s = 0.4
    found = linearisation_distance(
        majorant=linear(1.0, 1.0),
        path=s,
        jacobian_norm=3.0,
        residual=100.0,
        target_norm=10.0,
        step_size=0.1,
    )
    exact = s**2 / 2 + 3 * (-s - math.log(1 - s))
    assert found.displacement == s
    assert exact <= found.predictions <= exact * 1.001
    assert found.parameters == pytest.approx(math.hypot(exact + s**2 / 2, s**2 / 2), rel=2e-3)


def test_it_never_exceeds_both_residuals():
    found = linearisation_distance(
        majorant=linear(1.0, 1.0),
        path=0.9,
        jacobian_norm=50.0,
        residual=0.5,
        target_norm=0.5,
        step_size=1e-3,
    )
    assert found.predictions == 1.0


def test_a_linear_model_is_its_own_linearisation():
    tiny = Tiny((), "identity", 1, points=3)
    certificate = certify(tiny.problem(0), tiny.start(0))
    value = {name: constant.value for name, constant in certificate.constants.items()}
    for name in ("kernel_drift", "linearisation_distance", "linearisation_parameter_distance"):
        assert value[name] == 0
    assert value["distance_ratio"] == pytest.approx(1, abs=1e-12)
    assert value["limit_distance"] == pytest.approx(value["target_norm"], rel=1e-12)


def test_an_activation_with_a_kink_has_no_consequences():
    tiny = Tiny((16,), "relu", 1)
    constants = certify(tiny.problem(0), tiny.start(0)).constants
    for name in ("displacement", "limit_distance", "distance_ratio", "kernel_drift"):
        assert math.isinf(constants[name].value)


def attack(seed: int, margin: float, eta_factor: float) -> float:
    """The smallest slack of all bounds on a map with exact modulus."""
    problem = random_map(seed, margin)
    result = problem.converges()
    if eta_factor != 1 and result.certified:
        result = problem.converges(eta_factor * result.step_size)
    if not result.certified:
        return math.inf
    apart = problem.consequences(result)["apart"]
    norm = float(np.linalg.norm(problem.slope, 2))
    drift = kernel_drift(
        majorant=problem.majorant(), displacement=apart.displacement, jacobian_norm=norm
    )
    theta = np.zeros(problem.slope.shape[1])
    linear, worst, eta = theta, np.zeros(4), result.step_size
    for _ in range(800):
        jacobian = problem.jacobian(theta)
        value = problem.value(theta)
        change = jacobian @ jacobian.T - problem.slope @ problem.slope.T
        now = (
            *(np.linalg.norm(value - problem.slope @ linear), np.linalg.norm(theta - linear)),
            *(np.linalg.norm(theta), np.linalg.norm(change, 2)),
        )
        worst = np.maximum(worst, now)
        theta = theta + eta * jacobian.T @ (problem.target - value)
        linear = linear + eta * problem.slope.T @ (problem.target - problem.slope @ linear)
    bounds = np.array([apart.predictions, apart.parameters, apart.displacement, drift])
    assert (worst <= bounds * (1 + 1e-9)).all()
    return float((bounds / worst).min())


@pytest.mark.parametrize("margin", [1.05, 2.0, 10.0])
@pytest.mark.sample(1)
def test_maps_with_an_exact_modulus_stay_within_the_bounds(margin):
    slack = [attack(seed, margin, (1.0, 1.5, 0.2)[seed % 3]) for seed in range(18)]
    assert min(slack) < 4  # the bounds are not far from sharp


@pytest.mark.slow
def test_a_test_points_prediction_stays_close_to_the_linearised_one():
    tiny = Tiny((64,), "tanh", 1, points=4, output_scale=40.0)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    certificate = certify(problem, start)
    assert certificate.certified
    value = {name: constant.value for name, constant in certificate.constants.items()}
    model: MLP = tiny.model
    x = np.random.default_rng(5).standard_normal((1, 3))
    alone = Problem(model, Measure(x, np.zeros((1, 1))))
    reach = value["displacement"]
    with jax.enable_x64(True):
        theta_0, unravel = ravel_pytree(start)

        @jax.jit
        def at(theta, points):
            return model.apply(unravel(theta), points)[:, 0]

        derivative = jax.jit(jax.jacobian(at))
        first, first_here = (np.asarray(derivative(theta_0, p)) for p in (problem.measure.x, x))
        bound = prediction_distance(
            modulus_integral=reach * jacobian_modulus(alone, start, reach),
            jacobian_norm=float(np.linalg.norm(first_here)),
            parameter_distance=value["linearisation_parameter_distance"],
        )
        weights, y = problem.measure.weights, problem.targets[:, 0]
        offset, offset_here = (np.asarray(at(theta_0, p)) for p in (problem.measure.x, x))
        theta_0 = np.asarray(theta_0)
        theta, linear, worst = theta_0, theta_0, 0.0

        @jax.jit
        @jax.grad
        def gradient(t):
            return 0.5 * weights @ (at(t, problem.measure.x) - offset - y) ** 2

        for _ in range(200):
            here = at(theta, x) - offset_here - first_here @ (linear - theta_0)
            worst = max(worst, float(np.linalg.norm(here)))
            theta = theta - certificate.step_size * np.asarray(gradient(theta))
            behind = first @ (linear - theta_0) - y
            linear = linear - certificate.step_size * first.T @ (weights * behind)
    assert 0 < worst <= bound
