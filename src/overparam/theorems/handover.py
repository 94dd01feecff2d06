"""Where Theorem 1 takes over from a run that is known up to a distance: one lemma for P and C.

A point thetahat is known, the parameters theta of gradient descent only to be within ``away`` of
it. Theorem 1 holds from theta with everything measured at thetahat and moved by that distance:
docs/trajectory.md, Lemma C3, of which Lemma P4 of docs/path.md is a case.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from overparam.numbers import Number, sqrt
from overparam.theorems.convergence import Convergence, gradient_descent_converges
from overparam.theorems.majorant import Majorant

TAIL_RADII = np.geomspace(1 / 8, 64, 60)
"""Nodes of Theorem 1's majorant behind the point, in units of the path for a fixed kernel."""


def takes_over(
    *,
    on_balls: Callable[[np.ndarray], Float[np.ndarray, "radii 2"]],
    away: float,
    sigma: float,
    jacobian_norm: float,
    smoothness: float,
    pl_constant: float,
    excess: float,
    step_size: float,
    number: Callable[[Any], Number] | None = None,
    radii: np.ndarray = TAIL_RADII,
) -> Convergence:
    """Theorem 1 from any parameters within a distance of a point that is known.

    Args:
        on_balls: The point's omega(r) and L(r) for each of some radii.
        away: How far the parameters may be from the point.
        sigma: A lower bound on sigma at the point.
        jacobian_norm: An upper bound on |J| there.
        smoothness: M.
        pl_constant: alpha, valid on {f - f* <= excess}.
        excess: An upper bound on Delta at the *parameters*; see :func:`excess_within`.
        step_size: eta.
        number: As in :func:`gradient_descent_converges`.
        radii: Nodes of the majorant in units of the path for a fixed kernel.

    Returns:
        The :class:`Convergence` from the parameters on, over these numbers.

    References:
        docs/trajectory.md, Lemma C3; docs/path.md, Lemma P4.
    """
    left = sigma - on_balls(np.array([away]))[0, 0]
    level = float(np.sqrt(2 * excess / pl_constant)) if pl_constant > 0 else 0.0
    reach = level / left if left > 0 else 1.0
    radii = radii * (reach or 1.0)
    modulus, lipschitz = on_balls(np.nextafter(away + radii, np.inf)).T
    return gradient_descent_converges(
        majorant=Majorant(sigma, radii, np.maximum.accumulate(modulus)),
        lipschitz=lipschitz,
        jacobian_norm=jacobian_norm,
        smoothness=smoothness,
        pl_constant=pl_constant,
        excess=excess,
        step_size=step_size,
        number=number,
    )


def excess_within(
    *, excess: Number, smoothness: Number, jacobian_norm: Number, away: Number
) -> Number:
    """An upper bound on Delta at any parameters within a distance of a point.

    Args:
        excess: An upper bound on Delta at the point.
        smoothness: M.
        jacobian_norm: An upper bound on |J| on the ball around the point.
        away: The distance.

    References:
        docs/trajectory.md, Lemma C3.
    """
    root = sqrt(2 * excess) + sqrt(smoothness) * jacobian_norm * away
    return root * root / 2
