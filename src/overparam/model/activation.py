r"""Activation functions, with the constants that the theorems need from them.

A network's tangent kernel moves slowly when its activation is tame: every bound on the change of
the Jacobian is built from

    beta_1 >= sup |act'|        (``slope_bound``)
    beta_2 >= sup |act''|       (``curvature_bound``; the Lipschitz constant of act')

and, if a loss sees derivatives of the network in its input, on

    beta_3 >= sup |act'''|      (``third_bound``; the Lipschitz constant of act'')
    beta_4 >= sup |act''''|     (``fourth_bound``; the Lipschitz constant of act''')

They are properties of a function on the whole real line, so sampling cannot establish them.  For
the activations below they are proved in ``docs/activations.md`` and written here as the smallest
float64 that is not below the supremum.  An activation whose slope is not Lipschitz (``relu``,
``leaky_relu``) has ``curvature_bound=None``.  Anybody else's activation is a function with two
*claimed* constants; it is marked "assumed", and :meth:`Activation.check` tries to refute the claim.

Constants speak of real numbers.  What a computed value or slope deviates from the real one by
rounding is not part of them; the tests measure it (a few units in the last place).
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, erfc
from jaxtyping import Array, ArrayLike, Float

from overparam.errors import InputError
from overparam.limits import require_choice, require_positive
from overparam.model.activation_check import find_violation

Elementwise = Callable[[Any], Array]

ACTIVATIONS: dict[str, "Activation"] = {}
"""The activations whose constants are proved in ``docs/activations.md``, by name."""


BOUNDS = ("slope_bound", "curvature_bound", "third_bound", "fourth_bound")
"""The fields that bound the first, second, third and fourth derivative."""


@dataclasses.dataclass(frozen=True)
class Activation:
    """An elementwise function with bounds on its first derivatives.

    Immutable and hashable, so it can be a static argument of a jitted function.

    Attributes:
        name: What it is called in files and messages; built-in names are reserved.
        fn: The function, elementwise, written with ``jax.numpy``, keeping shape and dtype.
        slope_bound: beta_1, at least the supremum of ``|act'|`` over the real line.
        curvature_bound: beta_2, at least the Lipschitz constant of ``act'``;
            None where ``act'`` is not Lipschitz or nothing is known.
        derivative: ``act'``, elementwise; None takes it from JAX by forward differentiation.
        third_bound: beta_3, at least the Lipschitz constant of ``act''``; None if not known.
        fourth_bound: beta_4, at least the Lipschitz constant of ``act'''``; None if not known.
        slope_floor: At most the infimum of ``act'``; None stands for ``-slope_bound``.

    Raises:
        InputError: If a bound is negative or not finite, the function cannot be hashed,
            or the name belongs to a different, built-in activation.
    """

    name: str
    fn: Elementwise
    slope_bound: float
    curvature_bound: float | None = None
    derivative: Elementwise | None = None
    third_bound: float | None = None
    fourth_bound: float | None = None
    slope_floor: float | None = None

    def __post_init__(self) -> None:
        for field in BOUNDS:
            bound = getattr(self, field)
            if bound is not None and not (math.isfinite(bound) and bound >= 0):
                raise InputError(
                    f"{field} of activation {self.name!r} is {bound}: give a finite number >= 0"
                )
        try:
            hash(self)
        except TypeError as error:
            raise InputError(
                f"activation {self.name!r} is not hashable ({error}): give plain functions"
            ) from None
        floor = self.lowest_slope
        if not -self.slope_bound <= floor <= self.slope_bound:
            raise InputError(
                f"slope_floor of activation {self.name!r} is {floor}: "
                "give a number between -slope_bound and slope_bound, or None"
            )
        if ACTIVATIONS.get(self.name, self) != self:
            raise InputError(
                f"the name {self.name!r} belongs to a built-in activation: choose another name"
            )

    @property
    def lowest_slope(self) -> float:
        """A lower bound on ``act'``: ``slope_floor`` or, without one, ``-slope_bound``."""
        return -self.slope_bound if self.slope_floor is None else self.slope_floor

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a built-in activation by its name, any other by its parts."""
        if self.bounds_kind == "proved":
            return get_activation, (self.name,)
        return Activation, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    @property
    def bounds_kind(self) -> Literal["proved", "assumed"]:
        """Whether the bounds are "proved" (built-in activations) or "assumed" (any other)."""
        return "proved" if ACTIVATIONS.get(self.name) == self else "assumed"

    def __call__(self, z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Evaluate the function elementwise."""
        return self.fn(jnp.asarray(z))

    def slope(self, z: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Evaluate ``act'`` elementwise; where there is a kink, one of the one-sided slopes."""
        z = jnp.asarray(z)
        if self.derivative is not None:
            return self.derivative(z)
        return jax.jvp(self.fn, (z,), (jnp.ones_like(z),))[1]

    @partial(jax.jit, static_argnums=0)
    def value_and_slope(
        self, z: Float[ArrayLike, "*shape"]
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Evaluate ``(act(z), act'(z))`` in one compiled function."""
        return self(z), self.slope(z)

    def check(self, radius: float = 50.0) -> None:
        """Try to refute the declared bounds; passing is evidence, not a proof.

        Searches ``[-radius, radius]`` in float64: a dense grid (finer near 0), then closer and
        closer around the worst points.  Difference quotients are searched as well as
        derivatives, so that a kink which differentiation does not see is found.

        Args:
            radius: Half the length of the interval searched.

        Raises:
            InputError: Naming a point at which a declaration fails: a bound is exceeded, the
                derivative is not the function's, a value is not finite, the function is
                not elementwise or does not keep the dtype.  Also if the radius is not positive.
        """
        require_positive("radius", radius)
        with jax.enable_x64(True):
            bounds = {field: getattr(self, field) for field in BOUNDS}
            complaint = find_violation(self, self.slope, bounds, self.lowest_slope, radius)
        if complaint is not None:
            raise InputError(f"activation {self.name!r}: {complaint}")


def get_activation(activation: object) -> Activation:
    """Return a built-in activation by name, or the activation given.

    Args:
        activation: A name in :data:`ACTIVATIONS`, or an :class:`Activation`.

    Returns:
        The activation.

    Raises:
        InputError: If the name is unknown or the argument is something else.
    """
    if isinstance(activation, Activation):
        return activation
    if not isinstance(activation, str):
        raise InputError(
            f"activation is a {type(activation).__name__}: give a name or "
            "Activation(name, fn, slope_bound=..., curvature_bound=...)"
        )
    require_choice("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation]


# --- Built-in functions and slopes ----------------------------------------------------------------


def _one_minus_square(t: Array) -> Array:
    return (1 - t) * (1 + t)  # keeps relative accuracy of 1 - t near |t| = 1


def _tanh_slope(s: Array) -> Array:
    return _one_minus_square(jnp.tanh(s))


def _erf_slope(s: Array) -> Array:
    return (2 / math.sqrt(math.pi)) * jnp.exp(-s * s)


def _normal_cdf(s: Array) -> Array:
    return 0.5 * erfc(s * -math.sqrt(0.5))  # erfc, not erf: accurate in the lower tail


def _gelu(s: Array) -> Array:
    return s * _normal_cdf(s)


def _gelu_slope(s: Array) -> Array:
    return _normal_cdf(s) + s * (math.sqrt(0.5 / math.pi) * jnp.exp(-0.5 * s * s))


def _softplus(s: Array) -> Array:
    return jnp.logaddexp(s, 0.0)


def _silu(s: Array) -> Array:
    return s * jax.nn.sigmoid(s)


def _silu_slope(s: Array) -> Array:
    # sigmoid(-s), not 1 - sigmoid(s), which the factor s would turn into noise for large s.
    return jax.nn.sigmoid(s) * (1 + s * jax.nn.sigmoid(-s))


def _relu(s: Array) -> Array:
    return jnp.where(s > 0, s, 0)


def _leaky_relu(s: Array) -> Array:
    return jnp.where(s >= 0, s, 0.01 * s)


def _identity(s: Array) -> Array:
    return s


def _cos_slope(s: Array) -> Array:
    return -jnp.sin(s)


def _gaussian(s: Array) -> Array:
    return jnp.exp(-0.5 * s * s)


def _gaussian_slope(s: Array) -> Array:
    return -s * jnp.exp(-0.5 * s * s)


_KAPPA, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh_argument(s: Array) -> tuple[Array, Array]:
    """2u(s) and s u'(s) for u = kappa (s + a s^3); sigmoid(2u) is 0 or 1 beyond |s| = 30."""
    t = jnp.clip(s, -30, 30)  # and the cube would overflow in half precision
    square = t * t
    return 2 * _KAPPA * t * (1 + _CUBIC * square), _KAPPA * t * (1 + 3 * _CUBIC * square)


def _gelu_tanh(s: Array) -> Array:
    # (1 + tanh u) / 2 is sigmoid(2u), which is accurate in the lower tail.
    return s * jax.nn.sigmoid(_gelu_tanh_argument(s)[0])


def _gelu_tanh_slope(s: Array) -> Array:
    twice, rise = _gelu_tanh_argument(s)
    return jax.nn.sigmoid(twice) * (1 + 2 * rise * jax.nn.sigmoid(-twice))


def _sigmoid_slope(s: Array) -> Array:
    return jax.nn.sigmoid(s) * jax.nn.sigmoid(-s)


@dataclasses.dataclass(frozen=True)
class _AbsLinear:
    """The function a |s| + b s; a value, so that it hashes and pickles.

    JAX's derivative at the kink is the right-hand slope.
    """

    a: float
    b: float

    def __call__(self, s: Array) -> Array:
        return jnp.where(s >= 0, (self.b + self.a) * s, (self.b - self.a) * s)


_HIGHER_BOUNDS = {
    "tanh": (2.0, 4.085885502969656),
    "erf": (2.2567583341910256, 4.404702716006556),
    "gelu": (0.7787696350557324, 1.5957691216057308),
    "softplus": (0.09622504486493763, 0.125),
    "sin": (1.0, 1.0),
    "silu": (0.3081815157964791, 0.5),
    "identity": (0.0, 0.0),
    "cos": (1.0, 1.0),
    "gaussian": (1.3801190461607493, 3.0),
    "sigmoid": (0.125, 0.12768392196780175),
}

_RISING = ("tanh", "erf", "softplus", "sigmoid", "relu", "leaky_relu")
_HALF_LINEAR = ("gelu", "silu", "gelu_tanh")  # s / 2 plus an even function

for _activation in (
    Activation("tanh", jnp.tanh, 1.0, 0.769800358919501, _tanh_slope),
    Activation("erf", erf, 1.1283791670955128, 0.9678828980765735, _erf_slope),
    Activation("gelu", _gelu, 1.128904145185155, 0.7978845608028654, _gelu_slope),
    Activation("softplus", _softplus, 1.0, 0.25, jax.nn.sigmoid),
    Activation("sin", jnp.sin, 1.0, 1.0, jnp.cos),
    Activation("silu", _silu, 1.099839320128867, 0.5, _silu_slope),
    Activation("relu", _relu, 1.0),
    Activation("leaky_relu", _leaky_relu, 1.0),
    Activation("identity", _identity, 1.0, 0.0, jnp.ones_like),
    Activation("cos", jnp.cos, 1.0, 1.0, _cos_slope),
    Activation("gaussian", _gaussian, 0.6065306597126334, 1.0, _gaussian_slope),
    Activation("gelu_tanh", _gelu_tanh, 1.128993068658772, 0.7978845608028654, _gelu_tanh_slope),
    Activation("sigmoid", jax.nn.sigmoid, 0.25, 0.09622504486493763, _sigmoid_slope),
):
    third, fourth = _HIGHER_BOUNDS.get(_activation.name, (None, None))
    _activation = dataclasses.replace(_activation, third_bound=third, fourth_bound=fourth)
    if _activation.name in _RISING:
        _activation = dataclasses.replace(_activation, slope_floor=0.0)
    elif _activation.name in _HALF_LINEAR:
        _activation = dataclasses.replace(_activation, slope_floor=1 - _activation.slope_bound)
    elif _activation.name == "identity":
        _activation = dataclasses.replace(_activation, slope_floor=1.0)
    ACTIVATIONS[_activation.name] = _activation


def abs_linear(a: float, b: float) -> Activation:
    """The activation a |s| + b s: slope b + a on the right of zero, b - a on the left.

    Its constants are exact up to one rounding, made upwards, but its name is not built in, so
    certificates call them assumed. The infinite-width kernel knows its closed form.

    Args:
        a: Coefficient of the even part.
        b: Coefficient of the odd part.

    Returns:
        The activation, named after its coefficients.

    Raises:
        InputError: A coefficient, or the larger slope, is not a finite number.
    """
    a, b = float(a), float(b)
    steepest = abs(a) + abs(b)
    if not math.isfinite(steepest):
        raise InputError(f"abs_linear({a}, {b}) has no finite slopes: give finite coefficients")
    return Activation(
        f"abs_linear({a!r}, {b!r})",
        _AbsLinear(a, b),
        math.nextafter(steepest, math.inf),
        0.0 if a == 0 else None,
    )


def linear_pieces(activation: Activation) -> tuple[float, float] | None:
    """(a, b) if the activation is known to be a |s| + b s, else None."""
    if isinstance(activation.fn, _AbsLinear):
        return activation.fn.a, activation.fn.b
    known = {"relu": (0.5, 0.5), "leaky_relu": (0.495, 0.505), "identity": (0.0, 1.0)}
    return known.get(activation.name) if activation.bounds_kind == "proved" else None
