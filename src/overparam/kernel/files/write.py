"""Kernel matrices in files: computed tile by tile, resumable, by one process or several.

While ``K.npy`` is being written there is a folder ``K.npy.partial`` with the Zarr array
``kernel.zarr``: the tiles so far, and which kernel this is. When all are there, it is given its
name, or exported to the .npy file, and the folder goes. The same call continues after a kill at any
moment, and the bytes are those of a run that was never interrupted. A file of another job is never
touched unless the caller says so.
"""

import errno
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from overparam.errors import InputError
from overparam.files import prepare_folder
from overparam.kernel.files.processes import at_work, share, together, wait_for
from overparam.kernel.files.stored import (
    ARRAY,
    StoredKernel,
    content_files,
    digest_of,
    remove,
    remove_unfinished_chunks,
    require_suffix,
    stored_bytes,
    stored_job,
)
from overparam.kernel.tiles import TILE_ROWS, Tile, TiledKernel, Tiling, computed, largest_side
from overparam.limits import require_whole
from overparam.memory import WORKING_MEMORY, readable
from overparam.progress import Progress, silent

COPIES = 4
"""Tiles on the host beside those on the device: one on its way, as Zarr pads and seals it, and its
transpose."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        damaged: Tiles found on the disk with another checksum than their own, and computed again.
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
        progress: Called after every tile, with the numbers of this process's.

    Returns:
        Where the kernel is, and what was computed.

    Raises:
        InputError: The memory or the disk does not suffice, another job's file is in the way, the
            unfinished file is damaged or being written by another process, or one of several
            processes has stopped.
    """
    path = Path(path)
    require_suffix(path)
    chosen = tuple(jax.local_devices() if devices is None else devices)
    if not chosen:
        raise InputError("devices is empty: name one at least, or leave it out")
    number, count = jax.process_index(), jax.process_count()
    with _file_errors(path), ExitStack() as stack:
        prepare_folder(path.parent)
        job = together(lambda: _compare(kernel, path, block, memory, overwrite))
        if job.complete:
            shutil.rmtree(job.folder, ignore_errors=True)
            return job.result()
        together(lambda: job.prepare() if number == 0 else None)
        together(lambda: stack.enter_context(at_work(job.folder, number)))
        stored = StoredKernel(job.array, kernel, job.tiling)
        if number == 0:
            remove_unfinished_chunks(job.array)
        mine = share(job.tiling.tiles, number, count)
        left, damaged = together(lambda: stored.missing(mine))
        job.compute(stored, left, len(mine), memory, chosen, progress)
        if number == 0:
            wait_for(job.folder, range(1, count))
            job.finish(stored)
    wait_for(job.folder, [0])
    return job.result(len(left), damaged)


