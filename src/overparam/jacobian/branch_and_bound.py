"""The largest value of a bound over all splits of a perturbation over the layers.

A perturbation of norm r splits as r_1^2 + ... + r_D^2 = r^2. Bounds here are nondecreasing in every
r_l, so on a box of squared shares q_l = (r_l / r)^2 they are at most their value at its upper
corner. Boxes that cover all splits are halved where that value is largest, until it is close to one
that some split attains: branch and bound (docs/modulus.md, Lemma J0). Whenever it stops, the
largest upper corner is a valid bound. Where there is no room for that, the upper corners of a grid
do, of which most are ruled out by a bound that costs little (``coarse``).
"""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

Splits = Float[np.ndarray, "cells layers"]
Values = Shaped[np.ndarray, "rows values"]  # float64 or longer, which Float does not know
Bound = Callable[[Splits, np.ndarray], Values]

TOLERANCE = 0.03
"""How far above an attained value the result may be, before the work runs out."""

FIRST, FINEST = 360, 64
"""At most so many upper corners of a grid at the beginning, and so many cells along an edge."""

BATCH = 64
"""Cells halved at a time."""

SHORTEST = 2.0**-40
"""Cells with no longer edge are not halved: up to 2^13 layers, their ends stay exact in float64."""

MOST, WORK = 1536, 2**15
"""At most so many splits at which bounds are evaluated, and so many splits times points."""

ROUNDING = 1e-9
"""More, relatively, than rounding can change about a bound."""

PIECE = 2**16
"""So many splits times points are evaluated at once: arrays then stay in a processor's cache."""


class Cells(NamedTuple):
    """Boxes of squared shares; their ends are multiples of 2^-40, so that nothing is rounded.

    Attributes:
        low: Lower ends.
        high: Upper ends.
    """

    low: Splits
    high: Splits

    def at(self, index: np.ndarray) -> "Cells":
        """Some of them."""
        return Cells(self.low[index], self.high[index])

    def joined(self, others: "Cells") -> "Cells":
        """These and others."""
        return Cells(
            np.concatenate([self.low, others.low]), np.concatenate([self.high, others.high])
        )

    def inside(self) -> Splits:
        """A split of 1 in every cell, up to rounding."""
        edges = self.high - self.low
        length = edges.sum(axis=1, keepdims=True)
        left = 1 - self.low.sum(axis=1, keepdims=True)
        return self.low + edges * np.divide(left, length, out=np.zeros_like(left), where=length > 0)

    def halved(self) -> tuple["Cells", np.ndarray]:
        """Both halves of every cell along its longest edge, without those that hold no split.

        Returns:
            The halves, and the cell that each is of.
        """
        cell = np.arange(len(self.low))
        edge = (self.high - self.low).argmax(axis=1)
        middle = (self.low[cell, edge] + self.high[cell, edge]) / 2
        below, above = self.high.copy(), self.low.copy()
        below[cell, edge], above[cell, edge] = middle, middle
        low, high = np.concatenate([self.low, above]), np.concatenate([below, self.high])
        # The other shares sum to 1 less this one.
        high = np.minimum(high, 1 - (low.sum(axis=1, keepdims=True) - low))
        low = np.maximum(low, 1 - (high.sum(axis=1, keepdims=True) - high))
        holds = (low <= high).all(axis=1)
        return Cells(low[holds], high[holds]), np.append(cell, cell)[holds]


def _grid(layers: int) -> int:
    """Cells along an edge, a power of two."""
    cells = 1
    while 2 * cells <= FINEST and math.comb(2 * cells + layers - 2, layers - 1) <= FIRST:
        cells *= 2
    return cells


@lru_cache
def upper_corners(layers: int) -> Splits:
    """Squared shares above all splits: (k_l + 1) / N for whole k_l >= 0 with sum N - 1."""
    cells = _grid(layers)
    return (_whole_numbers(cells - 1, layers) + 1) / cells


@lru_cache
def first_cells(layers: int) -> Cells:
    """The cells k_l <= N q_l <= k_l + 1 of the grid that hold a split: sums of k from N - D + 1."""
    cells = _grid(layers)
    sums = range(max(0, cells - max(layers - 1, 1)), cells)
    low = np.concatenate([_whole_numbers(total, layers) for total in sums])
    return Cells(low / cells, (low + 1) / cells)


def _whole_numbers(total: int, parts: int) -> np.ndarray:
    """All rows of so many whole numbers >= 0 with a sum: bars among stars."""
    bars = itertools.combinations(range(total + parts - 1), parts - 1)
    edges = np.array([(-1, *bar, total + parts - 1) for bar in bars])
    return np.diff(edges, axis=1) - 1


def corners_do(layers: int, points: int) -> bool:
    """Whether bounds are evaluated at the corners of a grid only, and no cells are halved."""
    return layers == 1 or _allowed(layers, points) < BATCH


