"""The squared hinge for classes -1 and +1: l(z, y) = sum_k 1/2 max(0, 1 - y_k z_k)^2.

A prediction on the right side of the margin, y_k z_k >= 1, costs nothing: the right answers form an
orthant with its corner in y. Where y_k z_k < 1, y_k = +-1 gives (1 - y_k z_k)^2 = (y_k - z_k)^2, so
the loss is half the squared distance to that orthant. It is convex with M = alpha = 1, but not
strongly convex.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.problem.integrands.integrand import Values, register
from overparam.problem.integrands.labels import how_to_encode
from overparam.problem.integrands.squared_distance import HalfSquaredDistance


@register
@dataclass(frozen=True)
class SquaredHinge(HalfSquaredDistance):
    """Sum over outputs of 1/2 max(0, 1 - y z)^2, targets +-1; M = alpha = 1, infimum 0."""

    name: ClassVar[str] = "squared_hinge"

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return y_k where the margin y_k z_k is below 1 and z_k elsewhere, shape (n, k)."""
        margin = y * z
        return margin.__array_namespace__().where(margin < 1, y, z)

    def validate_targets(self, y: Float[np.ndarray, "n k"]) -> None:
        """Accept targets -1 and +1, shape (n, k).

        Raises:
            InputError: If a target is anything else.
        """
        rows, columns = np.nonzero(np.abs(y) != 1)
        if rows.size:
            raise InputError(
                f"the target in row {rows[0]}, column {columns[0]} is {y[rows[0], columns[0]]}: "
                f"the squared hinge needs -1 and +1, map the two classes to them{how_to_encode(y)}"
            )