@dataclass(frozen=True)
class _Job:
    """A kernel to be written, and what there is of it.

    Attributes:
        kernel: What to compute.
        path: The file asked for.
        tiling: How the kernel is cut.
        complete: Whether the file is there already.
        delete: Files in the way that the caller gave up.
    """

    kernel: TiledKernel
    path: Path
    tiling: Tiling
    complete: bool
    delete: tuple[Path, ...]

    @property
    def folder(self) -> Path:
        return _partial(self.path)

    @property
    def array(self) -> Path:
        return self.folder / ARRAY

    @property
    def description(self) -> dict[str, Any]:
        return _identity(self.kernel) | {"block": [self.tiling.side1, self.tiling.side2]}

    def prepare(self) -> None:
        """Make the folder with the empty array, as far as it is missing, if there is room.

        Raises:
            InputError: The disk is too small; the message says what is needed.
        """
        for place in self.delete:
            remove(place)
        self.folder.mkdir(exist_ok=True)
        if not self.array.exists():
            StoredKernel.create(self.array, self.kernel, self.tiling, self.description)
        there = sum(file.stat().st_size for file in content_files(self.array))
        missing = stored_bytes(self.kernel, self.tiling) - there
        if self.path.suffix == ".npy":  # stands beside the array for a moment
            missing += math.prod(self.kernel.shape) * self.kernel.dtype.itemsize
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise InputError(
                f"{self.path} needs {readable(missing)} more on a disk with {readable(free)} free: "
                "make room, or name a file on another disk"
            )

    def compute(
        self,
        stored: StoredKernel,
        left: Sequence[Tile],
        total: int,
        memory: int,
        devices: tuple[jax.Device, ...],
        progress: Progress | None,
    ) -> None:
        """Write the tiles that are left of a process's share of ``total``."""
        working = memory - _copies(self.kernel, max(self.tiling.side1, self.tiling.side2))
        computer = self.kernel.computer(self.tiling, working, devices)
        done = total - len(left)
        (progress or silent)("tiles of the kernel", done, total)
        for tile, values in computed(self.tiling, left, computer):
            stored.write(tile, values)
            done += 1
            (progress or silent)("tiles of the kernel", done, total)

    def finish(self, stored: StoredKernel) -> None:
        """Give the matrix its name, once all processes have written their shares."""
        if not stored.is_whole():
            raise InputError(f"{self.folder} lost tiles while it was written: start again")
        stored.finish(self.path, self.description)
        shutil.rmtree(self.folder)

    def result(self, computed: int = 0, damaged: int = 0) -> KernelFile:
        tiling, kernel = self.tiling, self.kernel
        block, tiles = (tiling.side1, tiling.side2), len(tiling.tiles)
        return KernelFile(
            self.path, kernel.shape, kernel.dtype.name, block, tiles, computed, damaged
        )


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _compare(
    kernel: TiledKernel, path: Path, block: int | None, memory: int, overwrite: bool
) -> _Job:
    """Compare what is on the disk with what is asked for; changes nothing."""
    if block is not None:
        require_whole("block", block, 1)
    cut: list[int] | None = None
    complete, delete = False, []
    for place in (_partial(path), path):
        begun = place != path
        if not os.path.lexists(place):
            continue
        if begun and place.is_dir() and not any((place / ARRAY).glob("*")):
            continue  # its writer was killed before it began
        job = stored_job(place / ARRAY if begun else place)
        complaint = _complaint(place, job, kernel, block, begun)
        if complaint is None:
            cut, complete = (job or {}).get("block"), not begun
        elif overwrite:
            delete.append(place)
        else:
            raise InputError(f"{complaint}, or overwrite it (overwrite=True, --overwrite)")
    tiling = _tiling(kernel, block, memory, cut, complete)
    return _Job(kernel, path, tiling, complete, tuple(delete))


def _identity(kernel: TiledKernel) -> dict[str, Any]:
    layout = {"outputs": kernel.outputs, "order": "sample-major", "shape": list(kernel.shape)}
    return {"format": 2} | kernel.describe() | layout


def _complaint(
    place: Path,
    job: dict[str, Any] | None,
    kernel: TiledKernel,
    block: int | None,
    begun: bool,
) -> str | None:
    """Why a file cannot be continued or taken as the result; None if it can."""
    if job is None and begun:
        return f"{place} is damaged (its zarr.json cannot be read): delete it to begin anew"
    if job is None:
        return f"{place} exists, and does not say which kernel it holds: name another file"
    cut, wanted = job.get("block"), _identity(kernel)
    found = {key: value for key, value in job.items() if key not in ("block", "sha256")}
    missing = object()
    other = [k for k in wanted | found if found.get(k, missing) != wanted.get(k, missing)]
    if not other and not _is_cut(cut, kernel):
        return f"{place} is damaged (its block is {cut!r}): delete it to begin anew"
    if not other and block is not None and cut != [min(block, kernel.n1), min(block, kernel.n2)]:
        other = ["block"]
    if other:
        return (
            f"{place} is of another job (it differs in {', '.join(other)}): name another file, "
            "repeat that job"
        )
    if begun or place.suffix == ".zarr":
        try:
            StoredKernel(place / ARRAY if begun else place, kernel, kernel.cut(*job["block"]))
        except InputError as error:
            return f"{error}: delete {place} to begin anew"
    if not begun and digest_of(place) != job.get("sha256"):
        return f"{place} was changed or replaced since this kernel was written: name another file"
    return None


def _is_cut(cut: Any, kernel: TiledKernel) -> bool:
    """Whether these are the sides of tiles, in points."""
    return (
        isinstance(cut, list)
        and [type(side) for side in cut] == [int, int]
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


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
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
