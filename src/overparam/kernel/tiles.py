"""A kernel matrix cut into tiles, and filled tile by tile.

The matrix is sample-major, so points i of the rows and j of the columns meet in a k x k block of
numbers, and a tile is all that two blocks of points have in common. A symmetric kernel needs the
tiles of its lower triangle only; their transposes are the others. How a tile is computed is the
business of a :class:`TiledKernel`; where it goes, that of whoever asks for it: an array in memory
(:func:`fill`) or a file (:mod:`overparam.kernel.files`).
"""

import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_choice
from overparam.model.mlp import MLP
from overparam.precision import floating_dtype
from overparam.progress import Progress, silent

TILE_ROWS = 1024
"""Rows of the kernel a tile has at most by default (but at least one point's)."""

MIRROR_ROWS = 64
"""Rows that :func:`mirror_lower` transposes at a time: what stays in cache."""


class Tile(NamedTuple):
    """One tile by the numbers of its block of rows and its block of columns."""

    row: int
    column: int


class Computer(NamedTuple):
    """What computes tiles.

    Attributes:
        tiles: From blocks of row points and one block of column points to each row block's tile.
        at_once: Row blocks that ``tiles`` takes, at most.
        held: How many times as many blocks it remembers: going through the columns once for all of
            these rows, instead of once for each, saves preparing the columns again.
    """

    tiles: Callable[[tuple[slice, ...], slice], Sequence[np.ndarray]]
    at_once: int = 1
    held: int = 1


