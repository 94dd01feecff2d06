"""Sobolev training: targets for the values and for the input gradients.

Data with gradients are rare, but whoever distils a network, fits a surrogate of a simulation
with adjoints, or learns a potential from forces has them. The model is seen through its 1-jet, and
the loss is half the squared error with a weight on the gradients' part.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.applications.application import Application, fitting_model
from overparam.errors import InputError
from overparam.model.function import Network, ParamTree, as_function
from overparam.model.mlp import MLP
from overparam.model.observation import Jet
from overparam.precision import in_float64
from overparam.problem.integrands.weighted_quadratic import WeightedQuadratic
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem


def sobolev(
    x: Float[np.ndarray, "n d"],
    values: Any,
    gradients: Any,
    key: Array,
    *,
    gradient_weight: float = 1.0,
    model: MLP | None = None,
) -> Application:
    """Build a network with one hidden layer that is to match values and gradients.

    Args:
        x: Distinct points, shape (n, d).
        values: Targets, shape (n, k), or (n,) for one output.
        gradients: Their input gradients, shape (n, k, d), or (n, d) for one output.
        key: For the initial parameters.
        gradient_weight: Weight of each component of the gradients; 1 for a value.
        model: A network with a smooth activation; with one hidden layer, the modulus of the 1-jet
            is a bound. None takes 512 units of ``tanh``.

    Returns:
        The application, centred at its initial parameters.

    Raises:
        InputError: Shapes differ, or a number is out of range.

    References:
        Czarnecki et al., Sobolev Training for Neural Networks (2017); docs/applications.md.
    """
    targets = Jet().pack(values, gradients)
    measure = Measure(x, targets)
    outputs = targets.shape[1] // (1 + measure.dim)
    if outputs * (1 + measure.dim) != targets.shape[1]:
        raise InputError(
            f"the gradients have {targets.shape[1] - 1} components but x has {measure.dim} features"
        )
    block = [1.0, *[gradient_weight] * measure.dim]
    model = fitting_model(model, measure.dim, outputs, "tanh")
    params = model.init(key)
    loss = WeightedQuadratic(block * outputs)
    return Application(Problem(model, measure, loss, params, observe="jet"), params)


def values_and_gradients(
    network: Network, params: ParamTree, x: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k d"]]:
    """What a teacher says: its values and input gradients, float64.

    Args:
        network: An ``MLP`` or any function f(params, x).
        params: Its parameters.
        x: Points, shape (n, d).
    """
    points = np.asarray(x, dtype=np.float64)
    see = jax.jit(lambda p, at: Jet().observe(as_function(network), p, at))
    parts = Jet().unpack(in_float64(see, params, points), points.shape[1])
    return parts.value, parts.gradient
