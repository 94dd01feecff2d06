"""A cell of a run: the steps near a point at which all that Theorem C asks was measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.certificate.trajectory_points import Point
from overparam.certificate.trajectory_steps import Records
from overparam.model.function import ParamTree
from overparam.rounding.step_noise import StepNoise
from overparam.rounding.steps import StepErrors
from overparam.theorems.trajectory import Ball


@dataclass(frozen=True, eq=False)
class Cell(Records):
    """The steps from one point on.

    Attributes:
        start: Where they begin.
        ball: What holds on the ball of its radius around *each* point of the cell, for Theorem C.
        noise: How far outputs and gradients may be off there.
        exponents: e_t of each.
        deviations: delta_t of each, and of the point they lead to: shape (steps + 1,); infinite
            from where it is not known any more.
        errors: eps_t of each.
        end: That point, in float64.
    """

    start: Point
    ball: Ball
    noise: StepNoise | StepErrors
    exponents: Float[np.ndarray, " steps"]
    deviations: Float[np.ndarray, " _"]
    errors: Float[np.ndarray, " steps"]
    end: ParamTree


@dataclass(frozen=True, eq=False)
class Made(Records):
    """The steps of a cell.

    Attributes:
        end: Where they lead to, in float64.
        errors: eps_t where steps were made in balls; else None.
        away: How far the points of the records may be from thetahat_t, times a few.
    """

    end: ParamTree
    errors: np.ndarray | None = None
    away: float = 0.0
