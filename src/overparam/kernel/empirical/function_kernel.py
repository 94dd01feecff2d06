"""The tangent kernel of any JAX function ``f(params, x)``, by Jacobians of a few points at a time.

Nothing is known of the function, so the Jacobian's rows are formed: those of as many points as the
working memory holds, never those of all. For an ``MLP`` the layerwise products of
:mod:`overparam.kernel.empirical.empirical_ntk` are far cheaper.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.kernel.tiles import Computer, Tiling, even, fill
from overparam.model.function import Function
from overparam.progress import Progress

MOST_ROWS = 512
"""Jacobian rows beyond which a product is no faster."""


def fill_by_jacobians(
    kernel: Float[np.ndarray, "rows columns"],
    function: Function,
    params: Any,
    x1: Float[np.ndarray, "n1 ..."],
    x2: Float[np.ndarray, "n2 ..."] | None,
    working_memory: int,
    progress: Progress | None = None,
) -> None:
    """Fill ``kernel`` with J(x1) J(x2)^T, sample-major, in the precision JAX computes in.

    Args:
        kernel: Shape (n1 k, n2 k), written to.
        function: f, traced.
        params: Its parameters, a pytree of floating arrays.
        x1: Points, shape (n1, ...).
        x2: Points, or None for ``x1``: then the lower triangle is computed and mirrored.
        working_memory: Bytes for Jacobian rows, if that is enough for those of two points.
        progress: Called after every tile.
    """
    symmetric = x2 is None
    right = x1 if x2 is None else x2
    k = kernel.shape[0] // len(x1)
    side = points_at_once(params, k, kernel.dtype.itemsize, working_memory)
    tiling = Tiling(len(x1), len(right), even(len(x1), side), even(len(right), side), k, symmetric)

    @lru_cache(1)
    def row_jacobian(start: int, stop: int) -> Any:
        return _jacobian(function, params, x1[start:stop])

    def tiles(rows: tuple[slice, ...], column: slice) -> tuple[np.ndarray]:
        (block,) = rows
        at_rows = row_jacobian(block.start, block.stop)
        same = symmetric and block == column
        at_columns = at_rows if same else _jacobian(function, params, right[column])
        return (np.asarray(_gram(at_rows, at_columns)),)

    fill(kernel, tiling, Computer(tiles), progress)


@partial(jax.jit, static_argnums=0)
def squared_jacobian_rows(function: Function, params: Any, x: Array) -> Float[Array, "n k"]:
    """|dN_a(x_i)|^2 by sample and output: the kernel's diagonal."""
    rows = _jacobian(function, params, x)
    squares = [jnp.sum(leaf**2, axis=tuple(range(2, leaf.ndim))) for leaf in jax.tree.leaves(rows)]
    return sum(squares[1:], start=squares[0])


@partial(jax.jit, static_argnums=0)
def _jacobian(function: Function, params: Any, x: Array) -> Any:
    """Of every sample by itself: leaves (n, k, *leaf.shape)."""

    def single(point: Array) -> Any:
        return jax.jacrev(lambda p: function(p, point[None])[0])(params)

    return jax.vmap(single)(x)


@jax.jit
def _gram(rows: Any, columns: Any) -> Float[Array, "r c"]:
    """Sum over parameters of products of Jacobian rows."""

    def flat(leaf: Array) -> Array:
        return leaf.reshape(leaf.shape[0] * leaf.shape[1], -1)

    pairs = zip(jax.tree.leaves(rows), jax.tree.leaves(columns), strict=True)
    products = [flat(a) @ flat(b).T for a, b in pairs]
    return sum(products[1:], start=products[0])


def points_at_once(params: Any, outputs: int, itemsize: int, working_memory: int) -> int:
    """How many points' Jacobian rows may be held, two blocks and a backward pass at a time."""
    count = sum(np.size(leaf) for leaf in jax.tree.leaves(params))
    fits = working_memory // (4 * itemsize * count * outputs)
    return max(1, min(int(fits), MOST_ROWS // outputs))
