"""Minimisers of a smooth pointwise loss near given points, by Newton's method with backtracking."""

from collections.abc import Callable
from typing import Any

import numpy as np

STEPS = 100
HALVINGS = 60

FLAT = 1e-9
"""Curvature relative to M below which a direction counts as flat."""

SMALL = 1e-9
"""Gradient relative to M (1 + |z|) at which a point counts as a minimiser."""


def find_minimisers(
    value: Callable[..., Any],
    gradient: Callable[..., Any],
    curvature: Callable[..., Any],
    z: np.ndarray,
    y: np.ndarray,
    smoothness: float,
) -> np.ndarray | None:
    """A minimiser near each row of z, or None if a row does not get to one.

    Flat directions, in which a minimiser may be moved, are left alone.

    Args:
        value: (z, y) to the losses, shape (n,).
        gradient: To the gradients, shape (n, k).
        curvature: To the Hessians, shape (n, k, k).
        z: Where to start, shape (n, k), float64.
        y: Targets, shape (n, k).
        smoothness: M.
    """
    z = np.array(z, dtype=np.float64)
    for _ in range(STEPS):
        slope = np.asarray(gradient(z, y))
        if _small(slope, z, smoothness):
            return z
        values, vectors = np.linalg.eigh(curvature(z, y))
        # At least a gradient step where the curvature is not positive.
        steep = np.where(values > FLAT * smoothness, values, smoothness)
        along = np.einsum("nji,nj->ni", vectors, slope) / steep
        step = -np.einsum("nij,nj->ni", vectors, along)
        z = _descend(value, z, y, step)
    return z if _small(np.asarray(gradient(z, y)), z, smoothness) else None


def _small(slope: np.ndarray, z: np.ndarray, smoothness: float) -> bool:
    allowed = SMALL * smoothness * (1 + np.linalg.norm(z, axis=1))
    return bool(np.all(np.linalg.norm(slope, axis=1) <= allowed))


def _descend(value: Callable[..., Any], z: np.ndarray, y: np.ndarray, step: np.ndarray) -> Any:
    """Each row's step, halved until the loss does not grow."""
    before, damping = np.asarray(value(z, y)), np.ones(len(z))
    for _ in range(HALVINGS):
        ahead = z + damping[:, None] * step
        worse = ~(np.asarray(value(ahead, y)) <= before)
        if not worse.any():
            return ahead
        damping = np.where(worse, damping / 2, damping)
    return np.where(worse[:, None], z, ahead)
