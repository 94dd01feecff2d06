"""Beside a run that is made: how far its kernel has moved, and what the linearised run does.

A run is looked at now and then: at those points the kernel is compared with K_0, and the parameters
with those of the linearised run; in between both are bounded by the way that was made, from one
look or from both, and the kernel by how straight it was. Predictions are compared at every step.
What follows for exact gradient descent, at all times and in the limit: docs/trajectory.md,
Proposition C9, with these symbols.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from overparam.numbers import UP

UNIT = 2.0**-53

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
    off = math.sqrt(outputs) * backward
    return UP * (2 * (terms + 64) * UNIT * trace + off * (2 * norm + off))


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
        self.off_rho = self.off_alpha = 0.0
        self.path = 0.0
        products = 2 * (len(residual) + 8) * UNIT * float(np.linalg.norm(kernel))
        self._per_step = UP * (step_size * (error + products) + 8 * UNIT)

    def step(self) -> None:
        """From t to t + 1; ``path`` is the length of the linearised run's path."""
        fall = self.eta * (self.kernel @ self.rho)
        size = float(np.linalg.norm(self.rho))
        # |J_0* rho|^2 = <rho, K_0 rho>, and what its rounding may hide.
        square = self.eta * float(self.rho @ fall) + 4 * self._per_step * self.eta * size**2
        self.path += UP * math.sqrt(max(square, 0.0))
        self.alpha += self.eta * self.rho
        self.off_alpha += UP * self.eta * self.off_rho
        self.off_alpha += 4 * UNIT * float(np.linalg.norm(self.alpha))
        self.rho -= fall
        self.off_rho += self._per_step * size


@dataclass(frozen=True)
class LastLook:
    """What is seen at thetahat_T.

    Attributes:
        drift: |K_T - K_0| as computed, from below and from above.
        apart: |theta_T - theta_T^lin| as computed.
        size: |theta_T|.
    """

    drift: tuple[float, float]
    apart: float
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
    def kernel_change(self) -> float:
        """How far the kernel in the limit may be from the one that was looked at."""
        moved = _kernel_change(self.modulus, self.jacobian_norm)
        return (moved + self.kernel_error) * UP


@dataclass(frozen=True)
class _Next:
    """The look that ended an interval in which steps were made.

    Attributes:
        drift: There.
        apart: There.
        way: The length of the interval's path.
        path: Likewise of the linearised run's.
        chord: The distance of its ends.
    """

    drift: float
    apart: float
    way: float
    path: float
    chord: float

    @property
    def aside(self) -> float:
        """q: how far from the chord the path may lie."""
        shortest = self.chord * (2 - UP)
        return UP * math.sqrt(max(self.way - shortest, 0.0) * (self.way + shortest)) / 2


