"""Beside a run that is made: how far its kernel has moved, and what the linearised run does.

A run is looked at now and then: at those points the kernel is compared with K_0, and the parameters
with those of the linearised run; in between both are bounded by the way that was made, from one
look or from both, and the kernel by how straight it was. Predictions are compared at every step.
What follows for exact gradient descent, at all times and in the limit: docs/trajectory.md,
Proposition C9, with these symbols.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from overparam.numbers import Interval, Number, larger, safe_lower, safe_upper, smaller, sqrt
from overparam.numbers.sums import sum_error, summed

BENDS, LONGER = 3.0, 2.0
"""Between two looks a way is taken to bend half as much again as between the last two, times two as
it enters |K_t - K_0|; and it is at most twice as long."""

Vector = Float[np.ndarray, " m"]


def kernel_noise(trace: float, terms: int, outputs: int, backward: float, norm: float) -> float:
    """|K^ - K| of a kernel made of Gram matrices in float64, near the point of a step.

    Args:
        trace: Of the kernel.
        terms: The length of the longest sums.
        outputs: k.
        backward: |J* g as computed - J* g| / |g|, at most.
        norm: B, an upper bound on |J|.
    """
    off = sqrt(Interval.exact(outputs)) * backward
    products = 2 * sum_error(terms, 0) * Interval.exact(trace)
    return safe_upper(products + off * (2 * Interval.exact(norm) + off))


@dataclass(frozen=True)
class Movement:
    """What is known of gradient descent at all times, from above, and in the limit, from below.

    Attributes:
        drift: An upper bound on |K_t - K_0| for all t.
        drift_at_end: One on |K_inf - K_0|.
        drift_lower: A lower bound on that.
        predictions: An upper bound on |F(theta_t) - F_lin(theta_t^lin)| for all t.
        predictions_lower: A lower bound on its largest value.
        parameters: An upper bound on |theta_t - theta_t^lin| for all t.
        parameters_lower: A lower bound on it in the limit.
    """

    drift: float
    drift_at_end: float
    drift_lower: float
    predictions: float = math.inf
    predictions_lower: float = 0.0
    parameters: float = math.inf
    parameters_lower: float = 0.0


class LinearRun:
    """rho_t = (I - eta K_0)^t r_0 and alpha_t = eta sum_{s<t} rho_s, with bounds on their errors.

    Args:
        kernel: K_0 as computed.
        residual: r_0 as computed, in the coordinates of the kernel.
        step_size: eta, eta lambda_max(K_0) <= 2.
        error: |K_0 as computed - K_0|.
        jacobian_norm: |J_0|, from above.
        backward: |J_0* g as computed - J_0* g| / |g|, at most.
    """

    def __init__(
        self,
        kernel: Float[np.ndarray, "m m"],
        residual: Vector,
        step_size: float,
        *,
        error: float,
        jacobian_norm: float,
        backward: float,
    ) -> None:
        self.kernel, self.eta = kernel, step_size
        self.jacobian_norm, self.backward = jacobian_norm, backward
        self.rho, self.alpha = residual.copy(), np.zeros_like(residual)
        self.off_rho = self.off_alpha = self.path = 0.0
        products = sum_error(len(residual)) * _length(kernel)
        # The step's own product and difference are of at most twice the size of rho.
        self._per_step = step_size * (products + error) + sum_error(0)

    def step(self) -> None:
        """From t to t + 1; ``path`` is the length of the linearised run's path."""
        fall, size = self.eta * (self.kernel @ self.rho), _length(self.rho)
        # |J_0* rho|^2 = <rho, K_0 rho>, and what its rounding may hide.
        hidden = 4 * self._per_step * self.eta * size * size
        square = self.eta * Interval.exact(float(self.rho @ fall)) + hidden
        self.path = safe_upper(sqrt(larger(square, 0.0)) + self.path)
        self.alpha += self.eta * self.rho
        of_alpha = self.eta * Interval.exact(self.off_rho) + sum_error(0) * _length(self.alpha)
        self.off_alpha = safe_upper(of_alpha + self.off_alpha)
        self.rho -= fall
        self.off_rho = safe_upper(self._per_step * size + self.off_rho)


