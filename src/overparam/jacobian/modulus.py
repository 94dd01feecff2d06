"""omega and L: how much the Jacobian of a perceptron can change on a ball around theta_0.

omega(r) >= sup |J(theta) - J(theta_0)| over |theta - theta_0| <= r in the operator norm from
parameters to L2(mu; R^k), and L(r) bounds the second derivative on the ball. Both start from norms
at theta_0 and add what a perturbation can change, layer by layer; the proofs stand in
docs/modulus.md with the same symbols (Theorems 2 and 3).

A perturbation of norm r splits over the layers as r_1^2 + ... + r_D^2 = r^2, with r_l = 0 where a
layer is frozen. Every bound below is evaluated at shares (r_1, ..., r_D) that dominate all splits
in a cell (``branch_and_bound``).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from overparam.jacobian.branch_and_bound import (
    FIRST,
    corners_do,
    largest_over_splits,
    upper_corners,
)
from overparam.jacobian.by_radius import Radii
from overparam.jacobian.data_norms import Family
from overparam.jacobian.perturbed_passes import PerturbedPasses, backward_rate, perturbed_passes
from overparam.jacobian.starting_norms import StartingNorms
from overparam.numbers.upper import Upper, hypot, total

ENTRIES = 2**17
"""Of an array over splits and points, for the radii that are done together."""

Recursion = Callable[[StartingNorms, list[Upper]], list[Upper]]
"""Bounds at each split, from the norms at theta_0 and the shares of all layers."""

OnBall = tuple[Upper, Upper | None]
"""omega and L of one ball; None for an L without a bound."""


def modulus_and_lipschitz(
    norms: StartingNorms, radii: Radii, dtype: Any = np.float64
) -> Iterator[OnBall]:
    """omega and L at some radii, the largest over all splits of a radius over the layers.

    Args:
        norms: At theta_0.
        radii: r >= 0.
        dtype: In which the recursions are evaluated; that of the norms.
    """
    for omega, *lipschitz in _at_radii(modulus_at, norms, radii, dtype):
        yield omega, lipschitz[0] if lipschitz else None


def comes_alone(norms: StartingNorms) -> bool:
    """Whether omega without L is the same number as with it: their search is not a common one."""
    return corners_do(len(norms.moving), norms.points)


def modulus_alone(norms: StartingNorms, radii: Radii, dtype: Any = np.float64) -> Iterator[Upper]:
    """omega at some radii, where it comes alone: with less work, the same as above."""
    for (omega,) in _at_radii(omega_at, norms, radii, dtype):
        yield omega


def _at_radii(
    recursion: Recursion, norms: StartingNorms, radii: Radii, dtype: Any
) -> Iterator[list[Upper]]:
    cost = norms.points * FIRST
    if comes_alone(norms):
        cost = norms.coarse.points * len(upper_corners(len(norms.moving)))
    together = max(1, ENTRIES // cost)
    for start in range(0, len(radii), together):
        yield from _together(recursion, norms, np.asarray(radii[start : start + together]), dtype)


def _together(
    recursion: Recursion, norms: StartingNorms, radii: np.ndarray, dtype: Any
) -> Iterator[list[Upper]]:
    moving, counted = norms.moving, [0]

    def bounds(norms: StartingNorms, squares: np.ndarray, owner: np.ndarray) -> list[Upper]:
        radius = Upper.exact(radii[owner], dtype)
        shares = [Upper.exact(np.zeros(len(squares)), dtype)] * norms.layers
        for layer, square in zip(moving, squares.T, strict=True):
            shares[layer] = Upper.exact(square, dtype).sqrt() * radius
        return recursion(norms, shares)

    def exact(squares: np.ndarray, owner: np.ndarray) -> np.ndarray:
        found = bounds(norms, squares, owner)
        counted[:] = np.maximum(counted, [number.roundings for number in found]).tolist()
        return _columns(found)

    coarse = None
    if norms.coarse is not norms:
        coarse = (lambda *rows: _columns(bounds(norms.coarse, *rows)), norms.coarse.points)
    for row in largest_over_splits(exact, len(moving), norms.points, len(radii), coarse):
        yield list(map(Upper, row, counted))


def _columns(numbers: list[Upper]) -> np.ndarray:
    return np.stack([number.values for number in numbers], axis=1)


def modulus_at(norms: StartingNorms, shares: list[Upper]) -> list[Upper]:
    """omega and, where it has a bound, L at each split, (splits,) each."""
    change = perturbed_passes(norms, shares)
    omega = _jacobian_change(norms, change)
    if norms.curvature is None and norms.bends:
        return [omega]
    return [omega, _second_derivative(norms, change)]


def omega_at(norms: StartingNorms, shares: list[Upper]) -> list[Upper]:
    """omega alone."""
    return [_jacobian_change(norms, perturbed_passes(norms, shares))]


def _jacobian_change(norms: StartingNorms, change: PerturbedPasses) -> Upper:
    """omega at each split: the root of the sum over layers of squared |J_l - J_{0,l}|."""
    squares = []
    for layer, (dg, g) in enumerate(zip(change.backward, change.reach, strict=True)):
        c = norms.factors[layer]
        backward, forward = dg * norms.inputs[layer], g * (c * change.input[layer])
        by_points = norms.l2(backward + forward)
        first = norms.l2(backward).minimum(dg.max(1) * norms.collective[layer])
        second = norms.l2(forward).minimum(g.max(1) * (c * change.collective_input[layer]))
        if norms.curved:
            first = first.minimum(_backward_by_pairs(norms, change, layer))
            second = second.minimum(_forward_by_pairs(norms, change, layer))
        squares.append(by_points.minimum(first + second).squared())
    return total(squares).sqrt()


def _backward_by_pairs(norms: StartingNorms, change: PerturbedPasses, layer: int) -> Upper:
    """Bound on V -> dG^l V a_0^{l-1} as a sum over the layers that change it."""
    found = Upper(np.zeros_like(change.shares[0].values))
    if layer == norms.layers - 1:
        return found
    assert norms.curvature is not None
    for q in range(layer, norms.layers - 1):
        rate = backward_rate(norms, change, q, layer)
        found = found + change.shares[q + 1] * _at(norms.mixed[q + 1, layer], rate)
    for other, norm in enumerate(change.secant_energies):
        rate = norms.curvature * change.energies[layer] * norm
        rate = rate.spread(change.input[0].values.shape)
        family = norms.curved[min(layer, other), max(layer, other)]
        again = change.shares[other].column() * norms.factors[other] * change.input[other]
        found = found + change.shares[other] * _at(family, rate)
        found = found + norms.l2(rate * again * norms.inputs[layer])
    return found


def _forward_by_pairs(norms: StartingNorms, change: PerturbedPasses, layer: int) -> Upper:
    """Bound on V -> G^l V da^{l-1} as a sum over the layers that change h^{l-1}."""
    found = Upper(np.zeros_like(change.shares[0].values))
    for low in range(layer):
        transport = change.secant_slopes[layer - 1] * change.secant_transports[layer - 1][low]
        rate = norms.factors[layer] * change.reach[layer] * transport
        again = change.shares[low].column() * norms.factors[low] * change.input[low]
        found = found + change.shares[low] * _at(norms.mixed[layer, low], rate)
        found = found + norms.l2(rate * again)
    return found


def _at(family: Family[Upper], rate: Upper) -> Upper:
    """Norm in L2(mu), at each split, of a family whose operators are bounded by ``rate``."""
    return rate.over(family.profile).max(1) * family.norm


def _second_derivative(norms: StartingNorms, change: PerturbedPasses) -> Upper:
    """L at each split: docs/modulus.md, Theorem 3."""
    nothing = change.input[0]
    mixed, curved = Upper(nothing.values[:, 0]), Upper(nothing.values[:, 0])
    dU_T2 = nothing  # the sum over layers of |dU^l| T_l^2
    tangent, collective = nothing, mixed  # T_{l-1} pointwise, and calT_{l-1} in L2(mu)
    k: list[Upper] = []
    again: list[Upper] = []
    for layer, g in enumerate(change.reach):
        c = norms.factors[layer]
        slope = change.slopes[layer - 1] if layer else nothing
        g_T = norms.l2(g * slope * tangent).minimum((g * slope).max(1) * collective)
        mixed = mixed + (c * g_T).squared()
        if layer == norms.layers - 1:
            break
        gain = norms.weight_norms[layer] + c * change.shares[layer]
        k.append(norms.inputs[layer] + c * change.input[layer])
        again.append(c * change.shares[layer].column() * slope * tangent)
        single = hypot(k[-1], gain.column() * slope * tangent)
        shared = norms.collective[layer] + c * change.collective_input[layer]
        shared = hypot(shared, gain * slope.max(1) * collective)
        tangent = single.minimum(_through(change.transports[layer], k, again))
        collective = shared.minimum(norms.l2(tangent))
        upstream = change.upstream[layer]
        dU_T2 = dU_T2 + upstream * tangent.squared()
        at_layer = (norms.columns[layer] + upstream) * tangent
        curved = curved + (at_layer.max(1) * collective).minimum(norms.l2(at_layer * tangent))
    if change.energies:
        energy = _through(change.energies, k, again)
        curved = curved.minimum(norms.l2(energy.squared() + dU_T2))
    pairs = len(norms.moving) - 1  # layers that move above another one that does
    both = Upper.exact(float(min(4, pairs)), mixed.values.dtype).sqrt()
    found = both * mixed.sqrt()
    return found if norms.curvature is None else found + norms.curvature * curved


def _through(factors: list[Upper], k: list[Upper], again: list[Upper]) -> Upper:
    """Bound on unit tangents of all layers, through transports of the given norms."""
    squares = total([(p * k_l).squared() for p, k_l in zip(factors, k, strict=True)])
    return squares.sqrt() + total([p * s for p, s in zip(factors, again, strict=True)])