@dataclass
class _Seen:
    """A step that waits for what the end of its cell says of deviations."""

    drift: float
    way: float
    apart: float
    gap: float
    off_rho: float
    off_alpha: float
    alpha: float
    size: float
    path: float = 0.0
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
        self._waiting, self._start, self._way = list[_Seen](), 0.0, 0.0
        self._initial, self._began = 0.0, False
        self._open, self._bent, self._longest = 0, 0.0, 0.0
        self._drift = self._predictions = self._least = self._parameters = 0.0
        self._steps = 0
        self.seen = (0.0, 0.0)
        self.look(0.0, 0.0, 0.0)

    def look(self, drift: float, gone: float, apart: float, chord: float | None = None) -> None:
        """A look at the point that the run has come to.

        Args:
            drift: |K_t - K_0| as computed, from above.
            gone: |theta_t - theta_0|, about.
            apart: |theta_t - theta_t^lin| as computed.
            chord: The distance from the last look's point; only if both are in the cell at hand.
        """
        path = self.linear.path if self.linear else 0.0
        if chord is not None and self._way:
            found = _Next(drift, apart, self._way, (path - self._start) * UP, chord * UP)
            for seen in self._waiting[self._open :]:
                seen.next = found
            self._bent = max(found.aside / self._way**2, self._bent / 2)
            self._longest = self._way
        self._open = len(self._waiting)
        self.seen, self._way, self._start = (drift, apart), 0.0, path
        self.largest = max(self.largest, drift)
        self._farthest = max(self._farthest, apart, gone / 20)

    def room(self, jacobian_norm: float, lipschitz: float, third: float | None = None) -> float:
        """How long a way may be until the next look; with N if that will be in the same cell."""
        drift, apart = self.seen
        if third is not None:
            return self._room_between(self._steepest(drift, jacobian_norm), lipschitz, third)
        norm = self._steepest(drift, jacobian_norm)
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

    def _steepest(self, drift: float, jacobian_norm: float) -> float:
        """|J| where the kernel has moved by so much: of K = J J*, or B where K_0 is not known."""
        if self.linear is None:
            return jacobian_norm
        return min(math.hypot(self.linear.jacobian_norm, math.sqrt(drift)) * UP, jacobian_norm)

    def step(self, length: float, size: float, residual: Vector | None) -> None:
        """A step of the run.

        Args:
            length: Of it.
            size: |theta_t|.
            residual: r_t as computed, in coordinates; None where there is no linearised run.
        """
        drift, apart = self.seen
        seen = _Seen(drift, self._way, apart + self._way, 0.0, 0.0, 0.0, 0.0, size)
        if self.linear is not None and residual is not None:
            linear = self.linear
            seen.path = linear.path - self._start
            seen.apart += seen.path
            seen.gap = float(np.linalg.norm(residual - linear.rho))
            seen.off_rho = linear.off_rho + 8 * UNIT * float(np.linalg.norm(residual))
            seen.off_alpha = linear.off_alpha
            seen.alpha = float(np.linalg.norm(linear.alpha))
            linear.step()
        self._waiting.append(seen)
        self._way += length * UP

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
        for seen, delta, noise in zip(self._waiting, deviations, residual_noise, strict=True):
            norm = self._steepest(seen.drift + kernel_error, jacobian_norm)
            drift = seen.drift + _kernel_change(lipschitz * (seen.way + delta), norm)
            apart = seen.apart
            if seen.next is not None:
                end = self._steepest(seen.next.drift + kernel_error, jacobian_norm)
                between = _between(seen, seen.next, delta, (norm, end), (lipschitz, third))
                drift = min(drift, between)
                left = seen.next.way * UP - seen.way + seen.next.path * UP - seen.path
                apart = min(apart, seen.next.apart + left)
            self._drift = max(self._drift, (drift + kernel_error) * UP)
            if self.linear is not None:
                off = jacobian_norm * delta + noise + seen.off_rho + self._initial
                self._predictions = max(self._predictions, (seen.gap + off) * UP)
                self._least = max(self._least, seen.gap * (2 - UP) - off * UP)
                errors = self._errors(self.linear, seen)
                self._parameters = max(self._parameters, (apart + delta + errors) * UP)
            self._steps += 1
        self._waiting.clear()
        self._open = 0

    def _errors(self, linear: LinearRun, seen: _Seen) -> float:
        """How far theta_t^lin as computed may be off."""
        off = seen.off_alpha + linear.eta * self._steps * self._initial
        return linear.jacobian_norm * off + linear.backward * seen.alpha + 8 * UNIT * seen.size

    def ends(self, look: LastLook, over: HandOver, steepest: float) -> Movement:
        """What is known of all steps, at the hand-over.

        Args:
            look: At thetahat_T.
            over: What Theorem 1 starts from there.
            steepest: eta lambda_max(K_0), from above.
        """
        lower, upper = look.drift
        at_end = (upper + over.kernel_change) * UP
        most = max(self._drift, (1 + self.share) * self.largest * UP, at_end)
        least = max(lower * (2 - UP) - over.kernel_change * UP, 0.0)
        linear = self.linear
        if linear is None:
            return Movement(most, at_end, least)
        if not self._began:
            self._initial = over.residual_noise
        alpha = float(np.linalg.norm(linear.alpha))
        errors = 0.0, linear.off_rho, linear.off_alpha
        here = _Seen(0.0, 0.0, look.apart, *errors, alpha, look.size)
        left = (float(np.linalg.norm(linear.rho)) + linear.off_rho + self._initial) * UP
        way = max(1.0, steepest) * left / over.lowest if over.lowest > 0 else math.inf
        rest = (over.deviation + over.path + way + self._errors(linear, here)) * UP
        return Movement(
            drift=most,
            drift_at_end=at_end,
            drift_lower=least,
            predictions=max(self._predictions, (over.level + left) * UP),
            predictions_lower=max(self._least, 0.0),
            parameters=max(self._parameters, look.apart + rest) * UP,
            parameters_lower=max(look.apart * (2 - UP) - rest * UP, 0.0),
        )


def _kernel_change(change: float, norm: float) -> float:
    """|K' - K| where |J' - J| is at most ``change``, and |J| at most ``norm``."""
    return change * (2 * norm + change)


def _between(
    seen: _Seen,
    after: _Next,
    delta: float,
    norms: tuple[float, float],
    bends: tuple[float, float],
) -> float:
    """|K_t - K_0| between two looks: from the later one, or from the chord (Proposition C9).

    Args:
        seen: A step between them.
        after: The later one.
        delta: delta_t.
        norms: |J| at both.
        bends: L and N.
    """
    lipschitz, third = bends
    left = max(after.way * UP - seen.way, 0.0)
    from_end = after.drift + _kernel_change(lipschitz * (left + delta), norms[1])
    curve = third * after.chord**2 / 8 if third else 0.0
    change = curve + lipschitz * (after.aside + delta)
    cross = (lipschitz * after.chord) ** 2 / 4
    from_chord = max(seen.drift, after.drift) + cross + _kernel_change(change, max(norms))
    return min(from_end, from_chord)
