"""Huber's loss: quadratic where a residual is at most delta, linear beyond, so outliers pull less.

    c(r) = r^2 / 2 if |r| <= delta, else delta (|r| - delta / 2).

M = 1. The slope stays at delta while the cost grows, so the PL constant depends on the level:
alpha(e) = min(1, delta^2 / (2 e)), which is attained.
"""

from dataclasses import dataclass
from typing import ClassVar

from overparam.problem.integrands.integrand import Values, register
from overparam.problem.integrands.of_residual import ResidualLoss
from overparam.problem.integrands.safe_constants import from_below, require_positive


@register
@dataclass(frozen=True)
class Huber(ResidualLoss):
    """Sum over outputs of Huber's function of the residual.

    Attributes:
        delta: Where it turns linear, > 0, in the targets' units.
    """

    delta: float = 1.0
    name: ClassVar[str] = "huber"
    smoothness = 1.0  # M

    def __post_init__(self) -> None:
        require_positive(self.delta, self.name, "delta")

    def pl_constant(self, excess: float) -> float:
        """Return min(1, delta^2 / (2 excess))."""
        edge = from_below(self.delta**2 / 2)
        return 1.0 if excess <= edge else edge / excess

    def cost(self, r: Values) -> Values:
        """Evaluate c."""
        slope = self.slope(r)
        return slope * (r - slope / 2)

    def slope(self, r: Values) -> Values:
        """Evaluate r clipped to [-delta, delta]."""
        return r.__array_namespace__().clip(r, -self.delta, self.delta)
