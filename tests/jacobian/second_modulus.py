"""A second text of the recursions of docs/modulus.md, written from the statements alone.

It is an oracle for ``overparam.jacobian``: bounds on omega(r) and L(r) from measured norms. With
r_l the share of layer l in a perturbation of norm r, a_l = |A_0^l| and norms at theta_0 measured,
what enters at layer l and what arrives there are

    i_l = r_l (kappa_l + c_l d_{l-1}),
    e_l = |dz^l| <= min(a_l d_{l-1} + i_l, sum_{j<=l} p_lj i_j),        d_l = sigma_l e_l,

p_lj the norm of dz^l / dz^j for slopes within half of beta_2 e of those at theta_0 (``_chain``) and
sigma_l a bound on such slopes; the backward pass has slopes within beta_2 e. All bounds increase
with every r_l; ``splits`` takes them over all splits r_1^2 + ... + r_D^2 = r^2.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from flint import arb
from second_branch_and_bound import MOST_SPLITS, suprema

from overparam.jacobian.data_norms import Family
from overparam.jacobian.partial_jacobians import PartialJacobians
from overparam.jacobian.starting_norms import StartingNorms
from overparam.numbers.upper import Upper, hypot, strict
from overparam.verification.balls import exact

ENTRIES = 2**17
"""Of an array over splits and points, for the radii that are done together."""


def _at(family: Family, rate: Upper) -> Upper:
    """The norm, at each corner, if the operators are bounded by ``rate`` instead."""
    return rate.over(family.profile).max(1) * family.norm


def modulus_and_lipschitz(
    norms: StartingNorms, radii: Sequence[float]
) -> Iterator[tuple[arb, arb | None]]:
    """Bounds on omega and L at some radii; None for an L without a bound.

    Raises:
        FloatingPointError: The numbers leave the range of floating point.
    """
    points = len(norms.weights.values)
    together = max(1, ENTRIES // (points * MOST_SPLITS))
    for start in range(0, len(radii), together):
        yield from _at_radii(norms, np.array(radii[start : start + together]))


def _at_radii(norms: StartingNorms, radii: np.ndarray) -> list[tuple[arb, arb | None]]:
    unbounded = norms.curvature is None and norms.layers > 1

    def both(shares: list[Upper], owner: np.ndarray) -> list[Upper]:
        radius = exact(radii[owner])
        reach = [share * radius for share in shares]
        change = _changes(norms, reach)
        omega = _jacobian_change(norms, change, reach)
        return [omega] if unbounded else [omega, _second_derivative(norms, change, reach)]

    with strict():
        found = suprema(both, norms.layers, len(norms.weights.values), len(radii))
    return [(omega, lipschitz[0] if lipschitz else None) for omega, *lipschitz in found]


@dataclass(frozen=True)
class _Changes:
    """Bounds on what a perturbation changes; (corners, n) or (corners,), by layer."""

    entering: list[Upper]  # i_l, l < D
    inputs: list[Upper]  # d_{l-1}
    collective: list[Upper]  # |dh^{l-1}| in L2(mu)
    secants: list[Upper]  # sigma_l, l < D
    halfway: list[list[Upper]]  # p_lj with secants' slopes
    energy_halfway: list[Upper]
    steep: list[Upper]  # |act'| on the ball
    ends: list[list[Upper]]  # p_lj with slopes on the ball
    energy_ends: list[Upper]
    upstream: list[Upper]  # v_l, l < D
    gradient: list[Upper]  # g_l
    ceilings: list[Upper]  # |G^l| on the ball


def at_rest(norms: StartingNorms) -> tuple[list[list[Upper]], list[Upper]]:
    """Bounds at theta_0 of all transports, and of the stack with heads."""
    errors = None if norms.curvature is None else norms.slope_errors
    transports = _transports(norms, errors)
    assert norms.energy is not None
    energy = _chain(norms, norms.energy, errors, transports)[0]
    return [reached for reached, _ in transports], energy


Reached = tuple[list[Upper], list[Upper]]
"""|X^l| and |dX^l|, l from 0 up."""


def _transports(norms: StartingNorms, moved: list[Upper] | None) -> list[Reached]:
    found: list[Reached] = []
    for layers_below in norms.transports:
        found.append(_chain(norms, layers_below, moved, found))
    return found


def _chain(
    norms: StartingNorms,
    layers_below: PartialJacobians,
    moved: list[Upper] | None,
    transports: list[Reached],
) -> Reached:
    """|X^l| and |dX^l|, for slopes within ``moved`` of the measured ones, in norm.

    ``transports`` are the same of the transports from layers below the stack's top.
    """
    found, shifts = [layers_below.start], [exact(0.0)]
    passed: Upper | None = None
    shift_y = exact(0.0)
    turns: dict[int, Upper] = {}
    for step, link in enumerate(layers_below.layers_below):
        layer = len(layers_below.layers_below) - 1 - step
        a = norms.weight_norms[layer + 1]
        rough = link.head_moved
        if passed is not None:
            rough = hypot(link.head_moved, norms.slope * (passed * a))
            if link.skipped is not None:
                straight = (link.skipped + shift_y * a).minimum(passed * a)
                bent = norms.middle * straight + norms.half * (passed * a)
                rough = rough.minimum(hypot(link.head_moved, bent))
        passed = rough.minimum(found[0] * a)
        shift_y = shifts[0] * a
        if link.before is None or moved is None:
            found.insert(0, hypot(link.head, norms.slope * passed))
            shifts.insert(0, exact(0.0))  # never read: no link has been measured
            continue
        assert link.after is not None
        assert link.column is not None
        passed = passed.minimum(link.before + shift_y)
        apart = exact(2.0) * norms.half + norms.slope_errors[layer]
        spread = moved[layer].minimum(apart)
        turns[layer] = (link.column * moved[layer]).minimum(link.before * spread)
        shift = turns[layer]
        for q, response in enumerate(link.slope_responses, layer + 1):
            reached, shifted = transports[q]
            first = response * moved[q] + turns[q] * shifted[layer]
            shift = shift + first.minimum(turns[q] * reached[layer])
        shifts.insert(0, shift.minimum(turns[layer] + norms.slope * shift_y))
        found.insert(0, hypot(link.head, norms.slope * passed).minimum(link.after + shifts[0]))
    return found, shifts


def _moved(norms: StartingNorms, moves: list[Upper], part: float) -> list[Upper] | None:
    if norms.curvature is None:
        return None
    rate = exact(part) * norms.curvature
    return [rate * e + error for e, error in zip(moves, norms.slope_errors, strict=False)]


def _steepness(norms: StartingNorms, layer: int, e: Upper, part: float) -> Upper:
    if norms.curvature is None:
        return norms.slope + exact(np.zeros_like(e.values))
    return norms.slope.minimum(norms.slopes[layer] + exact(part) * norms.curvature * e)


def _changes(norms: StartingNorms, shares: list[Upper]) -> _Changes:
    corners, n = len(shares[0].values), len(norms.weights.values)
    nothing = exact(np.zeros((corners, n)))
    inputs, together = [nothing], [exact(np.zeros(corners))]
    moves: list[Upper] = []
    entering: list[Upper] = []
    halfway: list[Reached] = []
    secants = []
    for layer in range(norms.layers - 1):
        r, c = shares[layer], norms.factors[layer]
        entering.append(r.column() * (norms.inputs[layer] + c * inputs[layer]))
        reached = _chain(norms, norms.transports[layer], _moved(norms, moves, 0.5), halfway)
        p = reached[0]
        e = norms.weight_norms[layer] * inputs[layer] + entering[layer]
        e = e.minimum(_total([p[j] * entering[j] for j in range(layer + 1)]))
        sigma = _steepness(norms, layer, e, 0.5)
        common = (norms.weight_norms[layer] + c * r) * together[layer]
        common = common + r * norms.collective[layer]
        inputs.append(sigma * e)
        common = sigma.max(1) * common.minimum(_l2(norms, e))
        together.append(common.minimum(_l2(norms, inputs[-1])))
        moves.append(e)
        halfway.append(reached)
        secants.append(sigma)
    whole, half = _moved(norms, moves, 1.0), _moved(norms, moves, 0.5)
    ends = _transports(norms, whole)
    energies: list[list[Upper]] = [[], []]
    if norms.energy is not None:
        energies[0] = _chain(norms, norms.energy, half, halfway)[0]
        energies[1] = _chain(norms, norms.energy, whole, ends)[0]
    change = _Changes(
        entering=entering,
        inputs=inputs,
        collective=together,
        secants=secants,
        halfway=[norm for norm, _ in halfway],
        energy_halfway=energies[0],
        steep=[_steepness(norms, layer, e, 1.0) for layer, e in enumerate(moves)],
        ends=[norm for norm, _ in ends],
        energy_ends=energies[1],
        upstream=[],
        gradient=[nothing],
        ceilings=[norms.backward[-1] + nothing],
    )
    _backwards(norms, shares, moves, change)
    return change


def _backwards(
    norms: StartingNorms, shares: list[Upper], moves: list[Upper], change: _Changes
) -> None:
    """Fill in v_l and g_l from the top."""
    bent, squares = [], []
    for layer, e in enumerate(moves):
        turn = exact(2.0) * norms.half * norms.upstream[layer]
        turn = turn + exact(np.zeros_like(e.values))
        if norms.curvature is not None:
            turn = (norms.curvature * norms.columns[layer] * e).minimum(turn)
        bent.append(turn)
        squares.append(norms.columns[layer] * e.squared())
    energy = None
    if norms.curvature is not None and moves:
        reached = _total(
            [norm * i for norm, i in zip(change.energy_halfway, change.entering, strict=True)]
        )
        energy = norms.curvature * _total(squares).sqrt().minimum(reached)
    for layer in range(norms.layers - 2, -1, -1):
        step = norms.factors[layer + 1] * shares[layer + 1]
        gain = norms.weight_norms[layer + 1] + step
        v = step.column() * norms.backward[layer + 1] + gain.column() * change.gradient[0]
        above = range(layer, norms.layers - 1)
        turned = _total([bent[q] * change.ends[q][layer] for q in above])
        if energy is not None:
            turned = turned.minimum(energy * change.energy_ends[layer])
        for q in above:
            turned = turned + shares[q + 1].column() * _turning(norms, change, q, layer)
        rest, whole = norms.backward[layer], change.steep[layer] * gain.column()
        whole = whole * change.ceilings[0]
        g = (norms.slope * v + bent[layer]).minimum(turned).minimum(whole + rest)
        change.upstream.insert(0, v)
        change.gradient.insert(0, g)
        change.ceilings.insert(0, whole.minimum(rest + g))


def _turning(norms: StartingNorms, change: _Changes, q: int, layer: int) -> Upper:
    """c_{q+1} |G^{q+1}| |act'(z^q)| |dz^q/dz^l| on the ball."""
    whole = change.ceilings[q + 1 - norms.layers]
    return norms.factors[q + 1] * whole * change.steep[q] * change.ends[q][layer]


