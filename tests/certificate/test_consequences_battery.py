"""Theorems 5 to 7 against runs: the limit, the kernel and the linearised model, step by step.

The run is a plain NumPy loop on dense Jacobians, and the closest minimiser is looked for by three
solvers; neither shares code with the package.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from test_battery import ALL_SHAPES, SHAPES, near_an_anchor, near_the_boundary

from dense_network import DenseNetwork, operator_norm
from descent import SLACK, rounding
from overparam import Problem, certify, gauss_newton

EVERY = 10
"""Steps between looks at the kernel."""


@dataclass(frozen=True)
class Observed:
    """What a run shows, at its worst step; distances from theta_0."""

    displacement: float
    drift: float
    predictions: float
    parameters: float
    end: np.ndarray
    residual: float


def coordinates(problem: Problem):
    """The dense network, y, the values of the centre and the roots of the weights."""
    network = DenseNetwork(problem.model, problem.measure)
    offset = (
        0.0 if problem.centered_at is None else network.values(network.flat(problem.centered_at))
    )
    return network, offset, np.sqrt(problem.measure.weights)[:, None]


def minus_gradient(problem: Problem, values: np.ndarray) -> np.ndarray:
    y = problem.targets
    return y - values if problem.loss.name == "squared" else y * np.maximum(1 - y * values, 0)


def watch(problem: Problem, params, eta: float, steps: int) -> Observed:
    """Gradient descent beside that of the linearised model."""
    network, offset, roots = coordinates(problem)
    start = network.flat(params)
    first = network.jacobian(start)
    kernel = first @ first.T
    delta, linear = np.zeros_like(start), np.zeros_like(start)
    worst = np.zeros(4)
    behind = None
    for step in range(steps + 1):
        missing = (roots * minus_gradient(problem, network.values(start + delta) - offset)).ravel()
        behind = missing if behind is None else behind  # y - F_lin(theta_lin)
        jacobian = network.jacobian(start + delta)
        drift = operator_norm(jacobian @ jacobian.T - kernel) if step % EVERY == 0 else 0.0
        now = (
            *(np.linalg.norm(delta), drift),
            *(np.linalg.norm(behind - missing), np.linalg.norm(delta - linear)),
        )
        worst = np.maximum(worst, now)
        if step < steps:
            delta = delta + eta * jacobian.T @ missing
            linear = linear + eta * first.T @ behind
            behind = behind - eta * kernel @ behind
    return Observed(*map(float, worst), start + delta, float(np.linalg.norm(missing)))


def nearest_by_projection(problem: Problem, theta_0: np.ndarray) -> np.ndarray:
    """Minimise |theta - theta_0| subject to F = y: each step solves the linearised problem."""
    network, offset, roots = coordinates(problem)
    theta = theta_0
    for _ in range(60):
        missing = (roots * (problem.targets - network.values(theta) + offset)).ravel()
        jacobian = network.jacobian(theta)
        target = missing + jacobian @ (theta - theta_0)
        theta = theta_0 + np.linalg.pinv(jacobian, rcond=1e-14) @ target
    return theta


def polished(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """A few Newton steps: from close to a minimiser onto it, by the shortest way."""
    network, offset, roots = coordinates(problem)
    for _ in range(6):
        missing = (roots * (problem.targets - network.values(theta) + offset)).ravel()
        theta = theta + np.linalg.pinv(network.jacobian(theta), rcond=1e-14) @ missing
    return theta


def residual_at(problem: Problem, theta: np.ndarray) -> float:
    network, offset, roots = coordinates(problem)
    return float(np.linalg.norm(roots * (problem.targets - network.values(theta) + offset)))


def check(problem: Problem, params, certificate, steps: int) -> None:
    bound = {name: c.value for name, c in certificate.constants.items()}
    seen = watch(problem, params, certificate.step_size, steps)
    floor = rounding(problem) * steps
    more = 1 + SLACK
    assert seen.displacement <= bound["displacement"] * more + floor
    assert seen.drift <= bound["kernel_drift"] * more + floor * bound["max_eigenvalue"]
    assert bound["displacement"] <= certificate.radius
    network = DenseNetwork(problem.model, problem.measure)
    theta_0 = network.flat(params)
    tail = seen.residual / (bound["step_fraction"] * bound["sigma_end"])
    distance = float(np.linalg.norm(seen.end - theta_0))
    assert distance <= bound["limit_distance"] * more + tail + floor
    if problem.loss.name != "squared":
        assert math.isinf(bound["linearisation_distance"])
        return
    assert seen.predictions <= bound["linearisation_distance"] * more + floor
    assert seen.parameters <= bound["linearisation_parameter_distance"] * more + floor
    by_newton = network.flat(gauss_newton(problem, params, tolerance=1e-13).params)
    found = [polished(problem, seen.end), polished(problem, by_newton)]
    found.append(nearest_by_projection(problem, theta_0))
    lengths = [float(np.linalg.norm(theta - theta_0)) for theta in found]
    for theta, length in zip(found, lengths, strict=True):
        assert residual_at(problem, theta) <= 1e-6 * bound["residual"] + floor
        assert bound["distance_lower_bound"] <= length * (1 + 1e-6) + floor
        assert lengths[0] - tail <= bound["distance_ratio"] * length * (1 + 1e-6) + floor


def battery(tiny, seed: int, steps: int, margins, losses) -> None:
    runs = [near_the_boundary(tiny, seed, margin) for margin in margins]
    runs += [near_an_anchor(tiny, seed, loss) for loss in losses]
    for problem, params in runs:
        chosen = certify(problem, params)
        check(problem, params, chosen, steps)
        eta = 0.98 * 2 / chosen.constants["max_eigenvalue"].value
        if (largest := certify(problem, params, eta)).certified:
            check(problem, params, largest, steps)


@pytest.mark.parametrize("tiny", SHAPES, ids=str)
@pytest.mark.slow
def test_runs_stay_within_the_consequences(tiny):
    battery(tiny, seed=0, steps=200, margins=(1.02,), losses=())


@pytest.mark.slow
def test_other_losses_have_the_consequences_that_do_not_need_a_target():
    battery(SHAPES[0], seed=0, steps=200, margins=(), losses=("squared_hinge",))


@pytest.mark.slow
@pytest.mark.parametrize("tiny", ALL_SHAPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_runs_stay_within_the_consequences(tiny, seed):
    both = ("squared", "squared_hinge")
    battery(tiny, seed, steps=1000, margins=(1.02, 1.2, 5.0, 300.0, 1e4), losses=both)
