"""How close an interpolating network can be: a lower bound from first-order optimality.

Let theta satisfy theta - theta_0 = J(theta)* a + tau and F(theta) = h* - r, and let J be
L-Lipschitz on the ball around theta_0 of radius d = |theta - theta_0|. If L |a| < 1, every theta'
with F(theta') = h* satisfies

    |theta' - theta_0|^2 >= d^2 - 2 |a| |r| - |tau|^2 / (1 - L |a|).

For tau = r = 0 it says that theta is a closest interpolating network.
"""

import math


def closest_interpolant_distance(
    *, distance: float, multiplier: float, lipschitz: float, residual: float, tangential: float
) -> float:
    """A lower bound on the distance from theta_0 to any theta' with F(theta') = h*.

    Args:
        distance: d = |theta - theta_0|.
        multiplier: Upper bound on |a|, in L2(mu; R^k).
        lipschitz: L, a Lipschitz constant of J on the ball of radius d around theta_0.
        residual: Upper bound on |h* - F(theta)|, in L2(mu; R^k).
        tangential: Upper bound on |tau|.

    Returns:
        The bound; 0 if L |a| >= 1, when nothing follows.

    References:
        docs/linearised.md, Theorem L3.
    """
    curvature = 1 - lipschitz * multiplier
    if not curvature > 0:
        return 0.0
    squared = distance**2 - 2 * multiplier * residual - tangential**2 / curvature
    return math.sqrt(max(squared, 0.0))
