"""Theorem 4's vectors v in ball arithmetic: found in floats, worth what balls say."""

from dataclasses import dataclass

import numpy as np
from flint import arb, arb_mat

from overparam.theorems.distance import Dual
from overparam.theorems.ridge_duals import RidgeDuals
from overparam.verification.balls import column, dot, midpoints, to_balls


@dataclass(frozen=True, eq=False)
class Duals:
    """K_0 and r_0 in balls, and the vectors that are tried.

    Attributes:
        kernel: K_0, shape (m, m).
        residual: r_0 in the coordinates of L2(mu; R^k), shape (m, 1).
        ridge: From their midpoints.
    """

    kernel: arb_mat
    residual: arb_mat
    ridge: RidgeDuals

    def best(self, radii: np.ndarray, modulus: np.ndarray) -> Dual:
        """The best of them for a modulus at nodes; see :meth:`RidgeDuals.best`."""
        found, _ = self.ridge.best(radii, modulus)
        v = to_balls(found[:, None])
        return Dual(
            alignment=dot(v, self.residual).lower(),
            pull=dot(v, self.kernel * v).nonnegative_part().sqrt().upper(),
            norm=dot(v, v).sqrt().upper(),
        )


def duals_of(kernel: arb_mat, residual: list[arb]) -> Duals | None:
    """The vectors for a kernel and a residual; None if there is nothing to fit."""
    r = column(residual)
    middle = midpoints(r)[:, 0]
    centre = midpoints(kernel)
    if not (np.any(middle) and np.any(centre)):
        return None
    return Duals(kernel, r, RidgeDuals(centre, middle))
