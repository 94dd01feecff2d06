"""The tangent kernel K(theta) = J J* of a problem, as a symmetric matrix on L2(mu; R^k).

In the orthonormal coordinates sqrt(w_i) h(x_i) of L2(mu; R^k), K has the entries
sqrt(w_i w_j) NTK_ab(x_i, x_j).
"""

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.kernel.empirical import empirical_ntk
from overparam.kernel.memory import WORKING_MEMORY
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.precision import as_float64, on_host
from overparam.problem.problem import Problem
from overparam.progress import Progress

ROWS = 256

LARGEST_SCALE = 2.0**450
"""A model's scales lie below this, and above its inverse, or are 0."""


@on_host
def tangent_kernel(
    problem: Problem,
    params: ParamTree,
    *,
    working_memory: int = WORKING_MEMORY,
    progress: Progress | None = None,
) -> Float[np.ndarray, "nk nk"]:
    """K(theta) in float64, sample-major like ``empirical_ntk``.

    Args:
        problem: Gives the model and the measure.
        params: theta; float32 parameters are exact in float64.
        working_memory: Bytes beyond the result.
        progress: Called after every tile.

    Returns:
        The symmetric matrix of shape (n k, n k).

    Raises:
        InputError: A scale of the model is so large or so small that its square, which the kernel
            is proportional to, leaves float64's range.
    """
    check_scales(problem)
    kernel = empirical_ntk(
        problem.observed,
        as_float64(params),
        problem.measure.x,
        working_memory=working_memory,
        progress=progress,
    )
    if problem.measure.is_uniform:
        kernel *= problem.measure.weights[0]
        return kernel
    roots = coordinate_weights(problem)
    for start in range(0, len(kernel), ROWS):  # in blocks: no second matrix of this size
        rows = slice(start, start + ROWS)
        kernel[rows] *= np.outer(roots[rows], roots)
    return kernel


def check_scales(problem: Problem) -> None:
    """Raise unless the squares of an ``MLP``'s scales stay within float64's range.

    Raises:
        InputError: They do not; the message names the scale.
    """
    if not isinstance(problem.model, MLP):
        return
    for name in ("weight_scale", "bias_scale", "output_scale"):
        scale = getattr(problem.model, name)
        if scale and not 1 / LARGEST_SCALE < scale < LARGEST_SCALE:
            raise InputError(
                f"{name} is {scale:.3g}: the tangent kernel is proportional to its square, which "
                "leaves float64's range; take a moderate scale, and rescale the data if need be"
            )


def coordinate_weights(problem: Problem) -> Float[np.ndarray, "nk"]:
    """sqrt(w_i), repeated for the k outputs of each sample."""
    return np.repeat(np.sqrt(problem.measure.weights), problem.outputs)


def to_coordinates(problem: Problem, values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "nk"]:
    """A function on the data in the orthonormal coordinates of L2(mu; R^k)."""
    return coordinate_weights(problem) * np.asarray(values).reshape(-1)
