"""Least squares: l(z, y) = 1/2 |z - y|^2, the squared distance to the target itself."""

from dataclasses import dataclass
from typing import ClassVar

from overparam.problem.integrands.integrand import AtTarget, register
from overparam.problem.integrands.squared_distance import HalfSquaredDistance


@register
@dataclass(frozen=True)
class SquaredLoss(AtTarget, HalfSquaredDistance):
    """1/2 |z - y|^2, summed over the outputs; M = alpha = 1, infimum 0."""

    name: ClassVar[str] = "squared"
    quadratic: ClassVar[bool] = True
    unique = True
