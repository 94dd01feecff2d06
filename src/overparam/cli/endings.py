"""How a command ends before its end: one line on stderr, and an exit status."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from overparam.cli.terminal import complain

INTERRUPTED = 130

AGAIN = 0.05
"""Seconds after which an interrupt that was lost comes again."""


def say(message: str, status: int) -> int:
    """Print one line on stderr, and return the status."""
    complain(message)
    return status


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """While modules are imported, Ctrl-C ends the process: there is nothing yet to be saved.

    An exception would do in Python code, but libraries turn it into errors of their own, or lose
    it. A handler that somebody else set is left.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not ours:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def hearing_interrupts() -> Iterator[None]:
    """Within, a Ctrl-C that Python loses comes again a moment later.

    It loses what is raised while garbage is collected, when libraries such as JAX are called back:
    it prints that it ignores it, and goes on.
    """
    before = sys.unraisablehook

    def hook(lost: Any) -> None:
        if lost.exc_type is KeyboardInterrupt:
            threading.Timer(AGAIN, _interrupt).start()
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt() -> None:
    """Ctrl-C, in the main thread, which may be waiting for something."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"overparam: interrupted\n")
    os._exit(INTERRUPTED)
