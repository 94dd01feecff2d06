"""How far any global minimiser must be: lower bounds on the distance from theta_0.

For d the distance to a global minimiser and Omega(d) = int_0^d omega,

    any loss:       |J_0| d + Omega(d) >= sqrt(2 Delta_0 / M),
    least squares:  d + Omega(d) / sigma_0 >= rho_K = |J_0^+ r_0|.

Both left-hand sides increase with d, so each inequality bounds d from below.
"""

import numpy as np
from jaxtyping import Float

from overparam.theory.majorant import Majorant


def distance_to_minimisers(
    *,
    majorant: Majorant,
    jacobian_norm: float,
    smoothness: float,
    excess: float,
    target_norm: float | None = None,
) -> float:
    """A lower bound on the distance from theta_0 to any global minimiser.

    Args:
        majorant: Gives omega at its nodes, and sigma_0.
        jacobian_norm: Upper bound on |J(theta_0)|.
        smoothness: M.
        excess: Lower bound on Delta_0.
        target_norm: Lower bound on rho_K, for least squares only.

    Returns:
        The larger of the two bounds; minimisers beyond the last node are not excluded, so the bound
        is at most the last node's radius.

    References:
        docs/convergence.md, Theorem 4.
    """
    radii, integral = majorant.radii, majorant.integral
    bounds = [
        _first_reach(radii, jacobian_norm * radii + integral, np.sqrt(2 * excess / smoothness))
    ]
    if target_norm is not None and majorant.sigma > 0:
        bounds.append(_first_reach(radii, radii + integral / majorant.sigma, target_norm))
    return max(bounds)


def _first_reach(
    radii: Float[np.ndarray, " nodes"], bound: Float[np.ndarray, " nodes"], level: float
) -> float:
    """Where the piecewise linear, increasing ``bound`` through the origin reaches ``level``."""
    return float(np.interp(level, np.append(0.0, bound), np.append(0.0, radii)))
