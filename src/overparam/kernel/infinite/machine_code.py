"""Numba's machine code, kept between runs where that is possible and never an obstacle.

Numba raises whatever a damaged file of its cache, a full disk or another version's pickle makes it
stumble over. Here such a file is as good as none: the function is compiled, and kept if there is
room.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import FunctionCache

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
}


class Cache(FunctionCache):
    """A function's cache on disk, of which nothing is lost but time if it cannot be used."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The machine code for a signature; None if there is none that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle may raise anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep machine code, if there is room."""
        with suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: F) -> F:
    """``numba.njit`` without the interpreter lock, cached on disk if a folder is writable."""
    found: Any = njit(**OPTIONS)(function)
    with suppress(RuntimeError):  # no folder for the cache: compile in every process
        found._cache = Cache(function)
    return found
