"""Theorem 4: how far any global minimiser must be from theta_0.

For d the distance to a global minimiser and Omega(d) = int_0^d omega,

    any loss:                        |J_0| d + Omega(d) >= sqrt(2 Delta_0 / M),
    a loss with one minimiser h*:    d + Omega(d) / sigma_0 >= rho_K = |J_0^+ r_0|,
    the same, and any v:             |J_0* v| d + |v| Omega(d) >= <v, r_0>.

All left-hand sides increase with d, so each inequality bounds d from below.
"""

from dataclasses import dataclass, field

import numpy as np

from overparam.numbers import LOWER, UPPER, Number, holds, larger, running_sum, smaller, sqrt
from overparam.theorems.majorant import Majorant


@dataclass(frozen=True)
class Dual:
    """What Theorem 4 takes of a vector v.

    Attributes:
        alignment: <v, r_0>.
        pull: |J_0* v|.
        norm: |v|.
    """

    alignment: Number = field(metadata=LOWER)
    pull: Number = field(metadata=UPPER)
    norm: Number = field(metadata=UPPER)


def distance_to_minimisers(
    *,
    majorant: Majorant,
    jacobian_norm: Number,
    smoothness: Number,
    excess: Number,
    target_norm: Number | None = None,
    dual: Dual | None = None,
) -> Number:
    """A lower bound on the distance from theta_0 to any global minimiser.

    Args:
        majorant: Gives omega at its nodes, and sigma_0.
        jacobian_norm: Upper bound on |J(theta_0)|.
        smoothness: M.
        excess: Lower bound on Delta_0.
        target_norm: Lower bound on rho_K, for a loss with one minimiser only.
        dual: Of some v, for such a loss only.

    Returns:
        The largest of the bounds; minimisers beyond the last node are not excluded, so the bound
        is at most the last node's radius.

    References:
        docs/convergence.md, Theorem 4.
    """
    found = _reach(majorant, jacobian_norm, 1.0, sqrt(2 * excess / smoothness))
    if target_norm is not None and majorant.sigma > 0:
        found = larger(found, _reach(majorant, 1.0, 1 / majorant.sigma, target_norm))
    if dual is not None and dual.pull + dual.norm > 0:
        found = larger(found, _reach(majorant, dual.pull, dual.norm, dual.alignment))
    return found


def _reach(majorant: Majorant, slope: Number, factor: Number, level: Number) -> Number:
    """Where slope d + factor Omega(d) reaches a level; at most the last node's radius."""
    steep = slope + factor * majorant.modulus
    ahead = running_sum(steep * majorant.widths)
    short = holds(ahead < level)
    i = int(np.argmin(short)) if not short.all() else len(short) - 1
    before = ahead[i - 1] if i else 0.0
    # Past its cell the left-hand side is steeper: no bound beyond the cell's end.
    return smaller(majorant.start(i) + (level - before) / steep[i], majorant.radii[i])
