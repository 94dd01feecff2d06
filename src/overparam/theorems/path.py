"""Theorem P: gradient descent stays in a tube around the linearised run until Theorem 1 holds.

Along the linearised run the Jacobian is known, so only the distance e_t = theta_t - thetabar_t of
the true run from that path is bounded by the worst case over a small ball. Statement and proof,
with the symbols used here: docs/path.md.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from overparam.theorems.convergence import Convergence
from overparam.theorems.handover import takes_over
from overparam.theorems.lazy import kernel_drift_nearby
from overparam.theorems.path_cells import PathCell, PathPoint, Tube, in_cell

ENOUGH = 0.9
"""Share of the tube's least sigma that Theorem 1 has to keep for the search of a rate to end."""

NEGLIGIBLE = 0.2
"""Share of the kernel's drift that what is behind the hand-over may add for the search to end."""


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
        parameters: Bound on |theta_t - thetabar_t| for all t.
        predictions: Bound on |F(theta_t) - F_lin(thetabar_t)| for all t.
        change: Bound on |J(theta_t) - J_0| for all t.
        tubes: The cells up to where what is left of the path moves the kernel least.
        drift_behind: Bound on |K_t - K_0| for all t from there on.
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
    tubes: tuple[Tube, ...] = ()
    drift_behind: float = math.inf
    lipschitz: float = math.inf
    newton_kantorovich: float = math.inf

    @property
    def kernel_drift(self) -> float:
        """A bound on |K_t - K_0| for all t."""
        return max([self.drift_behind, *(tube.kernel_drift for tube in self.tubes)])

    @property
    def least_drift(self) -> float:
        """What is left of that bound where every step of the path is looked at."""
        return max([self.drift_behind, *(tube.least for tube in self.tubes)])

    def beside(self, other: "PathConvergence") -> "PathConvergence":
        """The better of two for each claim: both are about the same run."""
        faster = self if self.converges.rate <= other.converges.rate else other
        steadier = self if self.least_drift <= other.least_drift else other
        shorter = min(self.converges.radius, other.converges.radius)
        least = {name: min(getattr(self, name), getattr(other, name)) for name in WHOLE}
        return replace(
            faster,
            **least,
            converges=replace(faster.converges, radius=shorter),
            tubes=steadier.tubes,
            drift_behind=steadier.drift_behind,
        )


WHOLE = ("displacement", "limit", "parameters", "predictions", "change")
"""Bounds on the whole run."""


def descent_follows_path(
    *,
    start: PathPoint,
    cells: Iterable[PathCell],
    step_size: float,
    min_eigenvalue: float,
    max_eigenvalue: float,
    enough: float = ENOUGH,
) -> PathConvergence:
    """Theorem P, least squares: convergence from the start of the path.

    Args:
        start: theta_0.
        cells: The path from there on. Taken one by one, and no more of them than are needed.
        step_size: eta, gradient descent's and the path's.
        min_eigenvalue: The smallest eigenvalue of K_0.
        max_eigenvalue: The largest; eta times it must be at most 1.
        enough: Share of the tube's least sigma that Theorem 1 has to keep for the search to end:
            0 ends it where Theorem 1 first holds, above 1 where the cells do.

    Returns:
        The :class:`PathConvergence`; not certified if the tube becomes too wide, or the cells end
        before Theorem 1 holds.

    References:
        docs/path.md, Theorem P.
    """
    run = _Run(residual=start.residual)
    if not every_mode_moves_one_way(step_size, min_eigenvalue, max_eigenvalue):
        return _not_certified(step_size, 0.0, run.residual, 0, run)
    best: PathConvergence | None = None
    # T = 0, which is Theorem 1 itself: it counts where no later T is certified.
    at_once = _tail(step_size, start, run)
    margin, level, last = at_once.margin, run.residual, start.step
    first, kept, largest = run, False, 0.0
    skipped: PathPoint | None = None
    for cell in cells:
        through = _through(step_size, cell, run)
        if through is None:
            break
        run, last, skipped = through, cell.b.step, cell.b
        # Once the rate is as good as it gets, Theorem 1 is asked only where the rest is short.
        largest = max(largest, run.tubes[-1].least)
        negligible = (1 + NEGLIGIBLE) * largest
        if kept:
            reach = run.radius + run.residual / cell.b.sigma
            if _drift_behind(cell.b, reach) > negligible:
                continue
        tail, skipped = _tail(step_size, cell.b, run), None
        margin, level = max(margin, tail.margin), run.residual
        if tail.certified:
            found = _whole(step_size, cell.b, run, tail)
            best = found if best is None else best.beside(found)
            kept = kept or tail.sigma_end >= enough * run.sigma
            if kept and found.drift_behind <= negligible:
                break
    if best is not None and skipped is not None:
        tail = _tail(step_size, skipped, run)
        best = best.beside(_whole(step_size, skipped, run, tail)) if tail.certified else best
    if best is None and at_once.certified:
        best = _whole(step_size, start, first, at_once)
    if best is not None and best.converges.stands:
        return best
    return _not_certified(step_size, min(margin, 1.0), level, last, run)


