"""Vectors for Theorem 4, and what they are worth with their rounding on the safe side."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from overparam.enclosures.rounding import UNIT_ROUNDOFF, frobenius_up, gamma
from overparam.rounding.passes import SAFETY, TINY
from overparam.theorems.distance import Dual
from overparam.theorems.ridge_duals import RidgeDuals


@dataclass(frozen=True, eq=False)
class Duals:
    """Kernel and residual as they were computed, and how far they are off.

    Attributes:
        kernel: K_0, shape (m, m).
        residual: r_0 in the coordinates of L2(mu; R^k), not zero.
        kernel_error: Bound on the norm of the kernel's error.
        residual_error: The same of the residual's.
    """

    kernel: Float[np.ndarray, "m m"]
    residual: Float[np.ndarray, " m"]
    kernel_error: float
    residual_error: float

    @cached_property
    def ridge(self) -> RidgeDuals:
        """What is tried."""
        return RidgeDuals(self.kernel, self.residual)

    def best(
        self, radii: Float[np.ndarray, " nodes"], modulus: Float[np.ndarray, " nodes"]
    ) -> Dual:
        """The best of them for a modulus at nodes; see :meth:`RidgeDuals.best`."""
        v, _ = self.ridge.best(radii, modulus)
        return self.worth(v)

    def worth(self, v: Float[np.ndarray, " m"]) -> Dual:
        """What a vector of float64 is worth."""
        r, size = self.residual, frobenius_up(v)
        off = SAFETY * size * (self.residual_error + 4 * UNIT_ROUNDOFF * frobenius_up(r)) + TINY
        image = self.kernel @ v
        product = (gamma(len(v) + 4) + 4 * UNIT_ROUNDOFF) * frobenius_up(self.kernel)
        square = math.fsum(v * image) + SAFETY * size**2 * (product + self.kernel_error) + TINY
        return Dual(
            alignment=math.fsum(v * r) - off,
            pull=math.sqrt(max(square, 0.0)) * SAFETY,
            norm=size,
        )
