"""Gauss-Newton in function space: the way to an interpolating network nearby.

The minimum-norm step towards a minimiser h* of f is J* K^{-1} (h* - F). Plain gradient descent
needs condition-number many steps for the small eigenvalues of K; this needs about five. K comes
from the layerwise Gram products, its Cholesky factor in float64 in place, and J* from one backward
pass.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve

from overparam.kernel.derivative import pull_back
from overparam.kernel.factor import factor_in_place
from overparam.kernel.tangent import tangent_kernel, to_coordinates
from overparam.model.function import ParamTree
from overparam.precision import as_float64, on_host
from overparam.problem.problem import Problem

Progress = Callable[[int, float, float], None]
"""Called after each step with (step, residual norm, damping)."""

SMALLEST_DAMPING = 2.0**-12

STALE_KEEPS = 0.25
"""Share of the residual that a step with an old factor may leave; else a new one is made."""


@dataclass(frozen=True)
class GaussNewtonResult:
    """What Gauss-Newton gives.

    Attributes:
        params: The final parameters, NumPy float64.
        residuals: |h* - F| in L2(mu) before the first and after each step.
        converged: Whether the last residual is at or below the tolerance.
    """

    params: ParamTree
    residuals: tuple[float, ...]
    converged: bool


@on_host
def gauss_newton(
    problem: Problem,
    params: ParamTree,
    *,
    tolerance: float = 1e-9,
    max_steps: int = 30,
    kernel: Float[np.ndarray, "nk nk"] | None = None,
    progress: Progress | None = None,
) -> GaussNewtonResult:
    """Damped Gauss-Newton steps until the residual is small.

    A full step is halved until the residual shrinks by a fixed part of what the linearisation
    predicts. A factor whose full step still quarters the residual is used again, since
    computing a new one is nearly all of the cost.

    Args:
        problem: The learning problem; its loss names the minimiser h* nearest to F.
        params: Where to start.
        tolerance: Stop once |h* - F| in L2(mu) is at most this.
        max_steps: Stop after this many steps.
        kernel: K at ``params`` if it is at hand; its memory is reused, the matrix destroyed.
        progress: Called after each step.

    Returns:
        The :class:`GaussNewtonResult`; not converged if the kernel is numerically singular or no
        damping makes progress.

    Raises:
        InputError: Parameters do not fit the model, or memory does not suffice.
    """
    problem.validate(params)
    params = as_float64(params)
    residual = problem.residual(params)
    norms = [_norm(problem, residual)]
    factor = None
    while norms[-1] > tolerance and len(norms) <= max_steps:
        step = None
        if factor is not None:  # made at earlier parameters: worth a full step or none
            step = _damped(problem, params, factor, residual, smallest=1.0, keep=STALE_KEEPS)
        if step is None:
            factor = None  # frees the old factor before the new kernel is built
            matrix = tangent_kernel(problem, params) if kernel is None else kernel
            factor, kernel = factor_in_place(matrix), None
            del matrix
            if factor is None:
                break
            step = _damped(problem, params, factor, residual, smallest=SMALLEST_DAMPING)
        if step is None:
            break
        params, residual, damping = step
        norms.append(_norm(problem, residual))
        if progress is not None:
            progress(len(norms) - 1, norms[-1], damping)
    return GaussNewtonResult(params, tuple(norms), norms[-1] <= tolerance)


def minimum_norm_step(
    problem: Problem,
    params: ParamTree,
    factor: Float[np.ndarray, "nk nk"],
    g: Float[np.ndarray, " nk"],
) -> ParamTree:
    """J* K^{-1} g, the shortest v with J v = g: one solve and one backward pass.

    Args:
        problem: Gives the model and the measure.
        params: theta, where J is taken.
        factor: The Cholesky factor of K, from ``factor_in_place``.
        g: In the coordinates of L2(mu; R^k), shape (n k,).
    """
    return pull_back(problem, params, cho_solve((factor, True), g, check_finite=False))


def _damped(
    problem: Problem,
    params: ParamTree,
    factor: np.ndarray,
    residual: np.ndarray,
    smallest: float,
    keep: float = 0.5,
) -> tuple[ParamTree, np.ndarray, float] | None:
    """The longest of 1, 1/2, 1/4, ... times the step that lowers the residual enough, if any."""
    direction = minimum_norm_step(problem, params, factor, to_coordinates(problem, residual))
    norm, damping = _norm(problem, residual), 1.0
    while damping >= smallest:
        moved = jax.tree.map(lambda a, b, t=damping: a + t * b, params, direction)
        trial = problem.residual(moved)
        if _norm(problem, trial) <= (1 - (1 - keep) * damping) * norm:
            return moved, trial, damping
        damping /= 2
    return None


def _norm(problem: Problem, residual: np.ndarray) -> float:
    return float(np.linalg.norm(to_coordinates(problem, residual)))
