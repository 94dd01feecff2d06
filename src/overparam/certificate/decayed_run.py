"""Theorem R from the initialisation: gradient descent is run to where it certifies one minimum.

The run is that of Theorem C, with weight decay in its steps, which contracts what rounding has
done. At the end of its cells Theorem R is tried where the gradient is small enough for it.
"""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from overparam.certificate.certificate import Certificate, Rigor
from overparam.certificate.field_types import replace
from overparam.certificate.prediction import PER_PRODUCT, PER_STEP, SAMPLED, Prediction
from overparam.certificate.reason import (
    Diverged,
    Lost,
    OneMinimum,
    OutOfRange,
    Reason,
    WouldTake,
)
from overparam.certificate.trajectory_cell import Cell
from overparam.certificate.trajectory_certificate import envelope
from overparam.certificate.trajectory_movement import spared
from overparam.certificate.trajectory_points import Point, distance_of, relative_curvature
from overparam.certificate.trajectory_run import LONGEST_STEP, Run
from overparam.certificate.weight_decay import (
    Decayed,
    certificate_from,
    excess_up,
    measured_point,
    proved_objective,
    proving,
    rival_distance,
)
from overparam.enclosures.rounding import add_up, mul_up
from overparam.jacobian.random_curvature import drawing_for, expected_products
from overparam.kernel.empirical.expansion import Expansion
from overparam.model.composed import Composed
from overparam.model.mlp import MLP
from overparam.numbers import Interval, larger, safe_lower, safe_upper, sqrt
from overparam.problem.problem import Problem
from overparam.progress import Progress, silent
from overparam.rounding.residual import EVALUATION
from overparam.theorems.weight_decay import UniqueMinimum

STEPS = "steps of gradient descent in float64"
"""What progress is told of."""

SLOWEST = 0.5
"""Share of the weight decay that is expected to be left of it by the curvature of the residual."""

CLOSER = 1.5
"""Where the ball was too small once, the gradient has to be this much below what was missing."""

COSTLY = 3e7
"""Products of a pass beyond which steps that only sharpen the minimum's distance are spared."""

OFTEN = 48
"""Then the steps after which, or after 2 / (eta lambda), it is looked whether Theorem R holds."""

NUMBERS = 1e-60, 1e60
"""Of M |J|^2: fourth powers of a run's curvature have to be numbers in float64."""


def certify_decayed_run(
    begin: Expansion,
    step_size: float | None = None,
    *,
    budget: float | int,
    progress: Progress | None = None,
    rigor: Rigor = "computed",
) -> Certificate:
    """What Theorem R' certifies of gradient descent from given parameters.

    Args:
        begin: theta_0, of a problem that Theorem R is about.
        step_size: eta, or None for 1 / (M |J(theta_0)|^2 + 2 lambda).
        budget: Seconds the run may take; where a prediction says that twice that will not do, it is
            not made.
        progress: Called with the steps done and those predicted.
        rigor: ``proved`` bounds every rounding error, and curvature without random vectors.

    Returns:
        A certificate of Theorem R; not certified if the run was not made, or did not get there.

    References:
        docs/weight_decay.md, Theorem R'.
    """
    with proving(begin.problem, rigor) as fault:
        proved = rigor == "proved" and fault is None
        found = _by_running(begin, step_size, budget, progress, proved)
    return found if fault is None else replace(found, not_proved=fault)


def _by_running(
    begin: Expansion,
    step_size: float | None,
    budget: float | int,
    progress: Progress | None,
    proved: bool,
) -> Certificate:
    problem, start = begin.problem, measured_point(begin.problem, begin.params, proved)
    known = Decayed(problem, start, curvature=False)
    steepest = problem.loss.smoothness * start.jacobian_norm**2
    eta = step_size or 1 / (steepest + 2 * problem.weight_decay)
    sizes = [size for size in (steepest, known.gradient, known.residual) if size]
    if not all(NUMBERS[0] < size < NUMBERS[1] for size in sizes):
        return _not_certified(known, begin, eta, OutOfRange())
    predicted = predict_decayed(known, eta)
    expected = predicted.seconds(problem)
    if not budget or expected > 2 * budget:
        why = WouldTake(eta, expected, False, predicted.steps)
        failed = _not_certified(known, begin, eta, why)
        return replace(failed, numbers=replace(failed.numbers, predicted_steps=predicted.steps))
    until, attempts = time.perf_counter() + budget, itertools.count()
    ways = (False, True) if not predicted.sampled else (True,)
    if proved or (eta * problem.weight_decay > LONGEST_STEP and isinstance(problem.network, MLP)):
        ways = (False,)
    for sampled in ways:
        run = Run(problem, start.params, eta, sampled=sampled, proved=proved)
        if problem.network.products * problem.measure.n > COSTLY:
            run.longest = min(run.longest, max(OFTEN, math.ceil(2 / (eta * problem.weight_decay))))
        attempt = _Attempt(problem, run, predicted, until, budget, progress, attempts)
        found = attempt.make()
        if found is not None:
            return _certified(attempt, found, start, begin)
        if not (run.how == "layers" and isinstance(attempt.why, Lost)):
            break
    assert attempt.why is not None
    failed = _not_certified(known, begin, eta, attempt.why)
    return replace(failed, numbers=replace(failed.numbers, steps_made=attempt.steps))


