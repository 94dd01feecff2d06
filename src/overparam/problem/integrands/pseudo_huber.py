"""The pseudo-Huber loss, an analytic relative of Huber's.

    c(r) = delta^2 (sqrt(1 + (r / delta)^2) - 1).

M = 1. With s = sqrt(1 + (r / delta)^2) = 1 + c / delta^2 the PL quotient is (s + 1) / (2 s^2). It
falls from 1 as c grows, so it is alpha at the level c.
"""

from dataclasses import dataclass
from typing import ClassVar

from overparam.problem.integrands.integrand import Values, register
from overparam.problem.integrands.of_residual import ResidualLoss
from overparam.problem.integrands.safe_constants import from_below, require_positive


@register
@dataclass(frozen=True)
class PseudoHuber(ResidualLoss):
    """Sum over outputs of the pseudo-Huber function of the residual.

    Attributes:
        delta: Where it turns from quadratic to linear, > 0, in the targets' units.
    """

    delta: float = 1.0
    name: ClassVar[str] = "pseudo_huber"
    smoothness = 1.0  # M

    def __post_init__(self) -> None:
        require_positive(self.delta, self.name, "delta")

    def pl_constant(self, excess: float) -> float:
        """Return (s + 1) / (2 s^2) with s = 1 + excess / delta^2."""
        s = 1 + excess / self.delta**2
        return from_below((s + 1) / (2 * s) / s)

    def cost(self, r: Values) -> Values:
        """Evaluate c without cancellation, as r^2 / (1 + s)."""
        return r * r / (1 + self._root(r))

    def slope(self, r: Values) -> Values:
        """Evaluate r / s."""
        return r / self._root(r)

    def _root(self, r: Values) -> Values:
        return r.__array_namespace__().hypot(r / self.delta, r * 0 + 1)
