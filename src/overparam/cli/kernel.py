"""``overparam kernel``: a tangent kernel of a data set as a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from overparam.cli.options import data_selection
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import complain, flush, say, say_json
from overparam.data import load
from overparam.data.dataset import Dataset
from overparam.errors import InputError
from overparam.files import prepare_folder
from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel
from overparam.kernel.files.stored import require_suffix
from overparam.kernel.files.write import KernelFile, write_kernel
from overparam.kernel.infinite.infinite_kernel import InfiniteKernel
from overparam.kernel.tiles import TiledKernel
from overparam.limits import (
    MOST_WIDTH,
    require_depth,
    require_scales,
    require_seed,
    require_whole,
)
from overparam.memory import require_memory
from overparam.model.mlp import MLP


def kernel(
    data: str,
    out: Path,
    as_json: bool,
    block: int | None,
    memory: int,
    overwrite: bool,
    processes: tuple[str, int, int] | None,
    **options: Any,
) -> None:
    """Compute the kernel of DATA's rows into K.npy or K.zarr."""
    require_suffix(out)
    if options["kind"] == "nngp" and not options["infinite"]:
        raise InputError("--kind nngp needs --infinite: a network of finite width has none")
    prepare_folder(out.parent)
    if processes is not None:
        join_processes(*processes)
    with quiet_stdout(), ProgressBar() as progress:
        progress("reading the data", 0, 0)
        dataset, network = describe(data, options)
        result = write_kernel(
            network,
            out,
            block=block,
            memory=memory,
            overwrite=overwrite,
            progress=lambda done, total: progress("tiles of the kernel", done, total),
        )
    show(result, dataset, as_json)


def describe(data: str, options: dict[str, Any]) -> tuple[Dataset, TiledKernel]:
    """The data, and the kernel asked for, not computed yet."""
    selection = data_selection(options)
    width, depth, kind, dtype = (options[name] for name in ("width", "depth", "kind", "dtype"))
    require_whole("width", width, 1, MOST_WIDTH)
    require_depth(depth)
    require_seed(selection["seed"])
    scales = {name: options[name] for name in ("output_scale", "weight_scale", "bias_scale")}
    require_scales(depth + 1, **scales)
    dataset = load(data, merge=False, **selection)
    train = dataset.train
    model = MLP(train.dim, (width,) * depth, train.outputs, options["activation"], **scales)
    if options["infinite"]:
        return dataset, InfiniteKernel(model, train.x, kind=kind, dtype=dtype)
    require_memory(3 * 8 * model.parameter_count, f"{model.parameter_count:,} parameters")
    params = model.init(jax.random.key(selection["seed"]))
    return dataset, EmpiricalKernel(model, params, train.x, dtype=dtype)


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send to stderr what libraries print on stdout when processes connect: that is for results."""
    flush()
    try:
        output = os.dup(1)
    except OSError:  # closed
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(output, 1)
        os.close(output)


def join_processes(coordinator: str, number: int, count: int) -> None:
    """Join the other processes of the same command.

    Raises:
        InputError: The numbers do not fit, or the coordinator cannot be reached.
    """
    if not 0 <= number < count:
        raise InputError(f"--processes: process {number} of {count} is none: count from 0")
    try:
        jax.distributed.initialize(coordinator, count, number)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--processes: cannot join at {coordinator}: {reason}") from error


def show(result: KernelFile, dataset: Dataset, as_json: bool) -> None:
    """Print what was written, and what had to be mended."""
    if result.damaged:
        tiles = f"{result.damaged} tile{'s' * (result.damaged > 1)}"
        complain(f"{tiles} of the unfinished {result.path} had changed on the disk: computed again")
    if as_json:
        summary = {
            "out": str(result.path),
            "points": dataset.train.n,
            "shape": list(result.shape),
            "dtype": result.dtype,
            "block": list(result.block),
            "tiles": result.tiles,
            "computed": result.computed,
            "damaged": result.damaged,
        }
        say_json(summary)
        return
    rows, columns = result.shape
    there = "" if result.computed else " (complete already)"
    say(f"{result.path}: {rows} x {columns}, {result.dtype}, {dataset.source}{there}")
