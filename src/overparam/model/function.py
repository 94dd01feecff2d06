"""Any network as a function ``f(params, x) -> (n, k)``: ours, or plain JAX from elsewhere.

Equinox, Flax, Haiku and hand-written networks all come down to such a function and a pytree of
floating-point arrays. The kernel of such a network needs nothing but its derivatives; the layerwise
fast paths are for ``MLP``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import norm

from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.model.trainable import (
    KINDS,
    Booleans,
    PartlyTrained,
    Trainable,
    freeze,
    is_mask,
)
from overparam.precision import as_float64, floating_dtype

Function = Callable[[Any, Any], Any]
"""``f(params, x)``: a pytree of floating arrays and a batch (n, ...) to outputs (n, k).

Each row of the result may depend on the same row of the batch only: no batch normalisation.
"""

Network = MLP | Function

ParamTree = Any
"""Parameters: a pytree of floating arrays; of an ``MLP`` the pair (weights, biases)."""


@dataclass(frozen=True)
class _Applied:
    """``model.apply`` as a value: bound methods of equal models are not equal."""

    model: MLP

    def __call__(self, params: Any, x: Any) -> Any:
        return self.model.apply(params, x)


def as_function(network: Network) -> Function:
    """The function behind a network; equal for equal ``MLP`` objects, so that JAX compiles once."""
    return _Applied(network) if isinstance(network, MLP) else network


@lru_cache(maxsize=64)
def compiled(function: Function) -> Any:
    """``jax.jit(function)``, the same for equal functions: a network of one shape compiles once."""
    return jax.jit(function)


def train_only(model: Network, trainable: Trainable) -> Network:
    """The model with everything frozen but what is named.

    Of an ``MLP`` a part of an array may move, too, by a pytree of arrays of booleans: the result is
    then a function, whose Jacobian's changes are bounded by those of the whole arrays.

    Raises:
        InputError: A name is unknown, or nothing is left that moves.
    """
    if not isinstance(model, MLP):
        return freeze(model, trainable)
    if not is_mask(trainable):
        return replace(model, trainable=trainable)
    arrays = jax.tree.map(lambda leaf: bool(np.any(leaf)), trainable)
    whole = replace(model, trainable=arrays)
    if all(np.all(leaf) == np.any(leaf) for leaf in jax.tree.leaves(trainable)):
        return whole
    return PartlyTrained(as_function(whole), Booleans(trainable), KINDS)


def covering_network(model: Network) -> MLP | None:
    """The ``MLP`` whose arrays move, of one in which a part of their entries does."""
    inner = model.function if isinstance(model, PartlyTrained) else None
    return inner.model if isinstance(inner, _Applied) else None


def require_all_trainable(model: Network, purpose: str) -> None:
    """Raise where frozen parameters would be taken for ones that move.

    Args:
        model: The network.
        purpose: What is known of networks all of whose parameters move only, for the message.

    Raises:
        InputError: Some are frozen.
    """
    if partly_trained(model):
        trainable = getattr(model, "trainable", "all")
        raise InputError(
            f"{purpose} is about networks all of whose parameters move, and this one has trainable="
            f"{trainable!r}: leave trainable out"
        )


def partly_trained(model: Network) -> bool:
    """Whether some parameters are frozen."""
    if isinstance(model, MLP):
        return model.trainable != "all"
    return isinstance(model, PartlyTrained)


def parameter_norm(params: ParamTree) -> float:
    """The Euclidean norm of all parameters, float64."""
    leaves = (np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(params))
    # BLAS' norm keeps the squares of tiny weights from vanishing.
    return math.hypot(*(float(norm(leaf)) for leaf in leaves))


def squared_norm(params: ParamTree) -> Any:
    """|params|^2 of NumPy arrays, a float; of traced ones a traced scalar."""
    leaves = jax.tree.leaves(params)
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return parameter_norm(params) ** 2
    return sum(jnp.vdot(leaf, leaf) for leaf in leaves)


def parameter_distance(a: ParamTree, b: ParamTree) -> float:
    """|a - b| in the Euclidean norm of the parameters, float64."""
    return parameter_norm(jax.tree.map(np.subtract, as_float64(a), as_float64(b)))


def tree_norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all leaves, inside a compiled program."""
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(tree)))


def same_parameters(a: ParamTree, b: ParamTree) -> bool:
    """Whether two are equal number by number."""
    if str(jax.tree.structure(a)) != str(jax.tree.structure(b)):
        return False
    pairs = zip(jax.tree.leaves(as_float64(a)), jax.tree.leaves(as_float64(b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def observe_function(
    network: Network, params: Any, **points: Float[Array | np.ndarray, "_ ..."] | None
) -> tuple[int, np.dtype]:
    """Check that a network, its parameters and batches of points fit together.

    Args:
        network: An ``MLP`` or a function.
        params: Its parameters.
        **points: Batches by the name the message should use; None is passed over.

    Returns:
        The number of outputs k, and float64 if any argument is, else float32.

    Raises:
        InputError: An array is not of floating point or not finite, a batch is empty, the function
            does not take the batch, its outputs are not (n, k), or a row depends on others.
    """
    if isinstance(network, MLP):
        network.validate(params)
    elif not callable(network):
        raise InputError(f"model must be an MLP or a function f(params, x), not {network!r}")
    for path, leaf in jax.tree.leaves_with_path(params):
        _require_floats(f"params{jax.tree_util.keystr(path)}", leaf)
    given = {name: x for name, x in points.items() if x is not None}
    outputs = 0
    for name, x in given.items():
        _require_floats(name, x)
        if np.ndim(x) < 2 or not len(x):
            raise InputError(f"{name} has shape {np.shape(x)}: it must be (n, ...) with n >= 1")
        outputs = _outputs(network, params, name, x)
    return outputs, floating_dtype(params, *given.values())


def _require_floats(name: str, value: Any) -> None:
    dtype = getattr(value, "dtype", None)
    if dtype is None or not np.issubdtype(dtype, np.floating):
        raise InputError(
            f"{name} must be an array of floating point numbers, not {dtype or type(value)}: keep "
            "what is not trained out of params"
        )
    if not np.isfinite(np.asarray(value)).all():
        raise InputError(f"{name} has a NaN or infinite entry")


def _outputs(network: Network, params: Any, name: str, x: Any) -> int:
    """k, after two rows went through the network together and apart."""
    if isinstance(network, MLP) and np.shape(x)[1:] != (network.in_dim,):
        raise InputError(
            f"{name} has shape {np.shape(x)}, the model needs (n, {network.in_dim}) with n >= 1"
        )
    first = x[:2]
    function = jax.jit(as_function(network))
    try:
        together = np.asarray(function(params, first))
    except (TypeError, ValueError) as error:
        message = " ".join(str(error).split())[:200]
        raise InputError(f"the model does not take {name} of shape {np.shape(x)}: {message}") from (
            error
        )
    if together.ndim != 2 or len(together) != len(first):
        raise InputError(
            f"the model gives shape {together.shape} for {len(first)} points: it must be (n, k)"
        )
    if isinstance(network, MLP):
        return together.shape[1]
    alone = np.asarray(function(params, first[:1]))
    if not np.allclose(alone[0], together[0], rtol=1e-3, atol=1e-5 * np.abs(together).max()):
        raise InputError(
            "the model's output at a point depends on the other points of the batch (batch "
            "normalisation?): put it in evaluation mode"
        )
    return together.shape[1]
