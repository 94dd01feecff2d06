"""Writing files so that each appears whole or not at all; reading those of strangers."""

import io
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from overparam.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, so that no half-written file remains.

    Raises:
        InputError: It cannot be written; the message says why.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write it
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        _discard(temporary)


@contextmanager
def open_regular(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file for reading, if it is one: a pipe would wait, and a device may never end.

    Raises:
        InputError: It is missing, cannot be read, or is no regular file.
    """
    try:
        # Opening a pipe without this waits until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a null byte, or a lone surrogate
        raise InputError(f"cannot read {str(path)!r}: it is no file name") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"cannot read {path}: it is no regular file")
    with open(descriptor, "rb") as file:
        yield file


def read_start(path: str | os.PathLike, most: int) -> bytes:
    """A file's content, or its first ``most + 1`` bytes if it is longer.

    Raises:
        InputError: As :func:`open_regular`.
    """
    with open_regular(path) as file:
        try:
            return file.read(most + 1)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of an .npz file that holds ``arrays``."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def prepare_folder(folder: Path) -> None:
    """Create a folder for results, or find out before any work that it cannot be written.

    Raises:
        InputError: It is a file, or cannot be created or written to.
    """
    probe = folder / ".writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write to the folder {folder}: {reason}; name another") from error
    finally:
        _discard(probe)


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
