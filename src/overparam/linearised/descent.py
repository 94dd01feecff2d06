"""The linearised prediction: gradient descent on the model's first-order expansion at theta_0.

In function space F_lin moves by F_lin <- F_lin - eta K grad f(F_lin) with the kernel K = K(theta_0)
fixed, and its parameters are theta_0 + J_0* a with a <- a - eta grad f(F_lin). A wide network
follows it; how closely is what lazy training is about. This recursion takes any loss and no
eigendecomposition; ``linearised/training_curve.py`` has the closed form of least squares.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.kernel.empirical.tangent import coordinate_weights, pull_back
from overparam.limits import require_positive
from overparam.model.function import ParamTree
from overparam.precision import as_float64, on_host
from overparam.problem.problem import Problem, require_no_decay
from overparam.progress import Progress, silent
from overparam.results import pytree


@pytree("excess", "dual", "values")
@dataclass(frozen=True)
class LinearisedDescent:
    """Gradient descent on the linearised model.

    Attributes:
        excess: Its excess at steps 0, 1, ..., float64; infinite from where the recursion diverges.
        dual: The coefficients a after the last step made, with theta_lin = theta_0 + J_0* a; in the
            coordinates of L2(mu; R^k), shape (n k,).
        values: F_lin(theta_lin) after the last step made, shape (n, k).
    """

    excess: Float[np.ndarray, " t"]
    dual: Float[np.ndarray, " nk"]
    values: Float[np.ndarray, "n k"]

    def params(self, problem: Problem, params: ParamTree) -> ParamTree:
        """theta_lin, by one backward pass: see :func:`linearised_params`."""
        return linearised_params(problem, params, self.dual)


@on_host
def linearised_descent(
    problem: Problem,
    params: ParamTree,
    kernel: Float[np.ndarray, "nk nk"],
    step_size: float | int,
    steps: int,
    progress: Progress | None = None,
) -> LinearisedDescent:
    """Gradient descent on the linearised model, step by step, for any loss.

    Args:
        problem: The learning problem.
        params: theta_0.
        kernel: K(theta_0), shape (n k, n k), from ``tangent_kernel``.
        step_size: eta.
        steps: Number of steps.
        progress: Called after each step.

    Returns:
        The :class:`LinearisedDescent`, with ``steps + 1`` entries of the excess.

    Raises:
        InputError: The step is not positive and finite, or the kernel has another shape.
    """
    require_no_decay(problem, "linearised descent")
    require_positive("step_size", step_size)
    roots = coordinate_weights(problem)
    if kernel.shape != 2 * roots.shape:
        raise InputError(
            f"kernel has shape {kernel.shape}, the problem needs {2 * roots.shape}: pass "
            "tangent_kernel(problem, params)"
        )
    values = np.asarray(problem.predict(params))
    dual = np.zeros(len(roots))
    excess = np.full(steps + 1, np.inf)
    for step in range(steps + 1):
        pointwise = np.asarray(problem.loss.excess(values, problem.targets))
        excess[step] = problem.measure.weights @ pointwise
        if step == steps or not np.isfinite(excess[step]):
            break
        gradient = roots * np.asarray(problem.loss.gradient(values, problem.targets)).reshape(-1)
        dual = dual - step_size * gradient
        values = values - step_size * ((kernel @ gradient) / roots).reshape(values.shape)
        (progress or silent)("linearised descent", step + 1, steps)
    return LinearisedDescent(excess, dual, values)


@on_host
def linearised_params(
    problem: Problem, params: ParamTree, dual: Float[np.ndarray, " nk"]
) -> ParamTree:
    """theta_lin = theta_0 + J_0* a.

    With ``linearize(model, params).apply(theta_lin, x)`` they give the linearised prediction at
    any points, without a kernel between those and the data.

    Args:
        problem: The learning problem.
        params: theta_0.
        dual: a, in the coordinates of L2(mu; R^k), shape (n k,).

    Returns:
        The parameters, NumPy float64.
    """
    start = as_float64(params)
    return jax.tree.map(np.add, start, pull_back(problem, start, dual))
