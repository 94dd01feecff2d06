"""Two pieces of work at the same time, in one process.

While XLA compiles or computes, and while NumPy draws or multiplies, Python's lock is free: a second
piece of work then goes on. Both get their results as if they had run one after the other.
"""

import contextvars
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax

from overparam.progress import Progress, silent
from overparam.threads import SMALL

A = TypeVar("A")
B = TypeVar("B")

PATIENCE = 5.0
"""Seconds that a thread has to end itself before it is interrupted again, in what it then does."""


def side_by_side(here: Callable[[], A], there: Callable[[], B]) -> tuple[A, B]:
    """Both results; ``there`` runs in a thread of its own.

    Raises:
        BaseException: What either raised, ``here`` first, after which ``there`` does not go on in
            vain: it is interrupted where Python runs next in it. ``here`` runs to its end.
    """
    other = _Thread(there)
    try:
        other.start()
        first = here()
    except BaseException:
        other.interrupt()
        raise
    return first, other.result()


def beside(
    rows: int,
    here: Callable[[Progress], A],
    there: Callable[[Progress], B],
    progress: Progress,
    phase: str,
) -> tuple[A, B]:
    """Both results, side by side where linear algebra runs on one thread, else in turn.

    Args:
        rows: n k, by which :func:`overparam.threads.threads_for` decides.
        here: Is given the progress to tell.
        there: Likewise; side by side it is not heard, as one line is shown at a time.
        progress: What both tell.
        phase: What is told instead, once ``here`` is done.
    """
    if rows > SMALL:
        return here(progress), there(progress)

    def first() -> A:
        found = here(progress)
        progress(phase, 0, 0)
        return found

    return side_by_side(first, lambda: there(silent))


class _Ended(SystemExit):
    """What ends a thread from outside."""


class _Thread(threading.Thread, Generic[B]):
    """A thread that keeps what its work returned or raised.

    The work meets what it would meet in the caller's: NumPy's error state, which is a context
    variable, and JAX's precision and default device, which are each thread's own.
    """

    def __init__(self, work: Callable[[], B]) -> None:
        super().__init__(name="side by side")
        self.work, self.context = work, contextvars.copy_context()
        config: Any = jax.config  # whose attributes are made at run time
        self.wide, self.device = config.jax_enable_x64, config.jax_default_device
        self.returned: list[B] = []
        self.raised: BaseException | None = None

    def run(self) -> None:
        try:
            with jax.enable_x64(self.wide), jax.default_device(self.device):
                self.returned.append(self.context.run(self.work))
        except BaseException as error:  # of another thread's, too: it is raised there
            self.raised = error

    def result(self) -> B:
        """Wait for it; in turns, so that an interrupt of the waiting is seen."""
        try:
            while self.is_alive():
                self.join(0.1)
        except BaseException:
            self.interrupt()
            raise
        if self.raised is not None:
            raise self.raised
        return self.returned[0]

    def interrupt(self) -> None:
        """End it where Python runs next in it, and wait for that.

        Where that is a callback while garbage is collected, Python ignores it: then once more.
        """
        before, ignored = sys.unraisablehook, threading.Event()

        def hook(lost: Any) -> None:
            ignored.set() if lost.exc_type is _Ended else before(lost)

        sys.unraisablehook = hook
        try:
            while self.is_alive():
                ignored.clear()
                identity = ctypes.c_ulong(self.ident or 0)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(_Ended))
                until = time.monotonic() + PATIENCE
                while self.is_alive() and not ignored.is_set() and time.monotonic() < until:
                    self.join(0.05)
        finally:
            sys.unraisablehook = before
