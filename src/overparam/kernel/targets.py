"""Files that a kernel is written to tile by tile: .npy and Zarr.

Both take blocks of rows and columns in any order, and give them back. Neither holds more than a
tile in memory: the .npy file is written at offsets rather than mapped, because a mapped file counts
as memory, and a full disk kills the process that writes to a mapping, while a write reports it.
"""

import errno
import io
import json
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy

from overparam.errors import InputError
from overparam.files import write_whole
from overparam.kernel.memory import readable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Layout(NamedTuple):
    """What a file holds: its shape, its dtype, and the rows and columns of a tile."""

    shape: tuple[int, int]
    dtype: np.dtype
    chunk: tuple[int, int]


class Target(ABC):
    """A matrix in an open file.

    Args:
        path: The file, made by :meth:`create`.
        layout: What it must hold.
        writable: Whether it will be written to.

    Raises:
        InputError: It holds something else: it is damaged.
    """

    suffix: str

    @abstractmethod
    def __init__(self, path: Path, layout: Layout, writable: bool = True) -> None: ...

    @staticmethod
    @abstractmethod
    def create(path: Path, layout: Layout, job: dict[str, Any]) -> None:
        """Make a file of zeros, whole or not at all."""

    @staticmethod
    @abstractmethod
    def job(path: Path) -> dict[str, Any] | None:
        """What a finished file says it holds; None if it does not say, or says otherwise."""

    @staticmethod
    @abstractmethod
    def stamp(path: Path) -> tuple[int, int]:
        """Bytes of the entries' files, and when the last of them changed, in ns since 1970."""

    @staticmethod
    @abstractmethod
    def stored_bytes(path: Path) -> int:
        """Bytes that have their place on the disk already."""

    @staticmethod
    @abstractmethod
    def total_bytes(layout: Layout) -> int:
        """Bytes of the finished file."""

    @staticmethod
    @abstractmethod
    def allocate(path: Path) -> None:
        """Claim the disk space, where the system can."""

    @staticmethod
    @abstractmethod
    def move(path: Path, to: Path, job: dict[str, Any]) -> None:
        """Give a finished file its name."""

    @staticmethod
    @abstractmethod
    def remove(path: Path) -> None:
        """Delete a finished file."""

    @abstractmethod
    def write(self, rows: slice, columns: slice, values: Float[np.ndarray, "r c"]) -> None:
        """Put a tile into its place."""

    @abstractmethod
    def read(self, rows: slice, columns: slice) -> Float[np.ndarray, "r c"] | None:
        """A tile; None if it cannot be read."""

    @abstractmethod
    def flush(self) -> None:
        """Wait until everything is on the disk."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the system lent."""


class _NpyFile(Target):
    """A .npy file in C order, with a .npy.json beside it that says what it holds."""

    suffix = ".npy"

    def __init__(self, path: Path, layout: Layout, writable: bool = True) -> None:
        self.layout = layout
        self.start = _npy_start(path, layout)
        self.file: io.FileIO = io.FileIO(path, "r+b" if writable else "rb")

    @staticmethod
    def create(path: Path, layout: Layout, job: dict[str, Any]) -> None:
        begun = path.with_name(path.name + ".new")
        with begun.open("wb") as file:
            header = {
                "descr": npy.dtype_to_descr(layout.dtype),
                "fortran_order": False,
                "shape": layout.shape,
            }
            npy.write_array_header_1_0(file, header)
            file.truncate(file.tell() + math.prod(layout.shape) * layout.dtype.itemsize)
        begun.replace(path)

    @staticmethod
    def job(path: Path) -> dict[str, Any] | None:
        try:
            job = json.loads(_beside(path).read_bytes())
            found = np.load(path, mmap_mode="r")
            same = list(found.shape) == job["shape"] and found.dtype.name == job["dtype"]
            return job if same else None
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None

    @staticmethod
    def stamp(path: Path) -> tuple[int, int]:
        found = path.stat()
        return found.st_size, found.st_mtime_ns

    @staticmethod
    def stored_bytes(path: Path) -> int:
        found = path.stat()
        return getattr(found, "st_blocks", 0) * 512

    @staticmethod
    def total_bytes(layout: Layout) -> int:
        return math.prod(layout.shape) * layout.dtype.itemsize

    @staticmethod
    def allocate(path: Path) -> None:
        if not hasattr(os, "posix_fallocate"):
            return
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in FULL:
                    raise  # anything else: this file system cannot

    @staticmethod
    def move(path: Path, to: Path, job: dict[str, Any]) -> None:
        write_whole(_beside(to), json.dumps(job, indent=2).encode())
        path.replace(to)

    @staticmethod
    def remove(path: Path) -> None:
        path.unlink(missing_ok=True)
        _beside(path).unlink(missing_ok=True)

    def write(self, rows: slice, columns: slice, values: Float[np.ndarray, "r c"]) -> None:
        lines = zip(self._offsets(rows, columns), np.ascontiguousarray(values), strict=True)
        for offset, line in lines:
            self.file.seek(offset)
            left = memoryview(line).cast("B")
            while left:
                left = left[self.file.write(left) :]

    def read(self, rows: slice, columns: slice) -> Float[np.ndarray, "r c"] | None:
        shape = rows.stop - rows.start, columns.stop - columns.start
        values = np.empty(shape, self.layout.dtype)
        for offset, line in zip(self._offsets(rows, columns), values, strict=True):
            self.file.seek(offset)
            if self.file.readinto(memoryview(line).cast("B")) != line.nbytes:
                return None
        return values

    def flush(self) -> None:
        os.fsync(self.file.fileno())

    def close(self) -> None:
        self.file.close()

    def _offsets(self, rows: slice, columns: slice) -> Iterator[int]:
        width, size = self.layout.shape[1], self.layout.dtype.itemsize
        return (
            self.start + (row * width + columns.start) * size
            for row in range(rows.start, rows.stop)
        )


