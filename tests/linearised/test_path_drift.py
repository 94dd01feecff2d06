"""Theorem 8 along the linearised run: the kernel's drift, at every step and in the limit."""

import dataclasses

import numpy as np
import pytest
from test_path import followed, path_of

from dense_network import DenseNetwork, operator_norm
from overparam import certify
from overparam.linearised.path_drift import split
from overparam.theorems.lazy import kernel_drift_nearby
from quadratic_map import QuadraticMap, random_map
from tiny import Tiny


def kernel(bent: QuadraticMap, theta: np.ndarray) -> np.ndarray:
    return bent.jacobian(theta) @ bent.jacobian(theta).T


def drift(bent: QuadraticMap, theta: np.ndarray) -> float:
    return operator_norm(kernel(bent, theta) - kernel(bent, np.zeros_like(theta)))


def test_by_hand():
    assert kernel_drift_nearby(seen=1.0, change=0.5, jacobian_norm=3.0) == 1.0 + 3.0 + 0.25


@pytest.mark.parametrize("seed", range(6))
def test_no_step_drifts_farther(seed):
    """Theorem P with and without looks between its points, on maps with exact bounds."""
    bent = random_map(seed, margin=2.0)
    path, found = path_of(bent), followed(bent)
    assert found.converges.certified
    tubes = split(found, path, lambda t: drift(bent, bent.slope.T @ path.dual(t)), 200)
    closer = dataclasses.replace(found, tubes=tubes)
    assert closer.kernel_drift <= found.kernel_drift
    assert closer.kernel_drift <= 1.6 * max(closer.least_drift, closer.drift_behind)
    theta, worst = np.zeros(bent.slope.shape[1]), 0.0
    for t in range(400):
        here = drift(bent, theta)
        for tube in tubes:
            if tube.first <= t < tube.last:
                assert here <= tube.kernel_drift * (1 + 1e-9)
        worst = max(worst, here)
        residual = bent.target - bent.value(theta)
        theta = theta + path.step_size * bent.jacobian(theta).T @ residual
    assert worst <= closer.kernel_drift <= 6 * worst


def test_tubes_follow_one_another():
    bent = random_map(1, margin=2.0)
    found = followed(bent)
    tubes = split(found, path_of(bent), lambda t: 0.0, 50)
    assert [tube.first for tube in tubes[1:]] == [tube.last for tube in tubes[:-1]]
    assert (tubes[0].first, tubes[-1].last) == (found.tubes[0].first, found.tubes[-1].last)
    assert split(found, path_of(bent), lambda t: 0.0, 0) == found.tubes


def measured(tiny: Tiny, scale: float, steps: int) -> tuple[float, float]:
    """The largest drift of a run, by dense Jacobians, and the certified bound."""
    problem, start = tiny.problem(0, centred=True, target_scale=scale), tiny.start(0)
    certificate = certify(problem, start, theorem="P")
    assert certificate.certified
    network = DenseNetwork(problem.model, problem.measure)
    theta = network.flat(start)
    offset, first = network.values(theta), network.jacobian(theta)
    roots = np.sqrt(problem.measure.weights)[:, None]
    worst = 0.0
    for _ in range(steps):
        jacobian = network.jacobian(theta)
        worst = max(worst, operator_norm(jacobian @ jacobian.T - first @ first.T))
        missing = (roots * (problem.targets - network.values(theta) + offset)).ravel()
        theta = theta + certificate.step_size * jacobian.T @ missing
    return worst, certificate.numbers.kernel_drift


def of_width(width: int, points: int = 4, steps: int = 100) -> tuple[float, float]:
    tiny = Tiny((width,), "tanh", 1, points=points, output_scale=40.0)
    return measured(tiny, 0.5, steps)


def test_of_a_network_it_is_within_three_times_the_truth():
    worst, bound = of_width(24, points=2, steps=40)
    assert worst <= bound <= 3 * worst


@pytest.mark.slow
def test_it_falls_with_the_width_as_the_drift_does():
    bounds = []
    for width in (64, 256, 1024):
        worst, bound = of_width(width)
        assert worst <= bound <= 5 * worst  # where the drift of a draw is small by chance
        bounds.append(bound)
    assert np.polyfit(np.log([64, 256, 1024]), np.log(bounds), 1)[0] < -0.8
