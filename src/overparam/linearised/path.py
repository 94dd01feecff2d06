"""The linearised run as a reference path: its closed forms, and what is measured at points of it.

Gradient descent on the linearised model is known before any training: after t steps its residual is
r_t = (I - eta K_0)^t r_0 and its parameters are theta_0 + J_0* a_t. The true network can be looked
at there, in a few points, and Theorem P (``theorems/path.py``) says how far the true run can be.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jaxtyping import Float

from overparam.enclosures import max_eigenvalue, spectral_norm
from overparam.enclosures.rounding import sqrt_down, sqrt_up
from overparam.jacobian.by_radius import JacobianBounds
from overparam.jacobian.layer_norms import top_eigenvalue
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.jacobian_change import jacobian_change_gram
from overparam.kernel.empirical.tangent import coordinate_weights, pull_back, tangent_kernel
from overparam.kernel.modes import KernelModes
from overparam.model.mlp import Params
from overparam.precision import as_float64
from overparam.rounding.float64 import excess_with_rounding, kernel_errors
from overparam.rounding.measured_kernel import MeasuredKernel
from overparam.theorems.path import (
    PathConvergence,
    descent_follows_path,
    every_mode_moves_one_way,
    tube_radii,
)
from overparam.theorems.path_cells import PathCell, PathPoint

SPACING = 0.15
"""Consecutive points of the path are one step apart, or this fraction of the steps before them."""

FADED = 1e-5
"""The share of the residual at which the path ends."""

MOST_POINTS = 160
"""Points after which the path ends in any case: some 10^9 steps."""

Vector = Float[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class LinearisedPath:
    """Gradient descent on the linearised model, in closed form.

    In the coordinates of L2(mu; R^k), m = n k. Requires eta lambda_max(K_0) <= 1, so that every
    mode moves in one direction only.

    Attributes:
        modes: Of K_0, with positive eigenvalues, and r_0 along them, (m,).
        step_size: eta.
    """

    modes: KernelModes
    step_size: float

    @property
    def monotone(self) -> bool:
        """Whether 0 < eta lambda <= 1 for every eigenvalue."""
        return every_mode_moves_one_way(self.step_size, *self.extremes)

    def residual(self, t: int) -> Vector:
        """r_t = (I - eta K_0)^t r_0."""
        return self.modes.vectors @ (self._left(t) * self.modes.coefficients)

    def residual_norm(self, t: int) -> float:
        """|r_t|."""
        return float(np.linalg.norm(self._left(t) * self.modes.coefficients))

    def dual(self, t: int) -> Vector:
        """a_t = K_0^{-1} (I - (I - eta K_0)^t) r_0, with theta_t = theta_0 + J_0* a_t."""
        learned = -np.expm1(t * self._logs) if t else np.zeros_like(self._logs)
        modes = self.modes
        return modes.vectors @ (learned * modes.coefficients / modes.eigenvalues)

    def movement(self, a: int, b: float | int) -> float:
        """|theta_b - theta_a| for a <= b; b may be infinite."""
        fall = self._left(a) - (0.0 if math.isinf(b) else self._left(int(b)))
        modes = self.modes
        return float(np.linalg.norm(fall * modes.coefficients / np.sqrt(modes.eigenvalues)))

    def chord_error(self, a: int, b: int) -> float:
        """kappa of Lemma P3: |r_t - chord(t)| for a <= t <= b, chord linear from r_a to r_b."""
        fall = self._left(a) - self._left(b)
        with np.errstate(invalid="ignore"):
            convexity = (b - a) ** 2 / 8 * self._logs**2 * self._left(a)
        kappa = np.where(np.isfinite(convexity), np.minimum(convexity, fall), fall)
        return float(np.linalg.norm(kappa * self.modes.coefficients))

    def steps(self) -> Iterator[int]:
        """The steps at which to look: 0, 1, 2, ... and then ever farther apart."""
        t, floor = 0, FADED * self.residual_norm(0)
        for _ in range(MOST_POINTS):
            yield t
            if self.residual_norm(t) <= floor:
                return
            t = max(t + 1, math.ceil(t * (1 + SPACING)))

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest eigenvalue of K_0."""
        return float(self.modes.eigenvalues[0]), float(self.modes.eigenvalues[-1])

    @cached_property
    def _logs(self) -> Vector:
        with np.errstate(divide="ignore"):  # eta lambda = 1: the mode is learned in one step
            return np.log1p(-np.minimum(self.step_size * self.modes.eigenvalues, 1.0))

    def _left(self, t: int) -> Vector:
        return np.ones_like(self._logs) if t == 0 else np.exp(t * self._logs)


@dataclass(frozen=True, eq=False)
class MeasuredPoint:
    """What is measured at a point of the path.

    Attributes:
        step: t.
        sigma: A lower bound on sigma(theta_t).
        jacobian_norm: An upper bound on |J(theta_t)|.
        change_gram: (J(theta_t) - J_0)(J(theta_t) - J_0)*, shape (m, m).
        kernel_drift: |K(theta_t) - K_0|.
        mismatch: |F(theta_t) - F_lin(theta_t)|.
        bounds: omega and L around theta_t.
    """

    step: int
    sigma: float
    jacobian_norm: float
    change_gram: Float[np.ndarray, "m m"]
    kernel_drift: float
    mismatch: float
    bounds: JacobianBounds

    @cached_property
    def change(self) -> float:
        """|J(theta_t) - J_0|."""
        return math.sqrt(max(top_eigenvalue(self.change_gram), 0.0))

    def drift(self, residual: Vector) -> float:
        """|(J(theta_t) - J_0)* r|."""
        return math.sqrt(max(float(residual @ self.change_gram @ residual), 0.0))