class _ZarrArray(Target):
    """A Zarr array, uncompressed, one chunk a tile; its attributes say what it holds."""

    suffix = ".zarr"

    def __init__(self, path: Path, layout: Layout, writable: bool = True) -> None:
        import zarr

        mode: Any = "r+" if writable else "r"
        try:
            array = zarr.open_array(str(path), mode=mode, config={"write_empty_chunks": True})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged (its zarr.json cannot be read)") from error
        if (array.shape, array.dtype, array.chunks) != layout:
            raise InputError(f"{path} is damaged (its zarr.json is of another array)")
        self.array, self.path = array, path

    @staticmethod
    def create(path: Path, layout: Layout, job: dict[str, Any]) -> None:
        import zarr

        begun = path.with_name(path.name + ".new")
        zarr.create_array(
            str(begun),
            shape=layout.shape,
            chunks=layout.chunk,
            dtype=layout.dtype,
            fill_value=0.0,
            compressors=None,
            attributes={"overparam": job},
            overwrite=True,
        )
        begun.replace(path)

    @staticmethod
    def job(path: Path) -> dict[str, Any] | None:
        import zarr

        try:
            array = zarr.open_array(str(path), mode="r")
            job: Any = array.attrs["overparam"]
            same = list(array.shape) == job["shape"] and array.dtype.name == job["dtype"]
            return job if same else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @staticmethod
    def stamp(path: Path) -> tuple[int, int]:
        chunks = [file.stat() for file in (path / "c").rglob("*") if file.is_file()]
        latest = max((chunk.st_mtime_ns for chunk in chunks), default=0)
        return sum(chunk.st_size for chunk in chunks), latest

    @staticmethod
    def stored_bytes(path: Path) -> int:
        return _ZarrArray.stamp(path)[0]

    @staticmethod
    def total_bytes(layout: Layout) -> int:
        (n1, n2), (c1, c2) = layout.shape, layout.chunk
        return -(-n1 // c1) * -(-n2 // c2) * c1 * c2 * layout.dtype.itemsize

    @staticmethod
    def allocate(path: Path) -> None:
        """Chunks are files of their own: there is nothing to claim ahead."""

    @staticmethod
    def move(path: Path, to: Path, job: dict[str, Any]) -> None:
        import zarr

        zarr.open_array(str(path), mode="r+").attrs["overparam"] = job
        path.replace(to)

    @staticmethod
    def remove(path: Path) -> None:
        if path.is_dir() and not (path / "zarr.json").exists() and any(path.iterdir()):
            raise InputError(f"{path} is a folder and no Zarr array: name another file")
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def write(self, rows: slice, columns: slice, values: Float[np.ndarray, "r c"]) -> None:
        self.array[rows, columns] = np.ascontiguousarray(values)

    def read(self, rows: slice, columns: slice) -> Float[np.ndarray, "r c"] | None:
        try:
            return np.asarray(self.array[rows, columns])
        except (OSError, ValueError):
            return None

    def flush(self) -> None:
        for chunk in (self.path / "c").rglob("*"):
            if chunk.is_file():
                with chunk.open("rb") as file:
                    os.fsync(file.fileno())

    def close(self) -> None:
        """Every chunk was closed when it was written."""


TARGETS: dict[str, type[Target]] = {kind.suffix: kind for kind in (_NpyFile, _ZarrArray)}


def target_for(path: Path) -> type[Target]:
    """The kind of file that a name's ending asks for.

    Raises:
        InputError: It is none of them.
    """
    kind = TARGETS.get(path.suffix)
    if kind is None:
        raise InputError(f"{path} must end in {' or '.join(TARGETS)}")
    return kind


def require_room(kind: type[Target], path: Path, layout: Layout) -> None:
    """Find out before any work that the disk is too small, and claim the space.

    Raises:
        InputError: It is; the message says what is needed.
    """
    missing = kind.total_bytes(layout) - kind.stored_bytes(path)
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise InputError(
            f"{path} needs {readable(missing)} more on a disk with {readable(free)} free: make "
            "room, or name a file on another disk"
        )
    kind.allocate(path)


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about a file into one line.

    Raises:
        InputError: The disk is full, or the file cannot be written for another reason.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno not in FULL:
            raise InputError(f"cannot write {path}: {reason}") from error
        free = ""
        with suppress(OSError):
            free = f", {readable(shutil.disk_usage(path.parent).free)} free"
        raise InputError(
            f"no room for {path} ({reason}{free}): make room, then the same command continues"
        ) from error


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _npy_start(path: Path, layout: Layout) -> int:
    """Where the entries start in a .npy file of this layout.

    Raises:
        InputError: It is damaged.
    """
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            shape, fortran, dtype = npy.read_array_header_1_0(file)
            start = file.tell()
    except ValueError as error:
        raise InputError(f"{path} is damaged (its header cannot be read)") from error
    if version != (1, 0) or (shape, fortran, dtype) != (layout.shape, False, layout.dtype):
        raise InputError(f"{path} is damaged (its header is of another array)")
    size, whole = path.stat().st_size, start + _NpyFile.total_bytes(layout)
    if size != whole:
        raise InputError(f"{path} is damaged ({size:,} bytes long instead of {whole:,})")
    return start
