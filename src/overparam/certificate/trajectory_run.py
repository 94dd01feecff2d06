"""Gradient descent in float64, made to be certified: what Theorem C asks about every step.

The run goes cell by cell. At a cell's first point the Jacobian's norm, its modulus and the errors
of the passes are measured; they hold, moved by what they may have changed, for all points of the
cell, which ends where a run has gone too far for that. The steps themselves are one compiled loop.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.certificate.reason import Diverged, Lost, Reason, TooCurved
from overparam.enclosures import max_eigenvalue, min_eigenvalue
from overparam.enclosures.rounding import UNIT_ROUNDOFF, sqrt_down, sqrt_up
from overparam.jacobian.bounds import JacobianBounds, jacobian_bounds
from overparam.jacobian.curvature import input_grams, neuron_curvature, third_derivative
from overparam.jacobian.layer_norms import LayerNorms
from overparam.jacobian.mlp_bounds import base_of
from overparam.jacobian.random_curvature import (
    MOST,
    beta_for,
    curvature_sample,
    expected_vectors,
    kappa,
    log_slack,
)
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64
from overparam.problem.integrands import Integrand
from overparam.problem.problem import Problem
from overparam.rounding.float64 import (
    excess_with_rounding,
    kernel_errors,
)
from overparam.rounding.training import StepNoise, step_noise
from overparam.theorems.trajectory import Ball, next_spread

CHUNK = 256
"""Steps a cell has at most."""

COLUMNS = ("excess", "gradient", "length", "moved", "distance", "size", "values", "curvature")
"""What is recorded of a step: Delta, |ghat|, |step|, the distances of its start from the cell's
first point and from theta_0, |theta|, the size of the numbers its residual is made of, and |R| or a
sample of it."""

ROOM = 0.6
"""Share of the way to eta M |J|^2 = 2 that a cell's modulus may use up, at least ``LEAST``."""

LEAST = 0.02
"""Least share of |J| that a cell's modulus may reach."""


OWN = 0x7A11
"""Tells the vectors' key from that of anything else drawn from the same seed."""

ROUNDINGS = 16
"""Units by which a loss' gradient may be off, relative to the numbers a residual is made of."""


@dataclass(frozen=True, eq=False)
class Point:
    """What is measured at thetahat_t, the first of a cell.

    Attributes:
        step: t.
        params: thetahat_t.
        eigenvalue: A lower bound on lambda_min(K).
        jacobian_norm: An upper bound on |J|.
        bounds: omega and L around it.
        noise: How far a computed gradient may be off.
    """

    step: int
    params: Params
    eigenvalue: float
    jacobian_norm: float
    bounds: JacobianBounds
    noise: StepNoise


@dataclass(frozen=True, eq=False)
class Cell:
    """The steps from one point on.

    Attributes:
        start: Where they begin.
        ball: What holds on the ball of its radius around *each* point of the cell, for Theorem C.
        rows: The records, shape (steps, 8), columns ``COLUMNS``.
        deviations: delta_t of each, and of the point they lead to: shape (steps + 1,).
        end: That point.
    """

    start: Point
    ball: Ball
    rows: Float[np.ndarray, "steps 8"]
    deviations: Float[np.ndarray, " _"]
    end: Params


