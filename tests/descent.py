"""Gradient descent as a plain NumPy loop on dense Jacobians, and the claims that it has to keep.

It shares no code with the package.
"""

import math
from dataclasses import dataclass

import numpy as np

from dense_network import DenseNetwork
from overparam import Certificate, Problem

SLACK = 1e-9
"""Relative rounding of the recorded numbers."""


@dataclass(frozen=True)
class Run:
    """A record; row t before step t."""

    excess: np.ndarray
    path: np.ndarray
    theta: np.ndarray


def gradient_of_loss(problem: Problem, values: np.ndarray) -> np.ndarray:
    y = problem.targets
    if problem.loss.name == "squared":
        return values - y
    return -y * np.maximum(1 - y * values, 0)


def descend(problem: Problem, params, step_size: float, steps: int) -> Run:
    """Gradient descent; theta is carried as theta_0 + delta so that small steps are not lost."""
    network = DenseNetwork(problem.model, problem.measure)
    start, weights = network.flat(params), problem.measure.weights
    offset = (
        0.0 if problem.centered_at is None else network.values(network.flat(problem.centered_at))
    )
    roots = np.sqrt(weights)[:, None]
    delta, length, rows = np.zeros_like(start), 0.0, []
    for _ in range(steps + 1):
        gradient = gradient_of_loss(problem, network.values(start + delta) - offset)
        rows.append((0.5 * weights @ np.sum(gradient**2, axis=1), length, delta))
        move = -step_size * network.jacobian(start + delta).T @ (roots * gradient).ravel()
        delta, length = delta + move, length + float(np.linalg.norm(move))
    excess, path, theta = map(np.array, zip(*rows, strict=True))
    return Run(excess, path, theta)


def hold(certificate: Certificate, run: Run, floor: float) -> None:
    """Envelope, rate, radius and the distance to the limit, Theorem 1 (a) to (c)."""
    constants = {name: c.value for name, c in certificate.constants.items()}
    root = np.sqrt(run.excess)
    steps = np.arange(len(root))
    assert (root <= np.sqrt(certificate.envelope(steps)) * (1 + SLACK) + floor).all()
    assert (root[1:] <= math.sqrt(certificate.rate) * root[:-1] * (1 + SLACK) + floor).all()
    assert run.path[-1] <= certificate.radius * (1 + SLACK) + floor
    tail = constants["step_fraction"] * constants["sigma_end"]
    allowed = np.sqrt(2 / constants["pl_constant"]) * root / tail
    to_last = np.linalg.norm(run.theta - run.theta[-1], axis=1)
    slack = floor * len(steps) / tail
    assert (to_last <= allowed * (1 + SLACK) + slack).all()
    assert (run.path[-1] - run.path <= allowed * (1 + SLACK) + slack).all()


def rounding(problem: Problem) -> float:
    return 1e-13 * problem.model.output_scale * (1 + float(np.abs(problem.targets).max()))
