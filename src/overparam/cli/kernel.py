"""``overparam kernel``: a tangent kernel of a data set as a file."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import jax

from overparam.cli.options import MemorySize, data_options, model_options, process_options
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import complain, say, say_json
from overparam.data import load
from overparam.data.dataset import Dataset
from overparam.errors import InputError
from overparam.files import prepare_folder
from overparam.kernel.empirical import WORKING_MEMORY, EmpiricalKernel, require_memory
from overparam.kernel.infinite_tiles import InfiniteKernel
from overparam.kernel.store import KernelFile, write_kernel
from overparam.kernel.targets import target_for
from overparam.kernel.tiles import TiledKernel
from overparam.limits import (
    MOST_WIDTH,
    require_depth,
    require_scales,
    require_seed,
    require_whole,
)
from overparam.model.mlp import MLP


@click.command()
@click.argument("data")
@data_options
@model_options
@click.option("--infinite", is_flag=True, help="Of the infinitely wide network.")
@click.option(
    "--kind",
    type=click.Choice(["ntk", "nngp"]),
    default="ntk",
    help="nngp: the covariance of the infinite network's output at initialisation.",
)
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float64", help="Of the file."
)
@click.option("--block", type=int, help="Points on a tile's side; by default what --memory allows.")
@click.option(
    "--memory",
    type=MemorySize(),
    default=WORKING_MEMORY,
    help="Memory for tiles and what they are made from, such as 2GB; 512MiB by default.",
)
@process_options
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The .npy or .zarr file."
)
@click.option("--overwrite", is_flag=True, help="Replace a file of another job, or a damaged one.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
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
    """Compute the kernel of DATA's training points into K.npy or K.zarr.

    The empirical NTK at initialisation, with a row for each point and output (row i k + a for point
    i and output a), or with --infinite its limit, with a row for each point. Works tile by tile;
    after a kill or Ctrl-C the same command continues.
    """
    target_for(out)
    if options["kind"] == "nngp" and not options["infinite"]:
        raise InputError("--kind nngp needs --infinite: a network of finite width has none")
    prepare_folder(out.parent)
    if processes is not None:
        join_processes(*processes)
    try:
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
    except KeyboardInterrupt:
        complain("interrupted; the same command continues")
        raise SystemExit(130) from None
    show(result, dataset, as_json)


def describe(data: str, options: dict[str, Any]) -> tuple[Dataset, TiledKernel]:
    """The data, and the kernel asked for, not computed yet."""
    chosen = ("target", "task", "samples", "seed", "test_fraction", "standardize")
    width, depth, kind, dtype = (options[name] for name in ("width", "depth", "kind", "dtype"))
    require_whole("width", width, 1, MOST_WIDTH)
    require_depth(depth)
    require_seed(options["seed"])
    scales = {name: options[name] for name in ("output_scale", "weight_scale", "bias_scale")}
    require_scales(depth + 1, **scales)
    dataset = load(data, **{name: options[name] for name in chosen})
    train = dataset.train
    model = MLP(train.dim, (width,) * depth, train.outputs, options["activation"], **scales)
    if options["infinite"]:
        return dataset, InfiniteKernel(model, train.x, kind=kind, dtype=dtype)
    require_memory(3 * 8 * model.parameter_count, f"{model.parameter_count:,} parameters")
    params = model.init(jax.random.key(options["seed"]))
    return dataset, EmpiricalKernel(model, params, train.x, dtype=dtype)


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send to stderr what libraries print on stdout when processes connect: that is for results."""
    sys.stdout.flush()
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
