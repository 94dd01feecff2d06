"""``overparam kernel``: the empirical tangent kernel of a data set as a file."""

import io
import json
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np

from overparam.cli.options import data_options, memory_option, model_options
from overparam.cli.progress import ProgressBar
from overparam.data import load
from overparam.errors import InputError
from overparam.files import prepare_folder, write_whole
from overparam.kernel.empirical import empirical_ntk, require_memory
from overparam.model.mlp import MLP


@click.command()
@click.argument("data")
@data_options
@model_options
@memory_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .npy file.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def kernel(
    data: str, out: Path, as_json: bool, memory: int | None, width: int, depth: int, **options: Any
) -> None:
    """Compute the empirical NTK of DATA at initialisation, float64, sample-major."""
    if out.suffix != ".npy":
        raise InputError(f"--out {out} must end in .npy")
    if depth < 0:
        raise InputError(f"depth must be a whole number, 0 or more, not {depth}")
    network = {name: options.pop(name) for name in ("activation", "output_scale", "weight_scale")}
    network["bias_scale"] = options.pop("bias_scale")
    prepare_folder(out.parent)
    with ProgressBar() as progress:
        dataset = load(data, **{**options, "test_fraction": options["test_fraction"]})
        train = dataset.train
        model = MLP(train.dim, (width,) * depth, train.outputs, **network)
        size = train.n * train.outputs
        require_memory(2 * 8 * size**2, f"a kernel of {size} x {size} and its file", memory)
        params = model.init(jax.random.key(options["seed"]))
        matrix = empirical_ntk(
            model, params, train.x, progress=lambda done, total: progress("kernel", done, total)
        )
        buffer = io.BytesIO()
        np.save(buffer, matrix)
        write_whole(out, buffer.getvalue())
    shape = list(matrix.shape)
    if as_json:
        click.echo(json.dumps({"out": str(out), "shape": shape, "dtype": "float64"}))
    else:
        click.echo(f"{out}: {shape[0]} x {shape[1]}, float64, {dataset.source}")
