"""Theorem S from the initialisation: a run with given batches, up to where it takes over.

The first steps are made in float64, with the batches that a key draws; Theorem C, with what it asks
about each batch, bounds how far exact steps with the same batches are from them. From where Theorem
S holds the batches may be any. docs/stochastic.md has the proof.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from typing import Any, SupportsFloat

import jax
import numpy as np
from jaxtyping import Float
from msgspec.structs import replace

from overparam.certificate.certificate import Certificate
from overparam.certificate.conclude import certificate_from
from overparam.certificate.hypotheses import Hypotheses, measure_hypotheses
from overparam.certificate.prediction import Prediction
from overparam.certificate.reason import Diverged, Lost, Reason, WouldTake
from overparam.certificate.stochastic import in_a_batch, point_norms, with_batches
from overparam.certificate.trajectory_certificate import envelope
from overparam.certificate.trajectory_movement import SPARE
from overparam.certificate.trajectory_points import (
    Point,
    centre_noise,
    couplings_around,
    measure_point,
    neuron_error,
    noise_around,
    third_around,
)
from overparam.certificate.trajectory_run import curvature_of, residual_noise
from overparam.certificate.trajectory_steps import CHUNK, COLUMNS, cell_program
from overparam.certificate.weight_decay import UP
from overparam.enclosures.rounding import UNIT_ROUNDOFF
from overparam.jacobian.curvature import input_grams
from overparam.kernel.empirical.expansion import Expansion
from overparam.model.function import parameter_distance
from overparam.numbers import Interval, Number, safe_upper
from overparam.precision import as_float64
from overparam.problem.batches import Batches
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.rounding.residual import EVALUATION
from overparam.rounding.steps import StepErrors
from overparam.rounding.training import StepNoise
from overparam.theorems.handover import excess_within
from overparam.theorems.trajectory import Ball, next_spread
from overparam.theorems.trajectory_curvature import exact

WEIGHED = 4
"""Roundings of a point's weight in a batch, besides one for each time it is drawn."""

STEPS = "steps of mini-batches in float64"
"""What progress is told of."""

BENT = 0.15
"""Share of A by which the Jacobian at a point may change within a cell."""

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
    run = _Run(problem, batches, seed, eta, spread, as_float64(here.params), proved)
    until, wanted = time.perf_counter() + budget, math.inf
    if expected > 2 * budget:
        run.why = WouldTake(eta, expected, False, steps)
    for point in run.points() if run.why is None else ():
        bent = point.bounds.lipschitz(0.0) * run.residual(point) / max(point.eigenvalue, 1e-300)
        if bent <= min(ENOUGH, wanted) and run.steps % run.epoch == 0:
            wanted = bent / SMALLER
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
    made = {"step_size": eta, "steps_made": run.steps, "predicted_steps": steps}
    return replace(failed, why=run.why, numbers=failed.numbers.but(**made))


def _predicted(hypotheses: Hypotheses, step_size: float) -> int:
    """Steps to where Theorem S may hold, by the rate at theta_0; ``estimated``."""
    lowest = max(hypotheses.min_eigenvalue.lower, 1e-300)
    bent = hypotheses.bounds.lipschitz(0.0) * hypotheses.residual / lowest
    return math.ceil(min(math.log(max(bent / ENOUGH, math.e)) / (step_size * lowest), 1e18))


