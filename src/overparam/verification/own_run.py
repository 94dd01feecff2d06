"""A run of gradient descent of the re-check's own, with what Theorem C asks about every step.

It shares no number with the run that a certificate speaks of: both stay within their own bounds of
the exact one. Steps are made in float64, the first ones in balls where float64 would not do; at the
first point of each cell all norms are measured in balls.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from flint import arb

from overparam.jacobian.modulus import modulus_and_lipschitz
from overparam.numbers.upper import EXTENDED, strict
from overparam.progress import Progress
from overparam.theorems.trajectory import Ball, next_spread
from overparam.theorems.trajectory_curvature import RAISE, Couplings, Seen, layered_curvature
from overparam.verification.ball_steps import BallDescent, has_steps
from overparam.verification.balls import bound_of
from overparam.verification.float_pass import FloatNetwork, Passed, between, size_of, stepped
from overparam.verification.float_rounding import Rounding, rounding_near
from overparam.verification.measure import Measured, centre_of, measure
from overparam.verification.movement import Looks
from overparam.verification.partial_jacobians import spectral_norm
from overparam.verification.subject import Parameters, Subject

_UNIT = 2.0**-53
_UP = 1 + 1e-9
"""Covers sums of numbers >= 0, one for each parameter."""

_ROOM, _LEAST = 0.85, 0.03
"""Of the way to eta M |J|^2 = 2, and of |J|, that a cell's modulus may use up."""

_WIDEST = 10.0
"""Times 1 + |theta|, no cell reaches farther: bounds on a larger ball may be no numbers."""

_FAR = 1.4
"""The same where steps are made in balls: beyond 2 a deviation grows, and has room to."""

EXPONENT = 10.0
"""By which the rounding of float64 may be amplified; earlier steps are made in balls."""


@dataclass(frozen=True, eq=False)
class OwnRun:
    """The run up to step T.

    Attributes:
        measured: What holds at its last point.
        on_ball: omega and L around that point.
        deviation: How far at most the exact theta_T is from it; infinite if that is not known.
        upper: Upper bounds on Delta_0, ..., Delta_{T-1} of exact gradient descent.
        lower: Lower bounds.
        length: Upper bound on the exact path's length up to T.
        farthest: On its largest distance from theta_0 up to T.
        gone: |theta_T - theta_0| of this run.
        jacobian_norm: The largest B_t.
        exponents: e_t.
        looks: At the run, beside the linearised one.
        last: The run's last point.
        noise: How far K_T and K_0 as computed may be off together, and r_T.
    """

    measured: Measured
    on_ball: Callable[[float], tuple[float, float]]
    deviation: float
    upper: np.ndarray
    lower: np.ndarray
    length: float
    farthest: float
    gone: float
    jacobian_norm: float
    exponents: np.ndarray
    looks: Looks
    last: Parameters
    noise: tuple[float, float]

    def early(self) -> int:
        """How many of the first steps float64 rounds too much for what comes after them."""
        rest = np.append(np.cumsum(self.exponents[::-1])[::-1], 0.0)
        return int(np.argmax(rest <= min(EXPONENT, rest[0] / 2)))


def own_run(subject: Subject, step_size: float, steps: int, early: int, say: Progress) -> OwnRun:
    """Make T steps of gradient descent.

    Args:
        subject: What it is about.
        step_size: eta.
        steps: T.
        early: How many of them to make in balls; where none was asked for and float64 turns out not
            to do, the run is made again.
        say: Told what is being computed.
    """
    found = _Run(subject, step_size, min(early, steps), say).until(steps)
    if math.isinf(found.deviation) and not early and has_steps(subject):
        found = _Run(subject, step_size, found.early(), say).until(steps)
    return found


def around(measured: Measured) -> Callable[[float], tuple[float, float]]:
    """omega(r) and L(r) as floats that are not below them."""
    known: dict[float, tuple[float, float]] = {}

    def on_ball(radius: float) -> tuple[float, float]:
        if radius not in known:
            with strict():
                ((omega, lipschitz),) = modulus_and_lipschitz(measured.norms, [radius], EXTENDED)
            known[radius] = (
                _above(bound_of(omega)),
                math.inf if lipschitz is None else _above(bound_of(lipschitz)),
            )
        return known[radius]

    return on_ball


def _above(ball: arb) -> float:
    return math.nextafter(float(ball.upper()), math.inf)


