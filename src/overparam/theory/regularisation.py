"""Where gradient descent ends, and how much closer to theta_0 it could have ended.

For theta_inf, the limit in Theorem 1, d = |theta_inf - theta_0| and Omega(s) = int_0^s omega, least
squares gives

    d^2 <= (rho_K + Omega(d) / sigma_0)^2 + nu^2,    nu = int_0^{s*} omega(min(s, D)) / sigma_0,

where D bounds every |theta_t - theta_0|: the parts in the range of J_0* and orthogonal to it.
Theorem 5' compares d to the distance of the closest global minimiser, up to an error of second
order in omega.
"""

import math
from dataclasses import dataclass

from overparam.theory.majorant import Majorant

ROUNDS = 1000
"""Most steps of the fixed-point iteration; after any number of them the bound is valid."""

SETTLED = 1e-13
"""The relative gain below which it stops."""


@dataclass(frozen=True)
class Limit:
    """Where gradient descent ends.

    Attributes:
        distance: An upper bound on |theta_inf - theta_0|.
        kernel_part: nu, an upper bound on the norm of its projection onto the kernel of J_0.
    """

    distance: float
    kernel_part: float


def descent_limit(
    *, majorant: Majorant, path: float, displacement: float, target_norm: float | None = None
) -> Limit:
    """Theorem 5: how far from theta_0 gradient descent ends.

    Args:
        majorant: sigma_0 > 0 and omega.
        path: s* of Theorem 1; infinite if it certifies nothing.
        displacement: D <= s*, an upper bound on |theta_t - theta_0| for all t: s* itself, or what
            Theorem 7 gives.
        target_norm: An upper bound on rho_K, for least squares; None for other losses.

    Returns:
        The :class:`Limit`; infinite if nothing is certified.

    References:
        docs/regularisation.md, Theorem 5.
    """
    if not math.isfinite(path):
        return Limit(math.inf, math.inf)
    kernel_part = majorant.integral_along(path, displacement) / majorant.sigma
    if target_norm is None:
        return Limit(displacement, kernel_part)
    distance = displacement
    for _ in range(ROUNDS):
        in_range = target_norm + majorant.integral_to(distance) / majorant.sigma
        nearer = math.hypot(in_range, kernel_part)
        if nearer >= distance * (1 - SETTLED):
            break
        distance = nearer
    return Limit(distance, kernel_part)


def distance_ratio(
    *, majorant: Majorant, limit: Limit, closest: float, least_squares: bool
) -> float:
    """Theorem 5': how many times farther gradient descent ends than the closest minimiser is.

    Args:
        majorant: sigma_0 > 0 and omega.
        limit: From :func:`descent_limit`.
        closest: A lower bound on the distance to any global minimiser (Theorem 4).
        least_squares: Whether all global minimisers interpolate the same targets.

    Returns:
        An upper bound on |theta_inf - theta_0| / |theta' - theta_0| for every global minimiser
        theta'; infinite if there is none.

    References:
        docs/regularisation.md, Theorem 5'.
    """
    if not math.isfinite(limit.distance) or closest <= 0:
        return math.inf
    ratio = limit.distance / closest
    if not least_squares:
        return ratio
    tilt = majorant.modulus_at(limit.distance) / majorant.sigma
    astray = limit.kernel_part / closest
    if tilt >= 1 or astray >= 1:
        return ratio
    cosine = math.sqrt((1 - tilt**2) * (1 - astray**2)) - tilt * astray
    return min(ratio, 1 / cosine) if cosine > 0 else ratio