def predict_decayed(known: Decayed, step_size: float) -> Prediction:
    """Predict a run, ``estimated``: the gradient falls at the rate of the weight decay.

    Args:
        known: Measured at theta_0.
        step_size: eta.
    """
    problem, decay = known.problem, known.problem.weight_decay
    rate = known.growth(0.0)
    target = (SLOWEST * decay) ** 2 / (8 * rate) if rate else known.gradient
    fold = max(math.log(max(known.gradient / target, 1.0)), 1.0)
    steps = math.ceil(min(fold / (step_size * decay * SLOWEST), 1e18))
    if isinstance(problem.network, Composed):
        certain = drawing_for(problem.network.parameter_count, problem.measure.n).power
        return Prediction(steps, (1 + PER_PRODUCT * certain) * steps, True)
    if problem.mlp.layers <= 2:
        return Prediction(steps, float(steps))
    lipschitz, base = known.point.bounds.lipschitz(0.0), known.point.base
    relative = min(lipschitz, relative_curvature(problem, known.point.params, base))
    exponent = step_size * relative * known.residual
    if steps * (exponent - step_size * decay) <= SAMPLED:
        return Prediction(steps, PER_STEP * steps)
    drawing = drawing_for(problem.mlp.parameter_count, problem.measure.n)
    products = float(expected_products(exponent, drawing))
    return Prediction(steps, (PER_STEP + PER_PRODUCT * products) * steps, True)


@dataclass
class _Attempt:
    """The run up to where Theorem R takes over, with what is kept of each step."""

    problem: Problem
    run: Run
    predicted: Prediction
    until: float
    budget: float | int
    progress: Progress | None
    attempts: Iterator[int]
    why: Reason | None = None
    steps: int = 0
    length: float = 0.0
    farthest: float = 0.0
    deviation: float = 0.0
    growth: float = 0.0
    exponent: float = 0.0
    totals: list[Interval] = field(default_factory=list)
    errors: list[np.ndarray] = field(default_factory=list)
    wanted: float = math.inf

    def make(self) -> tuple[Decayed, UniqueMinimum] | None:
        """Run until Theorem R takes over; None, and a reason, if that is not reached."""
        for point in self.run.points(self._keep):
            found = self._hand_over(point)
            if found is not None:
                return found
            if not self.deviation < math.inf:
                break
            (self.progress or silent)(STEPS, self.steps, self.predicted.steps)
            if time.perf_counter() > self.until:
                steps = self.predicted.steps
                self.why = WouldTake(self.run.step_size, self.budget, True, steps)
                return None
        self.why = self.run.why or Diverged(self.steps)
        return None

    def _keep(self, cell: Cell) -> None:
        exact = Interval.exact
        before = exact(cell.deviations[:-1])
        M, decay = exact(self.problem.loss.smoothness), self.problem.weight_decay
        noise = self.run.residual_noise(cell.noise, cell.enclosed("values"))
        # By the gradient and its Lipschitz constant at the points, and by the rounding of F.
        B, L = exact(cell.ball.jacobian_norm), cell.ball.lipschitz
        ghat = cell.enclosed("gradient") + M * (noise + B * before)
        steep = M * B * B + L * ghat + decay
        slope = (cell.enclosed("length") + cell.errors) / self.run.step_size
        root = sqrt(2 * larger(cell.enclosed("excess"), 0.0))
        off = sqrt(M) * noise + (2 * EVALUATION * root if self.run.proved else 0.0)
        moved = before * (slope + steep * before) + off * (root + off)
        self.errors.append(moved.upper)
        self.totals.append(cell.enclosed("excess"))
        length, farthest = cell.reach()
        self.length = add_up(self.length, length)
        self.farthest = max(self.farthest, farthest)
        self.deviation = float(cell.deviations[-1])
        # The largest sum of e_t - eta lambda over consecutive steps: what may become of an error.
        for exponent in (exact(cell.exponents) - self.run.step_size * exact(decay)).upper.tolist():
            self.growth = max(add_up(self.growth, exponent), 0.0)
            self.exponent = max(self.exponent, self.growth)
        self.steps += len(cell.rows)

    def _hand_over(self, point: Point) -> tuple[Decayed, UniqueMinimum] | None:
        """Theorem R at a point of the run, if its gradient is small enough."""
        if not self.deviation < math.inf:
            return None
        known = Decayed(self.problem, point, curvature=False)
        decay, rate = self.problem.weight_decay, known.growth(0.0)
        if rate and not known.gradient <= min(decay**2 / (8 * rate), self.wanted):
            return None
        known = Decayed(self.problem, point, attempt=next(self.attempts))
        found = known.minimum(self.run.step_size, self.deviation)
        if found.certified:
            return known, found
        left = max(known.left, decay / 100)
        self.wanted = min(left**2 / (8 * rate), known.gradient) / CLOSER if rate else math.inf
        return None


