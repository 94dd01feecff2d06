"""A tile of the empirical kernel from the layers of its points, on one device or on several."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from overparam.kernel.tiles import Tiling
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP, Params
from overparam.precision import rounded_up

STRIP_ROWS = 512
"""Rows of a tile on the diagonal that are computed at a time; XLA is slow at thinner products."""


class Sides(NamedTuple):
    """What a tile needs of its rows' or its columns' points.

    Attributes:
        inputs: (h^0, ..., h^{D-1}), each (n, m_l).
        backward: (G^1, ..., G^{D-1}), each (n, k, m_l).
    """

    inputs: tuple[Float[Array, "n _"], ...]
    backward: tuple[Float[Array, "n k _"], ...]


@partial(jax.jit, static_argnums=0)
def observe(model: MLP, params: Params, x: Float[Array, "n d"]) -> Sides:
    """Run the network forward and backward on a block of points."""
    layers = observe_layers(model, params, x)
    return Sides(layers.inputs, layers.backward)


@partial(jax.jit, static_argnums=0)
def multiply(model: MLP, rows: Sides, columns: Sides) -> Float[Array, "r c"]:
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


def pull_sides(model: MLP, sides: Sides, at: Float[Array, "n k"]) -> Params:
    """J* of a vector at each point, from the layers of the points."""
    weights, biases = [], []
    for layer, (factor, shift) in enumerate(model.trained_factors):
        cotangent = model.output_scale * at
        if layer < model.layers - 1:
            cotangent = jnp.einsum("ik,ikm->im", at, sides.backward[layer])
        weights.append(factor * (cotangent.T @ sides.inputs[layer]))
        biases.append(shift * cotangent.sum(axis=0))
    return tuple(weights), tuple(biases)


def _input_gram(model: MLP, layer: int, rows: Sides, columns: Sides) -> Float[Array, "n1 n2"]:
    """<a^{l-1}(x), a^{l-1}(x')> = c_l^2 <h, h'> + s_b^2, of what moves."""
    factor, shift = model.trained_factors[layer]
    gram = rows.inputs[layer] @ columns.inputs[layer].T
    return factor**2 * gram + shift**2


@partial(jax.jit, static_argnums=(0, 1))
def lower_strips(model: MLP, side: int, both: Sides) -> list[Float[Array, "r c"]]:
    """A block on the diagonal in strips of ``side`` points that end where the diagonal does."""
    strips = []
    for top in range(0, both.inputs[0].shape[0], side):
        rows, columns = (
            jax.tree.map(lambda part, first=first, end=top + side: part[first:end], both)
            for first in (top, 0)
        )
        strips.append(multiply(model, rows, columns))
    return strips


@dataclass(frozen=True)
class OnDevice:
    """Tiles one by one on the default device.

    A block of all points is filled up to a common number of them (``row_by_row``), so that small
    kernels of nearly the same size share their programs; the blocks of larger ones are of equal
    size, and as they are: four times the work may be in a tile of twice the points.

    Args:
        model: The network.
        params: Its parameters, on the device.
        x1: Inputs of the rows.
        x2: Inputs of the columns.
        symmetric: Whether both are the same points: then three quarters of a large tile on the
            diagonal suffice.
    """

    model: MLP
    params: Params
    x1: Float[np.ndarray, "n1 d"]
    x2: Float[np.ndarray, "n2 d"]
    symmetric: bool

    def observe_rows(self, rows: tuple[slice, ...]) -> Sides:
        """The layers of one block."""
        (block,) = rows
        return self._observe(self.x1, block)

    def observe_column(self, column: slice) -> Sides:
        """The layers of one block."""
        return self._observe(self.x2, column)

    def _observe(self, points: Float[np.ndarray, "n d"], block: slice) -> Sides:
        chosen = points[block]
        missing = rounded_up(len(points)) - len(points) if len(chosen) == len(points) else 0
        filled = np.concatenate([chosen, np.repeat(points[:1], missing, axis=0)])
        return observe(self.model, self.params, filled)

    def tiles(
        self, left: Sides, right: Sides, rows: tuple[slice, ...], column: slice
    ) -> Sequence[np.ndarray]:
        """One tile; of one on the diagonal of a symmetric kernel the lower triangle only is set."""
        k = self.model.out_dim
        height, width = ((block.stop - block.start) * k for block in (*rows, column))
        if not (self.symmetric and rows == (column,)):
            return (np.asarray(multiply(self.model, left, right))[:height, :width],)
        side = max(1, STRIP_ROWS // k)
        strips = lower_strips(self.model, side, left)
        square = np.empty((strips[-1].shape[1],) * 2, strips[-1].dtype)
        top = 0
        for strip in strips:
            square[top : top + len(strip), : strip.shape[1]] = strip
            top += len(strip)
        return (square[:height, :width],)


class OnDevices:
    """A block of rows on each device of a mesh, against the same columns.

    Every block is filled up to its full size, so that each device runs the program that one device
    alone would run: the bytes do not depend on how many there are.

    Args:
        model: The network.
        params: Its parameters.
        x1: Inputs of the rows.
        x2: Inputs of the columns.
        tiling: How they are cut.
        devices: The mesh.
    """

    def __init__(
        self,
        model: MLP,
        params: Params,
        x1: Float[np.ndarray, "n1 d"],
        x2: Float[np.ndarray, "n2 d"],
        tiling: Tiling,
        devices: Sequence[jax.Device],
    ) -> None:
        self.outputs, self.x1, self.x2, self.tiling = model.out_dim, x1, x2, tiling
        self.mesh = jax.make_mesh(
            (len(devices),), ("rows",), axis_types=(AxisType.Auto,), devices=tuple(devices)
        )
        self.observe, self.observe_everywhere, self.multiply = _on_mesh(model, self.mesh)
        self.params = jax.device_put(params, NamedSharding(self.mesh, P()))

    def observe_rows(self, rows: tuple[slice, ...]) -> Sides:
        """The layers of a block on each device."""
        side = self.tiling.side1
        points = np.repeat(self.x1[:1], side * self.mesh.size, axis=0)
        for number, block in enumerate(rows):
            start = number * side
            points[start : start + block.stop - block.start] = self.x1[block]
        return self.observe(
            self.params, jax.device_put(points, NamedSharding(self.mesh, P("rows")))
        )

    def observe_column(self, column: slice) -> Sides:
        """The layers of one block, on every device."""
        points = np.repeat(self.x2[:1], self.tiling.side2, axis=0)
        points[: column.stop - column.start] = self.x2[column]
        return self.observe_everywhere(
            self.params, jax.device_put(points, NamedSharding(self.mesh, P()))
        )

    def tiles(
        self, left: Sides, right: Sides, rows: tuple[slice, ...], column: slice
    ) -> Sequence[np.ndarray]:
        """The tiles of all row blocks and one column block."""
        shards = self.multiply(left, right).addressable_shards
        k, width = self.outputs, column.stop - column.start
        return tuple(
            np.asarray(shard.data)[: (block.stop - block.start) * k, : width * k]
            for block, shard in zip(
                rows, sorted(shards, key=lambda shard: shard.index[0].start or 0), strict=False
            )
        )


@lru_cache(8)
def _on_mesh(model: MLP, mesh: Mesh) -> tuple[Callable, Callable, Callable]:
    """Observe rows, each device its own; observe columns, every device all; multiply."""
    rows, everywhere = P("rows"), P()
    mapped = partial(jax.shard_map, mesh=mesh)
    look, product = partial(observe, model), partial(multiply, model)
    return (
        jax.jit(mapped(look, in_specs=(everywhere, rows), out_specs=rows)),
        jax.jit(mapped(look, in_specs=(everywhere, everywhere), out_specs=everywhere)),
        jax.jit(mapped(product, in_specs=(rows, everywhere), out_specs=rows)),
    )
