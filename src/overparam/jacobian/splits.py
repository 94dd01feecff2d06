"""The largest value of a bound over all splits of a perturbation over the layers.

A perturbation of norm r splits as r_1^2 + ... + r_D^2 = r^2. Bounds here are nondecreasing in every
r_l, so on a box of squared shares q_l = (r_l / r)^2 they are at most their value at its upper
corner. Boxes that cover all splits are halved where that value is largest, until it is close to one
that some split attains: branch and bound (docs/modulus.md, Lemma 0). Whenever it stops, the largest
upper corner is a valid bound.
"""

import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Splits = Float[np.ndarray, "cells layers"]
Bound = Callable[[Float[np.ndarray, "rows layers"]], Float[np.ndarray, "rows values"]]

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

    def halved(self) -> "Cells":
        """Both halves of every cell along its longest edge, without those that hold no split."""
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
        return Cells(low[holds], high[holds])


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


def largest_over_splits(bound: Bound, layers: int, points: int) -> Float[np.ndarray, "values"]:
    """Upper bounds on the suprema of some bounds over all splits.

    Args:
        bound: Bounds at each row of shares p_l = r_l / r >= 0, nondecreasing in every p_l.
        layers: D.
        points: What a row costs, as a number of data points.

    Returns:
        At least the supremum over p_1^2 + ... + p_D^2 <= 1, for each of the bounds.
    """
    bound = _in_pieces(bound, max(1, PIECE // points))
    cells = first_cells(layers)
    left = min(MOST, WORK // points) - len(cells.low)
    if layers == 1 or left < BATCH:
        return bound(np.sqrt(upper_corners(layers))).max(axis=0)
    tops = bound(np.sqrt(cells.high))
    attained = np.zeros(tops.shape[1])
    while True:
        over = _excess(tops, attained).max(axis=1)
        over[(cells.high - cells.low).max(axis=1) <= SHORTEST] = 1.0  # may not be halved
        worst = np.argsort(-over, kind="stable")[: min(BATCH, max(left, 0) // 3)]
        worst = worst[over[worst] > 1 + TOLERANCE]
        if not len(worst):
            return tops.max(axis=0)
        chosen = cells.at(worst)
        new = chosen.halved()
        values = bound(np.sqrt(np.concatenate([new.high, chosen.inside()])))
        left -= len(values)
        attained = np.maximum(attained, values[len(new.high) :].max(axis=0))
        cells = Cells(*(np.delete(a, worst, axis=0) for a in cells)).joined(new)
        tops = np.concatenate([np.delete(tops, worst, axis=0), values[: len(new.high)]])


def _in_pieces(bound: Bound, rows: int) -> Bound:
    """The same bounds, evaluated at so many rows at a time."""

    def evaluate(shares: Float[np.ndarray, "rows layers"]) -> Float[np.ndarray, "rows values"]:
        pieces = range(0, len(shares), rows)
        return np.concatenate([bound(shares[first : first + rows]) for first in pieces])

    return evaluate


def _excess(tops: np.ndarray, attained: np.ndarray) -> np.ndarray:
    """How many times an attained value an upper corner's is; 1 where both are 0 or infinite."""
    equal = tops == attained
    return np.divide(
        tops, attained, out=np.where(equal, 1.0, np.inf), where=~equal & (attained > 0)
    )
