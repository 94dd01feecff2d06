"""Writing files so that each appears whole or not at all."""

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

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
