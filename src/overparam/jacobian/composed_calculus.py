"""omega, L and N of a network composed of layers: a calculus of layers' partial derivatives.

What is measured at theta, point by point, comes from elsewhere: what enters every layer, and the
derivative G of the output in what leaves it. Each layer bounds its own partial derivatives on a
ball around that; the chain rule, forward for what the parameters move and backward for what that
moves at the output, does the rest. Statement and proof with these symbols: docs/composed.md,
Theorem D1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.model.composed_layers import Layer, Normalise, Pointwise, Residual
from overparam.numbers import sqrt
from overparam.numbers.sums import summed

LESS = 1e-12
"""A difference is taken this much, relatively, on its safe side."""

SECOND, THIRD = 2 / math.sqrt(3), 3.0
"""|D^3 |z|| |z|^2 and |D^4 |z|| |z|^3 of the Euclidean norm: Lemma D3."""

Numbers = Float[np.ndarray, "radii _"]
"""One for each radius and point; or one for all radii, or all points."""


class Partials(NamedTuple):
    """Bounds on the partial derivatives of a layer (theta_l, h) -> h' on a ball.

    Attributes:
        own: |d/d theta_l|.
        along: |d/dh|.
        mixed: |d^2 / d theta_l dh|.
        second: |d^2 / dh^2|.
        third: |d^3 / dh^3|.
    """

    own: Any
    along: Any
    mixed: Any = 0.0
    second: Any = 0.0
    third: Any = 0.0

    def thrice(self, before: "Derivatives") -> Any:
        """What this layer's own second and third derivatives make of D^3."""
        first, second, _ = before
        along_h = 3 * self.second * first * second + self.third * first**3
        return SECOND * self.mixed * second + along_h


class Derivatives(NamedTuple):
    """Bounds on |D h|, |D^2 h|, |D^3 h| in all parameters, on a ball."""

    first: Any
    second: Any
    third: Any

    def through(self, layer: Partials) -> "Derivatives":
        """The same behind a layer."""
        first, second, third = self
        return Derivatives(
            np.hypot(layer.own, layer.along * first),
            layer.mixed * first + layer.second * first**2 + layer.along * second,
            layer.thrice(self) + layer.along * third,
        )

    def plus(self, other: "Derivatives") -> "Derivatives":
        """Those of a sum."""
        return Derivatives(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, eq=False)
class MeasuredLayer:
    """What is known of a layer at theta.

    Attributes:
        layer: The layer.
        weight: |G| as the layer's second derivatives meet it: of the whole output, of an entry, of
            a position or of a channel.
        own: |d/d theta_l|.
        size: |d/dh| of an affine layer.
        spread: What |d/dh| may grow for each unit that the parameters move; also |d^2/d theta_l dh|
            and what ``own`` may grow for each unit that h moves.
        least: The least |y| of a normalisation.
        width: Its m.
        moves: Whether any of its parameters does.
    """

    layer: Layer
    weight: Float[np.ndarray, " n"]
    own: Float[np.ndarray, " n"] | float = 0.0
    size: float = 1.0
    spread: float = 0.0
    least: Float[np.ndarray, " n"] | float = 0.0
    width: int = 1
    moves: bool = True

    def on_ball(self, radius: Numbers, mu: Numbers) -> Partials:
        """Its partial derivatives where parameters have moved by no more than r, and h by mu."""
        if isinstance(self.layer, Pointwise):
            act = self.layer.activation
            betas = (act.slope_bound, act.curvature_bound, act.third_bound)
            beta_1, beta_2, beta_3 = (math.inf if beta is None else beta for beta in betas)
            return Partials(0.0, beta_1, 0.0, beta_2, beta_3)
        if isinstance(self.layer, Normalise):
            # Lowered by more than the difference may be rounded.
            left = np.maximum(self.least * (1 - LESS) - mu * (1 + LESS), 0.0)
            size = np.sqrt(left**2 + self.width * self.layer.epsilon)
            root = math.sqrt(self.width)
            return Partials(0.0, root / size, 0.0, SECOND * root / size**2, THIRD * root / size**3)
        if not self.moves:
            return Partials(0.0, self.size)
        return Partials(self.own + self.spread * mu, self.size + self.spread * radius, self.spread)


