"""Two pieces of work at the same time, in one process.

While XLA compiles or computes, and while NumPy draws or multiplies, Python's lock is free: a second
piece of work then goes on. Both get their results as if they had run one after the other.
"""

import ctypes
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def side_by_side(here: Callable[[], A], there: Callable[[], B]) -> tuple[A, B]:
    """Both results; ``there`` runs in a thread of its own.

    Raises:
        BaseException: What either raised, ``here`` first. The other does not go on in vain: a
            thread is interrupted, where Python runs next in it.
    """
    other = _Thread(there)
    other.start()
    try:
        first = here()
    except BaseException:
        other.interrupt()
        raise
    return first, other.result()


class _Thread(threading.Thread, Generic[B]):
    """A thread that keeps what its work returned or raised."""

    def __init__(self, work: Callable[[], B]) -> None:
        super().__init__(name="side by side")
        self.work = work
        self.returned: list[B] = []
        self.raised: BaseException | None = None

    def run(self) -> None:
        try:
            self.returned.append(self.work())
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
        """End it where Python runs next in it, and wait for that."""
        while self.is_alive():
            identity = ctypes.c_ulong(self.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(SystemExit))
            self.join(0.1)
