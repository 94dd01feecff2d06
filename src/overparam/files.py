"""Writing files so that each appears whole or not at all; reading those of strangers."""

import io
import os
import shutil
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile

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
def written_together(folder: Path, replaces: Collection[str] = ()) -> Iterator[Path]:
    """A temporary folder whose files appear in ``folder`` together, when all of them are written.

    A disk that fills, or an interruption, leaves ``folder`` as it was: no certificate without the
    parameters it is about, and none beside those of an earlier run.

    Args:
        folder: An existing folder.
        replaces: Names of files that belong together: of an earlier run, those that are not
            written this time are removed.

    Yields:
        Where to write them. Certificates, first by name, are moved last.

    Raises:
        InputError: They cannot be written or moved.
    """
    temporary = folder / f"results.{os.getpid()}.part"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for name in set(replaces) - {path.name for path in temporary.iterdir()}:
            (folder / name).unlink(missing_ok=True)
        for path in sorted(temporary.iterdir(), reverse=True):
            path.replace(folder / path.name)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def text_bytes(text: str) -> bytes:
    """UTF-8; what is no character, in a file's name, is spelled out."""
    return text.encode("utf-8", "backslashreplace")


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


@contextmanager
def open_npz(path: Path) -> Iterator[NpzFile]:
    """An .npz archive of plain arrays: pickled objects, which could run any code, are refused.

    Raises:
        InputError: It cannot be read, is no archive, or is damaged, which may show only as its
            arrays are read.
    """
    with open_regular(path) as file:
        try:
            # NumPy leaves a file that it opened itself open when it is not an archive.
            with np.load(file, allow_pickle=False) as archive:
                yield archive
        except InputError:
            raise
        except Exception as error:  # of nearly any kind, depending on the byte that is damaged
            if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
                raise InputError(
                    f"{path} holds pickled objects, which are not read because that could run any "
                    "code: save plain arrays of numbers"
                ) from error
            raise InputError(
                f"{path} is damaged or no .npz file: save it again, np.savez(path, ...)"
            ) from error


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
