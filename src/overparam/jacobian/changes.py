"""What a perturbation changes in the forward and the backward pass, as bounds by its shares.

The recursions of docs/modulus.md, Lemmas 2 to 4. Every bound is nondecreasing in the share r_l of
every layer. Arrays have the shape (splits, n), or one that broadcasts to it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.jacobian.chains import Chain, Link, Reach, Slopes, all_transports, chain_norms
from overparam.jacobian.composed import Composed
from overparam.jacobian.layer_norms import LayerNorms

Array = np.ndarray
Shares = Float[np.ndarray, "corners layers"]


@dataclass(frozen=True)
class Changes:
    """Bounds on the ball, by layer; hidden layers l = 1..D-1 unless said otherwise.

    Attributes:
        preactivation: |dz^l(x)|.
        input: |dh^{l-1}(x)|, l = 1..D.
        collective_input: |dh^{l-1}|_{L2(mu)}, l = 1..D, shape (splits,).
        secant_transports: Norms of dz^q by the perturbation entering at z^l, [q][l].
        secant_energies: N^l with secant slopes.
        secant_slopes: sigma_l(x), by which |dh^l| <= sigma_l |dz^l|.
        transports: Norms of A_0^q S^{q-1} ... A_0^{l+1} S^l with slopes on the ball, [q][l].
        energies: N^l with slopes on the ball.
        slopes: Bounds on |act'(z^l)_j| on the ball.
        upstream: |dU^l(x)|.
        backward: |dG^l(x)|, l = 1..D, the last one zero.
        reach: |G^l(x)| on the ball, l = 1..D.
    """

    preactivation: list[Array]
    input: list[Array]
    collective_input: list[Array]
    secant_transports: list[list[Array]]
    secant_energies: list[Array]
    secant_slopes: list[Array]
    transports: list[list[Array]]
    energies: list[Array]
    slopes: list[Array]
    upstream: list[Array]
    backward: list[Array]
    reach: list[Array]


def composed_of(base: LayerNorms) -> Composed:
    """The composed norms measured at theta_0, or products of single norms and no energy.

    Without composed norms the bounds are sums of products of norms at a point, nothing else, which
    is what lets norms over a distribution of points take their place (docs/apriori.md).
    """
    if base.composed is not None:
        return base.composed
    n, norms = len(base.weights), base.weight_norms
    hidden = len(base.upstream_columns)
    one, zero = np.ones(1), np.zeros(1)
    transports = tuple(
        Chain(
            top,
            one,
            tuple(
                Link(zero, np.array([norms[top]]) if layer == top - 1 else zero)
                for layer in range(top - 1, -1, -1)
            ),
        )
        for top in range(hidden)
    )
    slopes = tuple(np.full(n, base.slope_bound) for _ in range(hidden))
    return Composed(transports, None, slopes, tuple(np.zeros(n) for _ in slopes), {}, {})


def slopes_within(base: LayerNorms, composed: Composed, moves: list[Array], share: float) -> Slopes:
    """The slopes that pre-activations reach by moves of the given norms, times a share."""
    moved = None
    if base.curvature_bound is not None:
        rate = share * base.curvature_bound
        pairs = zip(moves, composed.slope_errors, strict=False)
        moved = [rate * move + error for move, error in pairs]
    return Slopes(base.slope_bound, base.slope_middle, base.slope_half, moved)


def changes_within(base: LayerNorms, shares: Shares) -> Changes:
    """Bounds at every row of shares."""
    composed = composed_of(base)
    forward = _forward(base, composed, shares)
    preactivation, inputs, collective, transports, secants = forward
    secant = slopes_within(base, composed, preactivation, 0.5)
    whole = slopes_within(base, composed, preactivation, 1.0)
    norms = base.weight_norms
    slopes = [_slope(base, composed, layer, move, 1.0) for layer, move in enumerate(preactivation)]
    energy = composed.energy
    ends = all_transports(composed.transports, norms, whole)
    energies = [] if energy is None else chain_norms(energy, norms, whole, ends).norms
    halfway = [] if energy is None else chain_norms(energy, norms, secant, transports).norms
    change = Changes(
        preactivation=preactivation,
        input=inputs,
        collective_input=collective,
        secant_transports=[passed.norms for passed in transports],
        secant_energies=halfway,
        secant_slopes=secants,
        transports=[passed.norms for passed in ends],
        energies=energies,
        slopes=slopes,
        upstream=[],
        backward=[np.zeros((len(shares), len(base.weights)))],
        reach=[np.full((len(shares), len(base.weights)), base.output_scale)],
    )
    _backward(base, shares, change)
    return change


def _slope(base: LayerNorms, composed: Composed, layer: int, move: Array, share: float) -> Array:
    """Bound on the largest slope, or secant's slope, within a move of the pre-activation."""
    if base.curvature_bound is None:
        return np.broadcast_to(base.slope_bound, move.shape)
    largest = composed.slope_norms[layer] + share * base.curvature_bound * move
    return np.minimum(base.slope_bound, largest)


