"""A model's first-order expansion at fixed parameters, as a model of its own.

N_lin(theta, x) = N(theta_0, x) + D N(theta_0, x) (theta - theta_0): affine in the parameters and
as nonlinear in the inputs as N. It is what a wide network is compared with.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from overparam.errors import InputError
from overparam.model.function import Function, Network, as_function
from overparam.model.mlp import MLP


@dataclass(frozen=True, eq=False)
class LinearizedModel:
    """The first-order expansion of a model at its base point; made by :func:`linearize`.

    Compared and hashed by identity, so it can be a static argument of ``jax.jit``.

    Attributes:
        model: What was linearised.
        base: theta_0, a pytree of arrays.
    """

    model: Network
    base: Any
    _function: Function = field(repr=False)

    def apply(self, params: Any, x: Any) -> Any:
        """Evaluate the expansion; traceable and differentiable like the model itself.

        Args:
            params: theta, a pytree like ``base``.
            x: Inputs, as the model takes them: (n, d) for an ``MLP``.

        Returns:
            N_lin(theta, x), as the model gives it: (n, k), in the precision JAX computes in.

        Raises:
            InputError: The structure or a shape of ``params`` differs from the base point's.
        """
        self.validate(params)
        base = jax.tree.map(jnp.asarray, self.base)
        direction = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype) - b, params, base)
        value, change = jax.jvp(lambda p: self._function(p, x), (base,), (direction,))
        return jax.tree.map(jnp.add, value, change)

    def validate(self, params: Any) -> None:
        """Check that ``params`` has the structure and the shapes of the base point.

        Raises:
            InputError: It has not.
        """
        expected: Any = jax.tree.structure(self.base)
        given: Any = jax.tree.structure(params)
        if expected != given:
            raise InputError(f"params have the structure {given}, the base point has {expected}")
        pairs = zip(jax.tree.leaves(params), jax.tree.leaves(self.base), strict=True)
        for leaf, base in pairs:
            if np.shape(leaf) != np.shape(base):
                raise InputError(
                    f"params have an array of shape {np.shape(leaf)} where the base point has "
                    f"{np.shape(base)}: use params of the same model"
                )


def linearize(model: Network, params: Any) -> LinearizedModel:
    """Expand a model to first order at ``params``.

    Args:
        model: An ``MLP``, or any differentiable JAX function f(params, x).
        params: theta_0, a pytree of floating arrays; for an ``MLP`` its (weights, biases).

    Returns:
        The :class:`LinearizedModel`; its ``apply`` takes the place of the model's.

    Raises:
        InputError: The parameters do not fit the network, or the model is neither a network nor a
            function.
    """
    if isinstance(model, MLP):
        model.validate(params)
    elif not callable(model):
        raise InputError(f"model is {model!r}: give an MLP or a function f(params, x)")
    return LinearizedModel(model, params, as_function(model))
