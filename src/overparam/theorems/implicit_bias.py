"""Where gradient descent ends, and how much closer to theta_0 it could have ended.

For theta_inf, the limit in Theorem 1, d = |theta_inf - theta_0| and Omega(s) = int_0^s omega, a
loss with one minimiser gives

    d^2 <= (rho_K + Omega(d) / sigma_0)^2 + nu^2,    nu = int_0^{s*} omega(min(s, D)) / sigma_0,

where D bounds every |theta_t - theta_0|: the parts in the range of J_0* and orthogonal to it.
Theorem 5' compares d to the distance of the closest global minimiser, up to an error of second
order in omega.
"""

import math
from dataclasses import dataclass, field

from overparam.numbers import UPPER, Number, smaller, sqrt
from overparam.theorems.majorant import Majorant


@dataclass(frozen=True)
class Limit:
    """Where gradient descent ends.

    Attributes:
        distance: An upper bound on |theta_inf - theta_0|.
        kernel_part: nu, an upper bound on the norm of its projection onto the kernel of J_0.
    """

    distance: Number = field(metadata=UPPER)
    kernel_part: Number = field(metadata=UPPER)


def descent_limit(
    *, majorant: Majorant, path: Number, displacement: Number, target_norm: Number | None = None
) -> Limit:
    """Theorem 5: how far from theta_0 gradient descent ends.

    Args:
        majorant: sigma_0 > 0 and omega.
        path: s* of Theorem 1; infinite if it certifies nothing.
        displacement: D <= s*, an upper bound on |theta_t - theta_0| for all t: s* itself, or what
            Theorem 7 gives.
        target_norm: An upper bound on rho_K, for a loss with one minimiser; None for others.

    Returns:
        The :class:`Limit`; infinite if nothing is certified.

    References:
        docs/regularisation.md, Theorem 5.
    """
    if not path < math.inf:
        return Limit(math.inf, math.inf)
    nu = majorant.integral_along(path, displacement) / majorant.sigma
    if target_norm is None:
        return Limit(displacement, nu)
    return Limit(_largest_distance(majorant, displacement, target_norm, nu), nu)


def _largest_distance(majorant: Majorant, D: Number, rho_K: Number, nu: Number) -> Number:
    """The largest d <= D with d^2 <= (rho_K + Omega(d) / sigma_0)^2 + nu^2.

    On a cell rho_K + Omega(d) / sigma_0 = a + b d, and the inequality is a quadratic one, which
    holds up to its larger root if b < 1. Cells are tried from the last one down to the first.
    """
    cell = majorant.cell(D)
    if cell >= len(majorant.radii):
        return D
    for i in range(cell, -1, -1):
        b = majorant.modulus[i] / majorant.sigma
        start = majorant.start(i)
        a = rho_K + majorant.integral_before(i) / majorant.sigma - b * start
        if not b < 1:
            return D
        root = (a * b + sqrt(a * a + (1 - b * b) * nu * nu)) / (1 - b * b)
        if not root < start:
            return smaller(root, D)
    return smaller(root, D)


def distance_ratio(*, majorant: Majorant, limit: Limit, closest: Number, unique: bool) -> Number:
    """Theorem 5': how many times farther gradient descent ends than the closest minimiser is.

    Args:
        majorant: sigma_0 > 0 and omega.
        limit: From :func:`descent_limit`.
        closest: A lower bound on the distance to any global minimiser (Theorem 4).
        unique: Whether the loss has one minimiser only: all global minimisers have its values.

    Returns:
        An upper bound on |theta_inf - theta_0| / |theta' - theta_0| for every global minimiser
        theta'; infinite if there is none.

    References:
        docs/regularisation.md, Theorem 5'.
    """
    if not (limit.distance < math.inf and closest > 0):
        return math.inf
    ratio = limit.distance / closest
    if not unique:
        return ratio
    sin_a = majorant.modulus_at(limit.distance) / majorant.sigma
    sin_b = limit.kernel_part / closest
    if not (sin_a < 1 and sin_b < 1):
        return ratio
    cosine = sqrt((1 - sin_a * sin_a) * (1 - sin_b * sin_b)) - sin_a * sin_b  # of a + b
    return smaller(ratio, 1 / cosine) if cosine > 0 else ratio
