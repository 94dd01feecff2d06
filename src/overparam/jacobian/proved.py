"""omega and L as upper bounds, the rounding of their own evaluation included.

Both are made of numbers >= 0 by sums, products, maxima, minima and roots: nothing cancels, so the
computed value is the exact one times a product of factors (1 + d), |d| <= u, whose number can be
counted. Proof: docs/proved.md, section 5.
"""

from math import inf, isfinite
from typing import ClassVar, Literal

from overparam.enclosures.rounding import add_up, gamma, mul_up
from overparam.jacobian.composed import COMPOSED_LAYERS
from overparam.jacobian.modulus import MLPBounds
from overparam.rounding.passes import TINY

MARGIN = 2.0**-22
"""Added relatively: collective norms depend on profiles, which nobody else computes to the last
digit, and another evaluation should not come out above this one."""


class ProvedBounds(MLPBounds):
    """:class:`MLPBounds` from a base point of upper bounds, widened by their own rounding."""

    kind: ClassVar[Literal["computed", "proved"]] = "proved"

    def on_ball(self, radius: float) -> tuple[float, float]:
        """(omega(radius), L(radius)), rounded up; both vanish for a linear model."""
        if len(self.base.weight_norms) == 1:
            return 0.0, 0.0
        layers, n = len(self.base.weight_norms), len(self.base.weights)
        roundings = 16 * layers * (n + 64) + 640 * layers**2 * 4 ** min(layers - 1, COMPOSED_LAYERS)
        widen = add_up(add_up(1.0, MARGIN), gamma(2 * roundings))
        modulus, lipschitz = super().on_ball(radius)
        return _up(modulus, widen), _up(lipschitz, widen)


def _up(value: float, widen: float) -> float:
    return add_up(mul_up(value, widen), TINY) if isfinite(value) else inf
