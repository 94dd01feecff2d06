"""Suprema over all splits of a perturbation over the layers, by cells in whole numbers.

docs/modulus.md, Lemma J0: bounds increase with every share r_l, so over a cell of squared shares
they are at most their values at its upper corner, and cells are cut where these are largest. Ends
are whole multiples of 2^-40, on which halving, adding and comparing is exact. What a certificate
claims is held against the number that the lemma's search ends with, in which cells are cut in the
order of their values: a sharper search would pass numbers that were tampered with.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from flint import arb

from overparam.numbers.upper import Upper
from overparam.verification.balls import bound_of, exact

ONE = 2**40
"""The whole, in units of a share."""

MOST_CORNERS, MOST_ALONG_AN_EDGE = 360, 64
ROUND, MOST_SPLITS, MOST_WORK = 64, 1536, 2**15
CLOSE = 1.03
"""The lemma's numbers. Others would give valid bounds, too."""

Bounds = Callable[[list[Upper], np.ndarray], list[Upper]]


def suprema(bounds: Bounds, layers: int, points: int, radii: int) -> list[list[arb]]:
    """Proved bounds on suprema over r_1^2 + ... + r_D^2 <= 1, for several radii in one go.

    Args:
        bounds: For shares, a vector over splits for each layer, and the number of every split's
            radius: some bounds at each split.
        layers: D.
        points: How many data points a split costs.
        radii: How many radii.

    Returns:
        For each radius, the bounds.
    """
    low, high = cells(layers)
    allowed = min(MOST_SPLITS, MOST_WORK // points) - len(low)
    if layers == 1 or allowed < ROUND:
        high = corners(layers)
        owner = np.repeat(np.arange(radii), len(high))
        return _by_radius(bounds(_shares(np.tile(high, (radii, 1))), owner), owner, radii)
    owner = np.repeat(np.arange(radii), len(low))
    low, high = np.tile(low, (radii, 1)), np.tile(high, (radii, 1))
    tops = bounds(_shares(high), owner)
    reached = np.zeros((len(tops), radii))
    left = np.full(radii, allowed)
    while True:
        ratio = np.max([_ratio(t, r[owner]) for t, r in zip(tops, reached, strict=True)], axis=0)
        cut = _worst(owner, ratio, left)
        if not len(cut):
            return _by_radius(tops, owner, radii)
        new_low, new_high, part = _cut(low[cut], high[cut])
        inner = np.sqrt(_inside(low[cut], high[cut]))
        shares = [
            Upper(np.concatenate([outer.values, inside]), outer.roundings)
            for outer, inside in zip(_shares(new_high), inner.T, strict=True)
        ]
        found = bounds(shares, np.concatenate([owner[cut][part], owner[cut]]))
        for best, values in zip(reached, found, strict=True):
            np.maximum.at(best, owner[cut], values.values[len(new_low) :].astype(float))
        left -= np.bincount(owner[cut][part], minlength=radii)
        left -= np.bincount(owner[cut], minlength=radii)
        low, high, owner = (
            np.concatenate([np.delete(old, cut, axis=0), new])
            for old, new in ((low, new_low), (high, new_high), (owner, owner[cut][part]))
        )
        tops = [
            Upper(
                np.concatenate([np.delete(old.values, cut), new.values[: len(new_low)]]),
                max(old.roundings, new.roundings),
            )
            for old, new in zip(tops, found, strict=True)
        ]


def _worst(owner: np.ndarray, ratio: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The cells to cut, of every radius."""
    chosen = []
    for radius, budget in enumerate(left.tolist()):
        mine = np.flatnonzero(owner == radius)
        worst = mine[np.argsort(-ratio[mine], kind="stable")][: min(ROUND, max(budget, 0) // 3)]
        chosen.append(worst[ratio[worst] > CLOSE])
    return np.concatenate(chosen)


def _by_radius(tops: list[Upper], owner: np.ndarray, radii: int) -> list[list[arb]]:
    mine = [owner == radius for radius in range(radii)]
    return [[bound_of(Upper(top.values[its], top.roundings)) for top in tops] for its in mine]


def _ratio(top: Upper, least: np.ndarray) -> np.ndarray:
    values = top.values.astype(float)
    with np.errstate(over="ignore"):
        ratio = np.divide(values, least, out=np.full_like(values, np.inf), where=least > 0)
    return np.where(values == 0, 1.0, ratio)


def _shares(squares: np.ndarray) -> list[Upper]:
    """Roots of squared shares, a vector for each layer."""
    return [exact(column / ONE).sqrt() for column in squares.T]


def _inside(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Squared shares of sum 1 in each cell; only to see what is reached, so rounding is free."""
    edges = (high - low) / ONE
    length, left = edges.sum(axis=1), 1 - low.sum(axis=1) / ONE
    part = np.divide(left, length, out=np.zeros_like(left), where=length > 0)
    return low / ONE + part[:, None] * edges


def _cut(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Halves along the longest edge, drawn in to the simplex, without empty ones; and of which."""
    edge = np.eye(low.shape[1], dtype=bool)[np.argmax(high - low, axis=1)]
    middle = (low + high) // 2
    lower = np.concatenate([low, np.where(edge, middle, low)])
    upper = np.concatenate([np.where(edge, middle, high), high])
    upper = np.minimum(upper, ONE - lower.sum(axis=1)[:, None] + lower)
    lower = np.maximum(lower, ONE - upper.sum(axis=1)[:, None] + upper)
    full = np.all(lower <= upper, axis=1)
    return lower[full], upper[full], np.tile(np.arange(len(low)), 2)[full]


def _along_an_edge(layers: int) -> int:
    count = 1
    while count < MOST_ALONG_AN_EDGE:
        if math.comb(2 * count + layers - 2, layers - 1) > MOST_CORNERS:
            break
        count *= 2
    return count


@cache
def corners(layers: int) -> np.ndarray:
    """Squared shares above every split of 1."""
    count = _along_an_edge(layers)
    return (_sums_to(count - 1, layers) + 1) * (ONE // count)


@cache
def cells(layers: int) -> tuple[np.ndarray, np.ndarray]:
    """The grid's cells that hold a split."""
    count = _along_an_edge(layers)
    fewest = max(0, count - max(layers - 1, 1))
    low = np.concatenate([_sums_to(total, layers) for total in range(fewest, count)])
    return low * (ONE // count), (low + 1) * (ONE // count)


def _sums_to(total: int, parts: int) -> np.ndarray:
    """All ways to write a whole number as an ordered sum."""
    rows: list[list[int]] = [[]]
    for _ in range(parts - 1):
        rows = [[*row, k] for row in rows for k in range(total - sum(row) + 1)]
    return np.array([[*row, total - sum(row)] for row in rows], dtype=np.int64)
