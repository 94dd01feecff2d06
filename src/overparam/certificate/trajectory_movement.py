"""What a run that is to be certified moves: its kernel, and itself beside the linearised run."""

import jax
import numpy as np
from jaxtyping import Float

from overparam.certificate.trajectory_points import Point, distance_of, norm_of, sigma_at, sizes
from overparam.certificate.trajectory_steps import Records, look_program
from overparam.enclosures import spectral_norm
from overparam.enclosures.rounding import mul_up
from overparam.kernel.empirical.layer_products import observe
from overparam.kernel.empirical.tangent import (
    coordinate_weights,
    pull_back,
    tangent_kernel,
    to_coordinates,
)
from overparam.model.composed import Composed
from overparam.model.function import ParamTree, parameter_norm
from overparam.numbers import Interval, safe_upper, sqrt
from overparam.numbers.sums import summed
from overparam.problem.problem import Problem
from overparam.rounding.step_noise import StepNoise
from overparam.rounding.steps import StepErrors
from overparam.theorems.convergence import Convergence
from overparam.theorems.drift_along_run import (
    Beside,
    HandOver,
    LastLook,
    LinearRun,
    Movement,
    kernel_noise,
)
from overparam.theorems.trajectory import Ball

SHARE = 0.08
"""Of the kernel's largest drift so far, and of the largest distance from the linearised run, that
may go unseen between two looks."""

SPARE = 4.0
"""What is proved of a run is stated with so many times its errors: a re-check makes another run,
whose bounds should not come out above what was claimed."""

ABOVE = 1 + 1e-6
"""The same for the way that is left at the end."""

BY_JACOBIANS = 50.0
"""Steps that a kernel is worth that is made of Jacobians, for each output."""

PATIENCE = 5000
"""Steps' worth of work that looks may cost beside as much as the steps so far."""


def spared(number: Interval) -> tuple[Interval, Interval]:
    """A number from below and from above, with as much to spare."""
    more = (SPARE - 1) * (number - number.lower)
    return number.lower - more, number.upper + more


