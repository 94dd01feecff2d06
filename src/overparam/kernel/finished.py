"""What a finished kernel file held when it was finished, so that another array is not taken for it.

The file's description ends with a record: bytes, the time of the last change, and the tiles'
checksums. As long as size and time are as recorded, a few tiles are read and compared; else (the
file was copied, or somebody wrote to it) all of them are. Only the latter costs what reading costs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overparam.errors import InputError
from overparam.kernel import journal
from overparam.kernel.targets import Layout, Target
from overparam.kernel.tiles import Tile, Tiling

RECORD = "contents"
"""Its key in the description."""

SAMPLE = 4
"""Tiles compared, about, where nothing seems to have changed."""


def record(kind: type[Target], path: Path, tiling: Tiling, sums: Mapping[Tile, int]) -> dict:
    """The record of a matrix all of whose tiles have been written."""
    size, modified = kind.stamp(path)
    checksums = [sums[tile] for tile in tiling.tiles]
    return {"bytes": size, "modified": modified, "checksums": checksums}


def is_unchanged(
    kind: type[Target], path: Path, layout: Layout, tiling: Tiling, found: Any
) -> bool:
    """Whether a finished file still holds what its record says.

    Args:
        kind: Of which kind it is.
        path: The file.
        layout: What it should hold.
        tiling: How the kernel is cut.
        found: The record, as read.
    """
    tiles = tiling.tiles
    try:
        checksums = dict(zip(tiles, found["checksums"], strict=True))
        if kind.stamp(path) == (found["bytes"], found["modified"]):
            tiles = tiles[:: -(-len(tiles) // SAMPLE)]
        target = kind(path, layout, writable=False)
    except (InputError, KeyError, TypeError, ValueError):
        return False
    try:
        return all(sound_sum(target, tiling, tile, {checksums[tile]}) is not None for tile in tiles)
    finally:
        target.close()


def sound_sum(target: Target, tiling: Tiling, tile: Tile, sums: set[int]) -> int | None:
    """A tile's checksum, if it and its mirror image can be read and have it, and it is allowed."""
    if not sums:
        return None
    rows, columns = tiling.entries(tile)
    values = target.read(rows, columns)
    total = None if values is None else journal.checksum(values)
    if total not in sums:
        return None
    if tiling.mirrored(tile):
        mirror = target.read(columns, rows)
        if mirror is None or journal.checksum(mirror.T) != total:
            return None
    return total
