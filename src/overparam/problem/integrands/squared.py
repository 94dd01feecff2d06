"""Least squares: l(z, y) = 1/2 |z - y|^2, the squared distance to the target itself."""

from dataclasses import dataclass
from typing import ClassVar

from overparam.problem.integrands.base import Values, register
from overparam.problem.integrands.distance import HalfSquaredDistance


@register
@dataclass(frozen=True)
class SquaredLoss(HalfSquaredDistance):
    """1/2 |z - y|^2, summed over the outputs; M = alpha = 1, infimum 0."""

    name: ClassVar[str] = "squared"
    quadratic: ClassVar[bool] = True

    @property
    def unique(self) -> bool:
        """Yes: y."""
        return True

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return the targets, shape (n, k), the only minimiser."""
        del z
        return y