@dataclass(frozen=True)
class LastLook:
    """What is seen at thetahat_T.

    Attributes:
        drift: |K_T - K_0| as computed, from below and from above.
        apart: |theta_T - theta_T^lin| as computed.
        size: |theta_T|.
    """

    drift: tuple[float, float]
    apart: Interval
    size: float


@dataclass(frozen=True)
class HandOver:
    """Where Theorem 1 takes over from a run.

    Attributes:
        deviation: delta_T.
        path: s*, from theta_T on.
        modulus: omega(delta_T + s*) around the point.
        jacobian_norm: |J| there.
        residual_noise: How far r_T as computed may be off.
        kernel_error: How far K_T and K_0 as computed may be off, together.
        level: sqrt(2 Delta_T).
        lowest: sigma(theta_0), from below.
    """

    deviation: float
    path: float
    modulus: float
    jacobian_norm: float
    residual_noise: float
    kernel_error: float
    level: float
    lowest: float

    @property
    def kernel_change(self) -> Interval:
        """How far the kernel in the limit may be from the one that was looked at."""
        exact = Interval.exact
        moved = _kernel_change(exact(self.modulus), exact(self.jacobian_norm))
        return exact(self.kernel_error) + moved


def _length(a: np.ndarray) -> Interval:
    """The Euclidean norm."""
    return summed(float(np.linalg.norm(a)), a.size)


class _Next(NamedTuple):
    """The look that ended an interval in which steps were made; lengths from above.

    Attributes:
        drift: There.
        apart: There.
        way: The length of the interval's path.
        path: Likewise of the linearised run's.
        chord: The distance of its ends.
        aside: q: how far from the chord the path may lie.
    """

    drift: float
    apart: float
    way: float
    path: float
    chord: float
    aside: float


_NONE = _Next(*(math.inf,) * 6)
"""No look, from which nothing is known."""


@dataclass
class _Seen:
    """A step that waits for what the end of its cell says of deviations; lengths from above.

    Attributes:
        drift: At the last look.
        apart: There.
        way: Of the run since.
        path: Of the linearised run since.
        gap: |r_t - rho_t| as computed.
        residual: |r_t| likewise.
        off_rho: Of rho_t.
        off_alpha: Of alpha_t.
        alpha: |alpha_t|.
        size: |theta_t|.
        next: The look that ended the interval.
    """

    drift: float
    apart: float
    way: float
    path: float
    gap: float
    residual: float
    off_rho: float
    off_alpha: float
    alpha: float
    size: float
    next: _Next | None = None