def _jacobian_change(norms: StartingNorms, change: _Changes, shares: list[Upper]) -> Upper:
    """omega at each corner, squared and summed over layers."""
    total = exact(np.zeros(len(change.collective[0].values)))
    for layer in range(norms.layers):
        dg, c = change.gradient[layer], norms.factors[layer]
        whole = change.ceilings[layer]
        turned = dg * norms.inputs[layer]
        moved = whole * (c * change.inputs[layer])
        by_points = _l2(norms, turned + moved)
        first = _l2(norms, turned).minimum(dg.max(1) * norms.collective[layer])
        second = _l2(norms, moved).minimum(whole.max(1) * (c * change.collective[layer]))
        if norms.curved:
            first = first.minimum(_turned_pairs(norms, change, shares, layer))
            second = second.minimum(_moved_pairs(norms, change, shares, layer))
        total = total + by_points.minimum(first + second).squared()
    return total.sqrt()


def _turned_pairs(norms: StartingNorms, change: _Changes, shares: list[Upper], layer: int) -> Upper:
    total = exact(np.zeros(len(shares[0].values)))
    if layer == norms.layers - 1:
        return total
    assert norms.curvature is not None
    for q in range(layer, norms.layers - 1):
        family = norms.mixed[q + 1, layer]
        total = total + shares[q + 1] * _at(family, _turning(norms, change, q, layer))
    for other, norm in enumerate(change.energy_halfway):
        rate = norms.curvature * change.energy_ends[layer] * norm
        rate = rate + exact(np.zeros_like(change.inputs[0].values))
        family = norms.curved[min(layer, other), max(layer, other)]
        again = shares[other].column() * norms.factors[other] * change.inputs[other]
        total = total + shares[other] * _at(family, rate)
        total = total + _l2(norms, rate * again * norms.inputs[layer])
    return total