class Run:
    """Gradient descent from theta_0 with the bounds of Theorem C.

    Args:
        problem: The learning problem: an ``MLP`` observed by its values, a convex loss, and an
            activation with three bounded derivatives.
        params: theta_0.
        step_size: eta.
        seed: Of the random vectors, where curvature is bounded by them.

    Attributes:
        exponent: The sum of the e_t so far.
        why: Why the run ended, if it did.
    """

    def __init__(self, problem: Problem, params: Params, step_size: float, seed: int = 0) -> None:
        self.problem, self.step_size = problem, step_size
        self.start = as_float64(params)
        self.randomised = problem.mlp.layers > 2
        self.beta = beta_for(problem.mlp.parameter_count, problem.measure.n)
        # A key of its own: networks and data are often drawn from small seeds.
        self.key = jax.random.fold_in(jax.random.key(seed), OWN)
        self.exponent = self.spread = 0.0
        self.why: Reason | None = None
        self._reach = 0.0
        self._centre = 0.0
        if problem.centered_at is not None:
            self._centre = self._noise(problem.centered_at, problem.targets, 1.0).output
        measure = problem.measure
        nothing = np.zeros((measure.n, problem.outputs))  # one program, centred or not
        offset = nothing if problem.offset is None else problem.offset
        grams = input_grams(problem.mlp, measure.x) if problem.mlp.layers == 2 else None
        self._data = (measure.x, problem.targets, measure.weights, offset, grams)
        self._advance = _program(problem.mlp, problem.loss)

    def cells(self) -> Iterator[Cell]:
        """The run, cell by cell, until it is left or cannot go on; then ``why`` says why."""
        params, step = self.start, 0
        while True:
            point = self.measure(params, step)
            cell = None if self.why else self._cell(point)
            if cell is None:
                return
            yield cell
            params, step = cell.end, step + len(cell.rows)

    def slack(self, step: int) -> float:
        """a_t of Theorem C."""
        return log_slack(step, self.beta) if self.randomised else 0.0

    def vectors(self, cell: Cell) -> float:
        """How many random vectors a cell's steps were given, in expectation."""
        if not self.randomised:
            return 0.0
        gradient = cell.rows[:, COLUMNS.index("gradient")]
        return float(
            np.sum(expected_vectors(self.step_size * cell.ball.lipschitz * gradient, self.beta))
        )

    def measure(self, params: Params, step: int) -> Point:
        """All that is measured at a point."""
        problem = self.problem
        kernel = tangent_kernel(problem, params)
        bounds = jacobian_bounds(problem, params)
        errors = kernel_errors(problem, params, kernel, base_of(bounds))
        if not np.isfinite(kernel).all():
            self.why = Diverged(max(step - 1, 0))
        norm = sqrt_up(errors.largest(max_eigenvalue(kernel)).upper)
        ghat = np.asarray(problem.loss.gradient(problem.predict(params), problem.targets))
        return Point(
            step=step,
            params=params,
            eigenvalue=errors.smallest(min_eigenvalue(kernel)).lower,
            jacobian_norm=norm,
            bounds=bounds,
            noise=self._noise(params, ghat, norm),
        )

    def _noise(self, params: Params, direction: np.ndarray, jacobian_norm: float) -> StepNoise:
        measure = self.problem.measure
        model = self.problem.mlp
        return step_noise(model, params, measure.x, measure.weights, direction, jacobian_norm)

    def _cell(self, point: Point) -> Cell | None:
        reach, omega, lipschitz = self._radius(point)
        ball = Ball(
            radius=reach / 4,
            jacobian_norm=point.jacobian_norm + omega,
            lipschitz=lipschitz,
            third=third_derivative(_base(point.bounds), self._beta_3, 1.25 * reach),
        )
        with jax.enable_x64(True):
            end, rows, count = self._advance(
                point.params,
                self.start,
                self._data,
                np.float64(self.step_size),
                np.float64(lipschitz),
                np.float64(reach),
                (self.key, np.int32(point.step)),
            )
            end, table = jax.tree.map(np.asarray, end), np.asarray(rows)[: int(count)]
        if not np.isfinite(table).all():
            self.why = Diverged(point.step)
            return None
        deviations = self._deviations(point, ball, table)
        return None if deviations is None else Cell(point, ball, table, deviations, end)

    def _radius(self, point: Point) -> tuple[float, float, float]:
        """How far a cell may go, and omega and L on the ball that is a quarter larger."""
        largest = math.sqrt(2 / (self.step_size * self.problem.loss.smoothness))
        norm = point.jacobian_norm
        allowed = max(ROOM * (largest - norm), LEAST * norm)
        if not self._reach:
            self._reach = allowed / max(point.bounds.lipschitz(0.0), 1e-300)
        reach = 2 * self._reach
        while True:
            omega, lipschitz = point.bounds.on_ball(1.25 * reach)
            if omega <= allowed or reach < 1e-12:
                break
            reach *= max(0.25, min(0.9, allowed / omega))
        self._reach = reach
        return reach, omega, lipschitz

    def _deviations(
        self, point: Point, ball: Ball, rows: Float[np.ndarray, "steps 8"]
    ) -> np.ndarray | None:
        """Theorem C over a cell; None, and a reason, where it ends."""
        eta, M = self.step_size, self.problem.loss.smoothness
        gradient, values, seen = (
            rows[:, COLUMNS.index(n)] for n in ("gradient", "values", "curvature")
        )
        noise = M * self.residual_noise(point, values)
        gradient = gradient + noise
        error = self._rounding(point, ball, rows, noise)
        if self.randomised:
            caps = expected_vectors(eta * ball.lipschitz * gradient, self.beta)
            if not (caps <= MOST).all():
                self.why = TooCurved(point.step)
                return None
            seen = kappa() * seen
        exponents = eta * (seen * (1 + 1e-9) + ball.lipschitz * noise)
        found = []
        for i in range(len(rows)):
            slack = math.exp(self.slack(point.step + i))
            found.append(slack * self.spread)
            spread = next_spread(
                spread=self.spread,
                slack=slack,
                ball=ball,
                gradient=float(gradient[i]),
                exponent=float(exponents[i]),
                error=float(error[i]),
                step_size=eta,
                smoothness=M,
            )
            if spread is None:
                self.why = Lost(point.step + i, found[-1], self.exponent)
                return None
            self.spread = spread
            self.exponent += float(exponents[i])
        found.append(math.exp(self.slack(point.step + len(rows))) * self.spread)
        return np.array(found)

    def residual_noise(self, point: Point, values: np.ndarray) -> np.ndarray:
        """How far computed residuals of a cell may be off in L2(mu)."""
        outputs = math.sqrt(self.problem.outputs)
        own = self.problem.loss.gradient_roundings * UNIT_ROUNDOFF * outputs
        return point.noise.output + self._centre + ROUNDINGS * UNIT_ROUNDOFF * values + own

    def _rounding(
        self, point: Point, ball: Ball, rows: Float[np.ndarray, "steps 8"], noise: np.ndarray
    ) -> Float[np.ndarray, " steps"]:
        """eps_t: the errors of passes, of the residual, of the update."""
        gradient, length, size = (rows[:, COLUMNS.index(n)] for n in ("gradient", "length", "size"))
        passes = point.noise.backward * gradient + ball.jacobian_norm * noise
        return (self.step_size * passes + UNIT_ROUNDOFF * (size + 4 * length)) * (1 + 1e-9)

    @property
    def _beta_3(self) -> float:
        act = self.problem.mlp.act
        if not self.problem.mlp.hidden_widths:
            return 0.0
        assert act.third_bound is not None
        return act.third_bound


