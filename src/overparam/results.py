"""Results that hold arrays: pytrees whose repr says what is there, not every number of it."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import jax
import numpy as np

C = TypeVar("C", bound=type)

LISTED = 4
"""Entries of a tuple or dictionary that are shown."""


def brief(cls: C) -> C:
    """Give a dataclass a repr in which an array is its type and shape: ``float64[60,60]``."""

    def __repr__(self: Any) -> str:  # noqa: N807
        shown = ", ".join(f"{f.name}={in_brief(getattr(self, f.name))}" for f in fields(cls))
        return f"{type(self).__name__}({shown})"

    cls.__repr__ = __repr__  # type: ignore[assignment]
    return cls


def pytree(*leaves: str) -> Callable[[C], C]:
    """Make a dataclass a pytree of some of its fields, with a brief repr; the others are static.

    Args:
        *leaves: The fields that hold arrays, or pytrees of them.
    """

    def register(cls: C) -> C:
        static = [field.name for field in fields(cls) if field.name not in leaves]
        return brief(jax.tree_util.register_dataclass(cls, list(leaves), static))

    return register


def in_brief(value: Any) -> str:
    """A value for people: arrays by type and shape, long containers by their beginning."""
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return f"{{{_joined([f'{key!r}: {in_brief(each)}' for key, each in value.items()])}}}"
    if type(value) in (tuple, list):
        inside = _joined([in_brief(each) for each in value])
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    return repr(value)


def _joined(parts: list[str]) -> str:
    more = [f"... {len(parts)} in all"] if len(parts) > LISTED else []
    return ", ".join(parts[:LISTED] + more)
