"""The run of a certificate from Theorem C, up to where Theorem 1 takes over."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import UNSET

from overparam.certificate.prediction import PER_PRODUCT, PER_STEP, Prediction
from overparam.certificate.reason import Adrift, Lost, Reason, WouldTake
from overparam.certificate.trajectory_cell import Cell
from overparam.certificate.trajectory_certificate import Found
from overparam.certificate.trajectory_checkpoint import Saved
from overparam.certificate.trajectory_movement import SPARE
from overparam.certificate.trajectory_points import Point, excess_at, sigma_at
from overparam.certificate.trajectory_run import Run
from overparam.enclosures.rounding import add_up
from overparam.model.mlp import MLP
from overparam.numbers import Interval, larger, safe, safe_upper, sqrt
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.rounding.residual import EVALUATION
from overparam.theorems.handover import TAIL_RADII, excess_within, takes_over

TELLING = 32
"""Steps that tell how long others take: the first ones are measured more closely."""

SOON = 2.0
"""Seconds after which a run that was forecast to take far too long is given up."""

AGAIN = 8
"""Cells after which lambda_min is measured anew though it would have to be ..."""

GROWN = 4.0
"""... so many times what it was for the hand-over to be tried."""

HOPEFUL = 0.75
"""L rho / sigma^2 below which the hand-over is tried; it needs about 1/2."""

SHARP = 1.2
"""The ratio of what is known of the kernel's change from both sides from which on a run ends."""

COARSER = 4
"""So many times fewer radii do for Theorem 1 where Theorem C is asked for, and for the tail where
the run may go on."""

LONGER = 2
"""Times the steps to where Theorem 1 takes over, a run is not made longer for the sake of that."""

FEW = 400
"""Steps that a run may always take for it: of wide networks Theorem 1 may hold at the start."""

STEEP = 4.0
"""A run whose deviations may have grown by e to this power in steps beyond eta M |J|^2 = 2 is given
up where a shorter step is to be tried next."""

FLOAT64_EXPONENT = 10.0
"""The exponent by which the rounding of float64 may be amplified; earlier steps take more bits."""

STEPS = "steps of gradient descent in float64"
"""What progress is told of."""


@dataclass(frozen=True)
class RunSettings:
    """What attempts have in common.

    Attributes:
        predicted: How long a run will take, if that is known.
        until: When the budget ends, by ``time.perf_counter``.
        budget: All of it, in seconds.
        progress: Called with the steps done and those predicted, or 0.
        saved: Where the run is saved.
        hasty: Whether a shorter step is tried next.
    """

    predicted: Prediction | None
    until: float
    budget: float | int
    progress: Progress | None
    saved: Saved | None
    hasty: bool = False


