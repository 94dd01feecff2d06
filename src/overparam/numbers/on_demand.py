"""Numbers by index that are computed once somebody asks for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Indices = Int[np.ndarray, " i"]


class OnDemand:
    """A vector of float64, of which only some entries may ever be needed.

    Unless all are known, it is nondecreasing.

    Args:
        compute: The entries at some indices.
        size: How many there are.
    """

    def __init__(self, compute: Callable[[Indices], Float[np.ndarray, " i"]], size: int) -> None:
        self._compute, self._known = compute, np.full(size, np.nan)
        self._asked = np.zeros(size, dtype=bool)

    @classmethod
    def known(cls, values: Float[np.ndarray, " i"]) -> "OnDemand":
        """A vector that is known, nondecreasing or not."""
        return cls(lambda at: values[at], len(values))._completed()

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, index: int) -> float:
        return float(self.at(np.array([index]))[0])

    def at(self, indices: Indices) -> Float[np.ndarray, " i"]:
        """Some entries."""
        missing = indices[~self._asked[indices]]
        if len(missing):
            self._known[missing] = self._compute(missing)
            self._asked[missing] = True
        return self._known[indices]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of them."""
        return np.array(self.at(np.arange(len(self))), dtype=dtype)

    def at_least(self, index: int) -> float:
        """A lower bound on an entry: the last one up to it that is known."""
        known = np.flatnonzero(self._asked[: index + 1])
        return float(self._known[known[-1]]) if len(known) else -np.inf

    def followed_by(self, other: "OnDemand", kept: Indices) -> "OnDemand":
        """This vector, and after it some entries of another one."""
        size = len(self)

        def compute(at: Indices) -> Float[np.ndarray, " i"]:
            own = at < size
            found = np.empty(len(at))
            found[own] = self.at(at[own])
            found[~own] = other.at(kept[at[~own] - size])
            return found

        joined = OnDemand(compute, size + len(kept))
        return joined._completed() if self._complete and other._complete else joined

    def mapped(
        self, function: Callable[[Indices, Float[np.ndarray, " i"]], Float[np.ndarray, " i"]]
    ) -> "OnDemand":
        """A nondecreasing function of each entry; it is told where that stands."""
        mapped = OnDemand(lambda at: function(at, self.at(at)), len(self))
        return mapped._completed() if self._complete else mapped

    @property
    def _complete(self) -> bool:
        return bool(self._asked.all())

    def _completed(self) -> "OnDemand":
        self.at(np.arange(len(self)))
        return self