class Beside:
    """Collects what is seen along a run.

    Args:
        linear: The linearised run, for least squares where it does not diverge; else None.
        share: Of the largest drift so far that may go unseen between two looks, and of the largest
            distance from the linearised run.

    Attributes:
        largest: The largest drift at a look, without errors.
        seen: Drift and distance from the linearised run at the last look.
    """

    def __init__(self, linear: LinearRun | None, share: float) -> None:
        self.linear, self.share, self.largest, self._farthest = linear, share, 0.0, 0.0
        self._waiting = list[_Seen]()
        self._start = self._way = 0.0
        self._initial, self._began = 0.0, False
        self._open, self._bent, self._longest = 0, 0.0, 0.0
        self._drift = self._predictions = self._least = self._parameters = 0.0
        self._steps = 0
        self.seen = (0.0, 0.0)
        self.look(0.0, 0.0, 0.0)

    def look(self, drift: float, gone: float, apart: float, chord: Interval | None = None) -> None:
        """A look at the point that the run has come to.

        Args:
            drift: |K_t - K_0| as computed, from above.
            gone: |theta_t - theta_0|, about.
            apart: |theta_t - theta_t^lin| as computed, from above.
            chord: The distance from the last look's point; only if both are in the cell at hand.
        """
        path, way = (self.linear.path if self.linear else 0.0), self._way
        if chord is not None and way:
            aside = safe_upper(sqrt(larger(way - chord, 0.0) * (way + chord)) / 2)
            linear_way = safe_upper(Interval.exact(path) - self._start)
            found = _Next(drift, apart, way, linear_way, safe_upper(chord), aside)
            for seen in self._waiting[self._open :]:
                seen.next = found
            self._bent = max(aside / way**2, self._bent / 2)
            self._longest = way
        self._open = len(self._waiting)
        self.seen, self._way, self._start = (drift, apart), 0.0, path
        self.largest = max(self.largest, drift)
        self._farthest = max(self._farthest, apart, gone / 20)

    def room(self, jacobian_norm: float, lipschitz: float, third: float | None = None) -> float:
        """How long a way may be until the next look; with N if that will be in the same cell."""
        drift, apart = self.seen
        norm = safe_upper(self._steepest(Interval.exact(drift), jacobian_norm))
        if third is not None:
            return self._room_between(norm, lipschitz, third)
        more = math.hypot(norm, math.sqrt((1 + self.share) * self.largest - drift)) - norm
        room = more / lipschitz if lipschitz else math.inf
        if self.linear is None:
            return room
        return min(room, ((1 + self.share) * self._farthest - apart) / 2)  # both runs move

    def _room_between(self, norm: float, lipschitz: float, third: float) -> float:
        """The same from both ends, if the way will bend as the last one did."""
        unseen = self.share * self.largest
        bends = lipschitz * (lipschitz / 4 + BENDS * norm * self._bent) + norm * third / 4
        if not bends:
            return math.inf
        straight = min(math.sqrt(unseen / bends), LONGER * self._longest)
        room = max(straight, unseen / (lipschitz * norm) if lipschitz * norm else math.inf)
        return room if self.linear is None else min(room, self.share * self._farthest)

    def _steepest(self, drift: Interval, jacobian_norm: float) -> Interval:
        """|J| where the kernel has moved by so much: of K = J J*, or B where K_0 is not known."""
        if self.linear is None:
            return Interval.exact(jacobian_norm)
        first = Interval.exact(self.linear.jacobian_norm)
        return smaller(sqrt(first * first + drift), jacobian_norm)

    def step(self, length: float, size: float, residual: Vector | None) -> None:
        """A step of the run.

        Args:
            length: Of it, from above.
            size: |theta_t|, likewise.
            residual: r_t as computed, in coordinates; None where there is no linearised run.
        """
        seen = _Seen(*self.seen, self._way, *(0.0,) * 6, size)
        if self.linear is not None and residual is not None:
            linear = self.linear
            seen.path = safe_upper(Interval.exact(linear.path) - self._start)
            seen.gap = float(np.linalg.norm(residual - linear.rho))
            seen.residual = float(np.linalg.norm(residual))
            seen.off_rho, seen.off_alpha = linear.off_rho, linear.off_alpha
            seen.alpha = float(np.linalg.norm(linear.alpha))
            linear.step()
        self._waiting.append(seen)
        self._way = safe_upper(Interval.exact(self._way) + length)

    def settle(
        self,
        *,
        deviations: Vector,
        residual_noise: Vector,
        kernel_error: float,
        jacobian_norm: float,
        lipschitz: float,
        third: float = math.inf,
    ) -> None:
        """The end of a cell: what was seen in it becomes bounds.

        Args:
            deviations: delta_t of each of its steps.
            residual_noise: How far r_t as computed may be off.
            kernel_error: How far K_t and K_0 as computed may be off, together.
            jacobian_norm: B, on the cell's ball.
            lipschitz: L there.
            third: N there, if it is known.
        """
        if not self._began:
            self._initial, self._began = float(residual_noise[0]), True
        waiting, self._waiting, self._open = self._waiting, [], 0
        each = _columns(waiting, _Seen.__annotations__.keys() - {"next"})
        after = _columns([seen.next or _NONE for seen in waiting], _Next._fields)
        delta = Interval.exact(np.asarray(deviations))
        norm = self._steepest(each["drift"] + kernel_error, jacobian_norm)
        moved = each["drift"] + _kernel_change(lipschitz * (each["way"] + delta), norm)
        end = self._steepest(after["drift"] + kernel_error, jacobian_norm)
        between = _between(each, after, delta, (norm, end), (lipschitz, third))
        moved = smaller(moved, between) + kernel_error
        self._drift = max(self._drift, float(np.max(moved.upper)))
        if self.linear is not None:
            m = len(self.linear.rho)
            gap, off_rho = summed(each["gap"].upper, m), each["off_rho"]
            off_rho = off_rho + sum_error(0) * summed(each["residual"].upper, m)
            off = jacobian_norm * delta + np.asarray(residual_noise) + off_rho + self._initial
            self._predictions = max(self._predictions, float(np.max((gap + off).upper)))
            self._least = max(self._least, float(np.max((gap - off).lower)))
            left = after["way"] - each["way"] + after["path"] - each["path"]
            apart = smaller(each["apart"] + each["way"] + each["path"], after["apart"] + left)
            before = self._steps + np.arange(len(waiting), dtype=np.float64)
            errors = self._errors(self.linear, each, before)
            found = (apart + delta + errors).upper
            self._parameters = max(self._parameters, float(np.max(found)))
        self._steps += len(waiting)

    def _errors(self, linear: LinearRun, seen: dict[str, Interval], steps: Any) -> Interval:
        """How far theta_t^lin as computed may be off."""
        off = seen["off_alpha"] + linear.eta * Interval.exact(steps) * self._initial
        alpha = summed(seen["alpha"].upper, len(linear.alpha))
        return linear.jacobian_norm * off + linear.backward * alpha + sum_error(0) * seen["size"]

    def ends(self, look: LastLook, over: HandOver, steepest: float) -> Movement:
        """What is known of all steps, at the hand-over.

        Args:
            look: At thetahat_T.
            over: What Theorem 1 starts from there.
            steepest: eta lambda_max(K_0), from above.
        """
        exact, (lower, upper) = Interval.exact, look.drift
        at_end = safe_upper(over.kernel_change + upper)
        unseen = safe_upper((1 + exact(self.share)) * self.largest)
        most = max(self._drift, unseen, at_end)
        least = max(safe_lower(lower - over.kernel_change), 0.0)
        linear = self.linear
        if linear is None:
            return Movement(most, at_end, least)
        if not self._began:
            self._initial = over.residual_noise
        here = {
            "off_alpha": exact(linear.off_alpha),
            "alpha": exact(float(np.linalg.norm(linear.alpha))),
            "size": exact(look.size),
        }
        errors = self._errors(linear, here, np.float64(self._steps))
        left = _length(linear.rho) + linear.off_rho + self._initial
        way = max(1.0, steepest) * left / over.lowest if over.lowest > 0 else math.inf
        rest = errors + over.deviation + over.path + way
        return Movement(
            drift=most,
            drift_at_end=at_end,
            drift_lower=least,
            predictions=max(self._predictions, safe_upper(left + over.level)),
            predictions_lower=max(self._least, 0.0),
            parameters=max(self._parameters, safe_upper(look.apart + rest)),
            parameters_lower=max(safe_lower(look.apart - rest), 0.0),
        )


