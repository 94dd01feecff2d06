"""Upper bounds on omega(r) and L(r) from measured norms: the recursions of docs/modulus.md.

Written from the statements alone, in arithmetic that counts its rounding errors (``upper``). With
r_l the share of layer l in a perturbation of norm r, a_l = |A_0^l| and norms at theta_0 measured,

    e_l = |dz^l|  <= (a_l + c_l r_l) d_{l-1} + r_l kappa_l,        d_l = beta_1 e_l,
    v_l = |dU^l|  <= c_{l+1} r_{l+1} |G_0^{l+1}| + (a_{l+1} + c_{l+1} r_{l+1}) g_{l+1},
    g_l = |dG^l|  <= beta_1 v_l + min(beta_2 max_j |U_{0,j}^l| e_l, 2 beta_1 |U_0^l|).

All bounds increase with every r_l. The split r_1^2 + ... + r_D^2 = r^2 therefore needs only the
upper corners of a grid's cells on the simplex of squared shares.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from flint import arb

from overparam.recheck.upper import Upper, hypot, strict

MOST_CORNERS, MOST_CELLS = 128, 64
"""The grid has as many cells a side as these two allow; any number gives a valid bound."""


@dataclass(frozen=True)
class Norms:
    """Norms at theta_0, as upper bounds; lists by layer, entry l - 1 for layer l.

    Attributes:
        weights: w_i, (n,).
        factors: c_l.
        weight_norms: a_l = |A_0^l|.
        slope: beta_1.
        curvature: beta_2, or None.
        inputs: kappa_l(x_i), (n,) each.
        collective: calK_l.
        gradient: |G_0^l(x_i)|, l = 1..D, (n,) each.
        upstream: |U_0^l(x_i)|, l < D.
        columns: max_j |U_{0,j}^l(x_i)|, l < D.
    """

    weights: Upper
    factors: list[Upper]
    weight_norms: list[Upper]
    slope: Upper
    curvature: Upper | None
    inputs: list[Upper]
    collective: list[Upper]
    gradient: list[Upper]
    upstream: list[Upper]
    columns: list[Upper]

    @property
    def layers(self) -> int:
        """D."""
        return len(self.factors)


def modulus_and_lipschitz(norms: Norms, radius: float) -> tuple[arb, arb | None]:
    """Bounds on omega(radius) and L(radius); None for an L without a bound.

    Raises:
        FloatingPointError: The numbers leave the range of floating point.
    """
    with strict():
        reach = Upper.exact(radius)
        shares = [share * reach for share in corner_shares(norms.layers)]
        change = _changes(norms, shares)
        omega = _jacobian_change(norms, change).bound()
        if norms.curvature is None and norms.layers > 1:
            return omega, None
        return omega, _second_derivative(norms, change, shares).bound()


@cache
def corner_shares(layers: int) -> tuple[Upper, ...]:
    """Shares p_l, one vector over the corners for each layer, that dominate every split of 1."""
    cells = 1
    while cells < MOST_CELLS and math.comb(cells + layers - 1, layers - 1) <= MOST_CORNERS:
        cells += 1
    table = np.array(_splits(cells - 1, layers), dtype=np.int64) + 1
    return tuple(Upper.ratio(table[:, layer], cells).sqrt() for layer in range(layers))


def _splits(total: int, parts: int) -> list[tuple[int, ...]]:
    """All ways to write a whole number as an ordered sum."""
    if parts == 1:
        return [(total,)]
    return [(k, *rest) for k in range(total + 1) for rest in _splits(total - k, parts - 1)]


@dataclass(frozen=True)
class _Changes:
    """Bounds on what a perturbation changes; (corners, n) or (corners,), by layer."""

    inputs: list[Upper]  # d_{l-1}
    collective: list[Upper]  # |dh^{l-1}| in L2(mu)
    upstream: list[Upper]  # v_l, l < D
    gradient: list[Upper]  # g_l


def _changes(norms: Norms, shares: list[Upper]) -> _Changes:
    corners, n = len(shares[0].values), len(norms.weights.values)
    nothing = Upper.exact(np.zeros((corners, n)))
    inputs, together = [nothing], [Upper.exact(np.zeros(corners))]
    moves = []
    for layer, r in enumerate(shares):
        gain = norms.weight_norms[layer] + norms.factors[layer] * r
        e = gain.column() * inputs[layer] + r.column() * norms.inputs[layer]
        common = gain * together[layer] + r * norms.collective[layer]
        moves.append(e)
        inputs.append(norms.slope * e)
        together.append(norms.slope * common.minimum(_l2(norms, e)))
    upstream: list[Upper] = []
    gradient = [nothing]
    for layer in range(norms.layers - 2, -1, -1):
        step = norms.factors[layer + 1] * shares[layer + 1]
        gain = norms.weight_norms[layer + 1] + step
        v = step.column() * norms.gradient[layer + 1] + gain.column() * gradient[0]
        turn = Upper.exact(2.0) * norms.slope * norms.upstream[layer]
        if norms.curvature is not None:
            turn = (norms.curvature * norms.columns[layer] * moves[layer]).minimum(turn)
        upstream.insert(0, v)
        gradient.insert(0, norms.slope * v + turn)
    return _Changes(inputs[:-1], together[:-1], upstream, gradient)


def _jacobian_change(norms: Norms, change: _Changes) -> Upper:
    """omega at each corner, squared and summed over layers."""
    total = Upper.exact(np.zeros(len(change.collective[0].values)))
    for layer in range(norms.layers):
        dg, c = change.gradient[layer], norms.factors[layer]
        whole = norms.gradient[layer] + dg
        turned = dg * norms.inputs[layer]
        moved = whole * (c * change.inputs[layer])
        by_points = _l2(norms, turned + moved)
        first = _l2(norms, turned).minimum(dg.max(1) * norms.collective[layer])
        second = _l2(norms, moved).minimum(whole.max(1) * (c * change.collective[layer]))
        total = total + by_points.minimum(first + second).squared()
    return total.sqrt()


def _second_derivative(norms: Norms, change: _Changes, shares: list[Upper]) -> Upper:
    """L at each corner."""
    corners = len(shares[0].values)
    mixed, bent = Upper.exact(np.zeros(corners)), Upper.exact(np.zeros(corners))
    tangent, together = change.inputs[0], change.collective[0]  # zeros: T_0
    for layer in range(norms.layers):
        c, whole = norms.factors[layer], norms.gradient[layer] + change.gradient[layer]
        passed = _l2(norms, whole * tangent).minimum(whole.max(1) * together)
        mixed = mixed + (c * norms.slope * passed).squared()
        gain = norms.slope * (norms.weight_norms[layer] + c * shares[layer])
        kappa = norms.inputs[layer] + c * change.inputs[layer]
        common = norms.collective[layer] + c * change.collective[layer]
        tangent = hypot(kappa, gain.column() * tangent)
        together = hypot(common, gain * together).minimum(_l2(norms, tangent))
        if layer < norms.layers - 1:
            reach = (norms.columns[layer] + change.upstream[layer]) * tangent
            bent = bent + (reach.max(1) * together).minimum(_l2(norms, reach * tangent))
    curved = Upper.exact(2.0) * mixed.sqrt()
    return curved if norms.curvature is None else curved + norms.curvature * bent


def _l2(norms: Norms, rows: Upper) -> Upper:
    """Norms in L2(mu) of rows of pointwise norms."""
    return (rows.squared() * norms.weights).sum(1).sqrt()
