"""The batches of a run whose first ones are given: which points, and what each counts.

The definition is that of docs/stochastic.md ("The batches of a key"), written here once more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import arb


@dataclass(frozen=True)
class DrawnBatches:
    """Batches of b points.

    Attributes:
        size: b.
        sampling: ``subsets``, ``replacement`` or ``epochs``.
        seed: Draws them.
        weights: w_i of the points.
    """

    size: int
    sampling: str
    seed: int
    weights: np.ndarray

    @staticmethod
    def of(batches: Mapping[str, Any], weights: np.ndarray) -> "DrawnBatches":
        """As a certificate describes them; without a seed no run can be made."""
        sampling = batches.get("sampling", "subsets")
        return DrawnBatches(int(batches["size"]), sampling, int(batches.get("seed", 0)), weights)

    @property
    def epoch(self) -> int:
        """Steps after which batches of epochs begin anew; others always do."""
        return len(self.weights) // self.size if self.sampling == "epochs" else 1

    def rows(self, step: int) -> np.ndarray:
        """The points of a step's batch."""
        n = len(self.weights)
        if self.sampling == "epochs":
            epoch, place = divmod(step, self.epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(n)
            return order[place * self.size :][: self.size]
        rng = np.random.default_rng([self.seed, step])
        if self.sampling == "replacement":
            return rng.choice(n, self.size, p=self.weights)
        return rng.choice(n, self.size, replace=False)

    def counted(self, step: int) -> list[arb]:
        """rho_i: what each point counts in a step's batch, 0 outside of it."""
        n, times = len(self.weights), np.bincount(self.rows(step), minlength=len(self.weights))
        if self.sampling == "replacement":
            return [arb(int(t)) / self.size for t in times]
        pairs = zip(times.tolist(), self.weights.tolist(), strict=True)
        return [arb(int(t)) * n * arb(w) / self.size for t, w in pairs]

    def spread(self) -> list[arb]:
        """sqrt(v_i / w_i)."""
        if self.sampling == "replacement":
            return [(1 / arb(weight)).sqrt() for weight in self.weights.tolist()]
        return [arb(len(self.weights)).sqrt()] * len(self.weights)

    def point_norm(self, points: tuple[arb, ...], omega: arb | float) -> arb:
        """A >= sqrt(v_i) |J_i|, from w_i |J_i|^2, where the Jacobian changes by omega at most."""
        largest = arb(0)
        for spread, own in zip(self.spread(), points, strict=True):
            largest = largest.max(spread * (own.sqrt() + omega))
        return largest.upper()