def _columns(rows: list[Any], names: Iterable[str]) -> dict[str, Interval]:
    """The numbers of each row by their names."""
    return {name: Interval.exact(np.array([getattr(row, name) for row in rows])) for name in names}


def _kernel_change(change: Number, norm: Number) -> Number:
    """|K' - K| where |J' - J| is at most ``change``, and |J| at most ``norm``."""
    return change * (2 * norm + change)


def _between(
    seen: dict[str, Interval],
    after: dict[str, Interval],
    delta: Interval,
    norms: tuple[Interval, Interval],
    bends: tuple[float, float],
) -> Interval:
    """|K_t - K_0| between two looks: from the later one, or from the chord (Proposition C9).

    Args:
        seen: Steps between them.
        after: The later one; infinite where there is none.
        delta: delta_t.
        norms: |J| at both.
        bends: L and N.
    """
    lipschitz, third = bends
    chord = after["chord"]
    left = larger(after["way"] - seen["way"], 0.0)
    from_end = after["drift"] + _kernel_change(lipschitz * (left + delta), norms[1])
    change = third * chord * chord / 8 + lipschitz * (after["aside"] + delta)
    cross = lipschitz * chord * (lipschitz * chord) / 4
    from_chord = (
        larger(seen["drift"], after["drift"]) + cross + _kernel_change(change, larger(*norms))
    )
    return smaller(from_end, from_chord)
