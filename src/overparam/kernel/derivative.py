"""J(theta) and its adjoint as operators: one forward or one backward pass, and no Jacobian.

Elements of L2(mu; R^k) are given in the orthonormal coordinates of ``kernel/tangent.py``, so that
``push_forward(problem, theta, pull_back(problem, theta, g))`` is K(theta) g.
"""

from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.kernel.tangent import coordinate_weights, to_coordinates
from overparam.model.function import Function, ParamTree
from overparam.precision import in_float64
from overparam.problem.problem import Problem


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


def push_forward(problem: Problem, params: ParamTree, v: ParamTree) -> Float[np.ndarray, " nk"]:
    """J(theta) v by one forward pass in float64, in coordinates of L2(mu; R^k), shape (n k,).

    Args:
        problem: Gives the model and the measure.
        params: theta.
        v: A direction, a pytree like ``params``.
    """
    values = in_float64(_push_forward, problem.function, params, problem.measure.x, v)
    return to_coordinates(problem, np.asarray(values))


@partial(jax.jit, static_argnums=0)
def _pull_back(function: Function, params: ParamTree, x: Array, cotangent: Array) -> ParamTree:
    _, vjp = jax.vjp(lambda p: function(p, x), params)
    return vjp(cotangent)[0]


@partial(jax.jit, static_argnums=0)
def _push_forward(function: Function, params: ParamTree, x: Array, v: ParamTree) -> Array:
    return jax.jvp(lambda p: function(p, x), (params,), (v,))[1]
