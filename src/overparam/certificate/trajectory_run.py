"""Gradient descent made to be certified: what Theorem C asks about every step.

The run goes cell by cell. At a cell's first point the Jacobian's norm, its modulus and the errors
of the passes are measured; they hold, moved by what they may have changed, for all points of the
cell, which ends where a run has gone too far for that. The steps themselves are one compiled loop;
the first ones may be made in balls instead, where their rounding would be amplified too much.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float

from overparam.certificate.prediction import PER_PRODUCT
from overparam.certificate.reason import Diverged, Lost, Reason
from overparam.certificate.trajectory_cell import Cell, Made
from overparam.certificate.trajectory_movement import SPARE, Looks, NoLooks
from overparam.certificate.trajectory_points import (
    Point,
    centre_noise,
    couplings_around,
    distance_of,
    measure_point,
    neuron_error,
    noise_around,
    norm_of,
    residual_noise,
    residual_terms,
    sizes,
    third_around,
)
from overparam.certificate.trajectory_steps import (
    AS_LITTLE,
    CHUNK,
    COLUMNS,
    LONG,
    Records,
    cell_program,
    curvature_of,
    sums_of,
)
from overparam.enclosures.rounding import add_up
from overparam.errors import InputError
from overparam.jacobian.curvature import input_grams
from overparam.jacobian.random_curvature import (
    Drawing,
    cap_worth,
    drawing_for,
    expected_products,
    log_slack,
)
from overparam.model.function import ParamTree, parameter_norm
from overparam.model.mlp import MLP
from overparam.numbers import Interval, Number, larger, safe_lower, safe_upper, smaller, sqrt
from overparam.numbers.sums import UNIT_ROUNDOFF, summed
from overparam.precision import as_float64
from overparam.problem.problem import Problem
from overparam.rounding.step_noise import StepNoise
from overparam.rounding.steps import StepErrors
from overparam.theorems.convergence import Convergence
from overparam.theorems.drift_along_run import Movement
from overparam.theorems.trajectory import Ball, next_spread
from overparam.theorems.trajectory_curvature import exact

if TYPE_CHECKING:
    from overparam.certificate.ball_steps import BallRun

ROOM = 0.85
"""Share of the way to eta M |J|^2 = 2 that a cell's modulus may use up, at least ``LEAST``."""

LEAST = 0.02
"""Least share of |J| that a cell's modulus may reach."""

CLOSE = 0.96
"""Share of what a cell's modulus may be that is aimed at."""

PACES = 4
"""Steps of the present length within a cell's radius from which on its bounds hold at its end."""

SPARED = 0.25
"""Gradient steps' worth of products that may be made to spare a bound from the passes."""

SLOWLY = 8
"""A cell may be longer than ``CHUNK`` steps once the run is so many times as long."""

KEPT = 2**22
"""Numbers that the steps of a cell longer than ``CHUNK`` may leave."""

WIDEST = 10.0
"""Times 1 + |theta|, no cell reaches farther."""

BESIDE = 1e-4
"""Share of a cell's reach by which thetahat_t may lie beside the point that is recorded of it."""

LONGEST_STEP = 0.5
"""eta lambda at most where random vectors bound the curvature, which asks for less than 1."""

OWN = 0x7A11
"""Tells the vectors' key from that of anything else drawn from the same seed."""