class _Run:
    def __init__(self, subject: Subject, step_size: float, early: int, say: Progress) -> None:
        self.subject, self.eta, self.early, self.say = subject, step_size, early, say
        self.network = FloatNetwork(
            *(subject.architecture, subject.x, subject.y, subject.weights, subject.center)
        )
        self.loss = subject.architecture.loss_for(subject.y.shape[1])
        self.M = _above(self.loss.smoothness())
        self.balls = BallDescent(subject, step_size) if early else None
        self.spread: arb | None = arb(0)
        self.upper, self.lower = list[float](), list[float]()
        self.exponents = list[float]()
        self.length = self.farthest = self.largest = 0.0
        self.centre = 0.0
        self.reach = 0.0
        self.looks: Looks | None = None

    def until(self, steps: int) -> OwnRun:
        """Make the steps, cell by cell."""
        here, done, centre = self.subject.params, 0, centre_of(self.subject)
        while True:
            there = replace(self.subject, params=here)
            self.say("the run", done, steps)
            measured = measure(there, lambda _: None, centre)
            if not done and self.subject.center is not None:
                self.centre = self._centre(measured)
            on_ball = around(measured)
            if self.looks is None:
                self.looks = self._looks(measured)
            if done == steps:
                break
            cell = _Cell(self, there, measured, on_ball, done)
            here, made = cell.advance(done, steps)
            done += made
        return OwnRun(
            measured=measured,
            on_ball=on_ball,
            deviation=math.inf if self.spread is None else _above(self.spread) * _UP,
            upper=np.array(self.upper),
            lower=np.array(self.lower),
            length=self.length,
            farthest=self.farthest,
            gone=between(here, self.subject.params) * _UP,
            jacobian_norm=self.largest,
            exponents=np.array(self.exponents),
            looks=self.looks,
            last=here,
            noise=self._noise(there, measured),
        )

    def _noise(self, there: Subject, measured: Measured) -> tuple[float, float]:
        assert self.looks is not None
        rounding, norm = rounding_near(there, measured.whole, 0.0), measured.max_eigenvalue.sqrt()
        of_kernel = self.looks.off + self.looks.kernel_error(_above(norm), rounding.backward)
        return of_kernel, self.noise(rounding, self.network.passed(there.params))

    def noise(self, rounding: Rounding, passed: Passed) -> float:
        """How far the values may be off in L2(mu), a gradient's own rounding counted with them."""
        w, offset = self.subject.weights, np.broadcast_to(self.network.offset, passed.values.shape)
        squares = passed.values**2 + offset**2 + (passed.values + offset) ** 2 + self.subject.y**2
        terms = 2 * float(np.sqrt(w @ squares.sum(1)))
        if not self.network.exact:
            terms += math.sqrt(passed.values.shape[1])
        return (rounding.output + self.centre + 64 * _UNIT * terms) * _UP

    def _looks(self, measured: Measured) -> Looks:
        norm = _above(measured.max_eigenvalue.sqrt())
        backward = rounding_near(self.subject, measured.whole, 0.0).backward
        return Looks(self.network, self.subject.params, self.eta, norm, backward)

    def _centre(self, measured: Measured) -> float:
        """How far the centre's outputs may be off; most often it is where the run starts."""
        centre = self.subject.center
        assert centre is not None
        if centre.fingerprint() != self.subject.params.fingerprint():
            there = replace(self.subject, params=centre)
            measured = measure(there, lambda _: None)
            return rounding_near(there, measured.whole, 0.0).output
        return rounding_near(self.subject, measured.whole, 0.0).output


