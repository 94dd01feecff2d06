"""How a command ends before its end: one line on stderr, and an exit status."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from overparam.cli.terminal import complain

INTERRUPTED = 130


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


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"overparam: interrupted\n")
    os._exit(INTERRUPTED)
