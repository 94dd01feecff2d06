"""A cell of a run: the steps near a point at which all that Theorem C asks was measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.certificate.trajectory_movement import spared
from overparam.certificate.trajectory_points import Point
from overparam.certificate.trajectory_steps import Records
from overparam.model.function import ParamTree
from overparam.numbers import safe_upper
from overparam.numbers.sums import summed
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

    def reach(self) -> tuple[float, float]:
        """Of exact gradient descent: the length of its path, and how far it is from theta_0."""
        before, after = self.deviations[:-1], self.deviations[1:]
        _, length = spared(self.enclosed("length"))
        _, distance = spared(self.enclosed("distance"))
        lengths = (length + before + after).upper
        total = safe_upper(summed(float(lengths.sum()), len(lengths)))
        return total, float((distance + before).upper.max())


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