def _forward(base: LayerNorms, composed: Composed, shares: Shares) -> tuple:
    corners, n = len(shares), len(base.weights)
    dh, collective = np.zeros((corners, n)), np.zeros(corners)
    inputs, collective_inputs = [dh], [collective]
    moves: list[Array] = []
    entering: list[Array] = []
    transports: list[Reach] = []
    secants = []
    for layer in range(shares.shape[1] - 1):
        r, c = shares[:, layer], base.weight_factors[layer]
        entering.append(np.outer(r, base.input_norms[layer]) + c * r[:, None] * dh)
        slopes = slopes_within(base, composed, moves, 0.5)
        chain = composed.transports[layer]
        transport = chain_norms(chain, base.weight_norms, slopes, transports)
        step = base.weight_norms[layer] * dh + entering[-1]
        through = sum(p * i for p, i in zip(transport.norms, entering, strict=True))
        dz = np.minimum(step, through)
        secant = _slope(base, composed, layer, dz, 0.5)
        gain = base.weight_norms[layer] + c * r
        together = gain * collective + r * base.collective_input_norms[layer]
        dh = secant * dz
        collective = np.minimum(
            secant.max(axis=1) * np.minimum(together, l2(base, dz)), l2(base, dh)
        )
        moves.append(dz)
        transports.append(transport)
        secants.append(secant)
        inputs.append(dh)
        collective_inputs.append(collective)
    return moves, inputs, collective_inputs, transports, secants


def entering_norms(base: LayerNorms, shares: Shares, change: Changes, layer: int) -> Array:
    """Bound on what a perturbation of a layer adds to z^l itself."""
    r, c = shares[:, layer, None], base.weight_factors[layer]
    return r * base.input_norms[layer] + c * r * change.input[layer]


def _backward(base: LayerNorms, shares: Shares, change: Changes) -> None:
    """Fill in ``upstream`` and ``backward``, from the top."""
    bent = [slope_change(base, layer, dz) for layer, dz in enumerate(change.preactivation)]
    energy = energy_change(base, shares, change)
    for layer in range(len(bent) - 1, -1, -1):
        step = base.weight_factors[layer + 1] * shares[:, layer + 1, None]
        above = backward_norm(base, layer + 1)
        du = step * above + (base.weight_norms[layer + 1] + step) * change.backward[0]
        single = base.slope_bound * du + bent[layer]
        turned = sum(
            b * p[layer] for b, p in zip(bent[layer:], change.transports[layer:], strict=True)
        )
        if energy is not None:
            turned = np.minimum(turned, energy * change.energies[layer])
        for q in range(layer, len(bent)):
            turned = turned + shares[:, q + 1, None] * turned_rate(base, change, q, layer)
        most = change.slopes[layer] * (base.weight_norms[layer + 1] + step) * change.reach[0]
        before = backward_norm(base, layer)
        dg = np.minimum(np.minimum(single, turned), most + before)
        change.upstream.insert(0, du)
        change.backward.insert(0, dg)
        change.reach.insert(0, np.minimum(most, before + dg))


def turned_rate(base: LayerNorms, change: Changes, q: int, layer: int) -> Array:
    """Bound on |G^{q+1} Vhat^{q+1} diag(act') dz^q/dz^l| over |V|, hidden layers from 0."""
    # While the backward pass is filled in from the top, its first entry is layer + 1.
    whole = change.reach[q + 1 - len(base.weight_norms)]
    return base.weight_factors[q + 1] * whole * change.slopes[q] * change.transports[q][layer]


def energy_change(base: LayerNorms, shares: Shares, change: Changes) -> Array | None:
    """Bound on beta_2 (sum_l |diag(|U_{0,j}^l|)^{1/2} dz^l|^2)^{1/2}."""
    if base.curvature_bound is None or not change.secant_energies:
        return None
    squares = [
        columns * dz**2
        for columns, dz in zip(base.upstream_columns, change.preactivation, strict=True)
    ]
    through = sum(
        norm * entering_norms(base, shares, change, layer)
        for layer, norm in enumerate(change.secant_energies)
    )
    return base.curvature_bound * np.minimum(np.sqrt(sum(squares)), through)


def slope_change(base: LayerNorms, layer: int, dz: Array) -> Array:
    """Bound on |U_0^l diag(act'(z) - act'(z_0))|, shape (splits, n)."""
    largest = np.broadcast_to(2 * base.slope_half * base.upstream_norms[layer], dz.shape)
    if base.curvature_bound is None:
        return largest
    return np.minimum(base.curvature_bound * base.upstream_columns[layer] * dz, largest)


def backward_norm(base: LayerNorms, layer: int) -> Array:
    """|G_0^l(x)|, shape (1, n); |G^D| = c."""
    if layer == len(base.backward_norms):
        return np.full((1, len(base.weights)), base.output_scale)
    return base.backward_norms[layer][None, :]


def l2(base: LayerNorms, values: Float[np.ndarray, "corners n"]) -> Float[np.ndarray, "corners"]:
    """Norms in L2(mu) of rows of pointwise norms."""
    return np.sqrt(values**2 @ base.weights)
