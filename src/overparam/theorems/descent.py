"""Theorem T2: gradient descent descends for a given number of steps, whatever lambda_min is.

Theorem 1 keeps the whole path in a ball, and needs a well-conditioned kernel for that. For T steps
the descent lemma alone keeps it there: the squared step lengths sum to at most eta Delta_0 / q, so
the path of T steps is no longer than sqrt(T eta Delta_0 / q).
"""

import math

import numpy as np
from jaxtyping import Float

from overparam.numbers import Number, scaled, sqrt


def objective_smoothness(
    *,
    modulus: Number,
    lipschitz: Number,
    jacobian_norm: Number,
    smoothness: Number,
    excess: Number,
) -> Number:
    """L_phi = M (|J_0| + omega)^2 + L sqrt(2 M Delta_0) on a ball; infinite where L is.

    Args:
        modulus: omega at the ball's radius, or at those of several balls.
        lipschitz: L on the same.
        jacobian_norm: Upper bound on |J(theta_0)|.
        smoothness: M.
        excess: Upper bound on Delta_0.

    References:
        docs/convergence.md, Lemma M3.
    """
    steepest = jacobian_norm + modulus
    bend = sqrt(2 * smoothness * excess)
    curved = scaled(lipschitz, bend)
    return smoothness * steepest * steepest + curved


def descent_step(
    *,
    radii: Float[np.ndarray, "balls"],
    smoothness: Float[np.ndarray, "balls"],
    excess: float,
    steps: int,
) -> tuple[float, int]:
    """The largest step with descent guaranteed for ``steps`` steps.

    Args:
        radii: R of the balls, positive.
        smoothness: L_phi on each ball.
        excess: Upper bound on Delta_0.
        steps: T >= 1.

    Returns:
        eta_T and the index of its ball; 0 if L_phi is infinite on all of them.

    References:
        docs/transfer.md, Theorem T2, (2).
    """
    with np.errstate(divide="ignore"):
        found = 1 / (steps * excess / radii**2 + smoothness / 2)
    ball = int(np.argmax(found))
    return float(found[ball]), ball


def descent_horizon(
    *,
    radii: Float[np.ndarray, "balls"],
    smoothness: Float[np.ndarray, "balls"],
    excess: float,
    step_size: float,
) -> float:
    """For how many steps of a given size descent is guaranteed.

    Args:
        radii: R of the balls, positive.
        smoothness: L_phi on each ball.
        excess: Upper bound on Delta_0.
        step_size: eta > 0.

    Returns:
        The largest T with T eta Delta_0 <= q R^2 for a ball with q > 0: a whole number, or
        infinity if the excess is zero, or 0 if no ball admits the step.

    References:
        docs/transfer.md, Theorem T2, (1).
    """
    fractions = 1 - step_size * smoothness / 2
    if not (fractions > 0).any():
        return 0.0
    if excess == 0:
        return math.inf
    with np.errstate(invalid="ignore"):
        reach = np.where(fractions > 0, fractions * radii**2, 0.0)
    return float(np.floor(reach.max() / (step_size * excess)))
