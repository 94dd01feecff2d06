r"""Duals in closed form: erf, gelu, sin, cos, gaussian.

For nearly parallel pairs the gap sqrt(E[act(u)^2] E[act(v)^2]) - E[act(u) act(v)] is computed
without cancellation, as docs/infinite.md derives, in the form

    E[(act(u) - act(v))^2] / 2 - (e1 - e2)^2 / 2,     e1^2 = E[act(u)^2],  e2^2 = E[act(v)^2].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from overparam.kernel.infinite.dual_functions import (
    AbsLinear,
    PairMoments,
    Pairs,
    namespace,
    safe_divide,
    safe_sqrt,
)
from overparam.model.activation import ACTIVATIONS, Activation, linear_pieces


@dataclass(frozen=True)
class ClosedForm:
    """A dual known in closed form.

    Attributes:
        second_moment: q -> E[act(sqrt(q) z)^2].
        own: Standard deviation -> the numbers of one point that ``moments`` wants.
        moments: The pairs' moments from them and from the roots of the second moments.
    """

    second_moment: Callable[[Any], Any]
    own: Callable[[Any], tuple]
    moments: Callable[[Pairs, Array, Array, Any, Any], PairMoments]

    def features(self, r: Any) -> tuple[Any, tuple]:
        """The root of the second moment at standard deviations ``r``, and the points' numbers."""
        return safe_sqrt(self.second_moment(r * r)), self.own(r)

    def __call__(
        self, pairs: Pairs, e1: Array, e2: Array, left: tuple, right: tuple
    ) -> PairMoments:
        """The moments, given the roots of the second moments and the features of both sides."""
        return self.moments(pairs, e1, e2, left, right)


class Lean(NamedTuple):
    """What erf and gelu want to know of a point, at t = sqrt(2) r and t = r.

    With sin theta = t^2 / (1 + t^2) and f = sqrt(1 + 2 t^2), theta / 2 = arctan f - pi / 4.

    Attributes:
        s: 1 / sqrt(1 + t^2).
        tau: t s.
        k: (f - 1) s.
        half: theta / 2.
    """

    s: Array
    tau: Array
    k: Array
    half: Array


def lean(t: Any) -> Lean:
    """The numbers of a point, none of which has lost digits."""
    xp = namespace(t)
    square = t * t
    s = 1 / xp.sqrt(1 + square)
    k = s * (2 * square / (1 + xp.sqrt(1 + 2 * square)))
    return Lean(s, t * s, k, xp.arctan2(k, k + 2 * s))


class Arc(NamedTuple):
    """The angle of a pair: sin phi = tau tau' rho, with m and h half of theta +- theta'.

    Attributes:
        sine: sin phi.
        cosine: cos phi.
        near: Whether sin^2 phi > sin^2(m) / 2; then ``short`` is accurate.
        short: m - |phi|.
        excess: sin^2 m - sin^2 phi = sin^2 h + (tau tau')^2 (1 - rho^2).
        h: sin h.
        c: cos m.
        z: s s'.
    """

    sine: Array
    cosine: Array
    near: Array
    short: Array
    excess: Array
    h: Array
    c: Array
    z: Array


def arc(pairs: Pairs, one: Lean, two: Lean) -> Arc:
    """The angle of a pair."""
    x, y, z = one.k * two.s, one.s * two.k, one.s * two.s
    h, c, top = (x - y) / 2, (x + y) / 2 + z, (one.k * two.k + x + y) / 2
    joint = one.tau * two.tau
    sine = joint * pairs.correlation
    excess = h * h + joint * joint * (pairs.minus * pairs.plus)
    cosine = jnp.sqrt(c * c + excess)
    near = 2 * excess < top * top
    # tan((m - phi) / 2) = (sin m - sin phi) / (cos m + cos phi)
    tangent = safe_divide(excess, (top + jnp.abs(sine)) * (c + cosine), near)
    return Arc(sine, cosine, near, 2 * jnp.arctan(tangent), excess, h, c, z)


def completed(
    value: Array, slope: Array, e1: Array, e2: Array, near: Array, gap: Array
) -> PairMoments:
    """The moments, with ``gap`` for e1 e2 - |value| where a pair is near."""
    product = e1 * e2
    below = jnp.where(near & (value > 0), gap, product - value)
    above = jnp.where(near & (value < 0), gap, product + value)
    return PairMoments(value, slope, below, above)


def _erf(pairs: Pairs, e1: Array, e2: Array, one: Lean, two: Lean) -> PairMoments:
    """Williams, Computing with infinite networks (1997); the slope by Price's theorem."""
    found = arc(pairs, one, two)
    value = (2 / math.pi) * jnp.arctan2(found.sine, found.cosine)
    slope = (4 / math.pi) * (found.z / found.cosine)
    gap = (2 / math.pi) * found.short - (e1 - e2) ** 2 / 2
    return completed(value, slope, e1, e2, found.near, gap)


def _gelu(pairs: Pairs, e1: Array, e2: Array, one: Lean, two: Lean) -> PairMoments:
    """Derived in docs/infinite.md by Stein's identity.

    References:
        Tsuchida, Pearce, van der Heide, Roosta, Gallagher, Avoiding kernel fixed points (2021).
    """
    found = arc(pairs, one, two)
    c, scale = pairs.covariance, pairs.r1 * pairs.r2
    orthant = jnp.arctan2(found.cosine, -found.sine) / (2 * math.pi)  # E[Phi(u) Phi(v)]
    fade = found.z / found.cosine
    density = fade / (2 * math.pi)  # E[phi(u) phi(v)]
    value = c * orthant + (density * scale) * (scale * found.cosine**2) + density * found.sine**2
    slope = orthant + c * density * (one.s**2 + two.s**2 + fade * fade)
    gap = _gelu_gap(pairs, found, one, two, orthant) - (e1 - e2) ** 2 / 2
    near = found.near & (pairs.correlation > 0) & ((e1 - e2) ** 2 < e1 * e2)
    return completed(value, slope, e1, e2, near, gap)


