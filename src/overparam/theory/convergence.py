"""Theorem 1: gradient descent on f o F converges at a linear rate to a global minimiser nearby.

The statement and its proof are in docs/convergence.md, with the symbols used here. Its hypotheses
are the arguments of :func:`gradient_descent_converges`; Theorem 1' (existence only) is
:func:`interpolation_exists`.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.theory.majorant import Crossing, Majorant

STEP_FRACTIONS = np.linspace(0.0, 1.0, 130)[1:-1]
"""Where between its least value and 1 q = 1 - eta L_phi / 2 is tried if the step size is free."""


@dataclass(frozen=True)
class Convergence:
    """What Theorem 1 gives.

    Attributes:
        certified: Whether its condition, max Psi > rho, holds with a finite L_phi, and says
            something in float64 (:attr:`stands`).
        step_size: eta; if not certified and none was asked for, 1 / L_phi at the radius where Psi
            peaks: the step the theorem would take were the residual small enough.
        step_fraction: q = 1 - eta L_phi / 2; 1, the limit of small steps, if not certified and no
            step was asked for.
        level: rho = sqrt(2 Delta_0 / alpha) / q.
        margin: max Psi / rho; above 1 exactly if certified. Where a given step fails, the largest
            over the balls, each with its own q and Psi up to its radius; 0 if no step fits.
        radius: s*, a bound on the length of the whole path; infinite if not certified.
        ball: R > s*, the radius of the ball on which the hypotheses were used.
        sigma_end: sigma_* = sigma_0 - omega(s*).
        smoothness: L_phi on the ball.
        rate: 1 - 2 eta q alpha sigma_*^2; 1 if not certified.
    """

    certified: bool
    step_size: float
    step_fraction: float
    level: float
    margin: float
    radius: float
    ball: float
    sigma_end: float
    smoothness: float
    rate: float

    @property
    def stands(self) -> bool:
        """Whether float64 can tell what is certified from nothing.

        The one rule for every certificate, of Theorem 1 or P, computed or proved, at an
        initialisation or an anchor: a rate that rounds to 1 is no rate, a path without a level is
        known to have length zero only if the residual is zero itself, and every number can be
        written down.
        """
        finite = (self.step_size, self.level, self.radius, self.ball, self.smoothness)
        return bool(
            0 <= self.rate < 1
            and all(math.isfinite(number) for number in finite)
            and min(self.step_size, self.sigma_end, self.step_fraction, self.smoothness) > 0
            and self.margin > 1
            and (self.radius > 0) == (self.level > 0)
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
) -> Convergence:
    """Theorem 1, and the step size that minimises its bound on the number of steps.

    Args:
        majorant: Psi, from sigma_0 and omega at radii R_1 < ... < R_N.
        lipschitz: L on the balls of those radii: the Lipschitz constant of J.
        jacobian_norm: Upper bound on |J(theta_0)|.
        smoothness: M.
        pl_constant: alpha, valid on {f - f* <= excess}; 0 if there is none, and then nothing is
            certified.
        excess: Upper bound on Delta_0 = phi(theta_0) - f*.
        step_size: eta; None chooses it.
        step_fraction: q, which sets eta = 2 (1 - q) / L_phi on the smallest ball; with None the
            best q is chosen. Not together with a step size.

    Returns:
        The :class:`Convergence`.

    References:
        docs/convergence.md, Theorem 1.
    """
    smooth = smoothness * (jacobian_norm + majorant.modulus) ** 2
    known = np.isfinite(lipschitz)  # apart: inf * 0 is not a number
    smooth = smooth + np.where(known, lipschitz, 0.0) * math.sqrt(2 * smoothness * excess)
    smooth = np.where(known, smooth, math.inf)
    level = math.sqrt(2 * excess / pl_constant) if pl_constant else math.inf
    if step_fraction is not None:
        best = _at_fraction(majorant, smooth, level, pl_constant, step_fraction)
    elif step_size is None:
        best = _best_step(majorant, smooth, level, pl_constant)
    else:
        best = _given_step(majorant, smooth, level, pl_constant, step_size)
    return best or _not_certified(majorant, smooth, level, step_size)


def _best_step(
    majorant: Majorant, smooth: np.ndarray, level: float, alpha: float
) -> Convergence | None:
    """Minimise 1 / (2 eta q alpha sigma_*^2), eta = 2 (1 - q) / L_phi(R), over q and R > s*(q)."""
    if not majorant.maximum > level:
        return None
    least = level / majorant.maximum  # where rho = level / q reaches max Psi
    best = None
    for q in least + (1 - least) * STEP_FRACTIONS:
        candidate = _at_fraction(majorant, smooth, level, alpha, float(q))
        if candidate is not None and (best is None or candidate.rate < best.rate):
            best = candidate
    return best


def _at_fraction(
    majorant: Majorant, smooth: np.ndarray, level: float, alpha: float, q: float
) -> Convergence | None:
    """The first ball beyond s*(q), if the theorem holds there."""
    crossing = majorant.crossing(level / q)
    ball = None if crossing is None else _first_ball(majorant, crossing)
    if crossing is None or ball is None or not math.isfinite(smooth[ball]):
        return None
    return _certified(majorant, smooth, level, alpha, q, crossing, ball)


def _given_step(
    majorant: Majorant, smooth: np.ndarray, level: float, alpha: float, eta: float
) -> Convergence | None:
    """The best ball for a given step: a larger ball has a larger L_phi, hence a smaller q."""
    for ball in range(len(smooth)):
        q = 1 - eta * float(smooth[ball]) / 2
        if q <= 0:
            return None
        crossing = majorant.crossing(level / q)
        if crossing is not None and crossing.radius < majorant.radii[ball]:
            return _certified(majorant, smooth, level, alpha, q, crossing, ball, eta)
    return None


def _first_ball(majorant: Majorant, crossing: Crossing) -> int | None:
    """The first node strictly beyond s*."""
    for node in range(crossing.node, len(majorant.radii)):
        if majorant.radii[node] > crossing.radius:
            return node
    return None


def _certified(
    majorant: Majorant,
    smooth: np.ndarray,
    level: float,
    alpha: float,
    q: float,
    crossing: Crossing,
    ball: int,
    eta: float | None = None,
) -> Convergence | None:
    eta = 2 * (1 - q) / float(smooth[ball]) if eta is None else eta
    found = Convergence(
        certified=True,
        step_size=eta,
        step_fraction=q,
        level=level / q,
        margin=majorant.maximum / (level / q) if level else math.inf,
        radius=crossing.radius,
        ball=float(majorant.radii[ball]),
        sigma_end=crossing.sigma,
        smoothness=float(smooth[ball]),
        rate=1 - 2 * eta * q * alpha * crossing.sigma**2,
    )
    return found if found.stands else None


def _not_certified(
    majorant: Majorant, smooth: np.ndarray, level: float, eta: float | None
) -> Convergence:
    ball, q, reached = _closest(majorant, smooth, eta)
    rho = level / q if q else math.inf
    return Convergence(
        certified=False,
        step_size=_inverse(float(smooth[ball])) if eta is None else eta,
        step_fraction=q,
        level=rho,
        margin=min(reached / rho, 1.0) if rho else 0.0,
        radius=math.inf,
        ball=float(majorant.radii[ball]),
        sigma_end=0.0,
        smoothness=float(smooth[ball]),
        rate=1.0,
    )


def _inverse(smooth: float) -> float:
    return 1 / smooth if smooth else math.inf


def _closest(majorant: Majorant, smooth: np.ndarray, eta: float | None) -> tuple[int, float, float]:
    """The ball that comes closest to the condition, its q, and max Psi up to its radius.

    A given step is admissible only on balls with L_phi < 2 / eta, and only Psi up to that radius
    counts: on a larger ball max Psi may be larger, but q is smaller.
    """
    if eta is None:
        ball = majorant.peak
        return ball, 1.0 if math.isfinite(smooth[ball]) else 0.0, majorant.maximum
    q = np.maximum(1 - eta * smooth / 2, 0.0)
    reached = np.maximum.accumulate(np.maximum(majorant.values, 0.0))
    ball = int(np.argmax(q * reached)) if q.any() else int(np.argmin(smooth))
    return ball, float(q[ball]), float(reached[ball])


@dataclass(frozen=True)
class Existence:
    """What Theorem 1' gives: whether a global minimiser exists nearby, and how near."""

    exists: bool
    margin: float
    radius: float


def interpolation_exists(*, majorant: Majorant, target_norm: float) -> Existence:
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
    if crossing is None:
        return Existence(False, majorant.maximum / level if level else 0.0, math.inf)
    return Existence(True, majorant.maximum / level if level else math.inf, crossing.radius)
