"""How long work tells how far it is: one kind of function, for whatever takes long."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total): what is being done, and how much of it; total is 0 where it is
not known."""


def silent(phase: str, done: int, total: int) -> None:
    """Tell nobody."""
