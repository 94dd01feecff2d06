"""What the linearised model expects of a run that is to be certified: how long, how much work."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from overparam.certificate.hypotheses import Hypotheses
from overparam.certificate.trajectory_points import relative_curvature
from overparam.jacobian.mlp_bounds import base_of
from overparam.jacobian.random_curvature import Drawing, drawing_for, expected_products
from overparam.model.composed import Composed
from overparam.precision import as_float64
from overparam.problem.problem import Problem

TAKEOVER = 0.45
"""L rho / sigma^2 at which Theorem 1 is expected to take over; it needs about 1/2."""

PER_PRODUCT = 3.0
"""Gradient steps that take as long as a Hessian-vector product."""

RATE = 2.5e10
"""Operations in float64 that a core does in a second, with layers of some hundred units."""

PER_STEP = 1.5
"""Gradient steps that take as long as one with its curvature bounded layer by layer."""

SLOWER = 4.0
"""Times as long take the many small operations of composed layers."""

SAMPLED = 25.0
"""The exponent of the layers' bounds beyond which random vectors take their place, as the
linearised run has it; the run itself mostly has less."""

LONGEST = 1e18
"""Steps beyond which nobody asks."""


@dataclass(frozen=True)
class Prediction:
    """What a run takes, ``estimated``.

    Attributes:
        steps: Until Theorem 1 may take over.
        work: The same in gradient steps, with what bounding the curvature costs.
        sampled: Whether that takes random vectors: deeper networks whose layers' bounds are too
            large together.
        drawing: How such vectors are drawn, if not as the network's size says.
    """

    steps: int
    work: float
    sampled: bool = False
    drawing: Drawing | None = None

    def seconds(self, problem: Problem) -> float:
        """How long it takes here at a usual rate: six operations a parameter, point and step."""
        operations = 6.0 * problem.network.products * problem.measure.n
        if isinstance(problem.network, Composed):
            operations *= SLOWER
        return self.work * operations / (RATE * (os.cpu_count() or 1))


def predict_run(
    hypotheses: Hypotheses, step_size: float, *, loose: bool = False
) -> Prediction | None:
    """Predict a run by the linearised model; None if float64 sees no progress in it.

    Its kernel is singular, or the step so short that the slowest mode's rate rounds to 1.

    Least squares in closed form; for other losses the same with f'' = alpha near a minimiser.

    Args:
        hypotheses: Measured at theta_0.
        step_size: eta.
        loose: Whether a looser bound on curvature will do, where the run meets little of it.
    """
    point = hypotheses.point
    problem, lowest = point.problem, hypotheses.min_eigenvalue.lower
    alpha = problem.loss.functional_pl_constant(0.0, problem.measure.weights)
    if not (lowest > 0 and alpha > 0 and 1 - step_size * alpha * lowest < 1):
        return None
    eigenvalues, residual = point.modes.eigenvalues, point.modes.coefficients
    rates = np.clip(step_size * alpha * np.maximum(eigenvalues, lowest), 1e-300, 1 - 1e-16)
    logs = np.log1p(-rates)
    lipschitz = hypotheses.bounds.lipschitz(0.0)
    target = TAKEOVER * alpha * lowest / lipschitz if lipschitz else math.inf

    def left(t: float) -> float:
        return float(np.linalg.norm(np.exp(t * logs) * residual))

    steps = _first(lambda t: left(t) <= target)
    if steps is None:
        return None
    if not isinstance(problem.network, Composed) and problem.mlp.layers <= 2:
        return Prediction(steps, float(steps))
    grid = np.append(0.0, np.geomspace(1.0, max(steps, 1.0), 200))
    residuals = np.array([left(float(t)) for t in grid])
    total, smooth = left(0.0) + float(np.trapezoid(residuals, grid)), problem.loss.smoothness
    size = problem.network.parameter_count, problem.measure.n

    def products(relative: float, drawing: Drawing) -> float:
        taken = expected_products(step_size * smooth * relative * residuals, drawing)
        return float(np.trapezoid(taken, grid))

    if isinstance(problem.network, Composed):
        work = steps + PER_PRODUCT * products(lipschitz, drawing_for(*size))
        return Prediction(steps, work, True)
    base = base_of(hypotheses.bounds)
    assert base is not None
    relative = min(lipschitz, relative_curvature(problem, as_float64(point.params), base))
    exponent = step_size * smooth * relative * total
    if exponent <= SAMPLED:
        return Prediction(steps, PER_STEP * steps)
    usual = drawing_for(*size)
    drawing = drawing_for(*size, exponent) if loose else usual
    work = PER_STEP * steps + PER_PRODUCT * products(relative, drawing)
    return Prediction(steps, work, True, None if drawing == usual else drawing)


def _first(reached: Callable[[float], bool]) -> int | None:
    """The first step at which a condition that stays true is, to a percent."""
    if reached(0.0):
        return 0
    low, high = 0.0, 1.0
    while not reached(high):
        low, high = high, 2 * high
        if high > LONGEST:
            return None
    while high - low > max(1.0, 0.01 * high):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return math.ceil(high)
