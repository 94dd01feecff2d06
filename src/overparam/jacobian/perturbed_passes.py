"""What a perturbation changes in the forward and the backward pass, as bounds by its shares.

The recursions of docs/modulus.md, Lemmas J2 to J4. With r_l the share of layer l in a perturbation,

    i_l = r_l (kappa_l + c_l |dh^{l-1}|),
    |dz^l| <= min(a_l |dh^{l-1}| + i_l, sum_{j<=l} p_lj i_j),        |dh^l| <= sigma_l |dz^l|,

p_lj the norm of dz^l / dz^j for slopes within half of beta_2 |dz| of those at theta_0 and sigma_l a
bound on such slopes; the backward pass has slopes within beta_2 |dz|. Every bound is nondecreasing
in the share of every layer. Arrays have the shape (splits, n), or (splits,) in L2(mu).
"""

from dataclasses import dataclass

import numpy as np

from overparam.jacobian.partial_jacobians import PartialBounds
from overparam.jacobian.starting_norms import StartingNorms
from overparam.numbers.upper import Upper, total


@dataclass(frozen=True)
class PerturbedPasses:
    """Bounds on the ball, by layer; hidden layers l = 1..D-1 unless said otherwise.

    Attributes:
        shares: r_l, l = 1..D, (splits,) each.
        entering: i_l(x).
        preactivation: |dz^l(x)|.
        input: |dh^{l-1}(x)|, l = 1..D.
        collective_input: |dh^{l-1}|_{L2(mu)}, l = 1..D.
        secant_slopes: sigma_l(x), by which |dh^l| <= sigma_l |dz^l|.
        secant_transports: Norms of dz^q by the perturbation entering at z^l, [q][l].
        secant_energies: N^l with secant slopes.
        slopes: Bounds on |act'(z^l)_j| on the ball.
        transports: Norms of A_0^q S^{q-1} ... A_0^{l+1} S^l with slopes on the ball, [q][l].
        energies: N^l with slopes on the ball.
        upstream: |dU^l(x)|.
        backward: |dG^l(x)|, l = 1..D, the last one zero.
        reach: |G^l(x)| on the ball, l = 1..D.
    """

    shares: list[Upper]
    entering: list[Upper]
    preactivation: list[Upper]
    input: list[Upper]
    collective_input: list[Upper]
    secant_slopes: list[Upper]
    secant_transports: list[list[Upper]]
    secant_energies: list[Upper]
    slopes: list[Upper]
    transports: list[list[Upper]]
    energies: list[Upper]
    upstream: list[Upper]
    backward: list[Upper]
    reach: list[Upper]


def perturbed_passes(norms: StartingNorms, shares: list[Upper]) -> PerturbedPasses:
    """Bounds for perturbations whose layers have the given norms, (splits,) each."""
    splits, dtype = len(shares[0].values), shares[0].values.dtype
    nothing = Upper.exact(np.zeros((splits, norms.points)), dtype)
    moves: list[Upper] = []
    entering: list[Upper] = []
    inputs, collective = [nothing], [Upper(nothing.values[:, 0])]
    secant_bounds: list[PartialBounds] = []
    secants: list[Upper] = []
    for layer in range(norms.layers - 1):
        a, r, c = norms.weight_norms[layer], shares[layer], norms.factors[layer]
        dh, together = inputs[-1], collective[-1]
        entering.append(r.column() * (norms.inputs[layer] + c * dh))
        slopes = norms.slopes_within(moves, 0.5)
        secant_bounds.append(norms.next_transport(slopes, secant_bounds))
        through = [p * i for p, i in zip(secant_bounds[layer].norms, entering, strict=True)]
        dz = (a * dh + entering[-1]).minimum(total(through))
        secant = norms.steepness(layer, dz, 0.5)
        inputs.append(secant * dz)
        together = (a + c * r) * together + r * norms.collective[layer]
        together = secant.max(1) * together.minimum(norms.l2(dz))
        collective.append(together.minimum(norms.l2(inputs[-1])))
        moves.append(dz)
        secants.append(secant)
    on_ball = norms.slopes_within(moves, 1.0)
    ball_bounds = norms.transports_within(on_ball)
    change = PerturbedPasses(
        shares=shares,
        entering=entering,
        preactivation=moves,
        input=inputs,
        collective_input=collective,
        secant_slopes=secants,
        secant_transports=[reach.norms for reach in secant_bounds],
        secant_energies=norms.energies_within(norms.slopes_within(moves, 0.5), secant_bounds),
        slopes=[norms.steepness(layer, dz, 1.0) for layer, dz in enumerate(moves)],
        transports=[reach.norms for reach in ball_bounds],
        energies=norms.energies_within(on_ball, ball_bounds),
        upstream=[],
        backward=[nothing],
        reach=[norms.backward[-1] + nothing],
    )
    _backward(norms, change)
    return change


def _backward(norms: StartingNorms, change: PerturbedPasses) -> None:
    """Fill in ``upstream``, ``backward`` and ``reach``, from the top."""
    moves = enumerate(change.preactivation)
    slope_changes = [_slope_change(norms, layer, dz) for layer, dz in moves]
    energy = _energy_change(norms, change)
    for layer in range(norms.layers - 2, -1, -1):
        step = norms.factors[layer + 1] * change.shares[layer + 1]
        gain = (norms.weight_norms[layer + 1] + step).column()
        du = step.column() * norms.backward[layer + 1] + gain * change.backward[0]
        above = range(layer, norms.layers - 1)
        unrolled = total([slope_changes[q] * change.transports[q][layer] for q in above])
        if energy is not None:
            unrolled = unrolled.minimum(energy * change.energies[layer])
        for q in above:
            r = change.shares[q + 1].column()
            unrolled = unrolled + r * backward_rate(norms, change, q, layer)
        at_start, most = norms.backward[layer], change.slopes[layer] * gain * change.reach[0]
        dg = (norms.slope * du + slope_changes[layer]).minimum(unrolled).minimum(most + at_start)
        change.upstream.insert(0, du)
        change.backward.insert(0, dg)
        change.reach.insert(0, most.minimum(at_start + dg))


def backward_rate(norms: StartingNorms, change: PerturbedPasses, q: int, layer: int) -> Upper:
    """Bound on |G^{q+1} Vhat^{q+1} diag(act') dz^q/dz^l| over |V|, hidden layers from 0."""
    # While the backward pass is filled in from the top, its first entry is layer + 1.
    on_ball = change.reach[q + 1 - norms.layers]
    return norms.factors[q + 1] * on_ball * change.slopes[q] * change.transports[q][layer]


def _energy_change(norms: StartingNorms, change: PerturbedPasses) -> Upper | None:
    """Bound on beta_2 (sum_l |diag(|U_{0,j}^l|)^{1/2} dz^l|^2)^{1/2}."""
    if norms.curvature is None or not change.secant_energies:
        return None
    pairs = zip(norms.columns, change.preactivation, strict=True)
    squares = total([columns * dz.squared() for columns, dz in pairs])
    pairs = zip(change.secant_energies, change.entering, strict=True)
    return norms.curvature * squares.sqrt().minimum(total([n * i for n, i in pairs]))


def _slope_change(norms: StartingNorms, layer: int, dz: Upper) -> Upper:
    """Bound on |U_0^l diag(act'(z) - act'(z_0))|."""
    largest = (2 * norms.half * norms.upstream[layer]).spread(dz.values.shape)
    if norms.curvature is None:
        return largest
    return largest.minimum(norms.curvature * norms.columns[layer] * dz)
