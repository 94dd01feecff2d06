"""The tangent kernel K(theta) = J J* of a problem, and J and J* as operators.

In the orthonormal coordinates sqrt(w_i) h(x_i) of L2(mu; R^k), K has the entries
sqrt(w_i w_j) NTK_ab(x_i, x_j). J and J* by themselves are one forward and one backward pass, and
``push_forward(problem, theta, pull_back(problem, theta, g))`` is K(theta) g.
"""

from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.memory import WORKING_MEMORY
from overparam.model.function import Function, ParamTree
from overparam.model.mlp import MLP
from overparam.precision import as_float64, in_float64, on_host, row_by_row
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


def pull_back(problem: Problem, params: ParamTree, g: Float[np.ndarray, " nk"]) -> ParamTree:
    """J(theta)* g by one backward pass in float64.

    Args:
        problem: Gives the model and the measure.
        params: theta.
        g: An element of L2(mu; R^k) in coordinates, shape (n k,).

    Returns:
        A pytree like ``params``, NumPy float64.
    """
    shape = (problem.measure.n, problem.outputs)
    cotangent = (coordinate_weights(problem) * g).reshape(shape)
    return in_float64(_pull_back, problem.function, params, problem.measure.x, cotangent)


def objective_gradient(problem: Problem, params: ParamTree) -> ParamTree:
    """The gradient of the objective, J* grad f(F) + lambda (theta - theta_ref), in float64.

    Args:
        problem: The learning problem.
        params: theta.

    Returns:
        A pytree like ``params``, NumPy float64.
    """
    ghat = np.asarray(problem.loss.gradient(problem.predict(params), problem.targets))
    found = pull_back(problem, params, to_coordinates(problem, ghat))
    if not problem.weight_decay:
        return found
    away = problem.displacement(params)
    return jax.tree.map(lambda g, w: g + problem.weight_decay * w, found, away)


def push_forward(problem: Problem, params: ParamTree, v: ParamTree) -> Float[np.ndarray, " nk"]:
    """J(theta) v by one forward pass in float64, in coordinates of L2(mu; R^k), shape (n k,).

    Args:
        problem: Gives the model and the measure.
        params: theta.
        v: A direction, a pytree like ``params``.
    """
    forward = partial(in_float64, _push_forward, problem.function, params, v)
    return to_coordinates(problem, np.asarray(row_by_row(forward, problem.measure.x)))


@partial(jax.jit, static_argnums=0)
def _pull_back(function: Function, params: ParamTree, x: Array, cotangent: Array) -> ParamTree:
    _, vjp = jax.vjp(lambda p: function(p, x), params)
    return vjp(cotangent)[0]


@partial(jax.jit, static_argnums=0)
def _push_forward(function: Function, params: ParamTree, v: ParamTree, x: Array) -> Array:
    return jax.jvp(lambda p: function(p, x), (params,), (v,))[1]
