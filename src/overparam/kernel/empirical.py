"""The empirical neural tangent kernel by layerwise Gram products.

With a^{l-1} = (c_l h^{l-1}, s_b) and G^l = dN/dz^l, the Jacobian's block for layer l at x is
G^l(x) (x) a^{l-1}(x), so

    NTK(x, x') = sum_l <a^{l-1}(x), a^{l-1}(x')> G^l(x) G^l(x')^T:

two Gram products a layer. Work and memory are those of products of n x m_l matrices; neither a
Jacobian nor any array of n p numbers is formed. The matrix is filled tile by tile, so the memory
needed beyond the result stays within a budget. Tiles stay small even under a large budget: about a
thousand rows suffice for fast products, and the elementwise work on them then happens in cache and
in memory that the allocator hands out again and again.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.kernel.memory import available_memory, readable
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP, Params
from overparam.precision import floating_dtype

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""

WORKING_MEMORY = 512 * 2**20
"""Default bytes of working memory beyond the result."""

TILE_ROWS = 1024
"""Rows of the kernel a tile has at most (but at least one point's)."""


def empirical_ntk(
    model: MLP,
    params: Params,
    x1: Float[Array | np.ndarray, "n1 d"],
    x2: Float[Array | np.ndarray, "n2 _"] | None = None,
    *,
    working_memory: int = WORKING_MEMORY,
    progress: Progress | None = None,
) -> Float[np.ndarray, "rows columns"]:
    """The empirical NTK, sample-major: row i k + a belongs to sample i and output a.

    Args:
        model: The network, with k outputs.
        params: Its parameters.
        x1: Inputs, shape (n1, d).
        x2: Inputs, shape (n2, d); None means ``x1``, and then symmetry halves the work.
        working_memory: Bytes of arrays the computation may hold beyond the result, if that is
            enough for the layers of two points; the allocator's own overhead comes on top.
        progress: Called after every tile with (done, total).

    Returns:
        A NumPy array of shape (n1 k, n2 k): float64 if any argument is, else float32.

    Raises:
        InputError: Shapes do not fit the model, an entry is not finite, or the result does not fit
            in memory.
    """
    model.validate(params)
    a = _points(model, "x1", x1)
    b = None if x2 is None else _points(model, "x2", x2)
    dtype = floating_dtype(params, a, b)
    rows, columns = len(a) * model.out_dim, len(a if b is None else b) * model.out_dim
    require_memory(rows * columns * dtype.itemsize, f"a kernel of {rows} x {columns}")
    kernel = np.empty((rows, columns), dtype)
    with jax.enable_x64(dtype == np.float64):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)
        _fill(kernel, model, params, a.astype(dtype), b, working_memory, progress)
    return kernel


class _Sides(NamedTuple):
    """What a tile needs of its rows' or its columns' points.

    Attributes:
        inputs: (h^0, ..., h^{D-1}), each (n, m_l).
        backward: (G^1, ..., G^{D-1}), each (n, k, m_l).
    """

    inputs: tuple[Float[Array, "n _"], ...]
    backward: tuple[Float[Array, "n k _"], ...]


def _fill(
    kernel: np.ndarray,
    model: MLP,
    params: Params,
    a: np.ndarray,
    b: np.ndarray | None,
    working_memory: int,
    progress: Progress | None,
) -> None:
    """Fill ``kernel`` tile by tile, the lower triangle only and its mirror if ``b`` is None."""
    k = model.out_dim
    side = tile_points(model, kernel.dtype.itemsize, working_memory)
    symmetric = b is None
    x1, x2 = a, a if b is None else b.astype(kernel.dtype)

    @lru_cache(_blocks_kept(model, side, kernel.dtype.itemsize, working_memory))
    def observe(second: bool, start: int, stop: int) -> _Sides:
        return _observe(model, params, (x2 if second else x1)[start:stop])

    tiles = [(i, j) for i in _ranges(len(x1), side) for j in _ranges(len(x2), side)]
    tiles = [(i, j) for i, j in tiles if not symmetric or j.start <= i.start]
    for done, (i, j) in enumerate(tiles, start=1):
        rows = observe(False, i.start, i.stop)
        columns = observe(not symmetric, j.start, j.stop)
        tile = np.asarray(_tile(model, rows, columns))
        at, to = slice(i.start * k, i.stop * k), slice(j.start * k, j.stop * k)
        if symmetric and i == j:
            # Summation order may differ between (i, j) and (j, i); keep one of the two.
            tile = np.tril(tile) + np.tril(tile, -1).T
        kernel[at, to] = tile
        if symmetric and i != j:
            kernel[to, at] = tile.T
        if progress is not None:
            progress(done, len(tiles))