class Looks:
    """Looks at a run from theta_0 on.

    Args:
        problem: The learning problem.
        start: theta_0 and its kernel.
        step_size: eta.
        noise: Of the passes near theta_0.

    Attributes:
        origin: theta_0 on the device.
    """

    def __init__(
        self, problem: Problem, start: Point, step_size: float, noise: StepNoise | StepErrors
    ) -> None:
        self.problem, self.start = problem, start
        norm = Interval.exact(start.jacobian_norm)
        self._steepest = safe_upper(step_size * norm * norm)
        self._off = self._kernel_error(noise, start.jacobian_norm)
        linear = None
        if problem.loss.quadratic and self._steepest <= 2:
            residual = to_coordinates(problem, problem.residual(start.params))
            linear = LinearRun(
                *(start.kernel, residual, step_size),
                error=self._off,
                jacobian_norm=start.jacobian_norm,
                backward=noise.backward * self._spare(noise),
            )
        self.beside = Beside(linear, SHARE)
        m, network = len(start.kernel), problem.network
        self._program = None if isinstance(network, Composed) else look_program(network)
        with jax.enable_x64(True):
            here = start.params, problem.measure.x, coordinate_weights(problem), start.kernel
            self.origin, *self._data = jax.device_put(here)
            if not isinstance(problem.network, Composed):
                self._data.append(observe(problem.network, self.origin, self._data[0]))
        self._nothing = np.zeros(m)
        self._price = (4.0 * m**3 + 4e7) / (6.0 * network.products * problem.measure.n + 4e6)
        if self._program is None:
            self._price += BY_JACOBIANS * problem.outputs
        self._spent, self._steps = 0.0, 0
        self._at, self._last = -1, start.params  # the step of the last look, and its point

    def look(
        self, params: ParamTree, known: Float[np.ndarray, "m m"] | None, *, near: bool = True
    ) -> bool:
        """Compare a point of the run with theta_0, if its kernel is known or that is affordable.

        Args:
            params: The point.
            known: Its kernel, if it is at hand.
            near: Whether the point lies within the ball of the cell.
        """
        if self._at == self._steps:
            self._last = params
            return True
        if known is None and self._spent > PATIENCE + self._steps:
            return False
        self._spent += self._price
        change, gone, apart, chord = self._compared(params, known)
        if not np.isfinite(change).all():
            return False
        drift = spectral_norm(change).upper
        self.beside.look(drift, gone, safe_upper(apart), chord if near else None)
        self._at, self._last = self._steps, params
        return True

    def room(self, ball: Ball, close: bool) -> float:
        """How long a way may be until the next look, which is or is not close enough for N."""
        third = float(ball.third) if close else None
        return self.beside.room(float(ball.jacobian_norm), float(ball.lipschitz), third)

    def follow(self, records: Records, ghats: Float[np.ndarray, "steps n k"]) -> None:
        """Steps of the run since the last look."""
        lengths, sizes = (records.enclosed(name).upper.tolist() for name in ("length", "size"))
        roots = coordinate_weights(self.problem)
        for length, size, ghat in zip(lengths, sizes, ghats, strict=True):
            # Of the squared loss, whose gradient is F - y; of others it is not used.
            self.beside.step(length, size, -roots * ghat.reshape(-1))
        self._steps += len(records.rows)

    def settle(
        self,
        ball: Ball,
        noise: StepNoise | StepErrors,
        deviations: Float[np.ndarray, " steps"],
        residual_noise: Float[np.ndarray, " steps"],
    ) -> None:
        """The end of a cell."""
        norm = float(ball.jacobian_norm)
        self.beside.settle(
            deviations=deviations,
            residual_noise=residual_noise * self._spare(noise),
            kernel_error=self._off + self._kernel_error(noise, norm),
            jacobian_norm=norm,
            lipschitz=float(ball.lipschitz),
            third=float(ball.third),
        )

    def ends(
        self,
        point: Point,
        noise: StepNoise | StepErrors,
        residual_noise: float,
        deviation: float,
        tail: Convergence,
        excess: float,
    ) -> Movement:
        """What is known of all steps, once Theorem 1 takes over at a point.

        Args:
            point: thetahat_T.
            noise: Of the passes there.
            residual_noise: Of the residual there.
            deviation: delta_T.
            tail: Theorem 1 from there on.
            excess: Delta_T, from above.
        """
        change, _, apart, _ = self._compared(point.params, point.kernel)
        drift = spectral_norm(change)
        size = safe_upper(norm_of(point.params))
        look = LastLook((drift.lower, drift.upper), apart, size)
        over = HandOver(
            deviation=deviation,
            path=float(tail.radius) * (ABOVE if point.proved is not None else 1.0),
            modulus=point.bounds.modulus(safe_upper(Interval.exact(deviation) + tail.radius)),
            jacobian_norm=point.jacobian_norm,
            residual_noise=residual_noise * self._spare(noise),
            kernel_error=self._off + self._kernel_error(noise, point.jacobian_norm),
            level=safe_upper(sqrt(2 * Interval.exact(excess))),
            lowest=sigma_at(self.start),
        )
        return self.beside.ends(look, over, self._steepest)

    def _compared(
        self, params: ParamTree, known: Float[np.ndarray, "m m"] | None
    ) -> tuple[Float[np.ndarray, "m m"], float, Interval, Interval]:
        """K - K_0, and the distances from theta_0, from theta^lin and from the last look."""
        linear = self.beside.linear
        alpha = self._nothing if linear is None else linear.alpha
        if self._program is None:
            kernel = tangent_kernel(self.problem, params) if known is None else known
            change = kernel - self.start.kernel
            gone = jax.tree.map(np.subtract, params, self.start.params)
            moved = pull_back(self.problem, self.start.params, alpha)
            chord = distance_of(params, self._last)
            return change, parameter_norm(gone), distance_of(gone, moved), chord
        with jax.enable_x64(True):
            points = params, self.origin, self._last
            change, gone, apart, chord = self._program(*points, alpha, tuple(self._data))
            apart, chord = (summed(float(norm), sizes(params)) for norm in (apart, chord))
            return np.asarray(change), float(gone), apart, chord

    def _kernel_error(self, noise: StepNoise | StepErrors, norm: float) -> float:
        """|K^ - K| where |J| is at most ``norm``."""
        steepest, outputs = mul_up(norm, norm), self.problem.outputs
        trace = mul_up(len(self.start.kernel), steepest)
        network = self.problem.network
        composed = isinstance(network, Composed)
        longest = network.parameter_count if composed else 2 * max(self.problem.mlp.widths)
        off = kernel_noise(trace, longest, outputs, noise.backward, norm)
        return off * self._spare(noise)

    @staticmethod
    def _spare(noise: StepNoise | StepErrors) -> float:
        return SPARE if isinstance(noise, StepErrors) else 1.0


class NoLooks(Looks):
    """In their place where nobody asks what a run moves, as with weight decay: no kernel is made.

    Args:
        start: theta_0.
    """

    def __init__(self, start: Point) -> None:
        with jax.enable_x64(True):
            self.origin = jax.device_put(start.params)

    def look(self, params: ParamTree, known: object, *, near: bool = True) -> bool:
        """Look away."""
        return False

    def follow(self, rows: object, ghats: object) -> None:
        """Keep nothing."""

    def settle(self, *_: object) -> None:
        """Keep nothing."""