class _Seen(NamedTuple):
    """A layer on a ball, and what moves in front of it."""

    measured: MeasuredLayer
    partials: Partials
    before: Derivatives


@dataclass(frozen=True)
class ComposedBounds(JacobianBounds):
    """The modulus omega and the Lipschitz constants L of J and N of D^2 F, by radius.

    Attributes:
        parts: The layers of the network.
        measured: Each of its layers with parameters or a shape of its own, in order.
        weights: w_i.
    """

    parts: tuple[Layer, ...]
    measured: tuple[MeasuredLayer, ...]
    weights: Float[np.ndarray, " n"]
    kind: ClassVar[Literal["computed"]] = "computed"
    source: ClassVar[ModulusSource] = "docs/composed.md, Theorem D1"

    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """(r L(r), L(r)) for each radius r."""
        radii = np.asarray(radii, np.float64)
        with np.errstate(all="ignore"):
            lipschitz = np.nan_to_num(self._constants(radii)[0], nan=np.inf, posinf=np.inf)
            omega = np.where(radii > 0, radii * lipschitz, 0.0)
        return np.stack([omega, lipschitz], axis=1)

    def third(self, radius: float) -> float:
        """N, a Lipschitz constant of D^2 F on the ball."""
        with np.errstate(all="ignore"):
            found = self._constants(np.array([radius]))[1]
        return float(np.nan_to_num(found, nan=np.inf, posinf=np.inf)[0])

    def _constants(self, radii: Float[np.ndarray, " radii"]) -> tuple[Any, Any]:
        """L and N for each radius."""
        radius = radii[:, None]
        seen = self._forward(radius)
        alphas, second_in_h, thirds = list[Any](), list[Any](), list[Any]()

        def back(layers: tuple[Layer, ...], epsilon: Any, rest: Iterator[_Seen]) -> Any:
            """|G(theta') - G(theta)| in front of layers, from that behind them."""
            for layer in reversed(layers):
                if isinstance(layer, Residual):
                    epsilon = epsilon + back(layer.parts, epsilon, rest)
                    continue
                at, partials, before = next(rest)
                _, along, mixed, second, _ = partials
                alphas.append(mixed * (at.weight + epsilon) * before.first)
                second_in_h.append(second * (at.weight + epsilon) * before.first**2)
                thirds.append((at.weight + epsilon) * partials.thrice(before))
                own_change = at.weight * radius * (mixed + second * before.first)
                epsilon = along * epsilon + own_change
            return epsilon

        back(self.parts, np.zeros_like(radius), iter(reversed(seen)))
        crossed = np.minimum(2 * np.sqrt(sum(alpha**2 for alpha in alphas)), sum(alphas))
        return self._mean(crossed + sum(second_in_h)), self._mean(sum(thirds))

    def _forward(self, radius: Numbers) -> list[_Seen]:
        seen, rest = list[_Seen](), iter(self.measured)

        def run(layers: tuple[Layer, ...], here: Derivatives) -> Derivatives:
            for layer in layers:
                if isinstance(layer, Residual):
                    here = here.plus(run(layer.parts, here))
                    continue
                at = next(rest)
                partials = at.on_ball(radius, radius * here.first)
                if not np.any(here.first):  # the input stays, so that kinks do no harm
                    partials = partials._replace(second=0.0, third=0.0)
                seen.append(_Seen(at, partials, here))
                here = here.through(partials)
            return here

        nothing = np.zeros((len(radius), len(self.weights)))
        run(self.parts, Derivatives(nothing, nothing, nothing))
        return seen

    def _mean(self, pointwise: Any) -> Float[np.ndarray, " radii"]:
        """The norm in L2(mu)."""
        squares = np.asarray(pointwise) ** 2 @ self.weights
        found: np.ndarray = sqrt(summed(squares, len(self.weights))).upper
        return found