class _Cell:
    """The steps near a point at which everything was measured."""

    def __init__(
        self,
        run: _Run,
        there: Subject,
        measured: Measured,
        on_ball: Callable[[float], tuple[float, float]],
        done: int,
    ) -> None:
        self.run, self.there, self.measured = run, there, measured
        norm = _above(measured.max_eigenvalue.sqrt())
        room = _FAR if done < run.early else _ROOM
        allowed = max(room * (math.sqrt(2 / (run.eta * run.M)) - norm), _LEAST * norm)
        reach = 2 * run.reach or allowed / max(on_ball(1e-9)[1], 1e-300)
        reach = min(reach, _WIDEST * (1 + size_of(there.params)))
        while on_ball(1.25 * reach)[0] > allowed and reach > 1e-12:
            reach *= max(0.25, min(0.9, allowed / on_ball(1.25 * reach)[0]))
        run.reach = self.reach = reach
        omega, self.lipschitz = on_ball(1.25 * reach)
        self.B = (norm + omega) * _UP
        run.largest = max(run.largest, self.B)
        self.rounding: Rounding = rounding_near(there, measured.whole, 1.25 * reach)
        self.ball = Ball(*map(arb, (reach / 4.001, self.B, self.lipschitz, self.rounding.third)))
        deep = len(there.params.weights) > 2
        self.couplings = self._couplings() if deep else None

    def advance(self, done: int, steps: int) -> tuple[Parameters, int]:
        """Step until the cell ends, or the run; the last point, and how many steps."""
        run, first, here, made = self.run, self.there.params, self.there.params, 0
        start, looks = run.subject.params, run.looks
        deviations, noises = list[float](), list[float]()
        assert looks is not None
        looks.look(here)
        since, room = 0.0, looks.beside.room(self.B, self.lipschitz)
        while done + made < steps and (not made or between(here, first) * _UP <= self.reach):
            in_balls = run.balls is not None and done + made < run.early
            if since > room:
                looks.look(here)
                since, room = 0.0, looks.beside.room(self.B, self.lipschitz)
            passed = run.network.passed(here)
            ahead, length = stepped(here, passed, run.eta)
            ghat = float(np.sqrt(run.subject.weights @ (passed.ghat**2).sum(1)))
            noise = run.noise(self.rounding, passed)
            size = size_of(here)
            away = 2 * _UNIT * size * _UP if in_balls else 0.0
            gradient = (ghat + run.M * (noise + self.B * away)) * _UP
            exponent = run.eta * self._curvature(here, passed, gradient, noise, away)
            if in_balls:
                assert run.balls is not None
                error = run.balls.step()
                ahead = run.balls.rounded()
                if done + made + 1 == run.early:
                    error += 2 * _UNIT * size_of(ahead) * _UP
            else:
                passes = self.rounding.backward * ghat + self.B * run.M * noise
                error = (run.eta * passes + _UNIT * (size + 4 * length)) * _UP
            steep = run.eta * (self.lipschitz * gradient + run.M * self.B**2)
            deviation = math.inf if run.spread is None else _above(run.spread) * _UP
            deviations.append(deviation + away * (4 + steep))
            noises.append(noise)
            self._record(passed, noise, length, between(here, start), deviations[-1])
            looks.beside.step(length, size, looks.residual(passed))
            since += length
            self._spread(gradient, exponent, error)
            here, made = ahead, made + 1
            if done + made == run.early:  # what comes has less room
                break
        looks.settle(deviations, noises, self.B, self.lipschitz, self.rounding.backward)
        return here, made

    def _record(
        self, passed: Passed, noise: float, length: float, distance: float, deviation: float
    ) -> None:
        """Delta_t, the path's length and its distance from theta_0, of exact gradient descent."""
        run = self.run
        root = self._root(passed)
        off = (math.sqrt(run.M) * (noise + self.B * deviation) + 128 * _UNIT * root) * _UP
        run.upper.append((root + off) ** 2 / 2 * _UP)
        run.lower.append(max(root * (2 - _UP) - off, 0.0) ** 2 / 2 * (2 - _UP))
        # Each deviation stands at the end of one step and at the start of the next.
        run.length += length * _UP + 2 * deviation
        run.farthest = max(run.farthest, distance * _UP + deviation)

    def _root(self, passed: Passed) -> float:
        """sqrt(2 Delta) as computed."""
        run, w = self.run, self.run.subject.weights
        if run.network.exact:
            return float(np.sqrt(w @ (passed.ghat**2).sum(1)))
        pairs = zip(passed.values.tolist(), run.subject.y.tolist(), w.tolist(), strict=True)
        total = sum((arb(u) * run.loss.excess(list(map(arb, z)), y) for z, y, u in pairs), arb(0))
        return float((2 * total).nonnegative_part().sqrt())

    def _spread(self, gradient: float, exponent: float, error: float) -> None:
        run = self.run
        run.exponents.append(exponent)
        if run.spread is None:
            return
        found = next_spread(
            spread=run.spread,
            slack=arb(1),
            ball=self.ball,
            gradient=arb(gradient),
            exponent=arb(exponent),
            error=arb(error),
            step_size=arb(run.eta),
            smoothness=arb(run.M),
        )
        run.spread = None if found is None or not arb(found).is_finite() else arb(found).upper()

    def _curvature(
        self, here: Parameters, passed: Passed, gradient: float, noise: float, away: float
    ) -> float:
        """An upper bound on |D^2 <F, ghat>| at the exact gradient of f."""
        general = self.lipschitz * gradient
        if len(passed.slopes) == 1:
            found = self._neurons(here, passed)
        elif self.couplings is not None:
            found = self._layers(passed)
        else:
            return general * _UP
        moved = self.lipschitz * self.run.M * (noise + self.B * away)
        return min(general, found + moved + self.rounding.third * gradient * away) * _UP

    def _neurons(self, here: Parameters, passed: Passed) -> float:
        """Lemma C4."""
        w, top = here.weights[1], self._top
        u, a = top * (self.run.subject.weights[:, None] * passed.ghat), passed.inputs[0]
        gram, lengths = a @ a.T, np.sqrt((a**2).sum(1))
        sizes = np.sqrt((u**2).sum(1))
        slope, inner = passed.slopes[0], (u @ w) * passed.bends[0]
        moves, _ = self.there.architecture.moves(1)
        c = moves * _forms(slope, (u @ u.T) * gram, sizes * lengths)
        d = _forms(inner, gram * gram, lengths**2)
        off = self.rounding.off
        total = float(sizes.sum()) * off.inputs[0]
        wrong = off.apart(4) * off.steepest * total
        c = c + wrong
        d = d + wrong * 2 * off.upstream[0] / top * off.inputs[0]
        return float(np.max(d + np.sqrt(d**2 + 4 * c**2))) / 2 * _UP

    def _seen(self, passed: Passed) -> Seen:
        """What Lemma C7 is about."""
        weights, params = self.run.subject.weights, self.there.params
        size = np.sqrt((passed.ghat**2).sum(1))
        mean = math.sqrt(float(weights @ size**2))
        return Seen(
            inputs=tuple(passed.inputs[:-1]),
            slopes=tuple(passed.slopes),
            bends=tuple(passed.bends),
            upstream=tuple(passed.upstream),
            turned=tuple(passed.turned[1:]),
            sizes=weights * (size * (1 + 1e-12) + 0.03 * mean) + 1e-290,
            factors=tuple(
                self._factor(w) * (1 + 1e-12) * self.there.architecture.moves(layer)[0]
                for layer, w in enumerate(params.weights[1:], start=1)
            ),
        )

    def _layers(self, passed: Passed) -> float:
        """Lemma C7."""
        assert self.couplings is not None
        found = layered_curvature(self._seen(passed), self.couplings, self.rounding.off)
        return float(found) * _UP

    def _couplings(self) -> Couplings:
        """How weights couple neurons in this cell; the neurons' shares are a guess that serves."""
        seen = self._seen(self.run.network.passed(self.there.params))
        neurons, plain, weighted = [], [], []
        for layer, w in enumerate(self.there.params.weights[1:-1], start=1):
            c = self._factor(w)
            share = abs(seen.upstream[layer] * seen.bends[layer] / seen.sizes[:, None]).max(0)
            share = np.maximum(share / max(float(share.max()), 1e-290), 0.3)
            share = share / share.max()
            drift = c * 1.25 * self.reach
            neurons.append(share)
            plain.append((spectral_norm(c * w) + drift) * _UP)
            weighted.append((spectral_norm(np.sqrt(share)[:, None] * (c * w)) + drift) * _UP)
        return Couplings(tuple(neurons), tuple(plain), tuple(weighted))

    @property
    def _top(self) -> float:
        """c c_D."""
        last = self.there.params.weights[-1]
        return self.there.architecture.output_scale * self._factor(last)

    def _factor(self, w: np.ndarray) -> float:
        return self.there.architecture.weight_scale / math.sqrt(w.shape[1])


def _forms(s: np.ndarray, gram: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The roots of s_j^T G s_j, raised by the rounding of sums whose terms may cancel."""
    squares = np.maximum((s * (gram @ s)).sum(0), 0.0)
    raised = 4 * (len(s) + RAISE) * _UNIT * (lengths @ np.abs(s)) ** 2
    return np.sqrt(squares + raised)
