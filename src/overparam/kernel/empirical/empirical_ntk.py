"""The empirical neural tangent kernel by layerwise Gram products.

With a^{l-1} = (c_l h^{l-1}, s_b) and G^l = dN/dz^l, the Jacobian's block for layer l at x is
G^l(x) (x) a^{l-1}(x), so

    NTK(x, x') = sum_l <a^{l-1}(x), a^{l-1}(x')> G^l(x) G^l(x')^T:

two Gram products a layer. Work and memory are those of products of n x m_l matrices; neither a
Jacobian nor any array of n p numbers is formed. The matrix is computed tile by tile, so the memory
needed beyond the result stays within a budget. Tiles stay small even under a large budget: about a
thousand rows suffice for fast products, and the elementwise work on them then happens in cache and
in memory that the allocator hands out again and again.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.kernel.empirical.function_kernel import fill_by_jacobians
from overparam.kernel.empirical.layer_products import OnDevice, OnDevices, Sides
from overparam.kernel.empirical.standard import standard_parameters
from overparam.kernel.tiles import (
    TILE_ROWS,
    Computer,
    TiledKernel,
    Tiling,
    describe_inputs,
    digest,
    fill,
)
from overparam.limits import require_choice
from overparam.memory import WORKING_MEMORY, require_memory
from overparam.model.function import Function, Network, observe_function
from overparam.model.mlp import MLP, Params
from overparam.precision import on_host
from overparam.progress import Progress


@on_host
def empirical_ntk(
    model: Network,
    params: Any,
    x1: Float[Array | np.ndarray, "n1 ..."],
    x2: Float[Array | np.ndarray, "n2 ..."] | None = None,
    *,
    scales: str = "ntk",
    working_memory: int = WORKING_MEMORY,
    progress: Progress | None = None,
) -> Float[np.ndarray, "rows columns"]:
    """The empirical NTK, sample-major: row i k + a belongs to sample i and output a.

    Args:
        model: An ``MLP`` with k outputs, or any JAX function f(params, x) -> (n, k) whose rows
            depend on their own point only. Of a function, Jacobian rows of a few points at a time
            are formed; the layerwise products are for the ``MLP``.
        params: Its parameters, for a function a pytree of floating arrays.
        x1: Inputs, shape (n1, d), or (n1, ...) for a function that takes such.
        x2: Inputs, shape (n2, ...); None means ``x1``, and then symmetry halves the work.
        scales: "ntk" for the derivatives in ``params``, or of an ``MLP`` "standard" for those in
            the weights and biases of z = W h + b, as PyTorch and Flax have them.
        working_memory: Bytes of arrays the computation may hold beyond the result, if that is
            enough for the layers of two points; the allocator's own overhead comes on top.
        progress: Called after every tile with (done, total).

    Returns:
        A NumPy array of shape (n1 k, n2 k): float64 if any argument is, else float32.

    Raises:
        InputError: Shapes do not fit the model, an entry is not finite, or the result does not fit
            in memory.
    """
    require_choice("scales", scales, ("ntk", "standard"))
    if scales == "standard":
        if not isinstance(model, MLP):
            raise InputError("scales='standard' is of an MLP; a function has its own parameters")
        model = standard_parameters(model)
    if not isinstance(model, MLP):
        return _of_function(model, params, x1, x2, working_memory, progress)
    kernel = EmpiricalKernel(model, params, x1, x2)
    rows, columns = kernel.shape
    require_memory(rows * columns * kernel.dtype.itemsize, f"a kernel of {rows} x {columns}")
    matrix = np.empty((rows, columns), kernel.dtype)
    tiling = kernel.even_tiling(tile_points(model, kernel.dtype.itemsize, working_memory))
    fill(matrix, tiling, kernel.computer(tiling, working_memory, None), progress)
    return matrix


def _of_function(
    function: Function,
    params: Any,
    x1: Any,
    x2: Any,
    working_memory: int,
    progress: Progress | None,
) -> Float[np.ndarray, "rows columns"]:
    """The empirical NTK of a function that is no ``MLP``."""
    outputs, dtype = observe_function(function, params, x1=x1, x2=x2)
    rows, columns = len(x1) * outputs, len(x1 if x2 is None else x2) * outputs
    require_memory(rows * columns * dtype.itemsize, f"a kernel of {rows} x {columns}")
    matrix = np.empty((rows, columns), dtype)
    with jax.enable_x64(dtype == np.float64):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)
        left = np.asarray(x1, dtype)
        right = None if x2 is None else np.asarray(x2, dtype)
        fill_by_jacobians(matrix, function, params, left, right, working_memory, progress)
    return matrix


class EmpiricalKernel(TiledKernel):
    """The empirical NTK of an ``MLP``, not computed yet: what :func:`write_kernel` takes.

    Args:
        model: The network, with k outputs.
        params: Its parameters.
        x1: Inputs of the rows, shape (n1, d).
        x2: Inputs of the columns, shape (n2, d); None means ``x1``.
        dtype: float32 or float64; by default float64 if any argument is, else float32.

    Raises:
        InputError: Shapes do not fit the model, or an entry is not finite.
    """

    def __init__(
        self,
        model: MLP,
        params: Params,
        x1: Float[Array | np.ndarray, "n1 d"],
        x2: Float[Array | np.ndarray, "n2 _"] | None = None,
        *,
        dtype: str | None = None,
    ) -> None:
        model.validate(params)
        super().__init__(model, x1, x2, dtype, params)
        self.params = jax.tree.map(lambda leaf: np.asarray(leaf, self.dtype), params)
        self.x1, self.x2 = self.x1.astype(self.dtype), self.x2.astype(self.dtype)
        self.outputs = model.out_dim

    def describe(self) -> dict[str, Any]:
        """The kind, the network, and digests of parameters and points."""
        return {
            "kernel": "empirical NTK",
            "widths": list(self.model.widths),
            "parameters": digest(*jax.tree.leaves(self.params)),
            **describe_inputs(self),
        }

    def working_bytes(self, side: int) -> int:
        """A tile, and the layers of the points it is made from."""
        model, itemsize = self.model, self.dtype.itemsize
        return _bytes_per_pair(model, itemsize) * side**2 + _bytes_per_point(model, itemsize) * side

    def computer(
        self, tiling: Tiling, working_memory: int, devices: Sequence[jax.Device] | None
    ) -> Computer:
        """Keeps the layers of as many blocks of points as the working memory holds."""
        side, itemsize = max(tiling.side1, tiling.side2), self.dtype.itemsize
        with jax.enable_x64(self.dtype == np.float64):
            model, params, points = self.model, self.params, (self.x1, self.x2)
            parts: OnDevice | OnDevices
            if devices is None:
                parts = OnDevice(model, jax.device_put(params), *points, self.symmetric)
            else:
                parts = OnDevices(model, params, *points, tiling, devices)
        # A block's layers serve as rows and as columns, if they are the same points in one place.
        second = not self.symmetric or len(devices or ()) > 1

        kept = _blocks_kept(self.model, side, itemsize, working_memory)

        @lru_cache(kept)
        def observe(second: bool, *ends: tuple[int, int]) -> Sides:
            chosen = tuple(slice(*pair) for pair in ends)
            return parts.observe_column(*chosen) if second else parts.observe_rows(chosen)

        def compute(rows: tuple[slice, ...], column: slice) -> Sequence[np.ndarray]:
            with jax.enable_x64(self.dtype == np.float64):
                left = observe(False, *((block.start, block.stop) for block in rows))
                right = observe(second, (column.start, column.stop))
                return parts.tiles(left, right, rows, column)

        # Beside the rows there have to be two columns: the newest, and the one it replaces.
        return Computer(compute, len(devices or (None,)), max(1, kept - 2))


def tile_points(model: MLP, itemsize: int, working_memory: int) -> int:
    """Points on a tile's side so that a tile and what it is made from fit."""
    per_point = _bytes_per_point(model, itemsize)
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


def _bytes_per_point(model: MLP, itemsize: int) -> int:
    """Rows' and columns' layers, the newest ones while the oldest are there, and observing them."""
    return _bytes_observing(model, itemsize) + 3 * _bytes_kept(model, itemsize)


def _bytes_kept(model: MLP, itemsize: int) -> int:
    """One point's h^l and G^l."""
    return (model.out_dim + 1) * sum(model.widths) * itemsize


def _bytes_observing(model: MLP, itemsize: int) -> int:
    """One point's z^l, act'(z^l) and U^l, gone once h^l and G^l are there."""
    return (model.out_dim + 2) * sum(model.widths) * itemsize


def _bytes_per_pair(model: MLP, itemsize: int) -> int:
    """Two points' share of a tile: a product a layer, its two Gram factors, the result, a copy."""
    return (model.layers + 2) * (model.out_dim**2 + 1) * itemsize
