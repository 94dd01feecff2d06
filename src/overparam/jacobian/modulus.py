"""How much the Jacobian of a multilayer perceptron can change on a ball around theta_0.

``jacobian_modulus`` bounds omega(r) >= sup |J(theta) - J(theta_0)| over |theta - theta_0| <= r in
the operator norm from parameters to L2(mu; R^k), and ``MLPBounds.lipschitz`` bounds the second
derivative on the ball. Both start from norms measured at theta_0 and add what a perturbation can
change, layer by layer; the proofs stand in docs/modulus.md with the same symbols.

A perturbation of norm r splits over the layers as r_1^2 + ... + r_D^2 = r^2. Every bound below is
evaluated at rows of shares (r_1, ..., r_D) that dominate all splits in a cell (``splits``).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.jacobian.changes import Changes, changes_within, l2, turned_rate
from overparam.jacobian.collective import Collective
from overparam.jacobian.layer_norms import LayerNorms, measure_layer_norms
from overparam.jacobian.splits import largest_over_splits
from overparam.model.mlp import Params
from overparam.precision import on_host
from overparam.problem.problem import Problem, plain_network

Array = np.ndarray


@on_host
def jacobian_modulus(problem: Problem, params: Params, radius: float) -> float:
    """Upper bound omega(radius) on |J(theta) - J(theta_0)| for |theta - theta_0| <= radius.

    Args:
        problem: Gives the network and the measure; the loss does not matter.
        params: theta_0.
        radius: r >= 0, in the Euclidean norm of the parameters.

    Returns:
        The bound, in the operator norm from parameters to L2(mu; R^k). ``computed`` in float64.

    Raises:
        InputError: The radius is negative or not finite.

    References:
        docs/modulus.md, Theorem 2.
    """
    if not math.isfinite(radius) or radius < 0:
        raise InputError(f"radius must be finite and 0 or more, not {radius!r}")
    plain_network(problem, "Theorem 2 (for others see jacobian_bounds)").validate(params)
    return MLPBounds(measure_layer_norms(problem, params)).modulus(radius)


@dataclass(frozen=True)
class MLPBounds:
    """The modulus omega and the Lipschitz constant L of the Jacobian, by radius."""

    base: LayerNorms
    kind: ClassVar[Literal["computed", "proved"]] = "computed"
    source: ClassVar[str] = "docs/modulus.md, Theorems 2 and 3"

    def modulus(self, radius: float) -> float:
        """omega(radius), see :func:`jacobian_modulus`."""
        return self.on_ball(radius)[0]

    def lipschitz(self, radius: float) -> float:
        """L(radius) >= |D^2 F| on the ball; infinite if act'' has no bound."""
        return self.on_ball(radius)[1]

    def on_ball(self, radius: float) -> tuple[float, float]:
        """(omega(radius), L(radius)), the largest over all splits of the radius over the layers."""

        def both(shares: Float[np.ndarray, "rows layers"]) -> Float[np.ndarray, "rows values"]:
            reach = radius * shares
            change = changes_within(self.base, reach)
            omega = _jacobian_change(self.base, change, reach)
            return np.stack([omega, _second_derivative(self.base, change, reach)], axis=1)

        layers, points = len(self.base.weight_norms), len(self.base.weights)
        omega, lipschitz = largest_over_splits(both, layers, points)
        return float(omega), float(lipschitz)


def base_of(bounds: object) -> LayerNorms | None:
    """The norms at theta_0 that bounds start from, if they are those of Theorem 2."""
    return bounds.base if isinstance(bounds, MLPBounds) else None


def _jacobian_change(
    base: LayerNorms, change: Changes, shares: Float[np.ndarray, "corners layers"]
) -> Float[np.ndarray, "corners"]:
    """omega at each split: the root of the sum over layers of squared |J_l - J_{0,l}|."""
    total = np.zeros(len(shares))
    for layer, dg in enumerate(change.backward):
        g = change.reach[layer]
        moved = g * base.weight_factors[layer] * change.input[layer]
        turned = dg * base.input_norms[layer]
        together = l2(base, turned + moved)
        collective = base.weight_factors[layer] * change.collective_input[layer]
        turned_alone = np.minimum(
            l2(base, turned), dg.max(axis=1) * base.collective_input_norms[layer]
        )
        moved_alone = np.minimum(l2(base, moved), g.max(axis=1) * collective)
        if base.composed is not None and base.composed.curved:
            turned_alone = np.minimum(turned_alone, _turned_by_pairs(base, change, shares, layer))
            moved_alone = np.minimum(moved_alone, _moved_by_pairs(base, change, shares, layer))
        total += np.minimum(together, turned_alone + moved_alone) ** 2
    return np.sqrt(total)


def _turned_by_pairs(base: LayerNorms, change: Changes, shares: Array, layer: int) -> Array:
    """Bound on V -> dG^l V a_0^{l-1} as a sum over the layers that turn it."""
    composed, total = base.composed, np.zeros(len(shares))
    assert composed is not None
    if layer == len(change.energies):
        return total
    for q in range(layer, len(change.energies)):
        rate = turned_rate(base, change, q, layer)
        total += shares[:, q + 1] * _family(composed.mixed[q + 1, layer], rate)
    for other, norm in enumerate(change.secant_energies):
        rate = (base.curvature_bound or 0.0) * change.energies[layer] * norm
        pair = (min(layer, other), max(layer, other))
        total += shares[:, other] * _family(composed.curved[pair], rate)
        again = shares[:, other, None] * base.weight_factors[other] * change.input[other]
        total += l2(base, rate * again * base.input_norms[layer])
    return total


def _moved_by_pairs(base: LayerNorms, change: Changes, shares: Array, layer: int) -> Array:
    """Bound on V -> G^l V da^{l-1} as a sum over the layers that move h^{l-1}."""
    composed, total = base.composed, np.zeros(len(shares))
    assert composed is not None
    for low in range(layer):
        passed = change.secant_slopes[layer - 1] * change.secant_transports[layer - 1][low]
        rate = base.weight_factors[layer] * change.reach[layer] * passed
        total += shares[:, low] * _family(composed.mixed[layer, low], rate)
        again = shares[:, low, None] * base.weight_factors[low] * change.input[low]
        total += l2(base, rate * again)
    return total


def _family(family: Collective, rate: Array) -> Array:
    """Norm in L2(mu), at each split, of a family whose operators are bounded by ``rate``."""
    return np.max(np.atleast_2d(rate / family.profile), axis=1) * family.norm


def _second_derivative(
    base: LayerNorms, change: Changes, shares: Float[np.ndarray, "corners layers"]
) -> Float[np.ndarray, "corners"]:
    """L at each split: docs/modulus.md, Theorem 3."""
    if base.curvature_bound is None and len(change.upstream):
        return np.full(len(shares), np.inf)
    mixed, curved = np.zeros(len(shares)), np.zeros(len(shares))
    bent: Array = np.zeros_like(change.input[0])  # sum over layers of |dU^l| T_l^2
    tangent: Array = np.zeros_like(change.input[0])  # T_{l-1}, pointwise
    collective: Array = np.zeros(len(shares))  # calT_{l-1}, in L2(mu)
    entering: list[Array] = []
    again: list[Array] = []
    for layer, g in enumerate(change.reach):
        c = base.weight_factors[layer]
        slope = change.slopes[layer - 1] if layer else np.zeros_like(g)
        pointwise = l2(base, g * slope * tangent)
        mixed += (c * np.minimum(pointwise, (g * slope).max(axis=1) * collective)) ** 2
        if layer == len(change.upstream):
            break
        gain = base.weight_norms[layer] + c * shares[:, layer]
        entering.append(base.input_norms[layer] + c * change.input[layer])
        again.append(c * shares[:, layer, None] * slope * tangent)
        shared = base.collective_input_norms[layer] + c * change.collective_input[layer]
        single = np.hypot(entering[-1], gain[:, None] * slope * tangent)
        tangent = np.minimum(single, _reached(change.transports[layer], entering, again))
        collective = np.minimum(
            np.hypot(shared, gain * slope.max(axis=1) * collective), l2(base, tangent)
        )
        columns = base.upstream_columns[layer] + change.upstream[layer]
        bent = bent + change.upstream[layer] * tangent**2
        curved += np.minimum(
            (columns * tangent).max(axis=1) * collective, l2(base, columns * tangent**2)
        )
    if change.energies:
        energy = _reached(change.energies, entering, again)
        curved = np.minimum(curved, l2(base, energy**2 + bent))
    both = min(2.0, math.sqrt(max(len(change.backward) - 1, 0)))
    return both * np.sqrt(mixed) + (base.curvature_bound or 0.0) * curved


def _reached(norms: list[Array], entering: list[Array], again: list[Array]) -> Array:
    """What unit tangents of all layers reach through transports of the given norms."""
    squares = sum((p * a) ** 2 for p, a in zip(norms, entering, strict=True))
    return np.sqrt(squares) + sum(p * a for p, a in zip(norms, again, strict=True))