def _allowed(layers: int, points: int) -> int:
    """Evaluations that are left after the first cells."""
    return min(MOST, WORK // points) - len(first_cells(layers).low)


def largest_over_splits(
    bound: Bound, layers: int, points: int, radii: int = 1, coarse: tuple[Bound, int] | None = None
) -> Shaped[np.ndarray, "radii values"]:
    """Upper bounds on the suprema of some bounds over all splits, for several radii in one go.

    Args:
        bound: Bounds for each row of squared shares q_l = (r_l / r)^2, nondecreasing in every one,
            and the number of the row's radius.
        layers: D.
        points: What a row costs, as a number of data points.
        radii: How many radii.
        coarse: Bounds on these bounds, up to rounding, and what they cost; of corners, only those
            are evaluated which they do not rule out. The result is the same.

    Returns:
        At least the supremum over q_1 + ... + q_D <= 1, for each radius and bound.
    """
    bound = _in_pieces(bound, points)
    if corners_do(layers, points):
        corners, owner = _for_each(upper_corners(layers), radii)
        if coarse is None:
            return _largest(bound(corners, owner), owner, radii)
        return _largest_of(corners, owner, bound, _in_pieces(*coarse)(corners, owner), radii)
    cells = first_cells(layers)
    (low, owner), (high, _) = (_for_each(ends, radii) for ends in cells)
    cells, tops = Cells(low, high), bound(high, owner)
    attained = np.zeros((radii, tops.shape[1]), tops.dtype)
    left = np.full(radii, _allowed(layers, points))
    while True:
        over = _excess(tops, attained[owner]).max(axis=1)
        over[(cells.high - cells.low).max(axis=1) <= SHORTEST] = 1.0  # may not be halved
        worst = _worst(over, owner, left)
        if not len(worst):
            return _largest(tops, owner, radii)
        chosen = cells.at(worst)
        new, part = chosen.halved()
        halves, whole = owner[worst][part], owner[worst]
        values = bound(np.concatenate([new.high, chosen.inside()]), np.append(halves, whole))
        np.maximum.at(attained, whole, values[len(halves) :])
        left -= np.bincount(np.append(halves, whole), minlength=radii)
        cells = Cells(*(np.delete(a, worst, axis=0) for a in cells)).joined(new)
        tops = np.concatenate([np.delete(tops, worst, axis=0), values[: len(halves)]])
        owner = np.append(np.delete(owner, worst), halves)


def _for_each(
    rows: Splits, radii: int
) -> tuple[Float[np.ndarray, "rows layers"], Int[np.ndarray, " rows"]]:
    """The same rows for every radius, and whose they are."""
    return np.tile(rows, (radii, 1)), np.repeat(np.arange(radii), len(rows))


def _largest_of(
    corners: Splits, owner: np.ndarray, bound: Bound, above: Values, radii: int
) -> np.ndarray:
    """The largest values of every radius, evaluated only where ``above`` does not rule them out."""
    above = np.nan_to_num(above * (1 + ROUNDING), nan=np.inf, posinf=np.inf)
    promising = np.zeros(len(corners), dtype=bool)
    per_radius = above.reshape(radii, -1, above.shape[1])
    offsets = per_radius.shape[1] * np.arange(radii)[:, None]
    promising[per_radius.argmax(axis=1) + offsets] = True
    found = _largest(bound(corners[promising], owner[promising]), owner[promising], radii)
    rest = ~promising & (above > found[owner]).any(axis=1)
    if not rest.any():
        return found
    return np.maximum(found, _largest(bound(corners[rest], owner[rest]), owner[rest], radii))


def _largest(tops: np.ndarray, owner: np.ndarray, radii: int) -> np.ndarray:
    found = np.zeros((radii, tops.shape[1]), tops.dtype)
    np.maximum.at(found, owner, tops)
    return found


def _worst(over: np.ndarray, owner: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The cells to halve, of every radius that has work left: where bounds are largest."""
    order = np.lexsort((-over, owner))  # by radius, and within one from the worst on
    whose = owner[order]
    rank = np.arange(len(order)) - np.searchsorted(whose, whose)
    enough = np.minimum(BATCH, np.maximum(left, 0) // 3)[whose]
    return order[(rank < enough) & (over[order] > 1 + TOLERANCE)]


def _in_pieces(bound: Bound, points: int) -> Bound:
    """The same bounds, evaluated at a few rows at a time, each for so many points."""
    rows = max(1, PIECE // points)

    def evaluate(squares: Splits, owner: np.ndarray) -> Values:
        pieces = [slice(first, first + rows) for first in range(0, len(squares), rows)]
        return np.concatenate([bound(squares[piece], owner[piece]) for piece in pieces])

    return evaluate


def _excess(tops: np.ndarray, attained: np.ndarray) -> np.ndarray:
    """How many times an attained value an upper corner's is; 1 where both are 0 or infinite."""
    equal = tops == attained
    ratio = np.where(equal, 1.0, np.inf)
    with np.errstate(all="ignore"):  # it only says where to look, whatever its range
        return np.divide(tops, attained, out=ratio, where=~equal & (attained > 0))