@dataclass
class _Run:
    """Mini-batches in float64, and how far exact steps are from them."""

    problem: Problem
    batches: Batches
    seed: int
    step_size: float
    spread: Float[np.ndarray, " n"]
    params: Any
    proved: bool = False
    why: Reason | None = None
    steps: int = 0
    apart: float = 0.0
    exponent: float = 0.0
    length: float = 0.0
    farthest: float = 0.0
    upper: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        problem = self.problem
        self.start, self.how = self.params, curvature_of(problem.mlp, False)
        self._advance = cell_program(problem.mlp, problem.loss, self.how, CHUNK)
        self._grams = input_grams(problem.mlp, problem.measure.x) if self.how == "neurons" else None
        self._centre = centre_noise(problem, self.proved)

    @property
    def deviation(self) -> float:
        """delta_t as it is stated."""
        return self.apart * (SPARE if self.proved else 1.0)

    @property
    def epoch(self) -> int:
        """Steps after which batches of epochs begin anew; others always do."""
        epochs = self.batches.sampling == "epochs"
        return self.batches.in_an_epoch(self.problem.measure) if epochs else 1

    def residual(self, point: Point) -> float:
        """|r| at a point."""
        return math.sqrt(2 * max(float(self.problem.excess(point.params)), 0.0))

    def points(self) -> Iterator[Point]:
        """The first points of all cells, until a reason why there are no more."""
        while True:
            point = measure_point(self.problem, self.params, self.steps, self.proved)
            if point is None:
                self.why = Diverged(max(self.steps - 1, 0))
                return
            yield point
            self._cell(point)
            if self.why is not None:
                return

    def _cell(self, point: Point) -> None:
        """The steps from one point on, as far as what is measured there holds."""
        problem, measure = self.problem, self.problem.measure
        largest = self._point_norm(point, 0.0)
        reach, omega, lipschitz = self._reach(point, BENT * largest / float(self.spread.max()))
        table = self._table()
        ratio = math.sqrt(float(np.max(table / measure.weights))) * UP
        third = third_around(problem, point, 1.25 * reach)
        noise = noise_around(problem, point, 1.25 * reach)
        norm = min(self._point_norm(point, omega), ratio * (point.jacobian_norm + omega))
        ball = Ball(reach / 4 * (2 - UP), norm * UP, ratio * lipschitz * UP, ratio * third * UP)
        extra: Any = self._grams
        if self.how == "layers":
            couplings = couplings_around(problem, point.params, point.base, 1.25 * reach)
            off = noise.off if isinstance(noise, StepErrors) else exact(problem.mlp.layers)
            extra = (couplings, off)
        nothing = np.zeros((measure.n, problem.outputs))
        offset = nothing if problem.offset is None else problem.offset
        weights = np.vstack([table, measure.weights])
        data = (measure.x, problem.targets, weights, offset, None, extra)
        end, rows = self._made(point, data, ball, reach, CHUNK)
        whole = (self.steps + len(rows)) // self.epoch * self.epoch - self.steps
        if 0 < whole < len(rows):  # a cell ends with an epoch, if there is one in it
            end, rows = self._made(point, data, ball, reach, whole)
        if not np.isfinite(rows).all():
            self.why = Diverged(self.steps)
            return
        self._follow(noise, ball, ratio, (point.jacobian_norm + omega) * UP, rows)
        self.params = end

    def _made(
        self, point: Point, data: tuple, ball: Ball, reach: float, most: int
    ) -> tuple[Any, Float[np.ndarray, "steps columns"]]:
        """Where the steps of a cell lead to, and their records."""
        with jax.enable_x64(True):
            end, rows, _, count, _ = self._advance(
                *(point.params, point.params, self.start, data),
                np.float64(self.step_size),
                (np.float64(ball.lipschitz), np.float64(ball.third)),
                (np.float64(reach), np.float64(math.inf), np.int32(most), np.float64(0.0)),
                (jax.random.key(0), np.int32(0)),
            )
        return jax.tree.map(np.asarray, end), np.asarray(rows)[: int(count)]

    def _follow(
        self,
        noise: StepNoise | StepErrors,
        ball: Ball,
        ratio: float,
        norm: float,
        rows: Float[np.ndarray, "steps columns"],
    ) -> None:
        """Theorem C over a cell's steps."""
        columns, number = dict(zip(COLUMNS, rows.T, strict=True)), self._number
        off = residual_noise(self.problem, noise, self._centre, columns["values"])
        gradient = columns["gradient"] * UP + ratio * off
        # The weights of a batch's points are rounded, too.
        weighed = (self.batches.size + WEIGHED) * UNIT_ROUNDOFF
        bent = columns["curvature"] * UP + ball.lipschitz * (ratio * off + weighed * gradient)
        if isinstance(noise, StepErrors) and self.how == "neurons":
            bent = bent + neuron_error(self.problem.mlp, noise.off) * ratio * gradient
        bent = np.minimum(bent, ball.lipschitz * gradient * UP) * UP
        passes = ratio * (noise.backward * gradient + ball.jacobian_norm * off)
        passes = passes + ball.jacobian_norm * weighed * gradient
        updated = UNIT_ROUNDOFF * (columns["size"] + 4 * columns["length"])
        errors = (self.step_size * passes + updated) * UP
        around = Ball(*map(number, astuple(ball)))
        for i in range(len(rows)):
            before = self.deviation
            spread: Number = next_spread(
                spread=number(self.apart),
                slack=number(1.0),
                ball=around,
                gradient=number(gradient[i]),
                exponent=number(self.step_size) * number(bent[i]),
                error=number(errors[i]),
                step_size=number(self.step_size),
                smoothness=number(1.0),
            )
            self.exponent += self.step_size * float(bent[i]) * UP
            if spread is None or not safe_upper(spread) < math.inf:
                self.why = Lost(self.steps, before, self.exponent)
                return
            self.apart = safe_upper(spread)
            root = math.sqrt(2 * max(float(columns["excess"][i]), 0.0)) * (1 + 2 * EVALUATION)
            root += norm * before + off[i]
            self.upper.append(root**2 / 2 * UP)
            self.length += (float(columns["length"][i]) + before + self.deviation) * UP
            self.farthest = max(self.farthest, float(columns["distance"][i]) + before)
            self.steps += 1

    @property
    def _number(self) -> Any:
        return Interval.exact if self.proved else float

    def _table(self) -> Float[np.ndarray, "steps n"]:
        """The weights of the points in the next batches."""
        measure, b = self.problem.measure, self.batches.size
        factors = self.batches.factors(measure) / b
        table = np.zeros((CHUNK, measure.n))
        for i in range(CHUNK):
            rows = self.batches.drawn(measure, self.seed, self.steps + i)
            np.add.at(table[i], rows, factors[rows])
        return table

    def _point_norm(self, point: Point, omega: float) -> float:
        """A on a ball where the Jacobian changes by omega."""
        norms = point_norms(self.problem, point.params, point.kernel, point.kernel_error)
        return float(np.max(self.spread * (norms + omega)))

    def _reach(self, point: Point, allowed: float) -> tuple[float, float, float]:
        """How far a cell may go, and omega and L on the ball that is a quarter larger."""
        reach = min(allowed / max(point.bounds.lipschitz(0.0), 1e-300), 1e3)
        while True:
            omega, lipschitz = point.bounds.on_ball(1.25 * reach)
            if omega <= allowed or reach < 1e-12:
                return reach, omega, lipschitz
            reach *= max(0.25, min(0.9, allowed / omega))