def tube_radii(cells: Iterable[PathCell], step_size: float) -> Iterator[tuple[int, float]]:
    """(t, E_t) at the end of each cell: |theta_t - thetabar_t| <= E_t, whatever lambda_min is.

    Args:
        cells: The path from its start on.
        step_size: eta, with eta lambda_max(K_0) <= 1.

    Yields:
        As far as a tube can be kept.

    References:
        docs/path.md, Lemmas P1 to P3.
    """
    E = 0.0
    for cell in cells:
        held = in_cell(step_size, cell, E)
        if held is None:
            return
        E = held.at_end
        yield cell.b.step, E


def every_mode_moves_one_way(
    step_size: float, min_eigenvalue: float, max_eigenvalue: float
) -> bool:
    """Whether 0 < eta lambda <= 1 for every eigenvalue: what Lemma P3 is about."""
    return bool(min_eigenvalue > 0 and step_size * max_eigenvalue <= 1 + 1e-12)


@dataclass(frozen=True)
class _Run:
    """What is known of gradient descent up to a point of the path; the defaults are at its start.

    Attributes:
        residual: Bound on |r_t|.
        radius: E_t, a bound on |e_t|.
        sigma: The least lower bound on sigma so far.
        smoothness, lipschitz: The largest L_phi and the largest L so far.
        slow: Bound on q times the part of the path behind, from (4) of docs/convergence.md: what
            the residual that is left can still do counts with the least sigma so far.
        length: Bound on the length of the path so far, from the descent itself.
        parameters, predictions, change: Bounds so far, as in :class:`PathConvergence`.
        distance: Bound on |theta_t - theta_0| so far.
        tubes: The cells so far.
        past: What Lemma P5 asks of the cells so far.
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
    tubes: tuple[Tube, ...] = ()
    past: tuple["_PastCell", ...] = ()


@dataclass(frozen=True)
class _PastCell:
    """A cell behind the run, as Lemma P5 sees it.

    Attributes:
        residual: |rbar_a|.
        radius: E_a.
        eps: Bound on |delta_t| + L |e_t|^2 / 2.
        drive: 2 E times the sum of v_t.
        time: N eta.
        slack: 2 - eta B^2.
    """

    residual: float
    radius: float
    eps: float
    drive: float
    time: float
    slack: float


def _through(eta: float, cell: PathCell, run: _Run) -> _Run | None:
    """From one point of the path to the next; None if the tube cannot be kept."""
    held = in_cell(eta, cell, run.radius)
    if held is None:
        return None
    a, b, N = cell.a, cell.b, cell.b.step - cell.a.step
    E, B = held.radius, held.jacobian_norm
    omegas = [(z, z.modulus(E + held.h)) for z in held.near]
    sigma = min(z.sigma - omega for z, omega in omegas)
    L_phi = B**2 + held.lipschitz * run.residual
    q = 1 - eta * L_phi / 2
    if sigma <= 0 or q <= 0:
        return None
    rate = max(1 - 2 * eta * q * sigma**2, 0.0)
    gap = b.mismatch + B * held.at_end  # |r_b - rbar_b| at most
    lowest = b.residual if b.least_residual is None else b.least_residual
    descent = max(run.residual**2 - max(lowest - gap, 0.0) ** 2, 0.0)
    this = _PastCell(a.residual, run.radius, held.eps, 2 * E * held.v, N * eta, 2 - eta * B**2)
    past = (*run.past, this)
    least = min(run.sigma, sigma)
    before = 0.0 if math.isinf(run.sigma) else 1 / run.sigma
    return _Run(
        residual=min(rate ** (N / 2) * run.residual, b.residual + gap, _residual_in_window(past)),
        radius=held.at_end,
        sigma=least,
        smoothness=max(run.smoothness, L_phi),
        lipschitz=max(run.lipschitz, held.lipschitz),
        slow=run.slow + run.residual * (1 / least - before),
        length=run.length + math.sqrt(N * eta / (2 * q) * descent),
        parameters=max(run.parameters, E),
        predictions=max(run.predictions, min(held.eps + B * E, run.residual + a.residual)),
        change=max(run.change, *(z.change + omega for z, omega in omegas)),
        distance=max(run.distance, max(a.behind, b.behind) + E),
        tubes=(*run.tubes, Tube.of(cell, held)),
        past=past,
    )


def _residual_in_window(past: tuple[_PastCell, ...]) -> float:
    """Lemma P5: a bound on the residual behind these cells, from the best window."""
    best, drive, time, eps, f = math.inf, 0.0, 0.0, 0.0, math.inf
    for cell in reversed(past):
        drive, time = drive + cell.drive, time + cell.time
        eps, f = max(eps, cell.eps), min(f, cell.slack)
        g = (cell.radius**2 + drive) / time
        best = min(best, cell.residual + (eps + math.sqrt(eps**2 + f * g)) / f)
    return best


def _tail(eta: float, point: PathPoint, run: _Run) -> Convergence:
    """Theorem 1 from any parameters within E_t of the point; docs/path.md, Lemma P4."""
    return takes_over(
        on_balls=point.on_balls,
        away=run.radius,
        sigma=point.sigma,
        jacobian_norm=point.jacobian_norm,
        smoothness=1.0,
        pl_constant=1.0,
        excess=run.residual**2 / 2,
        step_size=eta,
    )


def _drift_behind(point: PathPoint, reach: float) -> float:
    """Theorem 8: a bound on |K - K_0| within ``reach`` of a point."""
    change, norm = point.modulus(reach), point.jacobian_norm
    return kernel_drift_nearby(seen=point.kernel_drift, change=change, jacobian_norm=norm)


def _whole(eta: float, point: PathPoint, run: _Run, tail: Convergence) -> PathConvergence:
    """The claims about the whole run: those up to the point, and Theorem 1's beyond it."""
    sigma = min(run.sigma, tail.sigma_end)
    smoothness = max(run.smoothness, tail.smoothness)
    q = 1 - eta * smoothness / 2
    slow = run.slow + run.residual * (1 / sigma - 1 / run.sigma)
    length = min(slow / q, run.length + tail.radius)
    lipschitz = point.on_ball(run.radius + tail.ball)[1]
    reach = run.radius + tail.radius  # from thetabar_T
    limit = point.behind + reach
    return PathConvergence(
        converges=replace(
            tail,
            step_fraction=q,
            radius=length,
            sigma_end=sigma,
            smoothness=smoothness,
            rate=1 - 2 * eta * q * sigma**2,
        ),
        handover=point.step,
        tube=run.parameters,
        displacement=min(max(run.distance, limit), length),
        limit=min(limit, length),
        parameters=max(run.parameters, reach + point.ahead),
        predictions=max(run.predictions, run.residual + point.residual),
        change=max(run.change, point.change + point.modulus(reach)),
        tubes=run.tubes,
        drift_behind=_drift_behind(point, reach),
        lipschitz=max(run.lipschitz, lipschitz),
        newton_kantorovich=lipschitz * tail.level / (point.sigma - point.modulus(run.radius)) ** 2,
    )


def _not_certified(
    eta: float, margin: float, level: float, last: int, run: _Run
) -> PathConvergence:
    found = Convergence(
        step_size=eta,
        step_fraction=0.0,
        level=level,
        margin=margin,
        ball=0.0,
        smoothness=run.smoothness,
    )
    return PathConvergence(found, last, run.parameters)
