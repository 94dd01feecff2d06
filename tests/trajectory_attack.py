"""Theorem C attacked: gradient descent in 60-digit arithmetic beside a run and its bounds."""

from dataclasses import dataclass

import mpmath as mp
import numpy as np

from exact_descent import distance, exact_run
from overparam.certificate.trajectory_run import Run
from overparam.kernel.empirical.tangent import tangent_kernel
from tiny import Tiny

SHAPES = [
    (Tiny((6,), "gelu", 1), "squared"),
    (Tiny((4,), "tanh", 2, output_scale=2.0), "squared"),
    (Tiny((5,), "sin", 1, weight_scale=1.4), "squared"),
    (Tiny((6,), "erf", 1), "squared_hinge"),
    (Tiny((5,), "silu", 1), "pseudo_huber:0.7"),
    (Tiny((5,), "sigmoid", 1), "log_cosh"),
    (Tiny((4, 3), "gelu", 1), "squared"),
    (Tiny((3, 4), "tanh", 1), "log_cosh"),
    (Tiny((4, 4), "erf", 2), "squared"),
    (Tiny((3, 3, 3), "softplus", 1), "squared"),
    (Tiny((3, 3, 3), "tanh", 1), "squared_hinge"),
    (Tiny((3, 2, 3, 3), "gelu", 1), "squared"),
]
"""Every loss whose gradient mpmath is told, depths 1 to 4."""

DIGITS = 60

STEPS = 24
"""So many steps are looked at; more where a cell is longer, up to four times as many."""


@dataclass(frozen=True)
class Attacked:
    """What came of a problem.

    Attributes:
        factor: eta M lambda_max at the start.
        ratios: |theta_t - thetahat_t| / delta_t at the ends of cells.
        bounds: delta_t there.
    """

    factor: float
    ratios: list[float]
    bounds: list[float]


def attack(shape: int, seed: int) -> Attacked:
    """Run and exact run of one random problem, with a step of 0.1 to 2.6 over lambda_max."""
    tiny, loss = SHAPES[shape]
    rng = np.random.default_rng((shape, seed))
    problem = tiny.problem(seed, loss, centred=bool(rng.integers(2)))
    start = tiny.start(seed)
    factor = float(rng.uniform(0.1, 1.9) if rng.integers(4) else rng.uniform(2.0, 2.6))
    largest = float(np.linalg.norm(tangent_kernel(problem, start), 2))
    eta = factor / (problem.loss.smoothness * largest)
    cells = []
    for cell in Run(problem, start, eta, seed).cells():
        cells.append(cell)
        if cell.start.step + len(cell.rows) >= STEPS:
            break
    cells = [
        cell
        for cell in cells
        if cell.start.step + len(cell.rows) <= 4 * STEPS and np.isfinite(cell.deviations[-1])
    ]
    ends = [cell.start.step + len(cell.rows) for cell in cells]
    with mp.workdps(DIGITS):
        exact = exact_run(tiny, problem, start, loss, eta, max(ends, default=0))
        apart = [distance(exact[end], cell.end) for end, cell in zip(ends, cells, strict=True)]
    bounds = [float(cell.deviations[-1]) for cell in cells]
    return Attacked(factor, [a / b for a, b in zip(apart, bounds, strict=True)], bounds)
