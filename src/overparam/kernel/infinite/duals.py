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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from overparam.model.activation import ACTIVATIONS, Activation, linear_pieces


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
    def covariance(self) -> Array:
        """The covariance c = r1 r2 rho."""
        return self.r1 * self.r2 * self.correlation

    @property
    def determinant(self) -> Array:
        """The determinant q1 q2 - c^2, without cancellation."""
        return (self.r1 * self.r2) ** 2 * (self.minus * self.plus)


class Moments(NamedTuple):
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
class ClosedForm:
    """A dual known in closed form.

    Attributes:
        second_moment: q -> E[act(sqrt(q) z)^2].
        moments: The pairs' value and slope.
    """

    second_moment: Callable[[Any], Any]
    moments: Callable[[Pairs], tuple[Array, Array]]

    def features(self, r: Any) -> tuple[Any, tuple]:
        """The root of the second moment at standard deviations ``r``; nothing else is needed."""
        return safe_sqrt(self.second_moment(r * r)), ()

    def __call__(self, pairs: Pairs, e1: Array, e2: Array, left: tuple, right: tuple) -> Moments:
        """The moments, given the roots of the second moments of both sides."""
        value, slope = self.moments(pairs)
        return Moments(value, slope, e1 * e2 - value, e1 * e2 + value)


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

    def __call__(self, pairs: Pairs, e1: Array, e2: Array, left: tuple, right: tuple) -> Moments:
        """The moments; both gaps keep their relative accuracy."""
        even, odd = self.a**2, self.b**2
        scale = pairs.r1 * pairs.r2
        rho, size = pairs.correlation, jnp.abs(pairs.correlation)
        sine = safe_sqrt(pairs.minus * pairs.plus)
        angle = jnp.arctan2(sine, size)
        g = (2 / math.pi) * sine_minus(angle)
        less = jnp.minimum(pairs.minus, pairs.plus)
        value = scale * ((odd * rho + even * size) + even * g)
        turn = even * (2 / math.pi) * angle
        slope = jnp.where(rho < 0, (odd - even) + turn, (odd + even) - turn)
        return Moments(
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


def _identity(pairs: Pairs) -> tuple[Array, Array]:
    return pairs.covariance, jnp.ones_like(pairs.minus)


def _erf(pairs: Pairs) -> tuple[Array, Array]:
    """Williams, Computing with infinite networks (1997); the slope by Price's theorem."""
    width = jnp.sqrt(1 + 2 * pairs.r1**2 + 2 * pairs.r2**2 + 4 * pairs.determinant)
    angle = jnp.arctan2(2 * pairs.covariance, width)
    return (2 / math.pi) * angle, (4 / math.pi) / width


def _gelu(pairs: Pairs) -> tuple[Array, Array]:
    """Derived in docs/infinite.md by Stein's identity.

    References:
        Tsuchida, Pearce, van der Heide, Roosta, Gallagher, Avoiding kernel fixed points (2021).
    """
    c, q1, q2 = pairs.covariance, pairs.r1**2, pairs.r2**2
    square = 1 + q1 + q2 + pairs.determinant
    width = jnp.sqrt(square)
    orthant = jnp.arctan2(width, -c) / (2 * math.pi)  # E[Phi(u) Phi(v)]
    density = 1 / (2 * math.pi * width)  # E[phi(u) phi(v)]
    n1, n2 = 1 + q1, 1 + q2
    value = c * orthant + density * (q1 * q2 * square + c * c) / (n1 * n2)
    return value, orthant + c * density * (1 / n1 + 1 / n2 + 1 / square)


def _waves(pairs: Pairs) -> tuple[Array, Array]:
    """E[sin u sin v] and E[cos u cos v], from the characteristic function of u - v and u + v."""
    scale, size = pairs.r1 * pairs.r2, jnp.abs(pairs.covariance)
    less = jnp.minimum(pairs.minus, pairs.plus)
    peak = jnp.exp(-((pairs.r1 - pairs.r2) ** 2 + 2 * scale * less) / 2) / 2
    tail = jnp.expm1(-2 * size)
    return -jnp.sign(pairs.correlation) * peak * tail, peak * (2 + tail)


def _sin(pairs: Pairs) -> tuple[Array, Array]:
    return _waves(pairs)


def _cos(pairs: Pairs) -> tuple[Array, Array]:
    odd, even = _waves(pairs)
    return even, odd


def _gaussian(pairs: Pairs) -> tuple[Array, Array]:
    """E exp(-(u^2 + v^2)/2) = det(I + S)^(-1/2); the slope by Price's theorem."""
    square = 1 + pairs.r1**2 + pairs.r2**2 + pairs.determinant
    value = 1 / jnp.sqrt(square)
    return value, pairs.covariance * value / square


def _erf_square(q: Any) -> Any:
    xp = namespace(q)
    return (2 / math.pi) * xp.arctan2(2 * q, xp.sqrt(1 + 4 * q))


def _gelu_square(q: Any) -> Any:
    xp = namespace(q)
    width = xp.sqrt(1 + 2 * q)
    return q * (xp.arctan2(width, -q) / (2 * math.pi)) + q * q * (2 + 2 * q) / (
        2 * math.pi * width * (1 + q) ** 2
    )


CLOSED_FORMS: dict[str, ClosedForm | AbsLinear] = {
    "identity": ClosedForm(lambda q: q, _identity),
    "erf": ClosedForm(_erf_square, _erf),
    "gelu": ClosedForm(_gelu_square, _gelu),
    "sin": ClosedForm(lambda q: -namespace(q).expm1(-2 * q) / 2, _sin),
    "cos": ClosedForm(lambda q: (1 + namespace(q).exp(-2 * q)) / 2, _cos),
    "gaussian": ClosedForm(lambda q: 1 / namespace(q).sqrt(1 + 2 * q), _gaussian),
}
"""By the name of the built-in activation; a|s| + b s is recognised by its pieces."""


def closed_form(activation: Activation) -> ClosedForm | AbsLinear | None:
    """The activation's dual in closed form, or None."""
    pieces = linear_pieces(activation)
    if pieces is not None:
        return AbsLinear(*pieces)
    if ACTIVATIONS.get(activation.name) == activation:
        return CLOSED_FORMS.get(activation.name)
    return None
