"""The expectile loss: least squares that charges one side more, the smooth relative of quantiles.

    c(r) = |tau - 1[r > 0]| r^2:    tau r^2 below the target, (1 - tau) r^2 above.

tau = 1/2 is least squares; a tau above 1/2 makes answers that are too low the dearer ones. On each
side the PL quotient is 2 |tau - 1[r > 0]|, so M is twice the larger side and alpha twice the other.
"""

from dataclasses import dataclass
from typing import ClassVar

from overparam.errors import InputError
from overparam.problem.integrands.integrand import Values, register
from overparam.problem.integrands.of_residual import ResidualLoss
from overparam.problem.integrands.safe_constants import from_below, require_positive


@register
@dataclass(frozen=True)
class Expectile(ResidualLoss):
    """Sum over outputs of the asymmetric square of the residual.

    Attributes:
        tau: Which expectile, between 0 and 1.
    """

    tau: float = 0.5
    name: ClassVar[str] = "expectile"

    def __post_init__(self) -> None:
        require_positive(self.tau, self.name, "tau")
        if self.tau >= 1:
            raise InputError(f"tau of the loss expectile is {self.tau}: choose it between 0 and 1")

    @property
    def smoothness(self) -> float:
        """M = 2 max(tau, 1 - tau)."""
        return 2 * max(self.tau, (1 - self.tau) * (1 + 2.0**-52))

    def pl_constant(self, excess: float) -> float:
        """Return 2 min(tau, 1 - tau), on every sublevel set."""
        del excess
        return from_below(2 * min(self.tau, 1 - self.tau))

    def cost(self, r: Values) -> Values:
        """Evaluate c."""
        return self._side(r) * r * r

    def slope(self, r: Values) -> Values:
        """Evaluate c'."""
        return 2 * self._side(r) * r

    def _side(self, r: Values) -> Values:
        return r.__array_namespace__().where(r > 0, r * 0 + (1 - self.tau), r * 0 + self.tau)
