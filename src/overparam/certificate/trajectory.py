"""A certificate from Theorem C: gradient descent is run, what rounding did to it is bounded."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float
from msgspec import UNSET
from msgspec.structs import replace

from overparam.certificate.certificate import Certificate, Remedies, with_random_vectors
from overparam.certificate.constants import Numbers, converging
from overparam.certificate.hypotheses import Hypotheses
from overparam.certificate.prediction import PER_VECTOR, Prediction, predict_run
from overparam.certificate.reason import (
    Converges,
    NoForecast,
    NothingMoves,
    OutOfRange,
    Reason,
    WouldTake,
)
from overparam.certificate.trajectory_run import COLUMNS, Cell, Point, Run, excess_at, sigma_at
from overparam.errors import InputError
from overparam.jacobian.random_curvature import ATTEMPTS, FAILURE
from overparam.model.function import ParamTree, parameter_distance
from overparam.model.mlp import MLP, Params
from overparam.model.observation import Value
from overparam.problem.problem import Problem, plain_network
from overparam.theorems.convergence import Convergence
from overparam.theorems.handover import excess_within, takes_over

BUDGET = 60.0
"""Seconds that a run may take unasked."""

STEP = 1.0
"""eta M |J(theta_0)|^2 of the step that is chosen."""

HOPEFUL = 0.75
"""L rho / sigma^2 below which the hand-over is tried; it needs about 1/2."""

ROUNDING = 1 + 1e-9
"""Covers the rounding of sums over a run, and of distances."""

HALVINGS = ATTEMPTS - 1
"""How often a step that was not asked for is halved where a run with it cannot be followed."""

LARGEST = 2048
"""The number of values n k up to which Theorem C is tried unasked."""

UNKNOWN = (
    *("kernel_drift", "relative_kernel_drift"),
    *("linearisation_distance", "linearisation_parameter_distance"),
)
"""What Theorem C does not bound; Theorem 1 may have, but of another run."""

LOW = 1e-30
"""M |J|^2 and the root of Delta_0 lie between this and its inverse: fourth powers of the curvature
of a run have to be numbers in float64 until the residual is 1e-15 of what it was."""

Progress = Callable[[int, int], None]


def check_trajectory(problem: Problem, rigor: str) -> None:
    """Raise unless Theorem C can say something about a problem.

    Raises:
        InputError: The model is no ``MLP`` observed by its values, the activation lacks a bound on
            one of its first three derivatives, the loss is not known to be convex, or the rigor is
            another than ``computed``.
    """
    obstacle = _obstacle(problem, rigor)
    if obstacle is not None:
        raise InputError(obstacle)


def _obstacle(problem: Problem, rigor: str) -> str | None:
    try:
        model = plain_network(problem, "Theorem C")
    except InputError as error:
        return str(error)
    if rigor != "computed":
        return f'Theorem C knows no rigor={rigor!r}: leave rigor out, or take theorem="1"'
    if not problem.loss.convex:
        return (
            f"Theorem C is about convex losses, and {problem.loss.spelling} is not known to be "
            'one: take theorem="1"'
        )
    act = model.act
    if model.hidden_widths and (act.curvature_bound is None or act.third_bound is None):
        return (
            f"Theorem C needs bounds on three derivatives of the activation, which {act.name} "
            "does not have: choose gelu, tanh, softplus, ..."
        )
    return None


def _worth_a_run(problem: Problem, first: Certificate) -> bool:
    """Whether Theorem C is worth a look after the others failed."""
    return (
        not first.holds
        and first.rigor == "computed"
        and problem.measure.n * problem.outputs <= LARGEST
        and isinstance(problem.model, MLP)
        and isinstance(problem.observation, Value)
        and _obstacle(problem, "computed") is None
    )


def or_by_running(
    problem: Problem,
    params: ParamTree,
    hypotheses: Hypotheses,
    kernel: Float[np.ndarray, "nk nk"],
    first: Certificate,
    step_size: float | None = None,
    *,
    budget: float | int = BUDGET,
    progress: Progress | None = None,
) -> Certificate:
    """The certificate at hand if it certifies; else Theorem C's, where the budget suffices.

    Arguments are those of :func:`certify_by_running`. Where it would take longer the certificate
    at hand comes back, and its reason says how long.
    """
    if not budget or not _worth_a_run(problem, first):
        return first
    found = certify_by_running(
        *(problem, params, hypotheses, kernel, first, step_size),
        budget=budget,
        unasked=True,
        progress=progress,
    )
    if found.certified:
        return found
    if not isinstance(found.why, WouldTake) or found.why.steps is UNSET:
        return first
    return replace(first, forecast=found.why)


def certify_by_running(
    problem: Problem,
    params: Params,
    hypotheses: Hypotheses,
    kernel: Float[np.ndarray, "nk nk"],
    first: Certificate,
    step_size: float | None = None,
    *,
    budget: float | int = BUDGET,
    unasked: bool = False,
    progress: Progress | None = None,
) -> Certificate:
    """What Theorem C certifies, beside what Theorem 1 said.

    Args:
        problem: The learning problem.
        params: theta_0.
        hypotheses: Measured there.
        kernel: K(theta_0).
        first: Theorem 1's certificate, for all that does not depend on the theorem.
        step_size: eta, or None for 1 / (M |J(theta_0)|^2).
        budget: Seconds the run may take.
        unasked: Whether to run only where a prediction says that the budget suffices.
        progress: Called with (steps done, steps predicted or 0).

    Returns:
        A certificate of Theorem C; not certified if the run was not made, or did not get there.

    References:
        docs/trajectory.md, Theorem C.
    """
    free = step_size is None
    if not hypotheses.jacobian_norm:
        return _not_certified(first, first.step_size, NothingMoves(), 0, None)
    largest = problem.loss.smoothness * hypotheses.jacobian_norm**2
    if not (LOW < largest < 1 / LOW and LOW**2 < hypotheses.excess < 1 / LOW**2):
        return _not_certified(first, first.step_size, OutOfRange(), 0, None)
    step = STEP / largest if step_size is None else step_size
    until = time.perf_counter() + budget
    for _ in range(1 + HALVINGS * free):
        predicted = predict_run(problem, params, hypotheses, kernel, step)
        if unasked and predicted is None:
            return _not_certified(first, step, NoForecast(), 0, None)
        if unasked and predicted is not None and predicted.seconds(problem) > 2 * budget:
            why = WouldTake(step, predicted.seconds(problem), False, predicted.steps)
            return _not_certified(first, step, why, 0, predicted)
        left = until - time.perf_counter()
        attempt = _Attempt(problem, params, step, predicted, left, progress)
        found = attempt.make()
        if found is not None:
            return _certificate(problem, hypotheses, first, step, attempt, found)
        if not attempt.lost:
            return _not_certified(first, step, attempt.why, attempt.steps, predicted)
        if time.perf_counter() > until:
            break
        step /= 2
    return _not_certified(first, attempt.step_size, attempt.why, attempt.steps, None)


@dataclass(frozen=True, eq=False)
class _Found:
    """Where Theorem 1 takes over."""

    point: Point
    deviation: float
    excess: float
    tail: Convergence


class _Attempt:
    """The run up to the hand-over, with what is kept of each step."""

    def __init__(
        self,
        problem: Problem,
        params: Params,
        step_size: float,
        predicted: Prediction | None,
        budget: float,
        progress: Progress | None,
    ) -> None:
        self.problem, self.step_size = problem, step_size
        self.run = Run(problem, params, step_size)
        self.predicted, self.budget, self.progress = predicted, budget, progress
        self.why: Reason | None = None
        self.upper: list[np.ndarray] = []
        self.lower: list[np.ndarray] = []
        self.steps, self.work, self.lost = 0, 0.0, False
        self.length = self.farthest = 0.0

    def make(self) -> _Found | None:
        """Run until Theorem 1 takes over; None, and a reason, if that is not reached."""
        began, before = time.perf_counter(), None
        deviation = 0.0
        cells = self.run.cells()
        point = self.run.measure(self.run.start, 0)
        while True:
            found = self._hand_over(point, deviation)
            if found is not None:
                return found
            cell = next(cells, None)
            if cell is None:
                self.why, self.lost = self.run.why, True
                return None
            self._keep(cell)
            deviation = float(cell.deviations[-1])
            if self.progress is not None:
                self.progress(self.steps, self.predicted.steps if self.predicted else 0)
            now = time.perf_counter()
            if before is None:  # what the first cell compiled does not count
                began, before = now, self.work
            if self._too_long(now - began, self.work - before):
                return None
            point = self.run.measure(cell.end, self.steps)
            if self.run.why:
                self.why, self.lost = self.run.why, True
                return None

    def _too_long(self, spent: float, fresh: float) -> bool:
        """Whether the budget is used up, or is going to be by far; then there is a reason.

        Args:
            spent: Seconds since the first cell.
            fresh: Gradient steps' worth of work since then.
        """
        expected, foreseen = spent, self.predicted
        if foreseen is not None and fresh and spent > min(2.0, self.budget / 10):
            expected = max(spent, spent * foreseen.work / fresh)
        if expected <= self.budget or (spent <= self.budget and expected <= 2 * self.budget):
            return False
        at_least = expected <= spent
        self.why = WouldTake(
            step_size=self.step_size,
            seconds=self.budget if at_least else expected,
            at_least=at_least,
            steps=UNSET if foreseen is None else foreseen.steps,
        )
        return True

    def _keep(self, cell: Cell) -> None:
        M = self.problem.loss.smoothness
        columns = dict(zip(COLUMNS, cell.rows.T, strict=True))
        noise = self.run.residual_noise(cell.start, columns["values"])
        off = math.sqrt(M) * (noise + cell.ball.jacobian_norm * cell.deviations[:-1])
        root = np.sqrt(2 * np.maximum(columns["excess"], 0.0))
        self.upper.append((root + off) ** 2 / 2)
        self.lower.append(np.maximum(root - off, 0.0) ** 2 / 2)
        self.length += float(columns["length"].sum())
        self.length += float(cell.deviations[:-1].sum() + cell.deviations[1:].sum())
        self.farthest = max(
            self.farthest, float((columns["distance"] + cell.deviations[:-1]).max())
        )
        self.steps += len(cell.rows)
        self.work += len(cell.rows) + PER_VECTOR * self.run.vectors(cell)

    def _hand_over(self, point: Point, deviation: float) -> _Found | None:
        """Lemma C3 at a point of the run, if it may hold."""
        sigma, loss = sigma_at(point), self.problem.loss
        if not sigma:
            return None
        omega, lipschitz = point.bounds.on_ball(deviation)
        excess = excess_within(
            excess=excess_at(self.problem, point.params),
            smoothness=loss.smoothness,
            jacobian_norm=point.jacobian_norm + omega,
            away=deviation,
        )
        if not math.isfinite(excess):
            return None
        alpha = loss.functional_pl_constant(float(excess), self.problem.measure.weights)
        level = math.sqrt(2 * excess / alpha) if alpha else math.inf
        if not lipschitz * level <= HOPEFUL * sigma**2:
            return None
        tail = takes_over(
            on_ball=point.bounds.on_ball,
            away=deviation,
            sigma=sigma,
            jacobian_norm=point.jacobian_norm,
            smoothness=loss.smoothness,
            pl_constant=alpha,
            excess=float(excess),
            step_size=self.step_size,
        )
        return _Found(point, deviation, float(excess), tail) if tail.certified else None


def _not_certified(
    first: Certificate,
    step_size: float,
    why: Reason | None,
    steps: int,
    predicted: Prediction | None,
) -> Certificate:
    values: dict[str, SupportsFloat] = dict.fromkeys(UNKNOWN, math.inf)
    values |= {"radius": math.inf, "rate": 1.0, "margin": min(first.margin, 1.0)}
    if predicted is not None:  # the run was not lost, but would have taken too long
        values["predicted_steps"] = predicted.steps
    assert why is not None, "a run ends for a reason"
    numbers = first.numbers.but(**values, step_size=step_size, steps_made=steps)
    return replace(first, theorem="C", why=why, numbers=numbers, remedies=Remedies())


def _certificate(
    problem: Problem,
    hypotheses: Hypotheses,
    first: Certificate,
    step_size: float,
    attempt: _Attempt,
    found: _Found,
) -> Certificate:
    tail = found.tail
    upper = np.append(np.concatenate([*attempt.upper, []]), found.excess)
    lower = np.concatenate([*attempt.lower, []])
    rate, since, overshoot = _envelope(hypotheses.excess, upper, lower, tail.rate)
    gone = parameter_distance(found.point.params, attempt.run.start)
    radius = (attempt.length + tail.radius) * ROUNDING
    limit = min((gone + found.deviation + tail.radius) * ROUNDING, radius)
    numbers = _numbers(
        *(hypotheses, first, attempt, found), (rate, since, overshoot), (radius, limit, gone)
    )
    granted = first.assumptions
    return replace(
        first,
        theorem="C",
        why=Converges(),
        numbers=numbers,
        remedies=Remedies(),
        assumptions=with_random_vectors(granted) if attempt.run.randomised else granted,
    )


MOST_EXPONENT = 700.0
"""Beyond, e to this power is no number."""


def _envelope(
    start: float, upper: np.ndarray, lower: np.ndarray, tail: float
) -> tuple[float, int, float]:
    """A rate, the step since when it holds, and the factor on Delta_0 for an envelope of all steps.

    Args:
        start: Delta_0 from above.
        upper: Bounds on Delta_0, ..., Delta_T.
        lower: The same from below, without Delta_T.
        tail: Theorem 1's rate from step T on.
    """
    T = len(lower)
    with np.errstate(divide="ignore", invalid="ignore"):
        shrinks = upper[1:] / lower
    whole = float(np.max(shrinks, initial=tail)) if np.isfinite(shrinks).all() else math.inf
    rate, since = (whole * (1 + 1e-12), 0) if whole * (1 + 1e-12) < 1 else (tail, T)
    if not start:
        return rate, since, 1.0
    if since and 0 < upper[T] < start:  # slower than the tail, so as not to fall below the run
        rate = max(rate, min(math.exp(math.log(upper[T] / start) / T), 1 - 1e-15))
    with np.errstate(divide="ignore"):
        excess = np.log(upper / start) - np.arange(T + 1) * math.log(rate)
    worst = float(np.max(excess, initial=0.0))
    return rate, since, math.exp(worst) * (1 + 1e-9) if worst < MOST_EXPONENT else math.inf


def _numbers(
    hypotheses: Hypotheses,
    first: Certificate,
    attempt: _Attempt,
    found: _Found,
    envelope: tuple[float, int, float],
    distances: tuple[float, float, float],
) -> Numbers:
    """Theorem 1's numbers with those of Theorem C in their place."""
    tail, point = found.tail, found.point
    (rate, since, overshoot), (radius, limit, gone) = envelope, distances
    reach = found.deviation + tail.ball
    left = sigma_at(point) - point.bounds.modulus(found.deviation)
    omega, lipschitz = point.bounds.on_ball(reach)
    closest = first.numbers.distance_lower_bound
    values = converging(tail) | {
        "radius": radius,
        "rate": rate,
        "modulus_at_ball": omega,
        "lipschitz_on_ball": lipschitz,
        "newton_kantorovich": lipschitz * tail.level / left**2,
        "handover": attempt.steps,
        "deviation": found.deviation,
        "exponent": attempt.run.exponent + attempt.run.slack(attempt.steps),
        "handover_excess": found.excess,
        "handover_eigenvalue": point.eigenvalue,
        "rate_since": since,
        "overshoot": overshoot,
        "displacement": max(attempt.farthest, limit),
        "limit_distance": limit,
        "limit_distance_lower": max(gone * (2 - ROUNDING) - found.deviation - tail.radius, 0.0),
        "distance_ratio": limit / closest if closest else math.inf,
    }
    if attempt.run.randomised:
        values["failure_probability"] = FAILURE
    return first.numbers.but(**dict.fromkeys(UNKNOWN, math.inf), **values)
