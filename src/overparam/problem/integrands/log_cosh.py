"""The log-cosh loss: c(r) = log cosh r, quadratic near zero, |r| - log 2 far away.

M = 1. At cost e the squared slope is tanh(r)^2 = 1 - exp(-2 e), so the PL quotient is
(1 - exp(-2 e)) / (2 e), which falls from 1 as e grows: it is alpha at the level e.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from overparam.problem.integrands.integrand import Values, register
from overparam.problem.integrands.of_residual import ResidualLoss
from overparam.problem.integrands.safe_constants import from_below


@register
@dataclass(frozen=True)
class LogCosh(ResidualLoss):
    """Sum over outputs of log cosh of the residual."""

    name: ClassVar[str] = "log_cosh"
    smoothness = 1.0  # M

    def pl_constant(self, excess: float) -> float:
        """Return (1 - exp(-2 excess)) / (2 excess)."""
        return from_below(-math.expm1(-2 * excess) / (2 * excess) if excess else 1.0)

    def cost(self, r: Values) -> Values:
        """Evaluate log cosh r: near zero as log(1 + 2 sinh(r/2)^2), else from exp(-2 |r|)."""
        xp = r.__array_namespace__()
        size = xp.abs(r)
        near = xp.log1p(2 * xp.sinh(xp.minimum(size, r * 0 + 1) / 2) ** 2)
        return xp.where(size < 1, near, size + xp.log1p(xp.exp(-2 * size)) - math.log(2))

    def slope(self, r: Values) -> Values:
        """Evaluate tanh r."""
        return r.__array_namespace__().tanh(r)
