"""Theorem 1: gradient descent on f o F converges at a linear rate to a global minimiser nearby.

The statement and its proof are in docs/convergence.md, with the symbols used here. The theorem
itself, for one step size on one ball, is :func:`converges_on_ball`, over any type of number;
:func:`choose_step` looks in float64 for the step and the ball that make the most of it, and
:func:`gradient_descent_converges` does the one after the other. Theorem 1' (existence only) is
:func:`interpolation_exists`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from overparam.numbers import LOWER, UPPER, Number, larger, over, safe, smaller, sqrt
from overparam.numbers.on_demand import OnDemand
from overparam.theorems.descent import objective_smoothness
from overparam.theorems.majorant import Majorant

STEP_FRACTIONS = np.linspace(0.0, 1.0, 130)[1:-1]
"""Where between its least value and 1 q = 1 - eta L_phi / 2 is tried if the step size is free."""


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """What Theorem 1 gives.

    Attributes:
        certified: Whether its condition, max Psi > rho, holds with a finite L_phi, and says
            something (:attr:`stands`).
        step_size: eta; if not certified and none was asked for, 1 / L_phi at the radius where Psi
            peaks: the step the theorem would take were the residual small enough.
        step_fraction: q = 1 - eta L_phi / 2; 1, the limit of small steps, if not certified and no
            step was asked for.
        level: rho = sqrt(2 Delta_0 / alpha) / q.
        margin: max Psi / rho; above 1 exactly if certified. Where a given step fails, Psi counts up
            to the ball's radius only; 0 if no step fits.
        radius: s*, a bound on the length of the whole path; infinite if not certified.
        ball: R > s*, the radius of the ball on which the hypotheses were used.
        sigma_end: sigma_* = sigma_0 - omega(s*).
        smoothness: L_phi on the ball.
        rate: 1 - 2 eta q alpha sigma_*^2; 1 if not certified.
    """

    certified: bool = False
    step_size: Number = field(metadata=LOWER)
    step_fraction: Number = field(metadata=LOWER)
    level: Number = field(metadata=UPPER)
    margin: Number = field(metadata=LOWER)
    radius: Number = field(default=math.inf, metadata=UPPER)
    ball: Number = field(metadata=LOWER)
    sigma_end: Number = field(default=0.0, metadata=LOWER)
    smoothness: Number = field(metadata=UPPER)
    rate: Number = field(default=1.0, metadata=UPPER)

    @property
    def stands(self) -> bool:
        """Whether what is certified can be told from nothing in the numbers at hand.

        The one rule for every certificate, of Theorem 1 or P, computed or proved, at an
        initialisation or an anchor: a rate that rounds to 1 is no rate, a path has length zero only
        if the residual is zero itself, and every number can be written down.
        """
        finite = (self.step_size, self.level, self.radius, self.ball, self.smoothness)
        positive = (self.step_size, self.sigma_end, self.step_fraction, self.smoothness)
        return bool(
            self.rate < 1
            and all(number < math.inf for number in finite)
            and all(number > 0 for number in positive)
            and self.margin > 1
            and bool(self.radius > 0) == bool(self.level > 0)
        )


def converges_on_ball(
    *,
    majorant: Majorant,
    ball: int,
    lipschitz: Number,
    jacobian_norm: Number,
    smoothness: Number,
    pl_constant: Number,
    excess: Number,
    step_size: Number | None,
) -> Convergence:
    """Theorem 1 for a step size on the ball whose radius is a given node.

    Args:
        majorant: Psi, from sigma_0 and omega at radii R_1 < ... < R_N.
        ball: Index of the ball's radius R.
        lipschitz: L on that ball: the Lipschitz constant of J; infinite if there is none.
        jacobian_norm: Upper bound on |J(theta_0)|.
        smoothness: M.
        pl_constant: alpha, valid on {f - f* <= excess}; 0 if there is none, and then nothing is
            certified.
        excess: Upper bound on Delta_0 = phi(theta_0) - f*.
        step_size: eta; None for how far the condition is from holding in the limit of small steps,
            where q = 1 and nothing is certified.

    Returns:
        The :class:`Convergence`.

    References:
        docs/convergence.md, Theorem 1.
    """
    sizes = {"jacobian_norm": jacobian_norm, "smoothness": smoothness, "excess": excess}
    L_phi = objective_smoothness(modulus=majorant.modulus[ball], lipschitz=lipschitz, **sizes)
    if step_size is None:
        q = 1.0 if L_phi < math.inf else 0.0
    else:
        q = larger(1 - step_size * L_phi / 2, 0.0)
    rho = over(over(sqrt(2 * excess / pl_constant), q), 1.0) if pl_constant > 0 else math.inf
    crossing = None if step_size is None else majorant.crossing(rho)
    R = majorant.radii[ball]
    if step_size is not None and crossing is not None and q > 0 and crossing.radius < R:
        rate = 1 - 2 * step_size * q * pl_constant * crossing.sigma * crossing.sigma
        found = Convergence(
            certified=True,
            step_size=step_size,
            step_fraction=q,
            level=rho,
            margin=majorant.maximum / rho if rho > 0 else math.inf,
            radius=crossing.radius,
            ball=R,
            sigma_end=crossing.sigma,
            smoothness=L_phi,
            rate=larger(rate, 0.0),
        )
        if found.stands:
            return found
    most = majorant.maximum if step_size is None else majorant.maximum_up_to(ball)
    return Convergence(
        step_size=over(1.0, L_phi) if step_size is None else step_size,
        step_fraction=q,
        level=rho,
        margin=smaller(most / rho, 1.0) if rho > 0 else 0.0,
        ball=R,
        smoothness=L_phi,
    )


def gradient_descent_converges(
    *,
    majorant: Majorant,
    lipschitz: Float[np.ndarray, "nodes"],
    jacobian_norm: float,
    smoothness: float,
    pl_constant: float,
    excess: float,
    step_size: float | None = None,
    step_fraction: float | None = None,
    number: Callable[[Any], Number] | None = None,
) -> Convergence:
    """Theorem 1 with the step size that minimises its bound on the number of steps.

    Args:
        majorant: Psi, from sigma_0 and omega at radii R_1 < ... < R_N.
        lipschitz: L on the balls of those radii.
        jacobian_norm: As in :func:`converges_on_ball`, as are all that are not explained here.
        smoothness: M.
        pl_constant: alpha.
        excess: Upper bound on Delta_0.
        step_size: eta; None chooses it.
        step_fraction: q, which sets eta = 2 (1 - q) / L_phi on the smallest ball; with None the
            best q is chosen. Not together with a step size.
        number: Makes floats the numbers over which the theorem is evaluated; they are themselves
            without it. Step and ball are chosen in float64 either way.

    Returns:
        The :class:`Convergence`, over these numbers.
    """
    sizes = {"jacobian_norm": jacobian_norm, "smoothness": smoothness, "excess": excess}
    L_phi = objective_smoothness(modulus=majorant.modulus, lipschitz=lipschitz, **sizes)
    level = math.sqrt(2 * excess / pl_constant) if pl_constant > 0 else math.inf
    steep = OnDemand.known(L_phi)
    step, ball = choose_step(majorant, steep, level, step_size, step_fraction)
    sizes |= {"pl_constant": pl_constant, "lipschitz": float(lipschitz[ball])}
    if number is None:
        found = converges_on_ball(majorant=majorant, ball=ball, step_size=step, **sizes)
        return safe(found)
    numbers = Majorant(*map(number, (majorant.sigma, majorant.radii, majorant.modulus)))
    exact = {name: number(size) for name, size in sizes.items()}
    exact["step_size"] = None if step is None else number(step)
    return converges_on_ball(majorant=numbers, ball=ball, **exact)


def choose_step(
    majorant: Majorant,
    smoothness: OnDemand,
    level: float,
    step_size: float | None = None,
    step_fraction: float | None = None,
) -> tuple[float | None, int]:
    """The step size and the ball for which Theorem 1 says the most, or comes closest to holding.

    Args:
        majorant: Psi, in float64.
        smoothness: L_phi on the balls, of which as few as possible are asked for.
        level: sqrt(2 Delta_0 / alpha), which is rho for q = 1.
        step_size: eta, or None.
        step_fraction: q, or None.

    Returns:
        eta and the ball's index; with None for eta if none was given and none is certified.
    """
    if step_size is not None:
        return step_size, _ball_for(majorant, np.asarray(smoothness), level, step_size)
    if not majorant.maximum > level:
        return None, majorant.peak
    least = level / majorant.maximum  # where rho = level / q reaches max Psi
    fractions = [step_fraction] if step_fraction else least + (1 - least) * STEP_FRACTIONS
    tried = [(q, c) for q in fractions if (c := majorant.crossing(level / q)) is not None]
    reach = [(q, c.sigma, _first_ball(majorant, c.radius)) for q, c in tried]
    steps = [_Step(float(q), float(sigma), ball) for q, sigma, ball in reach if ball is not None]
    if steps:
        smoothness.at(np.array([min(step.ball for step in steps)]))
    while steps:
        # The one that is best if L_phi is what is known of it; if it then is, nothing is better.
        promised = [step.decrease(smoothness.at_least(step.ball)) for step in steps]
        step = steps[int(np.argmax(promised))]
        decrease = step.decrease(smoothness[step.ball])
        if not max(promised) > 0:
            break
        if decrease >= max(promised):
            return step.size(smoothness[step.ball]), step.ball
    return None, majorant.peak


class _Step(NamedTuple):
    """A step that Theorem 1 certifies: its q, sigma_0 - omega(s*), and the ball beyond s*."""

    q: float
    sigma: float
    ball: int

    def size(self, smoothness: float) -> float:
        """eta."""
        return 2 * (1 - self.q) / smoothness

    def decrease(self, smoothness: float) -> float:
        """Half of 1 - rate, over alpha; 0 without L_phi."""
        if not math.isfinite(smoothness):
            return 0.0
        return self.size(smoothness) * self.q * self.sigma**2


def _first_ball(majorant: Majorant, radius: float) -> int | None:
    """The first node strictly beyond s*."""
    beyond = np.flatnonzero(majorant.radii > radius)
    return int(beyond[0]) if len(beyond) else None


def _ball_for(
    majorant: Majorant, smoothness: Float[np.ndarray, "nodes"], level: float, eta: float
) -> int:
    """The smallest ball on which a given step is certified; else the one that comes closest.

    A larger ball has a larger L_phi, hence a smaller q. The step is admissible only on balls with
    L_phi < 2 / eta, and only Psi up to that radius counts.
    """
    fractions = np.maximum(1 - eta * smoothness / 2, 0.0)
    for ball in np.flatnonzero(fractions * majorant.maximum > level):
        crossing = majorant.crossing(level / float(fractions[ball]))
        if crossing is not None and crossing.radius < majorant.radii[ball]:
            return int(ball)
    if not fractions.any():
        return int(np.argmin(smoothness))
    most = np.maximum.accumulate(np.maximum(majorant.values, 0.0))
    return int(np.argmax(fractions * most))


@dataclass(frozen=True)
class Existence:
    """What Theorem 1' gives: whether a global minimiser exists nearby, and how near."""

    exists: bool
    margin: Number = field(metadata=LOWER)
    radius: Number = field(metadata=UPPER)


def interpolation_exists(*, majorant: Majorant, target_norm: Number) -> Existence:
    """Theorem 1': a parameter theta with F(theta) = h* exists within s_K of theta_0.

    Args:
        majorant: Psi.
        target_norm: rho_K = |J_0^+ r_0| = sqrt(r_0^T K_0^{-1} r_0), or an upper bound on it such as
            |r_0| / sigma_0, for r_0 = h* - F(theta_0) and h* a minimiser of f.

    Returns:
        The :class:`Existence`; ``radius`` is s_K, infinite if the condition fails.

    References:
        docs/convergence.md, Theorem 1'.
    """
    level = majorant.sigma * target_norm
    crossing = majorant.crossing(level)
    margin = majorant.maximum / level if level > 0 else math.inf
    if crossing is None:
        return Existence(False, margin if level > 0 else 0.0, math.inf)
    return Existence(True, margin, crossing.radius)