class Attempt:
    """The run up to the hand-over, with what is kept of each step."""

    def __init__(self, problem: Problem, run: Run, settings: RunSettings) -> None:
        self.problem, self.run, self.hasty = problem, run, settings.hasty
        self.left, self.saved = settings.until - time.perf_counter(), settings.saved
        self.predicted, self.budget = settings.predicted, settings.budget
        self.progress, self.steep = settings.progress, 0.0
        self.why: Reason | None = None
        self.upper: list[np.ndarray] = []
        self.lower: list[np.ndarray] = []
        self.exponents: list[np.ndarray] = []
        self.ends: list[np.ndarray] = [np.zeros((1, 2))]  # t, and the largest delta up to there
        self.steps, self.work, self.lost, self.adrift = 0, 0.0, False, False
        self.first = 0  # steps of the first cell
        self.length = self.farthest = self.deviation = 0.0
        self.bend = 0.0  # L in the cell before
        self.eigenvalue, self.cells = math.inf, 0  # lambda_min as last measured, and cells since
        self.last = math.inf  # the step at which to end, though the end is not known well

    def make(self) -> Found | None:
        """Run until Theorem 1 takes over, and on until the end is known well.

        Returns:
            What was found last; None, and a reason, if Theorem 1 did not take over.
        """
        began, before, best = time.perf_counter(), None, None
        here = self.saved.restore(self) if self.saved else None
        here = self.run.start if here is None else here
        cells = self.run.cells(here, self.steps)
        point = self.run.measure(here, self.steps)
        while point is not None:
            found = self._hand_over(point, self.deviation, TAIL_RADII[COARSER - 1 :: COARSER])
            if found is not None:
                best = found
                if self.last == math.inf:  # where J is constant nothing moves but by rounding
                    few = FEW if point.bounds.lipschitz(0.0) else 0
                    self.last = max(LONGER * found.steps, few)
                if found.sharp(SHARP):
                    break
            if self.last == math.inf and self._adrift(point):
                self.adrift = True  # only for rounding
                break
            cell = next(cells, None) if self.steps < self.last else None
            if cell is None:
                break
            self._keep(cell)
            self.deviation, self.bend = float(cell.deviations[-1]), cell.ball.lipschitz
            if self.saved is not None:
                self.saved.save(self, cell.end)
            if self.progress is not None:
                total = self.predicted.steps if self.predicted else 0
                self.progress(STEPS, self.steps, total)
            now = time.perf_counter()
            if before is None:  # what the first cell compiled does not count
                began, before = now, self.work
                self.first = self.steps
                self.run.stepping = self.run.balling = 0.0
            if self._too_long(now - began, self.work - before):
                return best
            if self.too_steep:
                self.why, self.lost = Lost(self.steps, self.deviation, self.run.exponent), True
                return best
            point = self.run.measure(cell.end, self.steps)
        self.why, self.lost = self.run.why or Adrift(), True
        if point is not None and (best is None or best.steps == self.steps):
            return self._hand_over(point, self.deviation) or best
        return best

    @property
    def too_steep(self) -> bool:
        """Whether the step is to be shortened at once, whatever bounds the curvature."""
        return self.hasty and self.steep > STEEP

    def _adrift(self, point: Point) -> bool:
        """Whether Theorem 1 would take over but for rounding, which outweighs the residual."""
        excess = 0.0 if self.run.proved else max(float(self.problem.excess(point.params)), 0.0)
        if not self.deviation * point.jacobian_norm > math.sqrt(2 * excess):
            return False  # as where the run has diverged, and both are infinite
        return self._hand_over(point, 0.0) is not None

    def steps_in_balls(self) -> int:
        """How many of the first steps float64 rounds too much for what comes after them."""
        exponents = np.concatenate([*self.exponents, [0.0]])
        rest = np.cumsum(exponents[::-1])[::-1]
        limit = min(FLOAT64_EXPONENT - self.run.slack(self.steps), float(rest[0]) / 2)
        return int(np.argmax(rest <= limit))

    def _too_long(self, spent: float, fresh: float) -> bool:
        """Whether the budget is used up, or is going to be by far; then there is a reason.

        Args:
            spent: Seconds since the first cell.
            fresh: Gradient steps' worth of work since then.
        """
        expected, foreseen, run = spent, self.predicted, self.run
        # First steps take several times as long as later ones: they tell only what is no surprise.
        telling = spent > SOON and self.steps - self.first > TELLING
        hopeless = foreseen is not None and foreseen.seconds(self.problem) > 2 * self.budget
        enough = spent > self.left / 10 or (telling and hopeless)
        if foreseen is not None and fresh and enough:
            # Cells get longer: measuring those to come is taken to cost no more than so far.
            ahead = run.stepping * max(foreseen.work / fresh - 1, 0.0)
            measuring = spent - run.stepping - run.balling
            expected = spent + ahead + measuring * (ahead > 0)
        if run.in_balls:
            made = max(self.steps - self.first, 1)
            expected += run.balling / made * (run.early - self.steps)
        if expected <= self.left or (spent <= self.left and expected <= 2 * self.left):
            return False
        at_least = expected <= spent
        self.why = WouldTake(
            step_size=self.run.step_size,
            seconds=self.budget if at_least else expected,
            at_least=at_least,
            steps=UNSET if foreseen is None else foreseen.steps,
        )
        return True

    def _keep(self, cell: Cell) -> None:
        exact, deviations = Interval.exact, cell.deviations[:-1]
        root = sqrt(2 * larger(cell.enclosed("excess"), 0.0))
        rounding = self.run.residual_noise(cell.noise, cell.enclosed("values"))
        if self.run.proved:  # functions may be off relatively; and a re-check errs otherwise
            rounding = SPARE * (rounding + 2 * EVALUATION * root)
        moved = exact(cell.ball.jacobian_norm) * deviations
        off = sqrt(exact(self.problem.loss.smoothness)) * (moved + rounding)
        least, most = larger(root - off, 0.0), root + off
        self.lower.append((least * least / 2).lower)
        self.upper.append((most * most / 2).upper)
        self.exponents.append(cell.exponents)
        length, farthest = cell.reach()
        self.length = add_up(self.length, length)
        self.farthest = max(self.farthest, farthest)
        self.steps += len(cell.rows)
        stretch = self.run.step_size * self.problem.loss.smoothness * cell.ball.jacobian_norm**2 - 2
        self.steep += max(stretch, 0.0) * len(cell.rows)
        largest = max(float(self.ends[-1][-1, 1]), float(cell.deviations.max()))
        self.ends.append(np.array([[self.steps, largest]]))
        layered = self.run.how in ("layers", "random") and isinstance(self.problem.network, MLP)
        per_step = PER_STEP if layered else 1.0
        self.work += per_step * len(cell.rows) + PER_PRODUCT * self.run.products(cell)

    def _hand_over(
        self, point: Point, deviation: float, radii: np.ndarray = TAIL_RADII
    ) -> Found | None:
        """Lemma C3 at a point of the run, if it may hold."""
        if not deviation < math.inf:
            return None
        loss, here = self.problem.loss, excess_at(self.problem, point)
        # Unless L is half of what it was in the cell before.
        least = self.bend / 2 * math.sqrt(2 * here / loss.smoothness) / HOPEFUL
        self.cells += 1
        if self.cells < AGAIN and not least <= GROWN * self.eigenvalue:
            return None  # measuring lambda_min would be the dearest part of it
        sigma, self.eigenvalue, self.cells = sigma_at(point), point.eigenvalue, 0
        if not (sigma and least <= sigma**2):
            return None
        number = Interval.exact if self.run.proved else None
        exact: Any = number or float
        omega, lipschitz = point.bounds.on_ball(deviation)
        excess = safe_upper(
            excess_within(
                excess=exact(here),
                smoothness=exact(loss.smoothness),
                jacobian_norm=exact(add_up(point.jacobian_norm, omega)),
                away=exact(deviation),
            )
        )
        if not math.isfinite(excess):
            return None
        alpha = loss.functional_pl_constant(excess, self.problem.measure.weights)
        level = math.sqrt(2 * excess / alpha) if alpha else math.inf
        if not lipschitz * level <= HOPEFUL * sigma**2:
            return None
        tail = safe(
            takes_over(
                on_balls=point.bounds.on_balls,
                away=deviation,
                sigma=sigma,
                jacobian_norm=point.jacobian_norm,
                smoothness=loss.smoothness,
                pl_constant=alpha,
                excess=excess,
                step_size=self.run.step_size,
                number=number,
                radii=radii,
            )
        )
        if not tail.certified:
            return None
        return Found(
            run=self.run,
            point=point,
            deviation=deviation,
            excess=excess,
            tail=tail,
            upper=np.concatenate([*self.upper, []]),
            lower=np.concatenate([*self.lower, []]),
            length=self.length,
            farthest=self.farthest,
            ends=np.concatenate(self.ends),
            exponent=self.run.exponent + self.run.slack(self.steps),
            movement=self.run.movement(point, deviation, tail, excess),
        )


def make_attempt(problem: Problem, run: Run, settings: RunSettings) -> tuple[Attempt, Found | None]:
    """A run, and what was found: None, and ``why``, if Theorem 1 did not take over."""
    if settings.saved is not None:
        settings.saved.attempt += 1
    attempt = Attempt(problem, run, settings)
    return attempt, attempt.make()
