"""A run of gradient descent of the re-check's own, with what Theorem C asks about every step.

It shares no number with the run that a certificate speaks of: both stay within their own bounds of
the exact one. Steps are made in float64, the first ones in balls where float64 would not do; at the
first point of each cell all norms are measured in balls.
"""

import math
from dataclasses import astuple, dataclass, replace

import numpy as np
from flint import arb

from overparam.jacobian.modulus import modulus_and_lipschitz
from overparam.numbers.upper import EXTENDED, strict
from overparam.progress import Progress, silent
from overparam.theorems.trajectory import Ball, next_spread
from overparam.verification.ball_steps import BallDescent
from overparam.verification.balls import UNIT, above, bound_of, raised, total
from overparam.verification.curvature import Curvature
from overparam.verification.drawn_batches import DrawnBatches
from overparam.verification.float_pass import (
    FloatNetwork,
    Passed,
    between,
    displacement,
    size_of,
    stepped,
)
from overparam.verification.float_rounding import Rounding, rounding_near
from overparam.verification.measured_kernel import Measured, centre_of, measure
from overparam.verification.movement import Looks
from overparam.verification.subject import Parameters, Subject

_ROOM, _LEAST = 0.85, 0.03
"""Of the way to eta (M |J|^2 + 2 lambda) = 2, and of |J|, that a cell's modulus may use up."""

_WIDEST = 10.0
"""Times 1 + |theta|, no cell reaches farther: bounds on a larger ball may be no numbers."""

_BENT = 0.15
"""Of batches: share of A by which the Jacobian at a point may change within a cell."""

_FAR = 1.4
"""The same where first steps are made in balls: beyond 2 a deviation grows, and has room to."""

EXPONENT = 10.0
"""By which the rounding of float64 may be amplified; earlier steps are made in balls."""


@dataclass(frozen=True, eq=False)
class OwnRun:
    """The run up to step T.

    Attributes:
        measured: What holds at its last point.
        around: omega and L around that point.
        deviation: How far at most the exact theta_T is from it; infinite if that is not known.
        deviations: The same for all steps up to T.
        upper: Upper bounds on Delta_0, ..., Delta_{T-1} of exact gradient descent.
        lower: Lower bounds.
        length: Upper bound on the exact path's length up to T.
        farthest: On its largest distance from theta_0 up to T.
        gone: |theta_T - theta_0| of this run, from above.
        least: The same from below.
        jacobian_norm: The largest B_t.
        exponents: e_t.
        looks: At the run, beside the linearised one; None with weight decay or in batches.
        last: The run's last point.
        noise: How far K_T and K_0 as computed may be off together, and r_T.
    """

    measured: Measured
    around: "Around"
    deviation: float
    deviations: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    length: float
    farthest: float
    gone: float
    least: float
    jacobian_norm: float
    exponents: np.ndarray
    looks: Looks | None
    last: Parameters
    noise: tuple[float, float]

    def early(self) -> int:
        """How many of the first steps float64 rounds too much for what comes after them."""
        rest = np.append(np.cumsum(self.exponents[::-1])[::-1], 0.0)
        return int(np.argmax(rest <= min(EXPONENT, rest[0] / 2)))


def own_run(
    subject: Subject,
    step_size: float,
    steps: int,
    early: int,
    say: Progress,
    batches: DrawnBatches | None = None,
    patience: float = math.inf,
) -> OwnRun:
    """Make T steps of gradient descent.

    Args:
        subject: What it is about.
        step_size: eta.
        steps: T.
        early: How many of them to make in balls; where none was asked for and float64 turns out not
            to do, the run is made again.
        say: Told what is being computed.
        batches: Of the steps; None takes all points in each.
        patience: Steps in balls at most that the run is made again with.
    """
    found = _Run(subject, step_size, min(early, steps), say, batches).until(steps)
    if math.isinf(found.deviation) and not early and found.early() <= patience:
        found = _Run(subject, step_size, found.early(), say, batches).until(steps)
    return found