def _gelu_gap(pairs: Pairs, found: Arc, one: Lean, two: Lean, orthant: Array) -> Array:
    """E[(act(u) - act(v))^2] / 2 at positive correlation."""
    apart, turn = pairs.r1 - pairs.r2, one.half - two.half
    spread = apart * apart / 2 + pairs.r1 * pairs.r2 * pairs.minus
    angles = ((pairs.r1**2 + pairs.r2**2) * found.short + apart * (pairs.r1 + pairs.r2) * turn) / 2
    square = found.h * found.h
    roots = found.z * (one.k + one.s) * (two.k + two.s)  # w w' in units of z^2
    inverse = (2 * square + found.excess) + (square / roots) * (square + found.excess)
    inverse = inverse / (found.c * found.cosine + roots) * (found.z / found.cosine)
    fall = (1 - one.s**2 - two.s**2) * found.excess / (found.z * (found.c + found.cosine))
    tilt = (two.s - one.s) * (two.s + one.s) * (found.h / found.z)
    return spread * orthant + (angles + inverse - fall + tilt) / (2 * math.pi)


class Damped(NamedTuple):
    """exp(-q / 2) and exp(-q) of a point."""

    root: Array
    whole: Array


def _damped(r: Any) -> Damped:
    root = namespace(r).exp(-r * r / 2)
    return Damped(root, root * root)


class WavePair(NamedTuple):
    """What sin and cos know of a pair.

    Attributes:
        odd: E[sin u sin v].
        even: E[cos u cos v].
        spread: Half the variance of u - v, or of u + v where they point in opposite directions.
        far: exp of minus half the variance of the other one.
    """

    odd: Array
    even: Array
    spread: Array
    far: Array


def _waves(pairs: Pairs, one: Damped, two: Damped) -> WavePair:
    """From the characteristic functions of u - v and u + v."""
    c, scale = pairs.covariance, pairs.r1 * pairs.r2
    size = scale * pairs.size
    spread = (pairs.r1 - pairs.r2) ** 2 / 2 + scale * pairs.less
    peak, fade = jnp.exp(-spread), jnp.exp(-2 * size)
    # Around c = 0, where neither of them is differentiable.
    small, damp = size < 0.5, one.root * two.root
    inner = jnp.where(small, c, 0)
    odd = jnp.where(small, damp * jnp.sinh(inner), jnp.sign(c) * peak * (1 - fade) / 2)
    even = jnp.where(small, damp * jnp.cosh(inner), peak * (1 + fade) / 2)
    return WavePair(odd, even, spread, peak * fade)


def _sin(pairs: Pairs, e1: Array, e2: Array, one: Damped, two: Damped) -> PairMoments:
    odd, even, spread, far = _waves(pairs, one, two)
    gap = -jnp.expm1(-spread) * (1 + far) / 2 - (one.whole - two.whole) ** 2 / 4
    near = 4 * spread < e1 * e2
    return completed(odd, even, e1, e2, near, gap - (e1 - e2) ** 2 / 2)


def _cos(pairs: Pairs, e1: Array, e2: Array, one: Damped, two: Damped) -> PairMoments:
    odd, even, spread, far = _waves(pairs, one, two)
    gap = -jnp.expm1(-spread) * (1 - far) / 2 + (one.whole - two.whole) ** 2 / 4
    near = 4 * spread < e1 * e2
    return completed(even, odd, e1, e2, near, gap - (e1 - e2) ** 2 / 2)


def _gaussian(pairs: Pairs, e1: Array, e2: Array, one: tuple, two: tuple) -> PairMoments:
    """E exp(-(u^2 + v^2)/2) = det(I + S)^(-1/2); the slope by Price's theorem."""
    square = 1 + pairs.r1**2 + pairs.r2**2 + pairs.determinant
    width = jnp.sqrt(square)
    excess = (one[0] - two[0]) ** 2 / 2 + pairs.determinant
    product = e1 * e2
    gap = product * product * excess / (width * (1 + product * width))
    slope = pairs.covariance / (square * width)
    return PairMoments(1 / width, slope, gap, product + 1 / width)


def _erf_square(q: Any) -> Any:
    xp = namespace(q)
    return (2 / math.pi) * xp.arctan2(2 * q, xp.sqrt(1 + 4 * q))


def _gelu_square(q: Any) -> Any:
    xp = namespace(q)
    width = xp.sqrt(1 + 2 * q)
    return q * (xp.arctan2(width, -q) / (2 * math.pi)) + q * q / (math.pi * width * (1 + q))


CLOSED_FORMS: dict[str, ClosedForm] = {
    "erf": ClosedForm(_erf_square, lambda r: lean(math.sqrt(2) * r), _erf),
    "gelu": ClosedForm(_gelu_square, lean, _gelu),
    "sin": ClosedForm(lambda q: -namespace(q).expm1(-2 * q) / 2, _damped, _sin),
    "cos": ClosedForm(lambda q: (1 + namespace(q).exp(-2 * q)) / 2, _damped, _cos),
    "gaussian": ClosedForm(
        lambda q: 1 / namespace(q).sqrt(1 + 2 * q),
        lambda r: (namespace(r).sqrt(1 + 2 * r * r),),
        _gaussian,
    ),
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