@partial(jax.jit, static_argnums=0)
def _observe(model: MLP, params: Params, x: Array) -> _Sides:
    layers = observe_layers(model, params, x)
    return _Sides(layers.inputs, layers.backward)


@partial(jax.jit, static_argnums=0)
def _tile(model: MLP, rows: _Sides, columns: _Sides) -> Float[Array, "r c"]:
    """One block of the kernel from the layers of its rows' and its columns' points."""
    k = model.out_dim
    n1, n2 = rows.inputs[0].shape[0], columns.inputs[0].shape[0]
    # The output layer: G^D = c I.
    last = model.output_scale**2 * _input_gram(model, model.layers - 1, rows, columns)
    tile = jnp.einsum("ij,ab->iajb", last, jnp.eye(k, dtype=last.dtype))
    for layer in range(model.layers - 1):
        g1 = rows.backward[layer].reshape(n1 * k, -1)
        g2 = columns.backward[layer].reshape(n2 * k, -1)
        inputs = _input_gram(model, layer, rows, columns)[:, None, :, None]
        tile = tile + inputs * (g1 @ g2.T).reshape(n1, k, n2, k)
    return tile.reshape(n1 * k, n2 * k)


def _input_gram(model: MLP, layer: int, rows: _Sides, columns: _Sides) -> Float[Array, "n1 n2"]:
    """<a^{l-1}(x), a^{l-1}(x')> = c_l^2 <h, h'> + s_b^2."""
    gram = rows.inputs[layer] @ columns.inputs[layer].T
    return model.weight_factors[layer] ** 2 * gram + model.bias_scale**2


def tile_points(model: MLP, itemsize: int, working_memory: int) -> int:
    """Points on a tile's side so that a tile and what it is made from fit."""
    per_point = _bytes_observing(model, itemsize) + 3 * _bytes_kept(model, itemsize)
    per_pair = _bytes_per_pair(model, itemsize)
    # Largest b with per_pair b^2 + per_point b <= working_memory.
    b = (np.sqrt(per_point**2 + 4.0 * per_pair * working_memory) - per_point) / (2 * per_pair)
    return max(1, min(int(b), TILE_ROWS // model.out_dim))


def _blocks_kept(model: MLP, side: int, itemsize: int, working_memory: int) -> int:
    """Blocks of layers that fit beside a tile; a tile needs two, the others save observing anew."""
    tile = _bytes_per_pair(model, itemsize) * side**2
    left = working_memory - tile - _bytes_observing(model, itemsize) * side
    newest = 1  # is there before the oldest one goes
    return max(2, int(left / (_bytes_kept(model, itemsize) * side)) - newest)


def _bytes_kept(model: MLP, itemsize: int) -> int:
    """One point's h^l and G^l."""
    return (model.out_dim + 1) * sum(model.widths) * itemsize


def _bytes_observing(model: MLP, itemsize: int) -> int:
    """One point's z^l, act'(z^l) and U^l, gone once h^l and G^l are there."""
    return (model.out_dim + 2) * sum(model.widths) * itemsize


def _bytes_per_pair(model: MLP, itemsize: int) -> int:
    """Two points' share of a tile: a product a layer, its two Gram factors, the result, a copy."""
    return (model.layers + 2) * (model.out_dim**2 + 1) * itemsize


def require_memory(needed: int, what: str, budget: int | None = None) -> None:
    """Refuse a computation that cannot fit, before it starts.

    Args:
        needed: Bytes the computation needs.
        what: What needs them, for the message.
        budget: Bytes allowed; None means the machine's free memory.

    Raises:
        InputError: ``needed`` exceeds the budget; the message says both.
    """
    allowed = available_memory() if budget is None else budget
    if needed > allowed:
        raise InputError(
            f"{what} needs {readable(needed)} of memory but {readable(allowed)} may be used: "
            "take fewer samples or outputs, or raise the memory budget"
        )


def _points(model: MLP, name: str, x: Array | np.ndarray) -> np.ndarray:
    points = np.asarray(x)
    if not np.issubdtype(points.dtype, np.floating):
        points = points.astype(np.float64)
    if points.ndim != 2 or points.shape[1] != model.in_dim or not len(points):
        raise InputError(
            f"{name} has shape {points.shape}, the model needs (n, {model.in_dim}) with n >= 1"
        )
    if not np.isfinite(points).all():
        row, column = np.argwhere(~np.isfinite(points))[0] + 1
        raise InputError(f"{name} is not finite in row {row}, column {column} (counted from 1)")
    return points


def _ranges(n: int, size: int) -> Iterator[slice]:
    count = -(-n // size)
    size = -(-n // count)  # tiles of equal size: one compilation, and no sliver at the end
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