def excess_at(problem: Problem, params: Params) -> float:
    """Delta at given parameters, from above."""
    return excess_with_rounding(problem, params, problem.residual(params)).upper


def sigma_at(point: Point) -> float:
    """A lower bound on sigma."""
    return sqrt_down(max(point.eigenvalue, 0.0))


def _base(bounds: JacobianBounds) -> LayerNorms:
    base = base_of(bounds)
    assert base is not None
    return base


@lru_cache(maxsize=16)
def _program(model: MLP, loss: Integrand) -> Callable:
    """A cell's steps, compiled once for problems of one kind and shape."""

    def record(theta: Params, data: tuple) -> tuple[Any, Any, Any, Any]:
        x, y, weights, offset, _ = data
        values, pull = jax.vjp(lambda p: model.apply(p, x), theta)
        seen = values - offset
        ghat = loss.gradient(seen, y)
        nearest = loss.nearest_minimiser(seen, y)
        size = weights @ jnp.sum(values**2 + offset**2 + seen**2 + nearest**2, axis=1)
        (gradient,) = pull(weights[:, None] * ghat)
        return gradient, ghat, weights @ loss.excess(seen, y), jnp.sqrt(size)

    def curvature(theta: Params, ghat: Array, data: tuple, cap: Array, key: Array) -> Array:
        x, _, weights, _, grams = data
        beta = beta_for(model.parameter_count, len(x))
        weighted = weights[:, None] * ghat
        if model.layers == 1:
            return jnp.zeros_like(cap)
        if model.layers == 2:
            return neuron_curvature(model, theta, grams, x, weighted)
        # In a direction that stays fixed while theta moves.
        against = jax.grad(lambda p: jnp.vdot(weighted, model.apply(p, x)))
        return curvature_sample(against, theta, cap, key, beta)

    def cell(
        first: Params,
        start: Params,
        data: tuple,
        step_size: Array,
        lipschitz: Array,
        reach: Array,
        draws: tuple[Array, Array],
    ) -> tuple:
        key, before = draws
        weights = data[2]

        def body(state: tuple) -> tuple:
            theta, rows, i, moved = state
            gradient, ghat, excess, size = record(theta, data)
            norm = jnp.sqrt(weights @ jnp.sum(ghat**2, axis=1))
            cap = step_size * lipschitz * norm * CAP_SAFETY
            seen = curvature(theta, ghat, data, cap, jax.random.fold_in(key, before + i))
            step = jax.tree.map(lambda g: step_size * g, gradient)
            row = [excess, norm, _norm(step), moved, _between(theta, start), _norm(theta)]
            rows = rows.at[i].set(jnp.stack([*row, size, seen]))
            theta = jax.tree.map(jnp.subtract, theta, step)
            return theta, rows, i + 1, _between(theta, first)

        def go_on(state: tuple) -> Array:
            _, _, i, moved = state
            return (i < CHUNK) & (moved <= reach)

        rows = jnp.zeros((CHUNK, len(COLUMNS)), np.float64)
        initial = (first, rows, np.int32(0), np.float64(0.0))
        theta, rows, count, _ = jax.lax.while_loop(go_on, body, initial)
        return theta, rows, count

    return jax.jit(cell)


CAP_SAFETY = 1 + 1e-6
"""Covers the rounding of |ghat| in the cap of a step's curvature."""


def _norm(tree: Any) -> Float[Array, ""]:
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)))


def _between(a: Any, b: Any) -> Float[Array, ""]:
    return _norm(jax.tree.map(jnp.subtract, a, b))