def _certified(
    run: _Run, failed: Certificate, there: Hypotheses, found: Certificate
) -> Certificate:
    """About theta_0, what Theorem S says where it takes over."""
    n, away, start = found.numbers, run.deviation, failed.numbers
    gone = parameter_distance(run.params, run.start)
    reach = (gone + away + n.limit_distance) * UP
    end = n["overshoot"] * n.excess if "overshoot" in n else n.excess
    upper = np.array([*run.upper, end])
    rate, since, overshoot = envelope(start.excess, upper, np.zeros(run.steps), n.rate)
    # At exact parameters, which are as far as the run may be off.
    moved = there.bounds.modulus(away)
    excess = excess_within(
        excess=there.excess, smoothness=1.0, jacobian_norm=there.jacobian_norm + moved, away=away
    )
    left = max(there.sigma - moved * UP, 0.0)
    values: dict[str, SupportsFloat] = {
        **{name: start[name] for name in OF_THE_START if name in start},
        "limit_distance": reach,
        "displacement": max(run.farthest * UP, reach),
        "radius": (run.length + n.radius) * UP,
        "rate": rate,
        "rate_since": since,
        "overshoot": overshoot,
        "handover": run.steps,
        "deviation": away,
        "exponent": run.exponent,
        "handover_excess": excess * UP,
        "handover_eigenvalue": left**2 * (2 - UP),
    }
    batches = replace(run.batches, seed=run.seed)
    return replace(failed, batches=batches, why=found.why, numbers=n.but(**values))


OF_THE_START = (
    *("excess", "residual", "min_eigenvalue", "max_eigenvalue", "target_norm", "pl_constant"),
    *("distance_lower_bound", "existence_radius"),
)
"""Numbers that are measured at theta_0."""
