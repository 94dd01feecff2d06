"""Theorem P: gradient descent stays in a tube around the linearised run until Theorem 1 holds.

Along the linearised run the Jacobian is known, so only the distance E_t between the true run and
that path is bounded by the worst case over a small ball. The statement and its proof are in
docs/path.md, with the symbols used here; its hypotheses are the arguments of
:func:`descent_follows_path`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from overparam.linearised.path import LinearisedPath, PathPoint
from overparam.theorems.convergence import Convergence
from overparam.theorems.handover import takes_over

ROUNDS, SETTLED = 80, 1e-6
"""How often, and to which relative accuracy, a cell's tube radius is iterated to a fixed point."""


ENOUGH = 0.9
"""Share of the tube's least sigma that Theorem 1 has to keep for the search to end."""


@dataclass(frozen=True)
class PathConvergence:
    """What Theorem P gives.

    Attributes:
        converges: Step size, q, L_phi, sigma_*, rate and path bound of the whole run, in the same
            sense as Theorem 1's; ``margin`` and ``level`` are those where Theorem 1 takes over.
        handover: The step after which Theorem 1 takes over; the last one reached if it never does.
        tube: The largest E_t up to there.
        displacement: Bound on |theta_t - theta_0| for all t.
        limit: Bound on |theta_inf - theta_0|.
        parameters: Bound on |theta_t - theta_t^lin| for all t.
        predictions: Bound on |F(theta_t) - F_lin(theta_t^lin)| for all t.
        change: Bound on |J(theta_t) - J_0| for all t.
        lipschitz: The largest Lipschitz constant of J that was used.
        newton_kantorovich: L rho / sigma^2 where Theorem 1 takes over, with L on its ball.
    """

    converges: Convergence
    handover: int
    tube: float
    displacement: float = math.inf
    limit: float = math.inf
    parameters: float = math.inf
    predictions: float = math.inf
    change: float = math.inf
    lipschitz: float = math.inf
    newton_kantorovich: float = math.inf


def descent_follows_path(*, path: LinearisedPath, points: Iterable[PathPoint]) -> PathConvergence:
    """Theorem P, least squares: convergence from the start of the path.

    Args:
        path: The linearised run; its step size is gradient descent's.
        points: What is measured along it, from step 0 on, at increasing steps. Taken one by one,
            and no more of them than are needed.

    Returns:
        The :class:`PathConvergence`; not certified if the tube becomes too wide, or the points end
        before Theorem 1 holds.

    References:
        docs/path.md, Theorem P.
    """
    run = _Run(residual=path.residual_norm(0))
    best: PathConvergence | None = None
    if not path.monotone:
        return _not_certified(path, 0.0, run.residual, 0, run)
    points = iter(points)
    here = next(points)
    # T = 0, which is Theorem 1 itself: it counts where no later T is certified.
    at_once = tail = _tail(path, here, run)
    margin, level = tail.margin, run.residual
    start, first = here, run
    for ahead in points:
        cell = _through(path, here, ahead, run)
        if cell is None:
            break
        here, run = ahead, cell
        tail = _tail(path, here, run)
        margin, level = max(margin, tail.margin), run.residual
        if tail.certified:
            found = _whole(path, here, run, tail)
            if best is None or found.converges.rate < best.converges.rate:
                best = found
            if tail.sigma_end >= ENOUGH * run.sigma:  # looking on would hardly improve the rate
                break
    if best is None and at_once.certified:
        best = _whole(path, start, first, at_once)
    if best is not None and best.converges.stands:
        return best
    return _not_certified(path, min(margin, 1.0), level, here.step, run)


@dataclass(frozen=True)
class _Run:
    """What is known of gradient descent up to a point of the path; the defaults are at its start.

    Attributes:
        residual: Bound on |r_t|.
        radius: E_t, a bound on |theta_t - theta_t^lin|.
        sigma: The least lower bound on sigma so far.
        smoothness, lipschitz: The largest L_phi and the largest L so far.
        slow: Bound on q times the part of the path behind, from (4) of docs/convergence.md: what
            the residual that is left can still do counts with the least sigma so far.
        length: Bound on the length of the path so far, from the descent itself.
        parameters, predictions, change: Bounds so far, as in :class:`PathConvergence`.
        distance: Bound on |theta_t - theta_0| so far.
    """

    residual: float
    radius: float = 0.0
    sigma: float = math.inf
    smoothness: float = 0.0
    lipschitz: float = 0.0
    slow: float = 0.0
    length: float = 0.0
    parameters: float = 0.0
    predictions: float = 0.0
    change: float = 0.0
    distance: float = 0.0


