r"""Dual functions: Gaussian expectations of an activation at two correlated points.

For a centred Gaussian pair (u, v) with variances q1, q2 and correlation rho, the layer recursion
needs

    E[act(u) act(v)]   (``value``)      and      E[act'(u) act'(v)]   (``slope``),

and, to hand the correlation on to the next layer, the gap to the bound of Cauchy and Schwarz,

    sqrt(E[act(u)^2] E[act(v)^2]) -+ E[act(u) act(v)]   (``below``, ``above``).

A correlation near 1 carries its information in 1 - rho, which a float of rho has lost. So a pair is
described by 1 - rho and 1 + rho, the smaller of which is accurate; docs/infinite.md
shows which accuracy suffices. Formulas are written for ``jax.numpy`` and differentiable everywhere,
identical and opposite points included.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


class Pairs(NamedTuple):
    """Centred Gaussian pairs; arrays that broadcast against each other.

    Attributes:
        r1: Standard deviation of u.
        r2: Standard deviation of v.
        minus: 1 - rho.
        plus: 1 + rho; the smaller of the two is accurate relative to itself.
    """

    r1: Array
    r2: Array
    minus: Array
    plus: Array

    @property
    def correlation(self) -> Array:
        """The correlation rho."""
        return (self.plus - self.minus) / 2

    @property
    def size(self) -> Array:
        """|rho|; its derivative at 0 is that from the right, as it is for ``less``."""
        return jnp.where(self.plus < self.minus, -1, 1) * self.correlation

    @property
    def less(self) -> Array:
        """1 - |rho|."""
        return jnp.where(self.plus < self.minus, self.plus, self.minus)

    @property
    def covariance(self) -> Array:
        """The covariance c = r1 r2 rho."""
        return self.r1 * self.r2 * self.correlation

    @property
    def determinant(self) -> Array:
        """The determinant q1 q2 - c^2, without cancellation."""
        return (self.r1 * self.r2) ** 2 * (self.minus * self.plus)


class PairMoments(NamedTuple):
    """What a layer does to a pair.

    Attributes:
        value: E[act(u) act(v)].
        slope: E[act'(u) act'(v)].
        below: sqrt(E[act(u)^2] E[act(v)^2]) - value.
        above: sqrt(E[act(u)^2] E[act(v)^2]) + value.
    """

    value: Array
    slope: Array
    below: Array
    above: Array


@dataclass(frozen=True)
class AbsLinear:
    r"""act(s) = a \|s\| + b s.

    E|u||v| = r1 r2 (|rho| + (2/pi) g) with g = sin t - t cos t and cos t = |rho|, and
    E sign(u) sign(v) = (2/pi) arcsin rho; odd times even parts have mean zero.

    References:
        Cho and Saul, Kernel methods for deep learning (2009), orders 0 and 1.
    """

    a: float
    b: float

    def features(self, r: Any) -> tuple[Any, tuple]:
        """The root of the second moment, sqrt(a^2 + b^2) r."""
        return math.hypot(self.a, self.b) * r, ()

    def __call__(
        self, pairs: Pairs, e1: Array, e2: Array, left: tuple, right: tuple
    ) -> PairMoments:
        """The moments; both gaps keep their relative accuracy."""
        even, odd = self.a**2, self.b**2
        scale = pairs.r1 * pairs.r2
        rho, size, less = pairs.correlation, pairs.size, pairs.less
        sine = safe_sqrt(pairs.minus * pairs.plus)
        angle = jnp.arctan2(sine, size)
        g = (2 / math.pi) * sine_minus(angle)
        value = scale * ((odd * rho + even * size) + even * g)
        turn = even * (2 / math.pi) * angle
        far = jnp.where(rho < 0, (odd - even) + turn, (odd + even) - turn)
        # Around rho = 0, where |rho| is not differentiable.
        small = size < 0.5
        inner = jnp.arctan2(jnp.where(small, rho, 0), jnp.where(small, sine, 1))
        slope = jnp.where(small, odd + even * (2 / math.pi) * inner, far)
        return PairMoments(
            value,
            slope,
            scale * (odd * pairs.minus + even * (less - g)),
            scale * (odd * pairs.plus + even * (2 - less + g)),
        )


def namespace(x: Any) -> Any:
    """``numpy`` for NumPy arrays, which need no compilation, else ``jax.numpy``."""
    return np if isinstance(x, np.ndarray | np.floating) else jnp


def safe_sqrt(x: Any) -> Any:
    """The square root, with slope zero at zero."""
    xp, positive = namespace(x), x > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1)), 0)


def safe_divide(a: Array, b: Array, where: Array) -> Array:
    """a / b, or 0; no derivative passes through a denominator that is not used."""
    return jnp.where(where, a, 0) / jnp.where(where, b, 1)


def sine_minus(t: Array) -> Array:
    """Sin t - t cos t on [0, pi/2], about t^3 / 3, accurate relative to itself."""
    small = t < 0.7
    near, far = jnp.where(small, t, 0), jnp.where(small, 1, t)
    square, term, total = near * near, near**3 / 3, near**3 / 3
    for k in range(1, 10):
        # The terms are (-1)^k t^(2k+3) (2k+2) / (2k+3)!
        term = -term * square / ((2 * k) * (2 * k + 3))
        total = total + term
    return jnp.where(small, total, jnp.sin(far) - far * jnp.cos(far))
