"""Points that are equal, nearly equal, or nearly on one line through the origin."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.problem.measure import equal_rows

PAIRS_LISTED = 1000
"""Close pairs kept, the closest ones; the total counts all."""

ROWS = 1024
"""Rows of the Gram matrix of directions that are formed at a time."""


class ClosePairs(NamedTuple):
    """Pairs of points that are nearly equal, or nearly on one line through the origin.

    Attributes:
        pairs: Index pairs i < j, shape (listed, 2), those with the smallest sine first.
        sines: Sine of the angle between the two lines.
        cosines: Its cosine: near 1 on one ray, near -1 on opposite rays.
        distances: |x_i - x_j| / max(|x_i|, |x_j|).
        total: Number of all such pairs, listed or not.
    """

    pairs: np.ndarray
    sines: Float[np.ndarray, " listed"]
    cosines: Float[np.ndarray, " listed"]
    distances: Float[np.ndarray, " listed"]
    total: int


def close_pairs(
    x: Float[np.ndarray, "n d"], *, tolerance: float = 1e-3, limit: int = PAIRS_LISTED
) -> ClosePairs:
    """Pairs of points on nearly the same line through the origin, equal points left out.

    The Gram matrix of directions is formed block by block, n^2 d operations in all; sines are then
    computed from differences of directions, without cancellation.

    Args:
        x: Points, shape (n, d). Zero vectors have no direction and belong to no pair; of equal
            points, only the first one does (see `equal_rows`).
        tolerance: The largest sine of the angle between two lines, between 0 and 1/2.
        limit: The most pairs listed.

    Returns:
        The :class:`ClosePairs`.

    Raises:
        InputError: x is not a finite matrix, or the tolerance is not in [0, 1/2].
    """
    if not 0 <= tolerance <= 0.5:
        raise InputError(f"tolerance = {tolerance}: give a sine between 0 and 0.5")
    points = np.asarray(x, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise InputError(f"points of shape {points.shape} are no finite (n, d) array")
    repeated = {i for group in equal_rows(points) for i in group[1:]}
    norms = np.linalg.norm(points, axis=1)
    kept = np.array([i for i in np.flatnonzero(norms) if i not in repeated], dtype=int)
    unit = points[kept] / norms[kept, None]
    # Rounding moves a cosine by a few d u at most: a filter only, the sine decides.
    threshold = np.sqrt(1.0 - tolerance**2) - 4e-16 * (points.shape[1] + 4)
    found, total = np.empty((0, 2), dtype=int), 0
    sines, cosines = np.empty(0), np.empty(0)
    for start in range(0, len(kept), ROWS):
        block = unit[start : start + ROWS] @ unit[start:].T
        near = np.argwhere(np.triu(np.abs(block) >= threshold, 1)) + start
        near_sines, near_cosines = _angles(unit, near)
        close = near_sines <= tolerance
        total += int(close.sum())
        found = np.concatenate([found, near[close]])
        sines = np.concatenate([sines, near_sines[close]])
        cosines = np.concatenate([cosines, near_cosines[close]])
        best = np.argsort(sines, kind="stable")[:limit]
        found, sines, cosines = found[best], sines[best], cosines[best]
    pairs = kept[found] if len(kept) else found
    i, j = pairs[:, 0], pairs[:, 1]
    distances = np.linalg.norm(points[i] - points[j], axis=1)
    distances = distances / np.maximum(norms[i], norms[j])
    return ClosePairs(pairs, sines, cosines, distances, total)


def _angles(unit: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sines and signed cosines of the angles between lines, pair by pair."""
    sines, cosines = np.empty(len(pairs)), np.empty(len(pairs))
    for start in range(0, len(pairs), 2**16):
        part = slice(start, start + 2**16)
        a, b = unit[pairs[part, 0]], unit[pairs[part, 1]]
        sign = np.where(np.einsum("ij,ij->i", a, b) < 0, -1.0, 1.0)
        chord = np.linalg.norm(a - sign[:, None] * b, axis=1)  # 2 sin(angle / 2)
        sines[part] = chord * np.sqrt(np.maximum(0.0, 1.0 - chord**2 / 4))
        cosines[part] = sign * (1.0 - chord**2 / 2)
    return sines, cosines
