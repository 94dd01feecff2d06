"""A cell of a run: the steps near a point at which all that Theorem C asks was measured."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.certificate.trajectory_points import Point
from overparam.certificate.trajectory_steps import COLUMNS
from overparam.model.function import ParamTree
from overparam.rounding.step_noise import StepNoise
from overparam.rounding.steps import StepErrors
from overparam.theorems.trajectory import Ball

UP = 1 + 1e-9
"""Covers the rounding of sums of numbers >= 0, one for each parameter, and of what is made of
them."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The steps from one point on.

    Attributes:
        start: Where they begin.
        ball: What holds on the ball of its radius around *each* point of the cell, for Theorem C.
        noise: How far outputs and gradients may be off there.
        rows: The records, one column for each of ``COLUMNS``.
        exponents: e_t of each.
        deviations: delta_t of each, and of the point they lead to: shape (steps + 1,); infinite
            from where it is not known any more.
        errors: eps_t of each.
        end: That point, in float64.
    """

    start: Point
    ball: Ball
    noise: StepNoise | StepErrors
    rows: Float[np.ndarray, "steps columns"]
    exponents: Float[np.ndarray, " steps"]
    deviations: Float[np.ndarray, " _"]
    errors: Float[np.ndarray, " steps"]
    end: ParamTree

    def column(self, name: str) -> Float[np.ndarray, " steps"]:
        """One of ``COLUMNS``."""
        return self.rows[:, COLUMNS.index(name)]


@dataclass(frozen=True, eq=False)
class Made:
    """The steps of a cell.

    Attributes:
        rows: Their records.
        end: Where they lead to, in float64.
        errors: eps_t where steps were made in balls; else None.
        away: How far the points of the records may be from thetahat_t, times a few.
    """

    rows: np.ndarray
    end: ParamTree
    errors: np.ndarray | None = None
    away: float = 0.0
