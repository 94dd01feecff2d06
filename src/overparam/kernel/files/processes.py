"""Processes that write one kernel together: each has a lock while it is at work on its share.

The lock file of a process is there from its start until its share is written. So who waits for it
knows: a file that is gone means done, a file that nobody holds means that the process has stopped.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from overparam.errors import InputError

try:
    import fcntl
except ImportError:  # not a Unix: nobody is told of a second process on the same file
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

POLL = 0.05
"""Seconds between two looks at what the other processes have done."""


def together(action: Callable[[], T]) -> T:
    """Act, and go on only when all processes have done so, and none failed."""
    if jax.process_count() == 1:
        return action()
    try:
        result, failure = action(), None
    except (InputError, OSError) as error:
        result, failure = None, error
    fine = np.all(multihost_utils.process_allgather(np.array(failure is None)))
    if failure is not None:
        raise failure
    if not fine:
        raise InputError("another process of this job cannot go on; its message says why")
    return cast(T, result)


def share(tiles: list, number: int, count: int) -> list:
    """A process's tiles: as many as any other's, and next to each other."""
    return tiles[number * len(tiles) // count : (number + 1) * len(tiles) // count]


@contextmanager
def at_work(folder: Path, number: int) -> Iterator[None]:
    """Hold the lock of a process; its file goes if the work ends well.

    Raises:
        InputError: Another process has it.
    """
    path = _lock_file(folder, number)
    with path.open("ab") as file:
        if not _lock(file):
            raise InputError(
                f"another process is at work on {folder}: wait for it, or name another file"
            )
        yield
        path.unlink(missing_ok=True)


def wait_for(folder: Path, numbers: Iterable[int]) -> None:
    """Wait until other processes have written their shares.

    Raises:
        InputError: One of them has stopped before.
    """
    for number in numbers:
        path = _lock_file(folder, number)
        while path.exists():
            if not _is_held(path) and path.exists():
                raise InputError(
                    f"process {number} of {jax.process_count()} has stopped before its share in "
                    f"{folder} was written: start all of them again, they continue"
                )
            time.sleep(POLL)


def _lock_file(folder: Path, number: int) -> Path:
    return folder / f"process-{number}.lock"


def _is_held(path: Path) -> bool:
    """Whether a process holds a lock; True where the system cannot tell."""
    try:
        with path.open("rb") as file:
            return fcntl is None or not _lock(file)
    except OSError:
        return False


def _lock(file: IO[bytes]) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
