"""Progress on stderr, so that stdout stays for results.

On a terminal one line says what is being done, how far it is, and how long it will still take if
that is known. Elsewhere, as in a log, each phase is a plain line of its own when it begins.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol

from overparam.cli.terminal import escaped

READING = "reading"
"""Phases that begin so are no lines of a log."""

SILENCE = 30.0
"""Seconds after which a log says how far a phase is."""


class Display(Protocol):
    """How progress is shown."""

    def show(self, phase: str, done: int, total: int) -> None:
        """Show how far a phase is."""

    def start(self) -> None:
        """Begin, or go on after a stop."""

    def stop(self) -> None:
        """Leave the terminal to others."""


class ProgressBar:
    """Shows the current phase for the time of a ``with`` block."""

    def __init__(self) -> None:
        self.display: Display = Bar() if on_terminal() else Lines()

    def __enter__(self) -> "ProgressBar":
        self.display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.display.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show ``phase``.

        Args:
            phase: What is being done.
            done: How much of it is done; 0 at its beginning.
            total: How much there is; 0 if that is not known.
        """
        self.display.show(escaped(phase), done, total)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Make room on the terminal for results."""
        self.display.stop()
        try:
            yield
        finally:
            self.display.start()


def on_terminal() -> bool:
    """Whether a line on stderr can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


class Lines:
    """A line for each phase, with the seconds since the beginning; of a long one how far it is.

    Input is found unusable while it is read, or at the beginning of the first phase: so that the
    reason is one line alone, the first phase is printed once there is more to say.
    """

    def __init__(self) -> None:
        self.begin = self.spoke = time.monotonic()
        self.seen: set[str] = set()
        self.held: list[str] = []

    def show(self, phase: str, done: int, total: int) -> None:
        """Print a phase that is new, and how far one is after a silence."""
        if phase.startswith(READING):
            return
        first, now = not self.seen, time.monotonic()
        new = phase not in self.seen
        if new or (done and now - self.spoke >= SILENCE):
            so_far = f": {done:,} of {total:,}" if total else f": {done:,}"
            self.seen.add(phase)
            self.spoke = now
            self.held.append(f"{now - self.begin:7.1f} s  {phase}{'' if new else so_far}")
        if first:
            return
        for line in self.held:
            with suppress(OSError):  # nobody listens: no reason to give up the work
                print(line, file=sys.stderr, flush=True)
        self.held.clear()

    def start(self) -> None:
        """Lines need no room."""

    def stop(self) -> None:
        """Lines need no room."""


class Bar:
    """A line that is drawn anew."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
        )
        self.task = self.bar.add_task("starting", total=None, count="", left="")
        self.phase, self.begin, self.first = "starting", time.monotonic(), 0

    def show(self, phase: str, done: int, total: int) -> None:
        """Draw the line of a phase."""
        if phase != self.phase:
            self.phase, self.begin, self.first = phase, time.monotonic(), done
            self.bar.reset(self.task)
        left = None
        if self.first < done < total:
            left = (time.monotonic() - self.begin) * (total - done) / (done - self.first)
        self.bar.update(
            self.task,
            description=phase,
            completed=done,
            total=total or None,
            count=f"{done:,}/{total:,}" if total else (f"step {done}" if done else ""),
            left="" if left is None else f"{duration(left)} left",
        )

    def start(self) -> None:
        """Begin to draw."""
        self.bar.start()

    def stop(self) -> None:
        """Take the line away."""
        self.bar.stop()


def duration(seconds: float) -> str:
    """Seconds in words, to two digits or so: more would not be known."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
