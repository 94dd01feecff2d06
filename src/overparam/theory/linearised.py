"""The linearised prediction: gradient descent on the model's first-order expansion at theta_0.

In function space F_lin moves by F_lin <- F_lin - eta K grad f(F_lin) with the kernel K = K(theta_0)
fixed. A wide network follows it; how closely is what lazy training is about.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from overparam.kernel.tangent import coordinate_weights
from overparam.model.mlp import Params
from overparam.problem.problem import Problem


def linearised_descent(
    problem: Problem,
    params: Params,
    kernel: Float[np.ndarray, "nk nk"],
    step_size: float,
    steps: int,
    progress: Callable[[int, int], None] | None = None,
) -> Float[np.ndarray, " t"]:
    """The excess of the linearised model at steps 0, ..., ``steps``.

    Args:
        problem: The learning problem.
        params: theta_0.
        kernel: K(theta_0), shape (n k, n k), from ``tangent_kernel``.
        step_size: eta.
        steps: Number of steps.
        progress: Called after each step with (done, total).

    Returns:
        Shape (steps + 1,), float64; entries are infinite from where the recursion diverges.
    """
    roots = coordinate_weights(problem)
    values = np.asarray(problem.predict(params))
    excess = np.full(steps + 1, np.inf)
    for step in range(steps + 1):
        pointwise = np.asarray(problem.loss.value(values, problem.targets))
        excess[step] = problem.measure.weights @ pointwise - problem.infimum
        if step == steps or not np.isfinite(excess[step]):
            break
        gradient = np.asarray(problem.loss.gradient(values, problem.targets)).reshape(-1)
        move = kernel @ (roots * gradient)
        values = values - step_size * (move / roots).reshape(values.shape)
        if progress is not None:
            progress(step + 1, steps)
    return excess
