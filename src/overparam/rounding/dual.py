"""Vectors for Theorem 4, and what they are worth with their rounding on the safe side."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from overparam.enclosures.rounding import frobenius_up
from overparam.numbers import Interval, larger, safe_lower, safe_upper, sqrt
from overparam.numbers.sums import gamma, sum_error
from overparam.rounding.passes import TINY
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
        exact, size = Interval.exact, Interval.exact(frobenius_up(v))
        # Products are rounded once, and so are their sums.
        rounding = gamma(2) * exact(frobenius_up(self.residual))
        off = size * (rounding + self.residual_error) + TINY
        product = (sum_error(len(v)) + exact(gamma(2))) * frobenius_up(self.kernel)
        lost = size * size * (product + self.kernel_error) + TINY
        square = exact(math.fsum(v * (self.kernel @ v))) + lost
        return Dual(
            alignment=safe_lower(exact(math.fsum(v * self.residual)) - off),
            pull=safe_upper(sqrt(larger(square, 0.0))),
            norm=safe_upper(size),
        )