class Around:
    """omega(r) and L(r) around a point, as floats that are not below them."""

    def __init__(self, measured: Measured) -> None:
        self.norms = measured.norms
        self.known: dict[float, tuple[float, float]] = {}

    def on_balls(self, radii: np.ndarray) -> np.ndarray:
        """(omega, L) for each radius, (radii, 2)."""
        new = [r for r in dict.fromkeys(radii.tolist()) if r not in self.known]
        with strict():
            found = list(modulus_and_lipschitz(self.norms, new, EXTENDED))
        for radius, (omega, lipschitz) in zip(new, found, strict=True):
            bend = math.inf if lipschitz is None else above(bound_of(lipschitz))
            self.known[radius] = (above(bound_of(omega)), bend)
        return np.array([self.known[r] for r in radii.tolist()])

    def on_ball(self, radius: float) -> tuple[float, float]:
        """(omega(radius), L(radius))."""
        omega, lipschitz = self.on_balls(np.array([radius]))[0]
        return float(omega), float(lipschitz)


class _Run:
    def __init__(
        self,
        subject: Subject,
        step_size: float,
        early: int,
        say: Progress,
        batches: DrawnBatches | None,
    ) -> None:
        self.subject, self.eta, self.early, self.say = subject, step_size, early, say
        self.batches, self.steps = batches, 0
        self.network = FloatNetwork(
            *(subject.architecture, subject.x, subject.y, subject.weights, subject.center)
        )
        self.loss = subject.architecture.loss_for(subject.y.shape[1])
        self.M = above(self.loss.smoothness())
        arrays = (*subject.params.weights, *subject.params.biases)
        parameters = sum(a.size for a in arrays)
        self.of_norms, self.up = raised(parameters), raised(parameters, subject.y.size)
        """Covers the rounding of norms of parameters, and of what is made of them and of values."""
        self.balls = BallDescent(subject, step_size) if early else None
        self.spread: arb | None = arb(0)
        self.upper, self.lower = list[float](), list[float]()
        self.exponents, self.deviations = list[float](), list[float]()
        self.length = self.farthest = arb(0)
        self.largest = 0.0
        self.centre = 0.0
        self.reach = 0.0
        self.looks: Looks | None = None

    def until(self, steps: int) -> OwnRun:
        """Make the steps, cell by cell."""
        self.steps = steps
        here, done, centre = self.subject.params, 0, centre_of(self.subject)
        while True:
            there = replace(self.subject, params=here)
            self.say("the run", done, steps)
            measured = measure(there, silent, centre, points=self.batches is not None)
            if not done and self.subject.center is not None:
                self.centre = self._centre(measured)
            near = Around(measured)
            if self.looks is None and not self.subject.decay and self.batches is None:
                self.looks = self._looks(measured)
            if done == steps:
                break
            cell = _Cell(self, there, measured, near, done)
            here, made = cell.advance(done, steps)
            done += made
        last = math.inf if self.spread is None else above(self.spread)
        gone = between(here, self.subject.params)
        return OwnRun(
            measured=measured,
            around=near,
            deviation=last,
            deviations=np.array([*self.deviations, last]),
            upper=np.array(self.upper),
            lower=np.array(self.lower),
            length=above(self.length),
            farthest=above(self.farthest),
            gone=gone * self.of_norms,
            least=gone * (2 - self.of_norms),
            jacobian_norm=self.largest,
            exponents=np.array(self.exponents),
            looks=self.looks,
            last=here,
            noise=self._noise(there, measured),
        )

    def counted(self, step: int) -> tuple[list[arb] | None, np.ndarray, float, float]:
        """What the points count in a step: exactly, in float64; its ratio; the latter's rounding.

        The ratio is that of |u| there to |u| in L2(mu), at most.
        """
        w = self.subject.weights
        if self.batches is None:
            return None, w, 1.0, 0.0
        counted = self.batches.counted(step)
        found = np.array(list(map(float, counted)))
        return counted, found, math.sqrt(float(np.max(found / w))) * raised(), 4 * UNIT

    def _noise(self, there: Subject, measured: Measured) -> tuple[float, float]:
        rounding, norm = rounding_near(there, measured, 0.0), measured.max_eigenvalue.sqrt()
        of_kernel = 0.0
        if self.looks is not None:
            of_kernel = self.looks.off + self.looks.kernel_error(above(norm), rounding.backward)
        return of_kernel, self.noise(rounding, self.network.passed(there.params))

    def noise(self, rounding: Rounding, passed: Passed) -> float:
        """How far the values may be off in L2(mu), a gradient's own rounding counted with them."""
        w, offset = self.subject.weights, np.broadcast_to(self.network.offset, passed.values.shape)
        squares = passed.values**2 + offset**2 + (passed.values + offset) ** 2 + self.subject.y**2
        terms = 2 * float(np.sqrt(w @ squares.sum(1)))
        if not self.network.exact:
            terms += math.sqrt(passed.values.shape[1])
        return (rounding.output + self.centre + 64 * UNIT * terms) * self.up

    def _looks(self, measured: Measured) -> Looks:
        norm = above(measured.max_eigenvalue.sqrt())
        backward = rounding_near(self.subject, measured, 0.0).backward
        return Looks(self.network, self.subject.params, self.eta, norm, backward)

    def _centre(self, measured: Measured) -> float:
        """How far the centre's outputs may be off; most often it is where the run starts."""
        centre = self.subject.center
        assert centre is not None
        if centre.fingerprint() != self.subject.params.fingerprint():
            there = replace(self.subject, params=centre)
            measured = measure(there, silent)
            return rounding_near(there, measured, 0.0).output
        return rounding_near(self.subject, measured, 0.0).output


