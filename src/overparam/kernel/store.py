"""Kernel matrices in files: computed tile by tile, resumable, by one process or several.

While ``K.npy`` is being written there is a folder ``K.npy.partial`` with

    job.json        which kernel this is, and how it is cut
    kernel.npy      the matrix so far (``kernel.zarr`` for a Zarr array)
    tiles-0.txt     the journal of process 0: tile and checksum, a line a tile (tiles-1.txt, ...)

and when all tiles are there, the matrix is moved to its name and the folder goes. The same call
continues after a kill at any moment, and the bytes are those of a run that was never interrupted.
A file of another job is never touched unless the caller says so.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from overparam.errors import InputError
from overparam.files import prepare_folder, write_whole
from overparam.kernel import finished, journal
from overparam.kernel.job import differences
from overparam.kernel.memory import WORKING_MEMORY, readable
from overparam.kernel.targets import (
    Layout,
    Target,
    file_errors,
    require_room,
    target_for,
)
from overparam.kernel.tiles import (
    TILE_ROWS,
    Tile,
    TiledKernel,
    Tiling,
    computed,
    largest_side,
)
from overparam.progress import Progress

T = TypeVar("T")

COPIES = 2
"""Tiles on the host beside those on the device: one on its way to the file, and its transpose."""

POLL = 0.05
"""Seconds between two looks at what the other processes have done."""


@dataclass(frozen=True)
class KernelFile:
    """A kernel in a file.

    Attributes:
        path: The file.
        shape: Of the matrix.
        dtype: ``float32`` or ``float64``.
        block: Points on a tile's side; a Zarr array's chunks are these times the outputs.
        tiles: Tiles in all; of a symmetric kernel those on and below the diagonal.
        computed: Tiles this process computed in this call; 0 if the file was there already.
        damaged: Tiles found on the disk with another checksum than recorded, and computed again.
    """

    path: Path
    shape: tuple[int, int]
    dtype: str
    block: tuple[int, int]
    tiles: int
    computed: int = 0
    damaged: int = 0


def write_kernel(
    kernel: TiledKernel,
    path: str | os.PathLike[str],
    *,
    block: int | None = None,
    memory: int = WORKING_MEMORY,
    overwrite: bool = False,
    devices: Sequence[jax.Device] | None = None,
    progress: Progress | None = None,
) -> KernelFile:
    """Compute a kernel into a .npy file or a Zarr array, or go on where an earlier call stopped.

    In a program that called ``jax.distributed.initialize``, every process makes this call: each
    computes its share of the tiles, and it returns when the whole file is there.

    Args:
        kernel: An ``EmpiricalKernel`` or ``InfiniteKernel``.
        path: Ends in .npy or .zarr.
        block: Points on a tile's side. None takes that of the file begun, else the largest of at
            most 1,024 rows that the memory allows.
        memory: Bytes for tiles and what they are made from, on each device, beyond the points, the
            parameters and what the interpreter and JAX hold themselves.
        overwrite: Whether files of another job, or damaged ones, may be deleted.
        devices: This process's devices to use; all of them by default.
        progress: Called with (tiles done, tiles in all) of this process, after every tile.

    Returns:
        Where the kernel is, and what was computed.

    Raises:
        InputError: The memory or the disk does not suffice, another job's file is in the way, the
            unfinished file is damaged or being written by another process, or one of several
            processes has stopped.
    """
    path = Path(path)
    kind = target_for(path)
    chosen = tuple(jax.local_devices() if devices is None else devices)
    if not chosen:
        raise InputError("devices is empty: name one at least, or leave it out")
    number = jax.process_index()
    with file_errors(path):
        prepare_folder(path.parent)
        found = _together(lambda: _look(kernel, path, kind, block, memory, overwrite))
        if found.complete:
            shutil.rmtree(found.partial, ignore_errors=True)
            return _result(found)
        _together(lambda: _prepare(found) if number == 0 else None)
        record = _together(lambda: journal.Journal(found.partial, number))
        try:
            return _Run(kernel, found, memory, chosen, record, progress).complete()
        finally:
            record.close()


@dataclass(frozen=True)
class _Found:
    """What there is, and what there should be.

    Attributes:
        path: The file asked for.
        kind: Of which kind it is.
        tiling: How the kernel is cut.
        job: What ``job.json`` says.
        layout: What the file holds.
        complete: Whether the file is there already.
        delete: Files in the way that the caller gave up.
    """

    path: Path
    kind: type[Target]
    tiling: Tiling
    job: dict[str, Any]
    layout: Layout
    complete: bool
    delete: tuple[Path, ...]

    @property
    def partial(self) -> Path:
        return _partial(self.path)

    @property
    def data(self) -> Path:
        return self.partial / f"kernel{self.kind.suffix}"


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _look(
    kernel: TiledKernel,
    path: Path,
    kind: type[Target],
    block: int | None,
    memory: int,
    overwrite: bool,
) -> _Found:
    """Compare what is on the disk with what is asked for; changes nothing."""
    if block is not None and (type(block) is not int or block < 1):
        raise InputError(f"block must be a positive whole number of points, not {block!r}")
    wanted = _identity(kernel)
    cut: list[int] | None = None
    complete, delete = False, []
    for place in (_partial(path), path):
        if not os.path.lexists(place):
            continue
        begun = place != path
        job = _begun_job(place) if begun else kind.job(place)
        complaint = _complaint(place, job, wanted, block, kernel)
        if complaint is None:
            look = _damage if begun else _change
            complaint = look(place, kind, job, kernel)
        if complaint is None:
            cut, complete = (job or {}).get("block"), not begun
        elif overwrite:
            delete.append(place)
        else:
            raise InputError(f"{complaint}, or overwrite it (overwrite=True, --overwrite)")
    tiling = _tiling(kernel, block, memory, cut, complete)
    full = wanted | {"block": [tiling.side1, tiling.side2]}
    return _Found(path, kind, tiling, full, _layout(kernel, tiling), complete, tuple(delete))


def _layout(kernel: TiledKernel, tiling: Tiling) -> Layout:
    k = tiling.outputs
    return Layout(kernel.shape, kernel.dtype, (tiling.side1 * k, tiling.side2 * k))


def _identity(kernel: TiledKernel) -> dict[str, Any]:
    layout = {"outputs": kernel.outputs, "order": "sample-major", "shape": list(kernel.shape)}
    return {"format": 1} | kernel.describe() | layout


def _begun_job(folder: Path) -> dict[str, Any] | None:
    """What an unfinished file's folder says; {} if its writer was killed before that."""
    path = folder / "job.json"
    try:
        if not path.exists() and all(entry.suffix == ".part" for entry in folder.iterdir()):
            return {}
        job = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return job if isinstance(job, dict) and job else None


