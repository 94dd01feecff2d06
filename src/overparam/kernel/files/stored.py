"""A kernel matrix on the disk: a Zarr array, a chunk a tile, and the .npy file made from one.

A chunk is a file of its own that appears whole or not at all, and ends with its CRC-32C. So the
array itself says which tiles are there: those whose chunks can be read. Which kernel it holds is in
its attributes; for a .npy file, in a .npy.json beside it.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.lib import format as npy

from overparam.errors import InputError
from overparam.files import write_whole
from overparam.kernel.tiles import Tile, TiledKernel, Tiling

SUFFIXES = (".npy", ".zarr")

ARRAY = "kernel.zarr"
"""The unfinished matrix, in the folder of the unfinished file."""


def require_suffix(path: Path) -> None:
    """Check the ending of a file's name.

    Raises:
        InputError: It is neither .npy nor .zarr.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} must end in {' or '.join(SUFFIXES)}")


class StoredKernel:
    """The matrix as far as it has been written, in an open Zarr array.

    Args:
        path: The array, made by :meth:`create`.
        kernel: What it must hold.
        tiling: How it must be cut.

    Raises:
        InputError: It is the array of something else, or none: it is damaged.
    """

    def __init__(self, path: Path, kernel: TiledKernel, tiling: Tiling) -> None:
        import zarr

        try:
            # Chunks of zeros are tiles, too.
            self.array: Any = zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged (its zarr.json cannot be read)") from error
        found = self.array.shape, self.array.chunks, self.array.dtype
        if found != (kernel.shape, _chunk(tiling), kernel.dtype):
            raise InputError(f"{path} is damaged (its zarr.json is of another array)")
        self.path, self.tiling = path, tiling

    @staticmethod
    def create(path: Path, kernel: TiledKernel, tiling: Tiling, job: dict[str, Any]) -> None:
        """Make an array without a tile; what has not been written reads as NaN."""
        import zarr
        from zarr.codecs import Crc32cCodec

        zarr.create_array(
            path,
            shape=kernel.shape,
            chunks=_chunk(tiling),
            dtype=kernel.dtype,
            fill_value=math.nan,
            compressors=Crc32cCodec(),
            attributes={"overparam": job},
        )

    def write(self, tile: Tile, values: Float[np.ndarray, "r c"]) -> None:
        """Write a tile, and its mirror image where the matrix is symmetric."""
        for place, part in zip(self._places(tile), (values, values.T), strict=False):
            self.array[place] = np.ascontiguousarray(part)

    def missing(self, tiles: list[Tile]) -> tuple[list[Tile], int]:
        """The tiles that are not there, and how many of them are damaged: those are removed."""
        missing, damaged = [], 0
        for tile in tiles:
            chunks = [self._chunk_file(place) for place in self._places(tile)]
            there = [chunk.exists() for chunk in chunks]
            if all(there) and self._is_sound(tile):
                continue
            missing.append(tile)
            damaged += all(there)
            for chunk in chunks:
                chunk.unlink(missing_ok=True)
        return missing, damaged

    def is_whole(self) -> bool:
        """Whether the chunks of all tiles are there."""
        tiles = self.tiling.tiles
        return all(self._chunk_file(place).exists() for t in tiles for place in self._places(t))

    def finish(self, to: Path, job: dict[str, Any]) -> None:
        """Give the whole matrix its name, or make a .npy file of that name from it."""
        result = self.path.with_suffix(to.suffix)
        if to.suffix == ".npy":
            self._export(result)
        for file in content_files(result):
            with file.open("rb") as open_file:
                os.fsync(open_file.fileno())
        job = job | {"sha256": digest_of(result)}
        if to.suffix == ".npy":
            write_whole(_beside(to), json.dumps(job, indent=2).encode())
        else:
            self.array.attrs["overparam"] = job
        result.replace(to)

    def _export(self, path: Path) -> None:
        """Tile by tile, at offsets: a full disk kills the process that writes to a memory map."""
        with path.open("wb") as file:
            header = {
                "descr": npy.dtype_to_descr(self.array.dtype),
                "fortran_order": False,
                "shape": self.array.shape,
            }
            npy.write_array_header_1_0(file, header)
            start, width, size = file.tell(), self.array.shape[1], self.array.dtype.itemsize
            for tile in self.tiling.tiles:
                for rows, columns in self._places(tile):
                    values = self.array[rows, columns]
                    for row, line in enumerate(values, start=rows.start):
                        file.seek(start + (row * width + columns.start) * size)
                        file.write(line.data)

    def _is_sound(self, tile: Tile) -> bool:
        try:
            for place in self._places(tile):
                self.array[place]
        except (OSError, ValueError):  # of another length, or with another checksum
            return False
        return True

    def _places(self, tile: Tile) -> list[tuple[slice, slice]]:
        """Where a tile is in the matrix, and where its mirror image."""
        rows, columns = self.tiling.entries(tile)
        return [(rows, columns), (columns, rows)][: 1 + self.tiling.mirrored(tile)]

    def _chunk_file(self, place: tuple[slice, slice]) -> Path:
        numbers = (p.start // side for p, side in zip(place, self.array.chunks, strict=True))
        return self.path.joinpath("c", *map(str, numbers))


def stored_bytes(kernel: TiledKernel, tiling: Tiling) -> int:
    """Bytes of a whole Zarr array: chunks at the edge are of full size, each has a checksum."""
    (n1, n2), (c1, c2) = kernel.shape, _chunk(tiling)
    return -(-n1 // c1) * -(-n2 // c2) * (c1 * c2 * kernel.dtype.itemsize + 4)


def content_files(path: Path) -> list[Path]:
    """The files that hold the entries: the .npy file, or the chunks of a Zarr array."""
    return [path] if path.suffix == ".npy" else sorted(f for f in _under(path) if f.is_file())


def digest_of(path: Path) -> str:
    """SHA-256 of a .npy file, or of the chunks of a Zarr array one after the other, by name."""
    state = hashlib.sha256()
    for file in content_files(path):
        with file.open("rb") as content:
            while part := content.read(2**20):
                state.update(part)
    return state.hexdigest()


def stored_job(path: Path) -> dict[str, Any] | None:
    """What a file says it holds; None if it does not say."""
    import zarr

    try:
        if path.suffix == ".npy":
            job = json.loads(_beside(path).read_bytes())
        else:
            job = zarr.open_array(path, mode="r").attrs["overparam"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return job if isinstance(job, dict) and job else None


def remove(path: Path) -> None:
    """Delete a file, finished or not, or whatever has its name but a folder of something else.

    Raises:
        InputError: It is such a folder.
    """
    ours = (path / "zarr.json").exists() or (path / ARRAY).exists()
    if path.is_dir() and not ours and any(path.iterdir()):
        raise InputError(f"{path} is a folder and no Zarr array: name another file")
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if path.suffix == ".npy":
        _beside(path).unlink(missing_ok=True)


def remove_unfinished_chunks(path: Path) -> None:
    """Delete what Zarr was writing when it was killed: a chunk gets its name when it is whole."""
    for file in _under(path):
        if file.suffix == ".partial":
            file.unlink()


def _under(path: Path) -> Iterator[Path]:
    return (path / "c").rglob("*")


def _chunk(tiling: Tiling) -> tuple[int, int]:
    return tiling.side1 * tiling.outputs, tiling.side2 * tiling.outputs


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")