def _not_certified(known: Decayed, begin: Expansion, step_size: float, why: Reason) -> Certificate:
    found = UniqueMinimum(
        margin=0.0, radius=0.0, strong_convexity=0.0, step_size=step_size, smoothness=math.inf
    )
    return certificate_from(known, found, begin, "initialisation", why)


def _certified(
    attempt: _Attempt, found: tuple[Decayed, UniqueMinimum], start: Point, begin: Expansion
) -> Certificate:
    """The certificate of a run that Theorem R took over."""
    known, minimum = found
    run, steps = attempt.run, attempt.steps
    problem, exact = attempt.problem, Interval.exact
    end = exact(max(problem.excess(known.point.params), 0.0))
    off = float(attempt.errors[-1][-1]) if steps else 0.0
    high = safe_upper(exact(known.height) + off)
    low, excess = safe_lower(2 * end - high), excess_up(problem, begin.params)
    if known.proved:
        low = min(low, proved_objective(problem, known.point)[0])
        excess = proved_objective(problem, start)[1]
    reach = exact(minimum.reach)
    risen = safe_upper(exact(minimum.smoothness) * (reach * reach) / 2)
    ends = ([t.lower for t in attempt.totals], [t.upper for t in attempt.totals])
    totals = Interval(*(np.concatenate([*each, []]) for each in ends))
    errors = np.concatenate([*attempt.errors, []])
    upper = (totals + errors - (exact(low) - minimum.excess)).upper
    lower = larger(totals - errors - high, 0.0).lower
    first = float(upper[0]) if steps else risen
    tail = min(mul_up(minimum.contraction, minimum.contraction), 1.0)
    rate, since, overshoot = envelope(first, np.append(upper, risen), lower, tail)
    least, most = spared(distance_of(known.point.params, run.start))
    rest = exact(attempt.deviation) + minimum.distance
    radius = safe_upper(exact(attempt.length) + minimum.path)
    limit = min(safe_upper(most + rest), radius)
    there = certificate_from(
        known, minimum, begin, "initialisation", OneMinimum(), sampled=run.randomised
    )
    numbers = replace(
        there.numbers,
        excess=excess,
        residual=safe_upper(sqrt(2 * exact(excess))),
        pl_constant=problem.loss.functional_pl_constant(excess, problem.measure.weights),
        min_eigenvalue=start.eigenvalue,
        max_eigenvalue=mul_up(start.jacobian_norm, start.jacobian_norm),
        radius=radius,
        rate=rate,
        limit_distance=limit,
        limit_distance_lower=max(safe_lower(least - rest), 0.0),
        displacement=max(attempt.farthest, safe_upper(most + attempt.deviation + 2 * reach)),
        rate_since=since,
        overshoot=overshoot,
        handover=steps,
        deviation=attempt.deviation,
        exponent=attempt.exponent + run.slack(steps),
        minimum_excess=first,
        region_minimum=high,
        rival_distance=rival_distance(high, problem.weight_decay),
    )
    return replace(there, numbers=numbers)