class Run:
    """Gradient descent from theta_0 with the bounds of Theorem C.

    Args:
        problem: The learning problem: an ``MLP`` or a ``Composed`` network observed by its values,
            a loss that is convex or known by how much it is not, and activations with three bounded
            derivatives.
        params: theta_0.
        step_size: eta.
        seed: Of the random vectors, where curvature is bounded by them; another one for each run
            that a certificate looks at, as a run may depend on the vectors of those before.
        proved: Whether every bound is to include its rounding.
        sampled: Whether random vectors bound the curvature of deeper networks, instead of layers.
        drawing: How they are drawn; None is as the size of the network says.
        early: How many steps are made in balls.
        bits: Their precision.
        persists: Whether a run that is lost goes on, to say how many of its steps need more bits;
            one that is to be proved does.

    Attributes:
        exponent: The sum of the e_t so far.
        longest: Steps of a cell at most.
        ratio: |u| in what a step averages over to |u| in L2(mu), at most: 1 where it is over all.
        stepping: Seconds that the steps themselves took; measuring at each cell is apart.
        balling: Those that steps in balls took.
        why: Why the run ended, if it did.
    """

    most = LONG  # steps of a cell, whatever there is room for

    def __init__(
        self,
        problem: Problem,
        params: ParamTree,
        step_size: float,
        seed: int = 0,
        *,
        proved: bool = False,
        sampled: bool = False,
        drawing: Drawing | None = None,
        early: int = 0,
        bits: int = 128,
        persists: bool = False,
    ) -> None:
        self.problem, self.step_size, self.proved = problem, step_size, proved
        self.persists = persists or proved
        self.start = as_float64(params)
        network = problem.network
        self.how = curvature_of(network, sampled)
        self.randomised = self.how == "random"
        self.drawing = drawing or drawing_for(network.parameter_count, problem.measure.n)
        if self.randomised and step_size * problem.weight_decay > LONGEST_STEP:
            longest = LONGEST_STEP / problem.weight_decay
            raise InputError(
                f"step_size {step_size:g} is too long: take {longest:g} or less, half the inverse "
                "of the weight decay"
            )
        # A key of its own: networks and data are often drawn from small seeds.
        self.key = jax.random.fold_in(jax.random.key(seed), OWN)
        self.exponent = self.stepping = self.balling = 0.0
        self.ratio = 1.0
        self.spread: float | None = 0.0
        self.why: Reason | None = None
        self.early = early
        self.looks: Looks | None = None
        numbers = problem.measure.n * problem.outputs  # which are kept of each step
        self.longest = max(CHUNK, min(self.most, KEPT // numbers))
        self._balls = _in_balls(problem, self.start, step_size, bits) if early else None
        self._reach = self._omega = 0.0
        self._pace = math.inf  # the length of the last step
        self._last: Point | None = None
        self._centre = centre_noise(problem, proved)
        measure = problem.measure
        nothing = np.zeros((measure.n, problem.outputs))  # one program, centred or not
        offset = nothing if problem.offset is None else problem.offset
        decay = (np.float64(problem.weight_decay), problem.decay_to)
        decayed = decay if problem.weight_decay else None
        self._away = safe_upper(norm_of(problem.displacement(self.start))) if decayed else 0.0
        self._sums = sums_of(problem, sizes(self.start))
        self._data = (measure.x, problem.targets, measure.weights, offset, decayed)
        self._grams = input_grams(problem.mlp, measure.x) if self.how == "neurons" else None
        self._advance = cell_program(*(network, problem.loss, self.how, self.drawing, self.longest))

    @property
    def in_balls(self) -> bool:
        """Whether the next steps are made in balls."""
        return self._balls is not None

    @property
    def _stretch(self) -> float:
        if not self.randomised:
            return 1.0
        return safe_upper(1 / (1 - self.step_size * Interval.exact(self.problem.weight_decay)))

    def begin(self) -> None:
        """Look at theta_0, as the first cell does: for a run that goes on from a later point."""
        point = self.measure(self.start, 0)
        assert point is not None
        reach, _, _ = self._radius(point)
        noise = noise_around(self.problem, point, 1.25 * reach)
        self.looks = Looks(self.problem, point, self.step_size, noise)
        self._balls = None

    def cells(self, params: ParamTree | None = None, step: int = 0) -> Iterator[Cell]:
        """The run, cell by cell, until it is left or cannot go on; then ``why`` says why.

        Args:
            params: thetahat_t to go on from; None is theta_0.
            step: t.
        """
        params = self.start if params is None else params
        while True:
            point = self.measure(params, step)
            try:
                cell = None if point is None else self._cell(point)
            except InputError:  # of a ball in which rounding is not known
                if not step:
                    raise
                self.why, cell = Diverged(step - 1), None
            if cell is None or (self.spread is None and not self.persists):
                return
            yield cell
            params, step = cell.end, step + len(cell.rows)

    def points(self, keep: Callable[[Cell], None]) -> Iterator[Point]:
        """The first points of all cells from theta_0 on, and the last one's end.

        Args:
            keep: Called with each cell once it is made.
        """
        cells, point = self.cells(), self.measure(self.start, 0)
        while point is not None:
            yield point
            cell = next(cells, None)
            if cell is None:
                return
            keep(cell)
            point = self.measure(cell.end, point.step + len(cell.rows))

    def slack(self, step: int) -> float:
        """a_t of Theorem C."""
        return log_slack(step, self.drawing.beta) if self.randomised else 0.0

    def products(self, cell: Cell) -> float:
        """How many Hessian-vector products a cell's steps took, in expectation."""
        if not self.randomised:
            return 0.0
        caps = self._stretch * self.step_size * cell.rows[:, COLUMNS.index("curvature")]
        return float(expected_products(caps, self.drawing).sum())

    def movement(
        self, point: Point, deviation: float, tail: Convergence, excess: float
    ) -> Movement:
        """What the run has moved, if it ends at a point where Theorem 1 takes over.

        Args:
            point: thetahat_T.
            deviation: delta_T.
            tail: Theorem 1 from there on.
            excess: Delta_T, from above.
        """
        noise = noise_around(self.problem, point, 0.0)
        if self.looks is None:  # T = 0
            self.looks = Looks(self.problem, point, self.step_size, noise)
        off = safe_upper(self.residual_noise(noise, residual_terms(self.problem, point.params)))
        return self.looks.ends(point, noise, off, deviation, tail, excess)

    def measure(self, params: ParamTree, step: int) -> Point | None:
        """All that is measured at a point; None, and a reason, where the run has diverged."""
        point = self._last
        if point is None or point.step != step:
            point = None
            try:
                point = measure_point(self.problem, params, step, self.proved)
            except InputError:  # where rounding is not known; at theta_0 the user is told
                if not step:
                    raise
        self._last = point
        if point is None:
            self.why = Diverged(max(step - 1, 0))
        return point

    def _cell(self, point: Point) -> Cell | None:
        reach, omega, lipschitz = self._radius(point)
        noise = noise_around(self.problem, point, 1.25 * reach)
        ball = self._ball(point, reach, omega, lipschitz)
        extra: Any = self._grams
        if self.how in ("layers", "random") and isinstance(self.problem.network, MLP):
            couplings = couplings_around(self.problem, point.params, point.base, 1.25 * reach)
            off = noise.off if isinstance(noise, StepErrors) else exact(self.problem.mlp.layers)
            extra = (couplings, off)
        if self.looks is None:
            decays = bool(self.problem.weight_decay)
            new = NoLooks(point) if decays else Looks(self.problem, point, self.step_size, noise)
            self.looks = new
        made = self._steps(point, reach, ball, extra)
        table = made.rows
        if not np.isfinite(table).all():
            self.why = Diverged(point.step)
            return None
        bounds = self._bounds(ball, noise, made)
        gradient, exponents, errors = bounds
        norm = Interval.exact(ball.jacobian_norm)
        steepest = self.problem.loss.smoothness * norm * norm + (
            lipschitz * Interval.exact(float(gradient.max()))
        )
        self._see_end(point, reach, made)
        if made.away > BESIDE * reach:  # thetahat_t is nearer to the points of the records
            self.spread, self.why = None, Lost(point.step, made.away, self.exponent)
        away = made.away * (4 + self.step_size * steepest)
        values = self.residual_noise(noise, made.enclosed("values")).upper
        worst = sqrt(2 * larger(made.enclosed("worst"), 0.0)).upper
        deviations = self._deviations(point, ball, worst, values, *bounds)
        deviations = (away + deviations).upper * (SPARE if self.proved else 1.0)
        self.looks.settle(ball, noise, deviations[:-1], values)
        return Cell(
            *(table, made.sums, point, ball, noise),
            *(exponents, deviations, errors, made.end),
        )

    def _ball(self, point: Point, reach: float, omega: float, lipschitz: float) -> Ball:
        """What holds around each point of a cell, of what its steps average over."""
        farthest = summed(reach, *self._sums["moved"])
        return Ball(
            radius=safe_lower((1.25 - BESIDE) * reach - farthest),
            jacobian_norm=safe_upper(Interval.exact(point.jacobian_norm) + omega),
            lipschitz=lipschitz,
            third=third_around(self.problem, point, 1.25 * reach),
        )

    def _see_end(self, point: Point, reach: float, made: Made) -> None:
        """Look at where the steps lead to, which is measured for the next cell anyway."""
        assert self.looks is not None
        self._pace = float(made.rows[-1, COLUMNS.index("length")])
        if isinstance(self.looks, NoLooks):
            return
        ahead = self.measure(made.end, point.step + len(made.rows))
        if ahead is not None:
            near = bool(distance_of(made.end, point.params) <= 1.25 * reach)
            self.looks.look(made.end, ahead.kernel, near=near)

    def _steps(self, point: Point, reach: float, ball: Ball, extra: Any) -> Made:
        """The steps of a cell, in balls up to the step that was asked for."""
        left = self.early - point.step
        if self._balls is None or left <= 0:
            most = min(self.longest, max(CHUNK, point.step // SLOWLY))
            end, rows = self._advanced(point, point.params, reach, ball, extra, (point.step, most))
            return Made(rows, self._sums, end)
        found, errors = list[np.ndarray](), list[float]()
        here, away = point.params, 0.0
        while len(found) < left:
            moved = parameter_norm(jax.tree.map(np.subtract, here, point.params))
            if found and moved > reach:
                break
            # One step from the nearest float64 point, for its record only.
            step = point.step + len(found)  # which has a random vector of its own
            _, rows = self._advanced(point, here, 0.0, ball, extra, (step, 1))
            row = rows[0]
            row[COLUMNS.index("moved")] = moved
            size = Records(rows, self._sums).enclosed("size")
            away = max(away, 2 * UNIT_ROUNDOFF * float(size.upper[0]))
            began = time.perf_counter()
            errors.append(self._balls.step())
            self.balling += time.perf_counter() - began
            here = self._balls.nearest()
            found.append(row)
        if point.step + len(found) >= self.early:
            errors[-1] = safe_upper(2 * UNIT_ROUNDOFF * norm_of(here) + errors[-1])
            self._balls = None
        return Made(np.array(found), self._sums, here, np.array(errors), away)

    def _advanced(
        self,
        point: Point,
        first: ParamTree,
        reach: float,
        ball: Ball,
        extra: Any,
        steps: tuple[int, int],
    ) -> tuple[ParamTree, np.ndarray]:
        """Compiled steps from a point of a cell, until they are farther from it than ``reach``.

        Args:
            point: The cell's first.
            first: Where the steps begin.
            reach: How far they may go.
            ball: What holds around each point.
            extra: What bounds the curvature.
            steps: The number of the first step, and how many there are at most.
        """
        assert self.looks is not None
        first_step, most = steps
        little = AS_LITTLE * self.exponent / (self.step_size * max(point.step, 1))
        if self.randomised:  # what is bounded less sharply is given vectors more often
            little = cap_worth(SPARED / PER_PRODUCT, self.drawing) / self.step_size
        with jax.enable_x64(True):
            around, data = jax.device_put((first, (*self._data, extra)))
        here, tables, left, moved = first, list[np.ndarray](), most, 0.0
        while left and moved <= reach:
            looked = self.looks.look(here, point.kernel if here is point.params else None)
            close = PACES * self._pace <= reach
            room = self.looks.room(ball, close) if looked else math.inf
            began = time.perf_counter()
            with jax.enable_x64(True):
                end, rows, ghats, count, far = self._advance(
                    *(here, around, self.looks.origin, data),
                    np.float64(self.step_size),
                    (np.float64(ball.lipschitz), np.float64(ball.third)),
                    (np.float64(reach), np.float64(room), np.int32(left), np.float64(little)),
                    (self.key, np.int32(first_step + most - left)),
                )
                here, made, moved = end, int(count), float(far)
            tables.append(np.array(np.asarray(rows)[:made]))
            self._pace = float(tables[-1][-1, COLUMNS.index("length")])
            seen = tables[-1].copy()
            seen[:, COLUMNS.index("length")] += self._beside(seen, ball)
            self.looks.follow(Records(seen, self._sums), np.asarray(ghats)[:made])
            self.stepping += time.perf_counter() - began
            left -= made
        return jax.tree.map(np.asarray, here), np.concatenate(tables)

    def _beside(self, rows: Float[np.ndarray, "steps columns"], ball: Ball) -> Any:
        """What steps in balls may be longer than those of the points that are recorded of them."""
        if self._balls is None:
            return 0.0
        size, ghat = (rows[:, COLUMNS.index(name)] for name in ("size", "gradient"))
        steepest = float(ball.lipschitz) * ghat
        steepest += self.problem.loss.smoothness * float(ball.jacobian_norm) ** 2
        return 2 * UNIT_ROUNDOFF * size * (2 + 2 * self.step_size * steepest)

    def _radius(self, point: Point) -> tuple[float, float, float]:
        """How far a cell may go, and omega and L on the ball that is a quarter larger."""
        allowed = self._allowed(point)
        reach = self._hoped(point, allowed)
        while True:
            omega, lipschitz = point.bounds.on_ball(1.25 * reach)
            if omega <= allowed or reach < 1e-12:
                break
            reach *= max(0.25, min(0.9, allowed / omega))
        self._reach, self._omega = reach, omega
        return reach, omega, lipschitz

    def _hoped(self, point: Point, allowed: float) -> float:
        """How far a cell may go at most."""
        if not self._reach:
            self._reach, self._omega = allowed / max(point.bounds.lipschitz(0.0), 1e-300), allowed
        # As omega was around the point before, it is just allowed; most often it is so again.
        grown = min(2.0, CLOSE * allowed / self._omega if self._omega else math.inf)
        # Where J hardly varies a ball could be so large that its bounds are no numbers.
        return min(grown * self._reach, WIDEST * (1 + parameter_norm(point.params)))

    def _allowed(self, point: Point) -> float:
        """By how much the Jacobian may change within a cell."""
        steepest = max(2 / self.step_size - 2 * self.problem.weight_decay, 0.0)
        largest = math.sqrt(steepest / self.problem.loss.smoothness)
        norm = point.jacobian_norm
        return max(ROOM * (largest - norm), LEAST * norm)

    def _bounds(
        self, ball: Ball, noise: StepNoise | StepErrors, made: Made
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """|ghat_t|, e_t and eps_t from above."""
        eta, M, norm = self.step_size, self.problem.loss.smoothness, ball.jacobian_norm
        off = self._loss_noise(noise, made)
        error = self._rounding(ball, noise, made, off)
        # Where records are of the nearest float64 point, and not of thetahat_t itself.
        off = off + M * Interval.exact(norm) * made.away
        gradient = made.enclosed("gradient") + off
        seen = made.column("sample" if self.randomised else "curvature")
        bent = Interval.exact(seen) + self._curvature_error(noise, gradient)
        bent = bent + self._stretch * (ball.lipschitz * off) + ball.third * gradient * made.away
        if self.proved:
            bent = smaller(bent, ball.lipschitz * gradient)
        known = error.upper if made.errors is None else made.errors
        return gradient.upper, (eta * bent).upper, known

    def _curvature_error(
        self, noise: StepNoise | StepErrors, gradient: Interval
    ) -> Interval | float:
        """What the errors of the passes may hide of |R|, where it is bounded neuron by neuron."""
        if not isinstance(noise, StepErrors) or self.how != "neurons":
            return 0.0
        return self.ratio * (neuron_error(self.problem.mlp, noise.off) * gradient)

    def _loss_noise(self, noise: StepNoise | StepErrors, made: Made) -> Interval:
        """How far ghat_t may be off."""
        return self.problem.loss.smoothness * self.residual_noise(noise, made.enclosed("values"))

    def _deviations(
        self,
        point: Point,
        ball: Ball,
        worst: np.ndarray,
        noise: np.ndarray,
        gradient: np.ndarray,
        exponents: np.ndarray,
        error: np.ndarray,
    ) -> np.ndarray:
        """Theorem C over a cell; infinite, and a reason, from where it says nothing any more.

        Args:
            point: The cell's first.
            ball: What holds around each point.
            worst: The largest sqrt(2 (l - inf l)) of a data point, at each step.
            noise: How far residuals may be off.
            gradient: |ghat_t|.
            exponents: e_t.
            error: eps_t.
        """
        number: Any = Interval.exact if self.proved else float
        norms = (ball.radius, ball.jacobian_norm, ball.lipschitz, ball.third)
        around = Ball(*map(number, norms))
        found = []
        for i in range(len(gradient)):
            slack = math.exp(self.slack(point.step + i))
            found.append(math.inf if self.spread is None else slack * self.spread)
            self.exponent = add_up(self.exponent, float(exponents[i]))
            if self.spread is None:
                continue
            spread: Number | None = next_spread(
                spread=number(self.spread),
                slack=number(slack),
                ball=around,
                gradient=number(gradient[i]),
                exponent=number(exponents[i]),
                error=number(error[i]),
                step_size=number(self.step_size),
                smoothness=number(self.problem.loss.smoothness),
                nonconvexity=number(self._nonconvexity(worst[i], noise[i], ball, found[-1])),
                decay=number(self.problem.weight_decay),
                stretch=number(self._stretch),
            )
            self.spread = None if spread is None else safe_upper(spread)
            if self.spread is None:
                self.why = Lost(point.step + i, found[-1], self.exponent)
        last = math.exp(self.slack(point.step + len(gradient)))
        found.append(math.inf if self.spread is None else last * self.spread)
        return np.array(found)

    def _nonconvexity(self, worst: float, noise: float, ball: Ball, deviation: float) -> float:
        """kappa_t, at most M, which is one for every smooth loss (docs/trajectory.md, Lemma C1)."""
        loss, least = self.problem.loss, float(self.problem.measure.weights.min())
        if loss.convex:
            return 0.0
        moved = Interval.exact(ball.jacobian_norm) * deviation + noise
        reached = sqrt(Interval.exact(loss.smoothness) / least) * moved + worst
        return min(loss.nonconvexity(safe_upper(reached * reached / 2)), loss.smoothness)

    def residual_noise(self, noise: StepNoise | StepErrors, values: Interval) -> Interval:
        """How far computed residuals of a cell may be off in L2(mu)."""
        return residual_noise(self.problem, noise, self._centre, values)

    def _rounding(
        self, ball: Ball, noise: StepNoise | StepErrors, made: Made, off: Interval
    ) -> Interval:
        """eps_t: the errors of passes, of the residual, of the update."""
        gradient, length, size = map(made.enclosed, ("gradient", "length", "size"))
        passes = self.ratio * (noise.backward * gradient) + ball.jacobian_norm * off
        updated = UNIT_ROUNDOFF * (size + 4 * length)
        if self.problem.weight_decay:  # what cancels in a step is rounded before
            pulled = self.step_size * (made.enclosed("distance") + self._away)
            updated = updated + 8 * UNIT_ROUNDOFF * (self.problem.weight_decay * pulled)
        return self.step_size * passes + updated


def _in_balls(problem: Problem, params: ParamTree, step_size: float, bits: int) -> "BallRun":
    from overparam.certificate.ball_steps import BallRun  # FLINT, which few certificates need

    return BallRun(problem, params, step_size, bits)