@dataclass(frozen=True)
class Tiling:
    """How a kernel matrix is cut.

    Attributes:
        n1: Points of the rows.
        n2: Points of the columns.
        side1: Points in a block of rows; the last block may have fewer.
        side2: Points in a block of columns.
        outputs: k: rows of the matrix for each point, and columns.
        symmetric: Whether only tiles on and below the diagonal are computed.
    """

    n1: int
    n2: int
    side1: int
    side2: int
    outputs: int
    symmetric: bool

    @property
    def rows(self) -> list[slice]:
        """The row points of each block."""
        return list(blocks(self.n1, self.side1))

    @property
    def columns(self) -> list[slice]:
        """The column points of each block."""
        return list(blocks(self.n2, self.side2))

    @property
    def tiles(self) -> list[Tile]:
        """What has to be computed, row by row."""
        below = self.symmetric
        width = -(-self.n2 // self.side2)
        return [
            Tile(i, j)
            for i in range(-(-self.n1 // self.side1))
            for j in range(min(i + 1, width) if below else width)
        ]

    def entries(self, tile: Tile) -> tuple[slice, slice]:
        """Where a tile is in the matrix."""
        row, column = tile.row * self.side1, tile.column * self.side2
        end1, end2 = min(row + self.side1, self.n1), min(column + self.side2, self.n2)
        k = self.outputs
        return slice(row * k, end1 * k), slice(column * k, end2 * k)

    def mirrored(self, tile: Tile) -> bool:
        """Whether a tile's transpose belongs into the matrix, too."""
        return self.symmetric and tile.row != tile.column


class TiledKernel(ABC):
    """A kernel matrix between two sets of points that can be computed tile by tile.

    Attributes:
        model: The network.
        x1: The points of the rows, shape (n1, d).
        x2: The points of the columns, shape (n2, d).
        outputs: k, rows and columns for each point.
        symmetric: Whether both sets are the same.
        dtype: float32 or float64.
    """

    outputs: int

    def __init__(
        self,
        model: MLP,
        x1: Float[Array | np.ndarray, "n1 d"],
        x2: Float[Array | np.ndarray, "n2 _"] | None,
        dtype: str | None,
        *others: Any,
    ) -> None:
        if dtype is not None:
            require_choice("dtype", dtype, ("float32", "float64"))
        self.model, self.symmetric = model, x2 is None
        self.x1 = points("x1", x1, model.in_dim)
        self.x2 = self.x1 if x2 is None else points("x2", x2, model.in_dim)
        self.n1, self.n2 = len(self.x1), len(self.x2)
        inferred = floating_dtype(*others, self.x1, self.x2)
        self.dtype = inferred if dtype is None else np.dtype(dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, {self.dtype}{list(self.shape)})"

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix."""
        return self.n1 * self.outputs, self.n2 * self.outputs

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What determines the matrix, for JSON: two kernels are the same job if these agree.

        Names and numbers where they are few, digests of parameters and points.
        """

    @abstractmethod
    def working_bytes(self, side: int) -> int:
        """Bytes on a device for a tile of ``side`` by ``side`` points and what it is made from."""

    @abstractmethod
    def computer(
        self, tiling: Tiling, working_memory: int, devices: Sequence[jax.Device] | None
    ) -> Computer:
        """What computes tiles.

        Args:
            tiling: How the matrix is cut.
            working_memory: Bytes on a device; more than a tile needs may save work.
            devices: As many row blocks are computed at a time. None means the default device, one
                row block at a time.
        """

    def cut(self, side1: int, side2: int) -> Tiling:
        """Blocks of ``side1`` row points and ``side2`` column points."""
        return Tiling(self.n1, self.n2, side1, side2, self.outputs, self.symmetric)

    def tiling(self, side: int) -> Tiling:
        """Blocks of ``side`` points, or of all if there are fewer."""
        return self.cut(min(side, self.n1), min(side, self.n2))

    def even_tiling(self, most: int) -> Tiling:
        """Blocks of ``most`` points or fewer, equal in size: one compilation, no sliver at the end.

        Rows and columns are cut independently.
        """
        return self.cut(even(self.n1, most), even(self.n2, most))


def describe_inputs(kernel: TiledKernel) -> dict[str, Any]:
    """What :meth:`TiledKernel.describe` says of any kernel: activation, scales, points, precision.

    An activation of the user's goes by its name and constants.
    """
    model = kernel.model
    return {
        "activation": [model.act.name, model.act.slope_bound, model.act.curvature_bound],
        "weight_scale": model.weight_scale,
        "bias_scale": model.bias_scale,
        **({} if model.trainable == "all" else {"trainable": list(model.trainable)}),
        "output_scale": model.output_scale,
        "x1": digest(kernel.x1),
        "x2": None if kernel.symmetric else digest(kernel.x2),
        "dtype": kernel.dtype.name,
    }


def digest(*arrays: Any) -> str:
    """SHA-256 of the values of arrays, as float64, and of their shapes."""
    state = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array, np.float64)
        state.update(repr(values.shape).encode())
        state.update(values.data)
    return state.hexdigest()


def fill(
    matrix: Float[np.ndarray, "rows columns"],
    tiling: Tiling,
    computer: Computer,
    progress: Progress | None = None,
) -> None:
    """Fill an array in memory with a kernel.

    Args:
        matrix: Of the kernel's shape and dtype; written to.
        tiling: How it is cut.
        computer: What computes tiles.
        progress: Called after every tile.
    """
    tiles = tiling.tiles
    for done, (tile, values) in enumerate(computed(tiling, tiles, computer), start=1):
        rows, columns = tiling.entries(tile)
        matrix[rows, columns] = values
        if tiling.mirrored(tile):
            matrix[columns, rows] = values.T
        (progress or silent)("kernel", done, len(tiles))


def computed(
    tiling: Tiling, tiles: Sequence[Tile], computer: Computer
) -> Iterator[tuple[Tile, np.ndarray]]:
    """Compute the tiles asked for, in the order that suits the computer.

    Args:
        tiling: How the matrix is cut.
        tiles: Which tiles.
        computer: From :meth:`TiledKernel.computer`.

    Yields:
        Each tile with its values; those on the diagonal of a symmetric kernel exactly symmetric.
    """
    rows, columns, at_once = tiling.rows, tiling.columns, computer.at_once
    stripes: dict[tuple[int, int, int], list[Tile]] = {}
    for tile in tiles:
        stripe = tile.row // at_once
        stripes.setdefault((stripe // computer.held, tile.column, stripe), []).append(tile)
    for (_, column, stripe), wanted in sorted(stripes.items()):
        first = stripe * at_once
        results = computer.tiles(tuple(rows[first : first + at_once]), columns[column])
        for tile in wanted:
            values = results[tile.row - first]
            if tiling.symmetric and tile.row == tile.column:
                # Summation order may differ between (i, j) and (j, i); keep one of the two.
                values = values if values.flags.writeable else values.copy()
                mirror_lower(values)
            yield tile, values


def mirror_lower(square: Float[np.ndarray, "n n"]) -> None:
    """Overwrite what is above the diagonal by the transpose of what is below it."""
    lower = np.tri(MIRROR_ROWS, dtype=bool)
    for block in blocks(len(square), MIRROR_ROWS):
        square[: block.start, block] = square[block, : block.start].T
        corner = square[block, block]
        corner[:] = np.where(lower[: len(corner), : len(corner)], corner, corner.T)


def blocks(n: int, side: int) -> Iterator[slice]:
    """Slices of ``side`` that cover 0..n; the last one may be shorter."""
    return (slice(start, min(start + side, n)) for start in range(0, n, side))


def blocks_within(memory: int, n: int, per_point: int) -> Iterator[slice]:
    """The same, as large as memory allows."""
    return blocks(n, min(n, max(1, memory // per_point)))


def even_blocks(n: int, most: int) -> Iterator[slice]:
    """Slices of 0..n of nearly equal length, ``most`` at most: a program compiles once or twice."""
    return blocks(n, even(n, most))


def even(n: int, most: int) -> int:
    """The size of as few blocks as possible, of ``most`` at most and equal but for the last."""
    return -(-n // -(-n // most))


def largest_side(needed: Callable[[int], int], budget: int, most: int) -> int:
    """The largest number of points up to ``most`` whose tile fits the budget; 0 if none does."""
    return bisect_right(range(1, most + 1), budget, key=needed)


def points(name: str, x: Array | np.ndarray, dimension: int) -> np.ndarray:
    """Points as a checked NumPy array of floating point numbers, shape (n, dimension).

    Raises:
        InputError: The shape is another, or an entry is not finite; ``name`` is in the message.
    """
    array = np.asarray(x)
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    if array.ndim != 2 or array.shape[1] != dimension or not len(array):
        raise InputError(
            f"{name} has shape {array.shape}, the model needs (n, {dimension}) with n >= 1"
        )
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0] + 1
        raise InputError(f"{name} is not finite in row {row}, column {column} (counted from 1)")
    return array
