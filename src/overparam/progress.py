"""How long work tells how far it is: one type for what has phases, one for a phase by itself."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (done, total); total is 0 where it is not known."""

Report = Callable[[str, int, int], None]
"""Called with (phase, done, total); total is 0 where it is not known."""


def silent(*_: object) -> None:
    """Tell nobody."""