class _Cell:
    """The steps near a point at which everything was measured."""

    def __init__(
        self,
        run: _Run,
        there: Subject,
        measured: Measured,
        near: Around,
        done: int,
    ) -> None:
        self.run, self.there, self.measured = run, there, measured
        norm = above(measured.max_eigenvalue.sqrt())
        allowed = self._allowed(norm, done)
        reach = 2 * run.reach or allowed / max(near.on_ball(1e-9)[1], 1e-300)
        reach = min(reach, _WIDEST * (1 + size_of(there.params)))
        while near.on_ball(1.25 * reach)[0] > allowed and reach > 1e-12:
            reach *= max(0.25, min(0.9, allowed / near.on_ball(1.25 * reach)[0]))
        run.reach = self.reach = reach
        omega, self.lipschitz = near.on_ball(1.25 * reach)
        self.B = (norm + omega) * raised()
        run.largest = max(run.largest, self.B)
        self.rounding: Rounding = rounding_near(there, measured, 1.25 * reach)
        self.point_norm = math.inf
        if run.batches is not None:
            self.point_norm = above(run.batches.point_norm(measured.points, omega)) * raised()
        passed = run.network.passed(there.params)
        self.bends = Curvature.around(there, self.rounding.off, passed, 1.25 * reach)

    def _allowed(self, norm: float, done: int) -> float:
        """By how much the Jacobian may change within the cell."""
        run = self.run
        if run.batches is not None:
            widest = max(map(float, run.batches.spread()))
            return _BENT * above(run.batches.point_norm(self.measured.points, 0.0)) / widest
        room = _FAR if done < run.early < run.steps else _ROOM
        steepest = math.sqrt(max(2 / run.eta - 2 * run.subject.decay, 0.0) / run.M)
        return max(room * (steepest - norm), _LEAST * norm)

    def _ball(self, ratio: float) -> Ball:
        """What holds around each point of the cell, of F into the values on a batch."""
        B = min(ratio * self.B, self.point_norm) * raised() if ratio != 1 else self.B
        L, third = ratio * self.lipschitz, ratio * self.rounding.third
        return Ball(self.reach / 4.001, B, L, third)

    def advance(self, done: int, steps: int) -> tuple[Parameters, int]:
        """Step until the cell ends, or the run; the last point, and how many steps."""
        run, first, here, made = self.run, self.there.params, self.there.params, 0
        start, looks, decay = run.subject.params, run.looks, run.subject.decay
        deviations, noises = list[float](), list[float]()
        since, room = 0.0, self._look(here)
        while done + made < steps and (
            not made or between(here, first) * run.of_norms <= self.reach
        ):
            in_balls = run.balls is not None and done + made < run.early
            if since > room:
                since, room = 0.0, self._look(here)
            counted, weights, ratio, rounded = run.counted(done + made)
            there, passed = replace(run.subject, params=here), run.network.passed(here, weights)
            ball = self._ball(ratio)
            ahead, length = stepped(there, passed, run.eta)
            from_reference = size_of(displacement(there)) if decay else 0.0
            ghat, noise = passed.gradient_norm(), run.noise(self.rounding, passed)
            size = size_of(here)
            away = 2 * UNIT * size * run.up if in_balls else 0.0
            wrong = ratio * run.M * noise + rounded * ghat
            off = wrong + ratio * run.M * self.B * away
            gradient = (ghat + off) * run.up
            exponent = run.eta * self._curvature(here, passed, ball, gradient, off, away)
            if in_balls:
                assert run.balls is not None
                error = run.balls.step(counted)
                ahead = run.balls.rounded()
                if done + made + 1 == run.early:
                    error += 2 * UNIT * size_of(ahead) * run.up
            else:
                passes = ratio * self.rounding.backward * ghat + ball.jacobian_norm * wrong
                updated = size + 4 * length + 8 * run.eta * decay * from_reference
                error = (run.eta * passes + UNIT * updated) * run.up
            steepest = ball.lipschitz * gradient + run.M * ball.jacobian_norm**2
            steep = run.eta * (steepest + decay)
            deviation = math.inf if run.spread is None else above(run.spread)
            deviations.append((deviation + away * (4 + steep)) * run.up)
            noises.append(noise)
            self._record(passed, noise, length, between(here, start), deviations[-1])
            self._penalise(from_reference, deviations[-1])
            if looks is not None:
                looks.beside.step(
                    length * run.of_norms, size * run.of_norms, looks.residual(passed)
                )
            since += length
            self._spread(ball, gradient, exponent, error)
            here, made = ahead, made + 1
            if done + made == run.early:  # what comes has less room
                break
        run.deviations += deviations
        if looks is not None:
            looks.settle(deviations, noises, self.B, self.lipschitz, self.rounding.backward)
        return here, made

    def _look(self, here: Parameters) -> float:
        """Compare with theta_0; how far the run may go until the next time."""
        looks = self.run.looks
        if looks is None:
            return math.inf
        looks.look(here)
        return looks.beside.room(self.B, self.lipschitz)

    def _penalise(self, from_reference: float, deviation: float) -> None:
        """Add what weight decay adds to the objective; the first number is |theta - theta_ref|."""
        run, half = self.run, self.run.subject.decay / 2
        least = max(from_reference * (2 - run.of_norms) - deviation, 0.0)
        run.upper[-1] += half * (from_reference * run.of_norms + deviation) ** 2 * run.of_norms
        run.lower[-1] += half * least**2 * (2 - run.of_norms)

    def _record(
        self, passed: Passed, noise: float, length: float, distance: float, deviation: float
    ) -> None:
        """Delta_t, the path's length and its distance from theta_0, of exact gradient descent."""
        run = self.run
        root = self._root(passed)
        off = (math.sqrt(run.M) * (noise + self.B * deviation) + 128 * UNIT * root) * raised()
        run.upper.append((root + off) ** 2 / 2 * raised())
        run.lower.append(max(root * (2 - raised()) - off, 0.0) ** 2 / 2 * (2 - raised()))
        # Each deviation stands at the end of one step and at the start of the next.
        run.length += arb(length) * run.of_norms + 2 * arb(deviation)
        run.farthest = run.farthest.max(arb(distance) * run.of_norms + deviation)

    def _root(self, passed: Passed) -> float:
        """sqrt(2 Delta) as computed."""
        run, w = self.run, self.run.subject.weights
        if run.network.exact:
            return math.sqrt(math.fsum((w[:, None] * passed.ghat**2).ravel().tolist()))
        pairs = zip(passed.values.tolist(), run.subject.y.tolist(), w.tolist(), strict=True)
        found = total(arb(u) * run.loss.excess(list(map(arb, z)), y) for z, y, u in pairs)
        return float((2 * found).nonnegative_part().sqrt())

    def _spread(self, ball: Ball, gradient: float, exponent: float, error: float) -> None:
        run = self.run
        run.exponents.append(exponent)
        if run.spread is None:
            return
        found = next_spread(
            spread=run.spread,
            slack=arb(1),
            ball=Ball(*map(arb, astuple(ball))),
            gradient=arb(gradient),
            exponent=arb(exponent),
            error=arb(error),
            step_size=arb(run.eta),
            smoothness=arb(run.M),
            decay=arb(run.subject.decay),
        )
        run.spread = None if found is None or not arb(found).is_finite() else arb(found).upper()

    def _curvature(
        self,
        here: Parameters,
        passed: Passed,
        ball: Ball,
        gradient: float,
        off: float,
        away: float,
    ) -> float:
        """An upper bound on |D^2 <F, ghat>| at the exact gradient of f, which is ``off`` away."""
        run, general = self.run, ball.lipschitz * gradient
        found = self.bends.bound(here.weights[-1], passed)
        if found is None:
            return general * run.up
        of_gradient = ball.lipschitz * off
        return min(general, found + of_gradient + ball.third * gradient * away) * run.up
