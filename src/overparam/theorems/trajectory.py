"""Theorem C: gradient descent in exact arithmetic stays close to a run that was made.

The points thetahat_0, thetahat_1, ... are any at all: those that a computer went through. Each is
off from one exact step of its predecessor by at most eps_t. How far the exact run has then come to
lie from them is bounded here step by step; nothing has to be small, nothing to be lazy. Statement
and proof with these symbols: docs/trajectory.md.
"""

import math
from dataclasses import dataclass

from overparam.numbers import Number, larger, smaller

HALF = 0.5
"""exp(y) <= 1 + y + 0.6 y^2 up to here."""

LARGEST = 600.0
"""Beyond this exponent a bound says nothing."""


@dataclass(frozen=True)
class Ball:
    """What holds on the ball of a radius around thetahat_t.

    Attributes:
        radius: r_t.
        jacobian_norm: B_t >= |J|.
        lipschitz: L_t, a Lipschitz constant of J.
        third: N_t, a Lipschitz constant of D^2 F.
    """

    radius: Number
    jacobian_norm: Number
    lipschitz: Number
    third: Number


def next_spread(
    *,
    spread: Number,
    slack: Number,
    ball: Ball,
    gradient: Number,
    exponent: Number,
    error: Number,
    step_size: Number,
    smoothness: Number,
    nonconvexity: Number = 0.0,
    decay: Number = 0.0,
    stretch: Number = 1.0,
) -> Number | None:
    """One step of Theorem C: from D_t to D_{t+1}, with |theta_t - thetahat_t| <= e^{a_t} D_t.

    Args:
        spread: D_t; D_0 = 0.
        slack: e^{a_t} >= 1, not decreasing in t; 1 where every ``exponent`` is a bound by itself.
        ball: What holds around thetahat_t.
        gradient: |ghat_t| = |grad f(F(thetahat_t))|, an upper bound.
        exponent: e_t: the sums of log(1 + eta |D^2 <F, ghat_u>(thetahat_u)|) over s <= u < t are at
            most a_t plus those of e_u.
        error: eps_t >= |thetahat_{t+1} - G(thetahat_t)|.
        step_size: eta.
        smoothness: M.
        nonconvexity: kappa_t: f + kappa_t/2 |.|^2 is convex where F may be at this step; 0 if f is.
        decay: lambda of weight decay, which contracts deviations (Theorem R').
        stretch: 1 / (1 - eta lambda) where the exponents bound sums of logarithms (Lemma C6).

    Returns:
        D_{t+1}; None if the deviation may leave the ball, beyond which nothing is known.

    References:
        docs/trajectory.md, Theorem C; docs/weight_decay.md, Theorem R'.
    """
    deviation = slack * spread
    if not deviation <= ball.radius:
        return None
    eta, M, B, L, N = step_size, smoothness, ball.jacobian_norm, ball.lipschitz, ball.third
    room = 2 - eta * (M * (B * B) + 2 * decay)
    x = larger(-room, eta * nonconvexity * (B * B))
    turned = deviation * (L * M * B) / 2
    if nonconvexity <= 0 and room > 0:  # what J v the change of J acts on, contracts
        turned = smaller(turned, M * (L * L) * (deviation * deviation) / (8 * room))
    d = eta * (turned + deviation * N * gradient / 2)
    return exp_up(exponent + stretch * (x + d) - eta * decay) * spread + error


def exp_up(y: Number) -> Number:
    """An upper bound on exp(y) by the four operations; sharp for small y."""
    if not y <= LARGEST:
        return math.inf
    if y <= HALF:
        return 1 + y + 0.6 * (y * y)
    half = exp_up(y / 2)
    return half * half
