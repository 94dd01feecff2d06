"""What one process has written of a kernel: a line with a checksum after every tile.

The line follows the tile, so a process that is killed loses the tile at hand and no other. And a
line is believed only after the tile was read back and has the checksum: a line cut short, a tile
that a power failure swallowed or a flipped bit cost the work on one tile, never the result.
"""

import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from overparam.errors import InputError
from overparam.files import write_whole
from overparam.kernel.tiles import Tile, Tiling

try:
    import fcntl
except ImportError:  # not a Unix: nobody is told of a second process on the same file
    fcntl = None  # type: ignore[assignment]

_LINE = re.compile(rb"([0-9]{1,9}) ([0-9]{1,9}) ([0-9a-f]{8})")


def checksum(values: np.ndarray) -> int:
    """CRC-32 of a tile's bytes."""
    return zlib.crc32(np.ascontiguousarray(values).data)


class Journal:
    """The journal of one process, locked while it is open.

    Args:
        folder: Where the journals are.
        number: Of the process.

    Raises:
        InputError: Another process writes it.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.file = _path(folder, number).open("ab", buffering=0)
        if not _lock(self.file.fileno()):
            self.file.close()
            raise InputError(
                f"another process is at work on {folder}: wait for it, or name another file"
            )
        self.file.write(b"\n")  # ends a line that was cut short

    def add(self, tile: Tile, total: int) -> None:
        """Note a tile that has been written, with its checksum."""
        self.file.write(_line(tile, total))

    def close(self) -> None:
        """Give the lock back."""
        self.file.close()


def is_at_work(folder: Path, number: int) -> bool:
    """Whether a process holds its journal open; True where the system cannot tell."""
    try:
        with _path(folder, number).open("rb") as file:
            return fcntl is None or not _lock(file.fileno())
    except OSError:
        return False


def recorded(folder: Path, tiling: Tiling) -> dict[Tile, set[int]]:
    """The checksums that the journals of all processes, of this run and earlier ones, give."""
    known = set(tiling.tiles)
    found: dict[Tile, set[int]] = {}
    for path in sorted(folder.glob("tiles-*.txt")):
        for line in path.read_bytes().split(b"\n"):
            match = _LINE.fullmatch(line)
            tile = Tile(int(match[1]), int(match[2])) if match else None
            if match and tile in known:
                found.setdefault(tile, set()).add(int(match[3], 16))
    return found


def share(tiles: list[Tile], number: int, count: int) -> list[Tile]:
    """A process's tiles: as many as any other's, and next to each other."""
    return tiles[number * len(tiles) // count : (number + 1) * len(tiles) // count]


def forget_finished(folder: Path) -> None:
    """Remove the marks of :func:`mark_finished` of an earlier run."""
    for path in folder.glob("finished-*"):
        path.unlink()


def mark_finished(folder: Path, number: int, sums: Mapping[Tile, int]) -> None:
    """Say that a process has written its share, and with which checksums."""
    lines = b"".join(_line(tile, total) for tile, total in sums.items())
    write_whole(folder / f"finished-{number}", lines)


def finished_sums(folder: Path) -> dict[Tile, int]:
    """The checksums in the marks of :func:`mark_finished`."""
    lines = [line for path in folder.glob("finished-*") for line in path.read_bytes().split(b"\n")]
    return {
        Tile(int(match[1]), int(match[2])): int(match[3], 16)
        for match in map(_LINE.fullmatch, lines)
        if match
    }


def unfinished(folder: Path, numbers: Iterable[int]) -> list[int]:
    """The processes that have not said so."""
    return [number for number in numbers if not (folder / f"finished-{number}").exists()]


def _line(tile: Tile, total: int) -> bytes:
    return b"%d %d %08x\n" % (tile.row, tile.column, total)


def _path(folder: Path, number: int) -> Path:
    return folder / f"tiles-{number}.txt"


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