def _complaint(
    place: Path,
    job: dict[str, Any] | None,
    wanted: dict[str, Any],
    block: int | None,
    kernel: TiledKernel,
) -> str | None:
    """Why a file cannot be continued or taken as the result; None if it can."""
    if job == {}:
        return None
    if job is None and place.suffix == ".partial":
        return f"{place} is damaged (its job.json cannot be read): delete it to begin anew"
    if job is None:
        return f"{place} exists, and does not say which kernel it holds: name another file"
    beside = ("block", finished.RECORD)
    other = differences({key: job[key] for key in job if key not in beside}, wanted)
    cut = job.get("block")
    if not other and not _is_cut(cut, kernel):
        return f"{place} is damaged (its block is {cut!r}): delete it to begin anew"
    if not other and block is not None and cut != [min(block, kernel.n1), min(block, kernel.n2)]:
        other = ["block"]
    if not other:
        return None
    return (
        f"{place} is of another job (it differs in {', '.join(other)}): name another file, repeat "
        "that job"
    )


def _damage(
    folder: Path, kind: type[Target], job: dict[str, Any] | None, kernel: TiledKernel
) -> str | None:
    """What is wrong with the unfinished matrix itself, as far as its frame shows."""
    data = folder / f"kernel{kind.suffix}"
    if not job or not data.exists():
        return None
    tiling = kernel.cut(*job["block"])
    try:
        kind(data, _layout(kernel, tiling)).close()
    except InputError as error:
        return f"{error}: delete {folder} to begin anew"
    return None


def _change(
    place: Path, kind: type[Target], job: dict[str, Any] | None, kernel: TiledKernel
) -> str | None:
    """Whether a finished file holds something else by now than it was finished with."""
    job = job or {}
    tiling = kernel.cut(*job["block"])
    layout = _layout(kernel, tiling)
    if finished.is_unchanged(kind, place, layout, tiling, job.get(finished.RECORD)):
        return None
    return f"{place} was changed or replaced since this kernel was written: name another file"


def _is_cut(cut: Any, kernel: TiledKernel) -> bool:
    return (
        isinstance(cut, list)
        and len(cut) == 2
        and all(type(side) is int for side in cut)
        and 1 <= cut[0] <= kernel.n1
        and 1 <= cut[1] <= kernel.n2
        and (cut[0] == cut[1] or not kernel.symmetric)
    )