def _moved_pairs(norms: StartingNorms, change: _Changes, shares: list[Upper], layer: int) -> Upper:
    total = exact(np.zeros(len(shares[0].values)))
    for low in range(layer):
        whole = change.ceilings[layer]
        passed = change.secants[layer - 1] * change.halfway[layer - 1][low]
        rate = norms.factors[layer] * whole * passed
        again = shares[low].column() * norms.factors[low] * change.inputs[low]
        total = total + shares[low] * _at(norms.mixed[layer, low], rate) + _l2(norms, rate * again)
    return total


def _second_derivative(norms: StartingNorms, change: _Changes, shares: list[Upper]) -> Upper:
    """L at each corner."""
    corners = len(shares[0].values)
    mixed, bent = exact(np.zeros(corners)), exact(np.zeros(corners))
    tangent, together = change.inputs[0], change.collective[0]  # zeros: T_0
    off = change.inputs[0]
    entering: list[Upper] = []
    again: list[Upper] = []
    for layer in range(norms.layers):
        c, whole = norms.factors[layer], change.ceilings[layer]
        steep = change.steep[layer - 1] if layer else change.inputs[0]
        passed = _l2(norms, whole * steep * tangent)
        mixed = mixed + (c * passed.minimum((whole * steep).max(1) * together)).squared()
        if layer == norms.layers - 1:
            break
        gain = norms.weight_norms[layer] + c * shares[layer]
        entering.append(norms.inputs[layer] + c * change.inputs[layer])
        again.append(c * shares[layer].column() * steep * tangent)
        common = norms.collective[layer] + c * change.collective[layer]
        single = hypot(entering[layer], gain.column() * steep * tangent)
        tangent = single.minimum(_reached(change.ends[layer], entering, again))
        together = hypot(common, gain * steep.max(1) * together).minimum(_l2(norms, tangent))
        reach = (norms.columns[layer] + change.upstream[layer]) * tangent
        off = off + change.upstream[layer] * tangent.squared()
        bent = bent + (reach.max(1) * together).minimum(_l2(norms, reach * tangent))
    if entering:
        energy = _reached(change.energy_ends, entering, again)
        bent = bent.minimum(_l2(norms, energy.squared() + off))
    both = exact(float(min(4, norms.layers - 1))).sqrt()
    curved = both * mixed.sqrt()
    return curved if norms.curvature is None else curved + norms.curvature * bent


def _reached(factors: list[Upper], entering: list[Upper], again: list[Upper]) -> Upper:
    """sqrt(sum (p_j k_j)^2) + sum p_j s_j."""
    squares = _total([(p * k).squared() for p, k in zip(factors, entering, strict=True)])
    return squares.sqrt() + _total([p * s for p, s in zip(factors, again, strict=True)])


def _total(terms: list[Upper]) -> Upper:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _l2(norms: StartingNorms, rows: Upper) -> Upper:
    """StartingNorms in L2(mu) of rows of pointwise norms."""
    return (rows.squared() * norms.weights).sum(1).sqrt()
