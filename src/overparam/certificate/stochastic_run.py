"""Theorem S from the initialisation: a run with given batches, up to where it takes over.

The first steps are made in float64, with the batches that a key draws; Theorem C, with what it asks
about each batch, bounds how far exact steps with the same batches are from them. From where Theorem
S holds the batches may be any. docs/stochastic.md has the proof.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate
from overparam.certificate.conclude import certificate_from
from overparam.certificate.field_types import replace
from overparam.certificate.hypotheses import Hypotheses, measure_hypotheses
from overparam.certificate.prediction import Prediction
from overparam.certificate.reason import WouldTake
from overparam.certificate.stochastic import in_a_batch, point_norm, point_norms, with_batches
from overparam.certificate.trajectory_cell import Cell, Made
from overparam.certificate.trajectory_certificate import envelope
from overparam.certificate.trajectory_movement import SPARE, NoLooks, spared
from overparam.certificate.trajectory_points import Point, distance_of
from overparam.certificate.trajectory_run import Run
from overparam.certificate.trajectory_steps import CHUNK
from overparam.enclosures.rounding import add_up, mul_up
from overparam.kernel.empirical.expansion import Expansion
from overparam.model.function import ParamTree
from overparam.numbers import Interval, larger, safe_lower, safe_upper, sqrt
from overparam.numbers.sums import sum_error
from overparam.problem.batches import Batches
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.rounding.residual import EVALUATION
from overparam.rounding.step_noise import StepNoise
from overparam.rounding.steps import StepErrors
from overparam.theorems.handover import excess_within
from overparam.theorems.trajectory import Ball

STEPS = "steps of mini-batches in float64"
"""What progress is told of."""

BENT = 0.15
"""Share of A by which the Jacobian at a point may change within a cell."""

WIDEST = 1e3
"""No cell reaches farther."""

ENOUGH = 0.03
"""L |r| / sigma^2, from which on Theorem S is tried."""

SMALLER = 1.3
"""Times less the residual has to be before it is tried again."""


def certify_batch_run(
    hypotheses: Hypotheses,
    failed: Certificate,
    seed: int,
    step_size: float | None,
    *,
    budget: float | int,
    progress: Progress | None,
) -> Certificate:
    """What Theorem S certifies of a run whose first batches are given.

    Args:
        hypotheses: Measured at theta_0.
        failed: What Theorem S says there.
        seed: Of the batches.
        step_size: eta, or None for 1 / A^2.
        budget: Seconds the run may take; where a prediction says that twice that will not do, it is
            not made.
        progress: Called with the steps done and those predicted.

    References:
        docs/stochastic.md, Proposition S4.
    """
    problem, batches = hypotheses.point.problem, failed.batches
    assert isinstance(batches, Batches)
    here, spread = hypotheses.point, in_a_batch(batches, problem.measure)
    norms = point_norms(problem, here.params, here.kernel, hypotheses.kernel_error)
    eta = step_size or 1 / float(np.max(spread * norms)) ** 2
    steps = _predicted(hypotheses, eta)
    expected = Prediction(steps, float(steps)).seconds(problem)
    proved = hypotheses.rigor == "proved"
    run = BatchRun(problem, here.params, eta, batches, seed, proved=proved)
    until, wanted = time.perf_counter() + budget, math.inf
    if expected > 2 * budget:
        run.why = WouldTake(eta, expected, False, steps)
    for point in run.followed() if run.why is None else ():
        h = point.bounds.lipschitz(0.0) * run.residual(point) / max(point.eigenvalue, 1e-300)
        if h <= min(ENOUGH, wanted) and run.steps % run.epoch == 0:
            wanted = h / SMALLER
            here = Expansion(problem, point.params, point.kernel)
            there = measure_hypotheses(here, rigor=hypotheses.rigor)
            first = certificate_from(there, "initialisation")
            found = with_batches(there, first, batches, eta, run.deviation)
            if found.certified:
                return _certified(run, failed, there, found)
        if progress is not None:
            progress(STEPS, run.steps, steps)
        if time.perf_counter() > until:
            run.why = WouldTake(eta, float(budget), True, steps)
            break
    assert run.why is not None
    numbers = replace(failed.numbers, step_size=eta, steps_made=run.steps, predicted_steps=steps)
    return replace(failed, why=run.why, numbers=numbers)


def _predicted(hypotheses: Hypotheses, step_size: float) -> int:
    """Steps to where Theorem S may hold, by the rate at theta_0; ``estimated``."""
    lowest = max(hypotheses.min_eigenvalue.lower, 1e-300)
    h = hypotheses.bounds.lipschitz(0.0) * hypotheses.residual / lowest
    return math.ceil(min(math.log(max(h / ENOUGH, math.e)) / (step_size * lowest), 1e18))


class BatchRun(Run):
    """Mini-batches in float64, and how far exact steps are from them.

    Args:
        problem: The learning problem.
        params: theta_0.
        step_size: eta.
        batches: How the batches are drawn.
        seed: By which they are.
        proved: Whether every bound is to include its rounding.

    Attributes:
        steps: How many were made.
        params: Where they lead to.
        deviation: delta_t as it is stated.
        length: Of the path.
        farthest: The largest distance from theta_0.
        upper: Delta_0, ..., Delta_{t-1} from above.
    """

    most = CHUNK  # the batches of a cell's steps are drawn before it

    def __init__(
        self,
        problem: Problem,
        params: ParamTree,
        step_size: float,
        batches: Batches,
        seed: int,
        *,
        proved: bool = False,
    ) -> None:
        super().__init__(problem, params, step_size, proved=proved)
        self.batches, self.seed, self.params = batches, seed, self.start
        self.steps, self.deviation, self.length, self.farthest = 0, 0.0, 0.0, 0.0
        self.upper: list[float] = []
        self._share = in_a_batch(batches, problem.measure)
        self._norm = 0.0
        # The weights of a batch's points are rounded, once for each time one is drawn.
        self._weighed = sum_error(batches.size)

    @property
    def epoch(self) -> int:
        """Steps after which batches of epochs begin anew; others always do."""
        epochs = self.batches.sampling == "epochs"
        return self.batches.in_an_epoch(self.problem.measure) if epochs else 1

    def residual(self, point: Point) -> float:
        """|r| at a point."""
        return math.sqrt(2 * max(float(self.problem.excess(point.params)), 0.0))

    def followed(self) -> Iterator[Point]:
        """The first points of all cells, as long as it is known how far exact steps are away."""
        for point in self.points(self._keep):
            if not self.deviation < math.inf:
                return
            yield point

    def _keep(self, cell: Cell) -> None:
        before, after = cell.deviations[:-1], cell.deviations[1:]
        exact, spare = Interval.exact, SPARE if self.proved else 1.0
        root = sqrt(2 * larger(cell.enclosed("excess"), 0.0))
        noise = self.residual_noise(cell.noise, cell.enclosed("values")) + 2 * EVALUATION * root
        root = root + self._norm * exact(before) + spare * noise
        self.upper += (root * root / 2).upper.tolist()
        length, farthest = cell.reach()
        self.length = add_up(self.length, length)
        self.farthest = max(self.farthest, farthest)
        self.deviation, self.params = float(after[-1]), cell.end
        self.steps += len(cell.rows)

    def _cell(self, point: Point) -> Cell | None:
        measure, table = self.problem.measure, self._table(point.step)
        self.looks = self.looks or NoLooks(point)
        self.ratio = float(np.max(sqrt(Interval.exact(table) / measure.weights).upper))
        x, y, _, offset, decay = self._data
        self._data = (x, y, np.vstack([table, measure.weights]), offset, decay)
        return super()._cell(point)

    def _table(self, step: int) -> Float[np.ndarray, "steps n"]:
        """The weights of the points in the next batches."""
        measure, b = self.problem.measure, self.batches.size
        factors = self.batches.factors(measure) / b
        table = np.zeros((CHUNK, measure.n))
        for i in range(CHUNK):
            rows = self.batches.drawn(measure, self.seed, step + i)
            np.add.at(table[i], rows, factors[rows])
        return table

    def _ball(self, point: Point, reach: float, omega: float, lipschitz: float) -> Ball:
        whole, ratio = super()._ball(point, reach, omega, lipschitz), self.ratio
        self._norm = float(whole.jacobian_norm)
        norm = min(self._point_norm(point, omega), mul_up(ratio, self._norm))
        bends = mul_up(ratio, lipschitz), mul_up(ratio, float(whole.third))
        return Ball(whole.radius, norm, *bends)

    def _steps(self, point: Point, reach: float, ball: Ball, extra: Any) -> Made:
        made = super()._steps(point, reach, ball, extra)
        whole = (point.step + len(made.rows)) // self.epoch * self.epoch - point.step
        if 0 < whole < len(made.rows):  # a cell ends with an epoch, if there is one in it
            end, rows = self._advanced(point, point.params, reach, ball, extra, (point.step, whole))
            return Made(rows, self._sums, end)
        return made

    def _allowed(self, point: Point) -> float:
        return BENT * self._point_norm(point, 0.0) / float(self._share.max())

    def _hoped(self, point: Point, allowed: float) -> float:
        return min(allowed / max(point.bounds.lipschitz(0.0), 1e-300), WIDEST)

    def _loss_noise(self, noise: StepNoise | StepErrors, made: Made) -> Interval:
        weighed = self._weighed * made.enclosed("gradient")
        return self.ratio * super()._loss_noise(noise, made) + weighed

    def _point_norm(self, point: Point, omega: float) -> float:
        """A on a ball where the Jacobian changes by omega."""
        error = None if point.proved is None else point.proved.kernel_error
        norms = point_norms(self.problem, point.params, point.kernel, error)
        return point_norm(self._share, norms, omega)


def _certified(
    run: BatchRun, failed: Certificate, there: Hypotheses, found: Certificate
) -> Certificate:
    """About theta_0, what Theorem S says where it takes over."""
    n, away, start = found.numbers, run.deviation, failed.numbers
    exact = Interval.exact
    _, gone = spared(distance_of(run.params, run.start))
    reach = safe_upper(gone + away + n.limit_distance)
    end = n["overshoot"] * n.excess if "overshoot" in n else n.excess
    upper = np.array([*run.upper, end])
    rate, since, overshoot = envelope(start.excess, upper, np.zeros(run.steps), n.rate)
    # At exact parameters, which are as far as the run may be off.
    omega = there.bounds.modulus(away)
    excess = excess_within(
        excess=exact(there.excess),
        smoothness=exact(1.0),
        jacobian_norm=exact(there.jacobian_norm) + omega,
        away=exact(away),
    )
    left = larger(exact(there.sigma) - omega, 0.0)
    numbers = replace(
        n,
        excess=start.excess,
        residual=start.residual,
        min_eigenvalue=start.min_eigenvalue,
        max_eigenvalue=start.max_eigenvalue,
        target_norm=start.target_norm,
        pl_constant=start.pl_constant,
        distance_lower_bound=start.distance_lower_bound,
        existence_radius=start.existence_radius,
        limit_distance=reach,
        displacement=max(run.farthest, reach),
        radius=safe_upper(exact(run.length) + n.radius),
        rate=rate,
        rate_since=since,
        overshoot=overshoot,
        handover=run.steps,
        deviation=away,
        exponent=run.exponent,
        handover_excess=safe_upper(excess),
        handover_eigenvalue=safe_lower(left * left),
    )
    batches = replace(run.batches, seed=run.seed)
    return replace(failed, batches=batches, why=found.why, numbers=numbers)