def follow(path: LinearisedPath, points: Iterable[MeasuredPoint]) -> PathConvergence:
    """Theorem P along a path.

    Args:
        path: The linearised run.
        points: What is measured along it, from step 0 on, at increasing steps; taken one by one.
    """
    points = iter(points)
    first = next(points)
    smallest, largest = path.extremes
    return descent_follows_path(
        start=_known(path, first),
        cells=_cells(path, first, points),
        step_size=path.step_size,
        min_eigenvalue=smallest,
        max_eigenvalue=largest,
    )


def stay_near(path: LinearisedPath, points: Iterable[MeasuredPoint]) -> Iterator[tuple[int, float]]:
    """(t, E_t): how near gradient descent stays to a path, for every point behind the first."""
    points = iter(points)
    return tube_radii(_cells(path, next(points), points), path.step_size)


def _known(path: LinearisedPath, point: MeasuredPoint) -> PathPoint:
    return PathPoint(
        step=point.step,
        sigma=point.sigma,
        jacobian_norm=point.jacobian_norm,
        change=point.change,
        kernel_drift=point.kernel_drift,
        mismatch=point.mismatch,
        residual=path.residual_norm(point.step),
        behind=path.movement(0, point.step),
        ahead=path.movement(point.step, math.inf),
        on_balls=point.bounds.on_balls,
    )


def _cells(
    path: LinearisedPath, a: MeasuredPoint, points: Iterable[MeasuredPoint]
) -> Iterator[PathCell]:
    for b in points:
        residuals, drifts = _sums(path, a, b)
        movement = path.movement(a.step, b.step)
        yield PathCell(_known(path, a), _known(path, b), movement, residuals, drifts)
        a = b


def _sums(path: LinearisedPath, a: MeasuredPoint, b: MeasuredPoint) -> tuple[float, float]:
    """Lemma P3's bounds on the sums over a <= t < b of |rbar_t| and of max_z |Dbar_z* rbar_t|."""
    N = b.step - a.step
    near = (a,) if N == 1 else (a, b)
    first, last = path.residual(a.step), path.residual(b.step)
    left, right = (N + 1) / 2, (N - 1) / 2  # weights of a chord's ends
    residuals = left * float(np.linalg.norm(first)) + right * float(np.linalg.norm(last))
    drifts = left * max(z.drift(first) for z in near)
    if N > 1:
        kappa = path.chord_error(a.step, b.step)
        D = max(z.change for z in near)
        drifts += right * max(z.drift(last) for z in near) + N * D * kappa
    return residuals, drifts


def look_along(looks: "KernelLooks") -> Iterator[MeasuredPoint]:
    """The path's points, measured one after the other as they are asked for.

    Each costs two kernels, the eigenvalues of two matrices of order n k and a backward pass.

    Args:
        looks: Problem, theta_0 and path.
    """
    for step in looks.path.steps():
        yield _look(looks, step)


class KernelLooks:
    """The kernel at points of a path, beside K_0.

    Args:
        point: theta_0, whose kernel is K_0.
        path: The linearised run from there.
    """

    def __init__(self, point: Expansion, path: LinearisedPath) -> None:
        self.problem, self.path, self.start = point.problem, path, as_float64(point.params)
        self.known = MeasuredKernel(point)

    @property
    def error(self) -> float:
        """How far K_0 may be off."""
        return self.known.error

    def parameters(self, step: int) -> Params:
        """thetabar_t."""
        if not step:
            return self.start
        away = pull_back(self.problem, self.start, self.path.dual(step))
        return jax.tree.map(np.add, self.start, away)

    def drift(self, kernel: Float[np.ndarray, "m m"], error: float) -> float:
        """|K - K_0| from above, for a kernel that may be off."""
        return spectral_norm(kernel - self.known.kernel).upper + error + self.error

    def drift_at(self, step: int) -> float:
        """|K(thetabar_t) - K_0| from above, t > 0; nine digits of the kernel will do for that."""
        theta = self.parameters(step)
        kernel = tangent_kernel(self.problem, theta)
        errors = kernel_errors(self.problem, theta, kernel)
        return self.drift(kernel, errors.of_kernel(sqrt_up(max_eigenvalue(kernel).upper)))


def _look(looks: KernelLooks, step: int) -> MeasuredPoint:
    """A point of the path."""
    problem, start, path, theta = looks.problem, looks.start, looks.path, looks.parameters(step)
    known = MeasuredKernel(Expansion(problem, theta)) if step else looks.known
    roots = coordinate_weights(problem)
    gram = jacobian_change_gram(problem.mlp, start, theta, problem.measure.x)
    # theta_t is known; what F_lin is there is known up to the errors of the kernel and of F.
    noise = excess_with_rounding(problem, theta, known.point.to_minimiser).noise
    if step:
        noise += looks.error * float(np.linalg.norm(path.dual(step)))
    return MeasuredPoint(
        step=step,
        sigma=sqrt_down(max(known.smallest.lower, 0.0)),
        jacobian_norm=known.jacobian_norm,
        change_gram=gram * np.outer(roots, roots),
        kernel_drift=looks.drift(known.kernel, known.error) if step else 0.0,
        mismatch=float(np.linalg.norm(path.residual(step) - known.point.residual)) + noise,
        bounds=known.bounds,
    )
