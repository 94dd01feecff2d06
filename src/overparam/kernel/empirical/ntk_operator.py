"""The empirical tangent kernel without its matrix: products K v, and the diagonal.

K(x1, x2) v = J(x1) (J(x2)^T v): one backward pass over x2 that ends in the parameters, and one
forward pass of a directional derivative over x1. The cost is that of a few gradient steps a vector,
linear in the number of points, so Lanczos and conjugate gradients reach sizes at which the matrix
fits no memory.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse.linalg import LinearOperator

from overparam.errors import InputError
from overparam.kernel.empirical.function_kernel import points_at_once, squared_jacobian_rows
from overparam.kernel.tiles import even_blocks
from overparam.limits import require_whole
from overparam.memory import WORKING_MEMORY
from overparam.model.function import Function, Network, as_function, observe_function
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP
from overparam.precision import on_host

BATCH = 1024
"""Points that go through the network at once."""

COLUMNS = 16
"""Vectors that are multiplied at once; each needs a copy of the parameters."""


@on_host
def ntk_operator(
    model: Network,
    params: Any,
    x1: Float[Array | np.ndarray, "n1 ..."],
    x2: Float[Array | np.ndarray, "n2 ..."] | None = None,
    *,
    batch: int = BATCH,
) -> LinearOperator:
    """The empirical NTK as a SciPy ``LinearOperator``: K @ v without the matrix K.

    Args:
        model: An ``MLP``, or a function f(params, x) -> (n, k) whose rows depend on their own point
            only.
        params: Its parameters, a pytree of floating arrays.
        x1: Points, shape (n1, ...).
        x2: Points, shape (n2, ...); None means ``x1``.
        batch: Points that go through the network at once: bounds the memory for activations.

    Returns:
        The operator of shape (n1 k, n2 k), sample-major like ``empirical_ntk``: float64 if any
        argument is, else float32. It multiplies vectors and matrices, from both sides.

    Raises:
        InputError: Model, parameters and points do not fit together.
    """
    require_whole("batch", batch, 1)
    outputs, dtype = observe_function(model, params, x1=x1, x2=x2)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)
    left = np.asarray(x1, dtype)
    right = left if x2 is None else np.asarray(x2, dtype)
    return _NTKOperator(as_function(model), params, left, right, outputs, batch)


@on_host
def ntk_vector_product(
    model: Network,
    params: Any,
    x1: Float[Array | np.ndarray, "n1 ..."],
    v: Float[Array | np.ndarray, "columns ..."],
    x2: Float[Array | np.ndarray, "n2 ..."] | None = None,
) -> Float[np.ndarray, "rows ..."]:
    """K(x1, x2) v by one vector-Jacobian and one Jacobian-vector product.

    Args:
        model: See :func:`ntk_operator`.
        params: The parameters.
        x1: Points, shape (n1, ...).
        v: Shape (n2 k,), or (n2 k, r) for r vectors at once.
        x2: Points, shape (n2, ...); None means ``x1``.

    Returns:
        Shape (n1 k,) or (n1 k, r).

    Raises:
        InputError: Shapes do not fit.
    """
    operator = ntk_operator(model, params, x1, x2)
    if len(np.shape(v)) not in (1, 2) or np.shape(v)[0] != operator.shape[1]:
        raise InputError(
            f"v has shape {np.shape(v)}, the kernel needs ({operator.shape[1]},) or "
            f"({operator.shape[1]}, r)"
        )
    return operator @ np.asarray(v)


@on_host
def ntk_diagonal(
    model: Network, params: Any, x: Float[Array | np.ndarray, "n ..."], *, batch: int = BATCH
) -> Float[np.ndarray, "nk"]:
    """The diagonal of the empirical NTK, sample-major: |dN_a(x_i)|^2 for every sample and output.

    Args:
        model: See :func:`ntk_operator`.
        params: The parameters.
        x: Points, shape (n, ...).
        batch: Points that go through an ``MLP`` at once.

    Returns:
        Shape (n k,): float64 if any argument is, else float32.

    Raises:
        InputError: Model, parameters and points do not fit together.
    """
    outputs, dtype = observe_function(model, params, x=x)
    points = np.asarray(x, dtype)
    with jax.enable_x64(dtype == np.float64):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)
        side, look = batch, _layerwise_diagonal
        if not isinstance(model, MLP):
            side = points_at_once(params, outputs, dtype.itemsize, WORKING_MEMORY)
            look = squared_jacobian_rows
        parts = [look(model, params, points[block]) for block in even_blocks(len(x), side)]
        return np.concatenate([np.asarray(part).reshape(-1) for part in parts])


@partial(jax.jit, static_argnums=0)
def _layerwise_diagonal(model: MLP, params: Any, x: Array) -> Float[Array, "n k"]:
    """sum_l |(c_l h^{l-1}, s_b)|^2 |G^l_a|^2."""
    layers = observe_layers(model, params, x)
    sizes = [
        c**2 * jnp.sum(h**2, axis=1) + shift**2
        for (c, shift), h in zip(model.trained_factors, layers.inputs, strict=True)
    ]
    total = model.output_scale**2 * jnp.broadcast_to(sizes[-1][:, None], layers.output.shape)
    for size, g in zip(sizes[:-1], layers.backward, strict=True):
        total = total + size[:, None] * jnp.sum(g**2, axis=2)
    return total


class _NTKOperator(LinearOperator):
    """K(x1, x2) = J(x1) J(x2)^T; its transpose is K(x2, x1)."""

    def __init__(
        self,
        function: Function,
        params: Any,
        x1: np.ndarray,
        x2: np.ndarray,
        outputs: int,
        batch: int,
    ) -> None:
        self.function, self.params, self.outputs, self.batch = function, params, outputs, batch
        self.x1, self.x2 = x1, x2
        super().__init__(x1.dtype, (len(x1) * outputs, len(x2) * outputs))

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        return self._matmat(v.reshape(-1, 1)).reshape(-1)

    def _matmat(self, v: np.ndarray) -> np.ndarray:
        result = np.empty((self.shape[0], v.shape[1]), self.dtype)
        with jax.enable_x64(self.dtype == np.float64):
            for columns in even_blocks(v.shape[1], COLUMNS):
                block = np.ascontiguousarray(v[:, columns].T, self.dtype)
                result[:, columns] = self._push(self._pull(block)).T
        return result

    def _adjoint(self) -> LinearOperator:
        return _NTKOperator(self.function, self.params, self.x2, self.x1, self.outputs, self.batch)

    _transpose = _adjoint

    def _pull(self, v: Float[np.ndarray, "r columns"]) -> Any:
        """J(x2)^T v: tangents in the parameters, one for each of the r vectors."""
        cotangents = v.reshape(len(v), len(self.x2), self.outputs)
        total = None
        for b in even_blocks(len(self.x2), self.batch):
            part = _pull(self.function, self.params, self.x2[b], cotangents[:, b])
            total = part if total is None else jax.tree.map(jnp.add, total, part)
        return total

    def _push(self, tangents: Any) -> Float[np.ndarray, "r rows"]:
        """J(x1) times the tangents."""
        parts = [
            np.asarray(push_tangents(self.function, self.params, self.x1[b], tangents))
            for b in even_blocks(len(self.x1), self.batch)
        ]
        return np.concatenate(parts, axis=1).reshape(len(parts[0]), -1)


@partial(jax.jit, static_argnums=0)
def _pull(function: Function, params: Any, x: Array, v: Float[Array, "r n k"]) -> Any:
    _, pullback = jax.vjp(lambda p: function(p, x), params)
    return jax.vmap(lambda u: pullback(u)[0])(v)


@partial(jax.jit, static_argnums=0)
def push_tangents(
    function: Function, params: Any, x: Array, tangents: Any
) -> Float[Array, "r n k"]:
    """J(x) times r tangents, stacked along the first axis of every leaf; traceable."""
    _, pushforward = jax.linearize(lambda p: function(p, x), params)
    return jax.vmap(pushforward)(tangents)
