"""The loss of a Wasserstein critic: values against each other, and a penalty on the input gradient.

What is observed at a point is the 1-jet z = (v, g) of the critic, its value v and input gradient
g in R^d. A point has a coefficient c: +1 where the critic should be small (generated data), -1
where it should be large (real data), 0 where the gradient is penalised only (points in between):

    l(z, c) = [c != 0] (c v + eps / 2 v^2) + lambda pi(|g|),
    one-sided   pi(r) = max(0, r - 1)^2,        two-sided   pi(r) = (r - 1)^2.

Without the drift term eps / 2 v^2 the loss is not bounded below in the values. The one-sided
penalty is lambda times the squared distance of g to the unit ball. The two-sided one has a kink at
g = 0, the maximum of pi on the ball: within |g| < 1/2 it is continued by a parabola,
pi(r) = 1/2 - r^2, which keeps every sublevel set below 1/4. Proofs: ``docs/applications.md``.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.problem.integrands.integrand import Integrand, Pointwise, Values

KINK = 0.25
"""The squared norm within which the two-sided penalty is a parabola."""


@dataclass(frozen=True)
class CriticLoss(Integrand):
    """Coefficient times value, drift, and gradient penalty.

    The target of a point is (c, 0, ..., 0), in the layout of a 1-jet of one output.

    Attributes:
        penalty: lambda > 0.
        drift: eps > 0.
        two_sided: Whether gradients shorter than one are penalised, too.

    Raises:
        InputError: A number is not positive: without drift there is no minimum.
    """

    penalty: float = 10.0
    drift: float = 1.0
    two_sided: bool = False
    name: ClassVar[str] = "critic"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.drift) and self.drift > 0):
            raise InputError(
                f"drift is {self.drift!r}: without a positive drift term eps / 2 v^2 the critic's "
                "loss c v is not bounded below, so it has no minimum; choose drift=1e-3 or more"
            )
        if not (math.isfinite(self.penalty) and self.penalty > 0):
            raise InputError(f"penalty must be positive and finite, not {self.penalty!r}")

    @property
    def parameters(self) -> tuple[float, ...]:
        """lambda, eps, and the number of sides."""
        return (self.penalty, self.drift, 1.0 + self.two_sided)

    @property
    def smoothness(self) -> float:
        """M = max(eps, 2 lambda)."""
        return max(self.drift, 2 * self.penalty)

    def pl_constant(self, excess: float) -> float:
        """Return min(eps, 2 lambda); two-sided, less from an excess of lambda / 4 on.

        Two-sided, 0 from lambda / 2 on: g = 0 is stationary.
        """
        alpha = 2 * self.penalty
        if self.two_sided and excess > self.penalty / 4:
            alpha *= max(0.0, self.penalty / 2 / excess - 1)
        return min(self.drift, alpha)

    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate l(z_i, c_i), shape (n,)."""
        return self.excess(z, y) + self.infimum(y)

    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate the gradient in (v, g), shape (n, 1 + d)."""
        xp = z.__array_namespace__()
        v, g, c = z[:, :1], z[:, 1:], y[:, :1]
        slope = xp.where(c != 0, c + self.drift * v, 0 * v)
        squared = (g * g).sum(axis=-1, keepdims=True)
        if self.two_sided:
            outside = 1 - 1 / xp.sqrt(xp.maximum(squared, xp.asarray(KINK, dtype=z.dtype)))
            factor = xp.where(squared >= KINK, outside, 0 * squared - 1)
        else:
            factor = 1 - 1 / xp.sqrt(xp.maximum(squared, xp.asarray(1.0, dtype=z.dtype)))
        return xp.concatenate([slope, 2 * self.penalty * factor * g], axis=-1)

    def infimum(self, y: Values) -> Pointwise:
        """Evaluate -c_i^2 / (2 eps), shape (n,)."""
        return -(y[:, 0] * y[:, 0]) / (2 * self.drift)

    def excess(self, z: Values, y: Values) -> Pointwise:
        """Evaluate [c != 0] eps / 2 (v + c / eps)^2 + lambda pi(|g|), shape (n,)."""
        xp = z.__array_namespace__()
        v, g, c = z[:, 0], z[:, 1:], y[:, 0]
        off = xp.where(c != 0, v + c / self.drift, 0 * v)
        return self.drift / 2 * off * off + self.penalty * self._pi((g * g).sum(axis=-1))

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return v = -c / eps where c != 0, and g moved to the ball or the sphere."""
        xp = z.__array_namespace__()
        v, g, c = z[:, :1], z[:, 1:], y[:, :1]
        norm = xp.sqrt((g * g).sum(axis=-1, keepdims=True))
        if self.two_sided:
            first = 0 * g + xp.asarray(np.eye(1, g.shape[1]), dtype=z.dtype)
            nearest = xp.where(norm > 0, g / xp.where(norm > 0, norm, 1 + norm), first)
        else:
            nearest = g / xp.where(norm > 1, norm, 1 + 0 * norm)
        return xp.concatenate([xp.where(c != 0, -c / self.drift, v), nearest], axis=-1)

    def validate_targets(self, y: Float[np.ndarray, "n k"]) -> None:
        """Accept targets (c, 0, ..., 0) with at least one gradient column.

        Raises:
            InputError: If they are anything else.
        """
        super().validate_targets(y)
        if y.shape[1] < 2 or np.any(y[:, 1:]):
            raise InputError(
                "the critic's targets are (c, 0, ..., 0), a coefficient and as many zeros as "
                "features; observe the 1-jet of one output"
            )

    def _pi(self, squared: Any) -> Any:
        """The penalty of |g|^2, differentiable at 0."""
        xp = squared.__array_namespace__()
        inner = xp.asarray(KINK if self.two_sided else 1.0, dtype=squared.dtype)
        beyond = xp.sqrt(xp.maximum(squared, inner)) - 1
        within = 0.5 - squared if self.two_sided else 0 * squared
        return xp.where(squared > inner, beyond * beyond, within)
