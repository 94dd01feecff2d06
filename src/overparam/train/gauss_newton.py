"""Gauss-Newton in function space: the way to an interpolating network nearby.

The minimum-norm step towards a minimiser h* of f is J* K^{-1} (h* - F). Plain gradient descent
needs condition-number many steps for the small eigenvalues of K; this needs about five. K comes
from the layerwise Gram products, its Cholesky factor in float64 in place, and J* from one backward
pass.

Where K is nearly singular, as rows that are close to each other make it, that step leads too far
for the linearisation, in part or in full. The steps J* (K + mu)^{-1} (h* - F) of Levenberg and
Marquardt then go down, for mu large enough: they leave the small eigenvalues for later.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve

from overparam.enclosures.factor import factor_in_place
from overparam.kernel.empirical.tangent import pull_back, tangent_kernel, to_coordinates
from overparam.model.function import ParamTree
from overparam.precision import as_float64, on_host
from overparam.problem.problem import Problem, require_no_decay
from overparam.progress import Progress, silent
from overparam.results import pytree

SMALLEST_DAMPING = 2.0**-12

STALE_KEEPS = 0.25
"""Share of the residual that a step with an old factor may leave; else a new one is made."""


FIRST_PRICE, LEAST_PRICE = 1e-3, 1e-16
"""mu over the trace of K: of the first step of Levenberg and Marquardt, and at least."""

CHEAPER, DEARER = 8.0, 4.0
"""What mu is divided by after a step as good as predicted, multiplied by after a bad one."""

POOR, GOOD = 0.25, 0.75
"""Share of the predicted decrease below which a step is not made, above which mu falls."""

STALLED = 1e-3
"""Relative decrease that a step must promise; mu falls until one does."""


@pytree("params")
@dataclass(frozen=True)
class GaussNewtonResult:
    """What Gauss-Newton gives.

    Attributes:
        params: The final parameters, NumPy float64.
        residuals: |h* - F| in L2(mu) before the first and after each step.
        converged: Whether the last residual is at or below the tolerance.
        damped: How many of the steps, the last ones, are of Levenberg and Marquardt.
        fractions: Of each step before those, the part of the full one that was made.
    """

    params: ParamTree
    residuals: tuple[float, ...]
    converged: bool
    damped: int = 0
    fractions: tuple[float, ...] = ()


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
    computing a new one is nearly all of the cost. Once no part of a step does, or K has no Cholesky
    factor, all further steps are those of Levenberg and Marquardt.

    Args:
        problem: The learning problem; its loss names the minimiser h* nearest to F.
        params: Where to start.
        tolerance: Stop once |h* - F| in L2(mu) is at most this.
        max_steps: Stop after this many steps.
        kernel: K at ``params`` if it is at hand; its memory is reused, the matrix destroyed.
        progress: Called after each step.

    Returns:
        The :class:`GaussNewtonResult`; not converged if the steps do not suffice or none makes
        progress, as where rows contradict each other.

    Raises:
        InputError: Parameters do not fit the model, or memory does not suffice.
    """
    require_no_decay(problem, "Gauss-Newton to interpolation")
    problem.validate(params)
    params = as_float64(params)
    residual = problem.residual(params)
    norms = [_norm(problem, residual)]
    fractions: list[float] = []
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
            if factor is not None:
                step = _damped(problem, params, factor, residual, smallest=SMALLEST_DAMPING)
        if step is None:
            break
        params, residual, fraction = step
        fractions.append(fraction)
        norms.append(_norm(problem, residual))
        (progress or silent)("Gauss-Newton", len(norms) - 1, 0)
    undamped = len(norms)
    del factor
    if norms[-1] > tolerance and len(norms) <= max_steps:
        params = _levenberg_marquardt(
            problem, params, residual, norms, tolerance, max_steps, progress
        )
    converged, damped = norms[-1] <= tolerance, len(norms) - undamped
    return GaussNewtonResult(params, tuple(norms), converged, damped, tuple(fractions))


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
        theta = jax.tree.map(lambda a, b, t=damping: a + t * b, params, direction)
        trial = problem.residual(theta)
        if _norm(problem, trial) <= (1 - (1 - keep) * damping) * norm:
            return theta, trial, damping
        damping /= 2
    return None


def _levenberg_marquardt(
    problem: Problem,
    params: ParamTree,
    residual: np.ndarray,
    norms: list[float],
    tolerance: float,
    max_steps: int,
    progress: Progress | None,
) -> ParamTree:
    """Steps J* (K + mu)^{-1} (h* - F); appends to ``norms`` and gives the last parameters."""
    price = FIRST_PRICE
    while norms[-1] > tolerance and len(norms) <= max_steps:
        kernel = tangent_kernel(problem, params)
        unit = float(np.trace(kernel))
        gap = to_coordinates(problem, residual)
        step, refused = None, False  # whether a cheaper price has been refused at these parameters
        while step is None and LEAST_PRICE <= price <= 1.0:
            factor = factor_in_place(kernel + price * unit * np.eye(len(kernel)))
            if factor is None:
                price, refused = price * DEARER, True
                continue
            dual = cho_solve((factor, True), gap, check_finite=False)
            predicted = price * unit * float(np.linalg.norm(dual))
            if predicted > (1 - STALLED) * norms[-1]:
                if refused:  # what is short enough to be trusted gets nowhere
                    break
                price /= CHEAPER
                continue
            theta = jax.tree.map(np.add, params, pull_back(problem, params, dual))
            trial = problem.residual(theta)
            share = (norms[-1] - _norm(problem, trial)) / (norms[-1] - predicted)
            if share >= POOR:
                step = theta, trial
            refused = share < POOR
            price *= 1 / CHEAPER if share > GOOD else 1.0 if share >= POOR else DEARER
        if step is None:
            break
        params, residual = step
        price = max(price, LEAST_PRICE)
        norms.append(_norm(problem, residual))
        (progress or silent)("Gauss-Newton", len(norms) - 1, 0)
    return params


def _norm(problem: Problem, residual: np.ndarray) -> float:
    return float(np.linalg.norm(to_coordinates(problem, residual)))