def _through(path: LinearisedPath, here: PathPoint, ahead: PathPoint, run: _Run) -> _Run | None:
    """From one point of the path to the next; None if the tube cannot be kept."""
    eta, steps = path.step_size, ahead.step - here.step
    step = path.movement(here.step, ahead.step)
    nearby = (here,) if steps == 1 else (here, ahead)
    apart = 0.0 if steps == 1 else step / math.sqrt(2)  # from the nearest of them
    residuals, drifts = _sums(path, here, ahead, nearby)
    change, mismatch = max(p.change for p in nearby), max(p.mismatch for p in nearby)
    radius = run.radius
    for _ in range(ROUNDS):
        omega, lipschitz = here.bounds.on_ball(step + radius)
        steepest = here.jacobian_norm + omega
        if not eta * steepest**2 < 2 or not math.isfinite(lipschitz):
            return None
        bend = mismatch + (change + lipschitz * apart) * apart + lipschitz * radius**2 / 2
        damped = steps * eta * bend**2 / (2 - eta * steepest**2)
        pushed = eta * (drifts + lipschitz * apart * residuals)
        growth = eta * lipschitz * residuals
        if growth > 100:
            return None
        reached = math.exp(growth) * (math.hypot(run.radius, math.sqrt(damped)) + pushed)
        if reached <= radius:
            break
        radius = reached * (1 + SETTLED)
    else:
        return None
    sigma = min(p.sigma - p.bounds.modulus(radius + apart) for p in nearby)
    smoothness = steepest**2 + lipschitz * run.residual
    fraction = 1 - eta * smoothness / 2
    if sigma <= 0 or fraction <= 0:
        return None
    kept = max(1 - 2 * eta * fraction * sigma**2, 0.0) ** (steps / 2) * run.residual
    known, off = path.residual_norm(ahead.step), ahead.mismatch + steepest * reached
    lost = max(run.residual**2 - max(known - off, 0.0) ** 2, 0.0)
    least = min(run.sigma, sigma)
    before = 0.0 if math.isinf(run.sigma) else 1 / run.sigma
    far = max(path.movement(0, here.step), path.movement(0, ahead.step)) + radius
    strayed = min(bend + steepest * radius, run.residual + path.residual_norm(here.step))
    turned = max(p.change + p.bounds.modulus(radius + apart) for p in nearby)
    return _Run(
        residual=min(kept, known + off),
        radius=reached,
        sigma=least,
        smoothness=max(run.smoothness, smoothness),
        lipschitz=max(run.lipschitz, lipschitz),
        slow=run.slow + run.residual * (1 / least - before),
        length=run.length + math.sqrt(steps * eta / (2 * fraction) * lost),
        parameters=max(run.parameters, radius),
        predictions=max(run.predictions, strayed),
        change=max(run.change, turned),
        distance=max(run.distance, far),
    )


def _sums(
    path: LinearisedPath, here: PathPoint, ahead: PathPoint, nearby: tuple[PathPoint, ...]
) -> tuple[float, float]:
    """Bounds on the sums over a cell's steps of |r_t| and of max |(J(theta) - J_0)* r_t|."""
    steps = ahead.step - here.step
    first, last = path.residual(here.step), path.residual(ahead.step)
    left, right = (steps + 1) / 2, (steps - 1) / 2  # weights of a chord's ends
    residuals = left * float(np.linalg.norm(first)) + right * float(np.linalg.norm(last))
    drifts = left * max(p.drift(first) for p in nearby)
    if steps > 1:
        off = max(p.change for p in nearby) * path.chord_error(here.step, ahead.step)
        drifts += right * max(p.drift(last) for p in nearby) + steps * off
    return residuals, drifts


def _tail(path: LinearisedPath, point: PathPoint, run: _Run) -> Convergence:
    """Theorem 1 from any parameters within E_t of the point; docs/path.md, Lemma P4."""
    return takes_over(
        on_ball=point.bounds.on_ball,
        away=run.radius,
        sigma=point.sigma,
        jacobian_norm=point.jacobian_norm,
        smoothness=1.0,
        pl_constant=1.0,
        excess=run.residual**2 / 2,
        step_size=path.step_size,
    )


def _whole(path: LinearisedPath, point: PathPoint, run: _Run, tail: Convergence) -> PathConvergence:
    """The claims about the whole run: those up to the point, and Theorem 1's beyond it."""
    sigma = min(run.sigma, tail.sigma_end)
    smoothness = max(run.smoothness, tail.smoothness)
    fraction = 1 - path.step_size * smoothness / 2
    slow = run.slow + run.residual * (1 / sigma - 1 / run.sigma)
    length = min(slow / fraction, run.length + tail.radius)
    left = point.sigma - point.bounds.modulus(run.radius)
    lipschitz = point.bounds.lipschitz(run.radius + tail.ball)
    ends = path.movement(0, point.step) + run.radius + tail.radius
    onward = path.movement(point.step, math.inf)
    reach = run.radius + tail.radius
    turned = point.change + point.bounds.modulus(reach)
    return PathConvergence(
        converges=replace(
            tail,
            step_fraction=fraction,
            radius=length,
            sigma_end=sigma,
            smoothness=smoothness,
            rate=1 - 2 * path.step_size * fraction * sigma**2,
        ),
        handover=point.step,
        tube=run.parameters,
        displacement=min(max(run.distance, ends), length),
        limit=min(ends, length),
        parameters=max(run.parameters, reach + onward),
        predictions=max(run.predictions, run.residual + path.residual_norm(point.step)),
        change=max(run.change, turned),
        lipschitz=max(run.lipschitz, lipschitz),
        newton_kantorovich=lipschitz * tail.level / left**2,
    )


def _not_certified(
    path: LinearisedPath, margin: float, level: float, last: int, run: _Run
) -> PathConvergence:
    return PathConvergence(
        converges=Convergence(
            certified=False,
            step_size=path.step_size,
            step_fraction=0.0,
            level=level,
            margin=margin,
            radius=math.inf,
            ball=0.0,
            sigma_end=0.0,
            smoothness=run.smoothness,
            rate=1.0,
        ),
        handover=last,
        tube=run.parameters,
    )
