"""How much the Jacobian of a multilayer perceptron can change on a ball around theta_0.

``jacobian_modulus`` bounds omega(r) >= sup |J(theta) - J(theta_0)| over |theta - theta_0| <= r in
the operator norm from parameters to L2(mu; R^k), and ``MLPBounds.lipschitz`` bounds the second
derivative on the ball. Both start from norms measured at theta_0 and add what a perturbation can
change, layer by layer; the proofs stand in docs/modulus.md with the same symbols.

A perturbation of norm r splits over the layers as r_1^2 + ... + r_D^2 = r^2. Every bound below is
nondecreasing in each r_l, so its supremum over all splits is at most the largest of its values at
the upper corners of finitely many boxes that cover the sphere (:func:`share_corners`).
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.model.mlp import Params
from overparam.problem.problem import Problem, plain_network
from overparam.theory.base_point import BasePoint, measure_base_point

Array = np.ndarray


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
    return MLPBounds(measure_base_point(problem, params)).modulus(radius)


@dataclass(frozen=True)
class MLPBounds:
    """The modulus omega and the Lipschitz constant L of the Jacobian, by radius."""

    base: BasePoint
    kind: ClassVar[Literal["computed", "proved"]] = "computed"
    source: ClassVar[str] = "docs/modulus.md, Theorems 2 and 3"

    def modulus(self, radius: float) -> float:
        """omega(radius), see :func:`jacobian_modulus`."""
        return self.on_ball(radius)[0]

    def lipschitz(self, radius: float) -> float:
        """L(radius) >= |D^2 F| on the ball; infinite if act'' has no bound."""
        return self.on_ball(radius)[1]

    def on_ball(self, radius: float) -> tuple[float, float]:
        """(omega(radius), L(radius)) from one pass through the layers."""
        shares = radius * share_corners(len(self.base.weight_norms))
        change = _changes(self.base, shares)
        return (
            float(np.max(_jacobian_change(self.base, change))),
            float(np.max(_second_derivative(self.base, change, shares))),
        )


@lru_cache
def share_corners(layers: int, at_most: int = 128) -> Float[np.ndarray, "corners layers"]:
    """Points p >= 0 such that every split of the unit sphere lies below one of them.

    The squared shares p_l^2 sum to 1. On the grid of step 1/N they lie below one of the corners
    ((k_1 + 1)/N, ..., (k_D + 1)/N) with k_1 + ... + k_D = N - 1.

    Args:
        layers: D.
        at_most: Bound on the number of corners, which sets N.

    Returns:
        Shape (corners, D), rows of norm sqrt((N - 1 + D) / N).
    """
    cells = 1
    while math.comb(cells + layers - 1, layers - 1) <= at_most and cells < 64:
        cells += 1
    bars = itertools.combinations(range(cells + layers - 2), layers - 1)
    edges = np.array([(-1, *bar, cells + layers - 2) for bar in bars])
    return np.sqrt(np.diff(edges, axis=1) / cells)


@dataclass(frozen=True)
class _Changes:
    """Bounds on what a perturbation changes; arrays (corners, n) and (corners,), by layer."""

    preactivation: list[Array]  # |dz^l(x)|, l = 1..D
    input: list[Array]  # |dh^{l-1}(x)|, l = 1..D
    collective_input: list[Array]  # |dh^{l-1}|_{L2(mu)}, l = 1..D
    upstream: list[Array]  # |dU^l(x)|, l = 1..D-1
    backward: list[Array]  # |dG^l(x)|, l = 1..D, the last one zero


def _changes(base: BasePoint, shares: Float[np.ndarray, "corners layers"]) -> _Changes:
    """The recursions of docs/modulus.md, Lemmas 2 and 3."""
    layers = shares.shape[1]
    corners, n = len(shares), len(base.weights)
    preactivation: list[Array] = []
    dh, collective = np.zeros((corners, n)), np.zeros(corners)
    inputs, collective_inputs = [], []
    for layer in range(layers):
        r = shares[:, layer]
        inputs.append(dh)
        collective_inputs.append(collective)
        gain = base.weight_norms[layer] + base.weight_factors[layer] * r
        dz = gain[:, None] * dh + np.outer(r, base.input_norms[layer])
        collective = gain * collective + r * base.collective_input_norms[layer]
        preactivation.append(dz)
        dh = base.slope_bound * dz
        collective = base.slope_bound * np.minimum(collective, np.sqrt(dz**2 @ base.weights))
    upstream: list[Array] = []
    backward: list[Array] = [np.zeros((corners, n))]
    above = np.full(n, base.output_scale)
    for layer in range(layers - 2, -1, -1):
        step = base.weight_factors[layer + 1] * shares[:, layer + 1]
        gain = base.weight_norms[layer + 1] + step
        du = np.outer(step, above) + gain[:, None] * backward[0]
        upstream.insert(0, du)
        turn = _slope_change(base, layer, preactivation[layer])
        backward.insert(0, base.slope_bound * du + turn)
        above = base.backward_norms[layer]
    return _Changes(preactivation, inputs, collective_inputs, upstream, backward)


def _slope_change(base: BasePoint, layer: int, dz: Array) -> Array:
    """Bound on |U_0^l diag(act'(z) - act'(z_0))|, shape (corners, n)."""
    largest = np.broadcast_to(2 * base.slope_bound * base.upstream_norms[layer], dz.shape)
    if base.curvature_bound is None:
        return largest
    return np.minimum(base.curvature_bound * base.upstream_columns[layer] * dz, largest)


def _jacobian_change(base: BasePoint, change: _Changes) -> Float[np.ndarray, "corners"]:
    """omega at each corner: the root of the sum over layers of squared |J_l - J_{0,l}|."""
    total = np.zeros(len(change.input[0]))
    for layer, dg in enumerate(change.backward):
        g = _backward_norm(base, layer) + dg
        moved = g * base.weight_factors[layer] * change.input[layer]
        turned = dg * base.input_norms[layer]
        together = _l2(base, turned + moved)
        collective = base.weight_factors[layer] * change.collective_input[layer]
        apart = np.minimum(
            _l2(base, turned), dg.max(axis=1) * base.collective_input_norms[layer]
        ) + np.minimum(_l2(base, moved), g.max(axis=1) * collective)
        total += np.minimum(together, apart) ** 2
    return np.sqrt(total)


def _second_derivative(
    base: BasePoint, change: _Changes, shares: Float[np.ndarray, "corners layers"]
) -> Float[np.ndarray, "corners"]:
    """L at each corner: docs/modulus.md, Theorem 3."""
    if base.curvature_bound is None and len(change.upstream):
        return np.full(len(shares), np.inf)
    mixed, curved = np.zeros(len(shares)), np.zeros(len(shares))
    tangent: Array = np.zeros_like(change.input[0])  # T_{l-1}, pointwise
    collective: Array = np.zeros(len(shares))  # calT_{l-1}, in L2(mu)
    for layer, dg in enumerate(change.backward):
        c = base.weight_factors[layer]
        g = _backward_norm(base, layer) + dg
        pointwise = _l2(base, g * tangent)
        mixed += (c * base.slope_bound * np.minimum(pointwise, g.max(axis=1) * collective)) ** 2
        gain = base.slope_bound * (base.weight_norms[layer] + c * shares[:, layer])
        kappa = base.input_norms[layer] + c * change.input[layer]
        shared = base.collective_input_norms[layer] + c * change.collective_input[layer]
        tangent = np.hypot(kappa, gain[:, None] * tangent)
        collective = np.minimum(np.hypot(shared, gain * collective), _l2(base, tangent))
        if layer < len(change.upstream):
            columns = base.upstream_columns[layer] + change.upstream[layer]
            curved += np.minimum(
                (columns * tangent).max(axis=1) * collective, _l2(base, columns * tangent**2)
            )
    return 2 * np.sqrt(mixed) + (base.curvature_bound or 0.0) * curved


def _backward_norm(base: BasePoint, layer: int) -> Array:
    """|G_0^l(x)|, shape (1, n); |G^D| = c."""
    if layer == len(base.backward_norms):
        return np.full((1, len(base.weights)), base.output_scale)
    return base.backward_norms[layer][None, :]


def _l2(base: BasePoint, values: Float[np.ndarray, "corners n"]) -> Float[np.ndarray, "corners"]:
    """Norms in L2(mu) of rows of pointwise norms."""
    return np.sqrt(values**2 @ base.weights)