def _tiling(
    kernel: TiledKernel, block: int | None, memory: int, cut: list[int] | None, complete: bool
) -> Tiling:
    """How to cut the kernel: as before, as asked for, or as the memory allows."""
    longest = max(kernel.n1, kernel.n2)
    if cut is not None:
        tiling = kernel.cut(*cut)
    elif block is not None:
        tiling = kernel.tiling(block)
    else:
        most = min(longest, max(1, TILE_ROWS // kernel.outputs))
        side = largest_side(lambda side: _needed(kernel, side), memory, most)
        tiling = kernel.even_tiling(max(1, side))
    side = max(tiling.side1, tiling.side2)
    needed = _needed(kernel, side)
    if needed <= memory or complete:
        return tiling
    fits = largest_side(lambda side: _needed(kernel, side), memory, longest)
    smaller = f", or take a block of {fits} or fewer" if fits and cut is None else ""
    raise InputError(
        f"a memory of {readable(memory)} is too small: tiles of {side} by {side} points need "
        f"{readable(needed)}: raise it{smaller}"
    )


def _needed(kernel: TiledKernel, side: int) -> int:
    return kernel.working_bytes(side) + _copies(kernel, side)


def _copies(kernel: TiledKernel, side: int) -> int:
    return COPIES * (side * kernel.outputs) ** 2 * kernel.dtype.itemsize


def _prepare(found: _Found) -> None:
    """Make the folder with the job and the empty file, as far as they are missing."""
    for place in found.delete:
        if place == found.partial:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        else:
            found.kind.remove(place)
    found.partial.mkdir(exist_ok=True)
    if not (found.partial / "job.json").exists():
        write_whole(found.partial / "job.json", json.dumps(found.job, indent=2).encode())
    if not found.data.exists():
        found.kind.create(found.data, found.layout, found.job)
    require_room(found.kind, found.data, found.layout)
    journal.forget_finished(found.partial)


class _Run:
    """One process's part of the work."""

    def __init__(
        self,
        kernel: TiledKernel,
        found: _Found,
        memory: int,
        devices: tuple[jax.Device, ...],
        record: journal.Journal,
        progress: Progress | None,
    ) -> None:
        self.kernel, self.found, self.memory, self.devices = kernel, found, memory, devices
        self.record, self.progress, self.tiling = record, progress, found.tiling
        self.number, self.count = jax.process_index(), jax.process_count()

    def complete(self) -> KernelFile:
        """Write this process's tiles, wait for the others, and give the file its name."""
        found = self.found
        target = found.kind(found.data, found.layout)
        try:
            result, sums = self._write(target)
            target.flush()
        finally:
            target.close()
        journal.mark_finished(found.partial, self.number, sums)
        if self.number == 0:
            self._wait(lambda: not journal.unfinished(found.partial, range(self.count)))
            sums = journal.finished_sums(found.partial)
            record = finished.record(found.kind, found.data, self.tiling, sums)
            found.kind.move(found.data, found.path, found.job | {finished.RECORD: record})
            shutil.rmtree(found.partial)
        else:
            self._wait(found.path.exists)
        return result

    def _write(self, target: Target) -> tuple[KernelFile, dict[Tile, int]]:
        """Write what is missing of this process's share; and the checksums of all of it."""
        mine = journal.share(self.tiling.tiles, self.number, self.count)
        written = journal.recorded(self.found.partial, self.tiling)
        sums: dict[Tile, int] = {}
        for tile in mine:
            found = finished.sound_sum(target, self.tiling, tile, written.get(tile, set()))
            if found is not None:
                sums[tile] = found
        damaged = sum(tile in written for tile in mine) - len(sums)
        left = [tile for tile in mine if tile not in sums]
        done, total = len(sums), len(mine)
        self._say(done, total)
        side = max(self.tiling.side1, self.tiling.side2)
        working = self.memory - _copies(self.kernel, side)
        computer = self.kernel.computer(self.tiling, working, self.devices)
        for tile, values in computed(self.tiling, left, computer):
            rows, columns = self.tiling.entries(tile)
            values = np.ascontiguousarray(values)
            target.write(rows, columns, values)
            if self.tiling.mirrored(tile):
                target.write(columns, rows, values.T)
            sums[tile] = journal.checksum(values)
            self.record.add(tile, sums[tile])
            done += 1
            self._say(done, total)
        return _result(self.found, len(left), damaged), sums

    def _say(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)

    def _wait(self, over: Callable[[], bool]) -> None:
        """Until the other processes are done.

        Raises:
            InputError: One of them has stopped before.
        """
        while not over():
            time.sleep(POLL)
            for other in journal.unfinished(self.found.partial, range(self.count)):
                stopped = not journal.is_at_work(self.found.partial, other)
                if stopped and journal.unfinished(self.found.partial, [other]) and not over():
                    raise InputError(
                        f"process {other} of {self.count} has stopped before its share of "
                        f"{self.found.path} was written: start all of them again, they continue"
                    )


def _together(action: Callable[[], T]) -> T:
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


def _result(found: _Found, computed: int = 0, damaged: int = 0) -> KernelFile:
    return KernelFile(
        found.path,
        found.layout.shape,
        found.layout.dtype.name,
        (found.tiling.side1, found.tiling.side2),
        len(found.tiling.tiles),
        computed,
        damaged,
    )
