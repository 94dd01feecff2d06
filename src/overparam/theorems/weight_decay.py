"""Theorem R: with weight decay one minimum in a ball, and gradient descent converges to it.

No eigenvalue of the kernel is needed and no PL constant: the decay itself makes the objective
strongly convex wherever the residual bends it by less. What is found is the only critical point of
a region, not a global minimiser. Statement and proof with these symbols: docs/weight_decay.md.
"""

import math
from dataclasses import dataclass, field

from overparam.numbers import LOWER, UPPER, Number, larger, smaller

SPARE = 2**-50
"""Of 1 - rho, relative to it and to 1, for the rounding of floats: where rho is close to 0 or to 1
nothing else would be left of them."""


@dataclass(frozen=True, kw_only=True)
class UniqueMinimum:
    """What Theorem R gives.

    Attributes:
        certified: Whether its condition holds: mu < lambda, gamma <= (lambda - mu)(r - delta) / 2,
            and a step below 2 / l.
        margin: (lambda - mu)(r - delta) / (2 gamma); above 1 exactly if certified, and at most 1
            where only the step is too long.
        step_size: eta.
        radius: r, of the ball.
        strong_convexity: m = lambda - mu, of the objective on the ball; 0 if mu >= lambda.
        smoothness: l = M B^2 + kappa + lambda, a Lipschitz constant of its gradient there.
        contraction: rho, by which the distance to the minimiser shrinks at least, per step; 1 if
            not certified.
        distance: gamma / m, no farther is the minimiser from the ball's centre; infinite if not
            certified, as is all that follows.
        excess: gamma^2 / (2 m): the centre's objective exceeds the minimum by no more.
        reach: gamma / m + delta, no farther does gradient descent begin from the minimiser.
        path: Bound on the length of its path.
    """

    certified: bool = False
    margin: Number = field(metadata=LOWER)
    step_size: Number = field(metadata=LOWER)
    radius: Number = field(metadata=LOWER)
    strong_convexity: Number = field(metadata=LOWER)
    smoothness: Number = field(metadata=UPPER)
    contraction: Number = field(default=1.0, metadata=UPPER)
    distance: Number = field(default=math.inf, metadata=UPPER)
    excess: Number = field(default=math.inf, metadata=UPPER)
    reach: Number = field(default=math.inf, metadata=UPPER)
    path: Number = field(default=math.inf, metadata=UPPER)


def best_step(
    *, decay: Number, down: Number, up: Number, jacobian_norm: Number, smoothness: Number
) -> Number:
    """2 / (l + m), the step with the best rho, which is 1 - eta m."""
    steepest = smoothness * jacobian_norm * jacobian_norm
    return 2 / (steepest + up - down + 2 * decay)


def unique_minimiser(
    *,
    decay: Number,
    down: Number,
    up: Number,
    gradient: Number,
    radius: Number,
    jacobian_norm: Number,
    smoothness: Number,
    step_size: Number,
    away: Number = 0.0,
) -> UniqueMinimum:
    """Theorem R on a ball.

    Args:
        decay: lambda > 0.
        down: mu >= 0, and
        up: kappa >= 0, with -mu <= D^2 <F, grad f(F)> <= kappa on the ball.
        gradient: gamma, an upper bound on the gradient of the objective at the ball's centre.
        radius: r > 0.
        jacobian_norm: B >= |J| on the ball.
        smoothness: M; f is convex.
        step_size: eta > 0.
        away: delta >= 0, how far from the centre gradient descent may begin.

    Returns:
        The :class:`UniqueMinimum`.

    References:
        docs/weight_decay.md, Theorem R.
    """
    m = decay - down
    steepest = smoothness * jacobian_norm * jacobian_norm + up + decay
    # 1 - rho, from below
    gap = smaller(step_size * m * (1 - SPARE), 2 - step_size * steepest - SPARE)
    rho = 1 - gap + SPARE
    room = m * (radius - away) / 2
    convex = bool(m > 0) and bool(radius > away)
    margin = 0.0
    if convex:
        margin = room / gradient if gradient > 0 else math.inf
    told = bool(rho < 1) and bool(gap > 0)
    if not (convex and gradient <= room and margin > 1 and told and steepest < math.inf):
        return UniqueMinimum(
            margin=smaller(margin, 1.0),
            step_size=step_size,
            radius=radius,
            strong_convexity=larger(m, 0.0) if convex else 0.0,
            smoothness=steepest,
        )
    distance = gradient / m
    reach = distance + away
    return UniqueMinimum(
        certified=True,
        margin=margin,
        step_size=step_size,
        radius=radius,
        strong_convexity=m,
        smoothness=steepest,
        contraction=rho,
        distance=distance,
        excess=gradient * distance / 2,
        reach=reach,
        path=(1 + rho) * reach / gap,
    )


def moved_prediction(*, distance: Number, jacobian_norm: Number, lipschitz: Number) -> Number:
    """How much a prediction can differ at a minimum that is known up to a distance only.

    Args:
        distance: d >= |theta' - theta_*|.
        jacobian_norm: |J_x(theta')|, of the prediction at a point x.
        lipschitz: A Lipschitz constant of J_x on the ball of radius d.

    Returns:
        A bound on |F(theta')(x) - F(theta_*)(x)|.

    References:
        docs/weight_decay.md, Theorem R5.
    """
    return distance * (jacobian_norm + lipschitz * distance / 2)
