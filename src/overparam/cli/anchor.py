"""``overparam anchor``: a certificate at weights trained elsewhere."""

from pathlib import Path
from typing import Any, get_args

import click

from overparam.cli.certify import command_line, print_table
from overparam.cli.options import data_options_with, loss_option
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import say_json
from overparam.data import load
from overparam.files import prepare_folder
from overparam.importers import load_network
from overparam.job.imported import AnchorSettings, anchor_lines, anchor_network, anchor_summary
from overparam.job.output import write_anchor_output
from overparam.report import render_anchor
from overparam.theory.certificate import Rigor


@click.command()
@click.argument("weights")
@click.argument("data")
@data_options_with(test_fraction=0.0, standardize="none")
@click.option(
    "--target-units",
    type=click.Choice(["raw", "standardized"]),
    default="raw",
    help="Of a regression target: as in the table, or mean 0 and variance 1, as it was trained on.",
)
@click.option("--activation", help="Between the layers, if the weights do not say.")
@click.option("--layers", help="Names of the layers in order, separated by commas, if need be.")
@click.option(
    "--scales",
    type=click.Choice(["ntk", "standard"]),
    default="ntk",
    help="standard: one step size for all layers; needs layers with equal numbers of inputs.",
)
@loss_option
@click.option(
    "--polish",
    type=int,
    default=0,
    help="If the weights have no certificate, move them by up to so many Gauss-Newton steps.",
)
@click.option("--check-steps", type=int, default=100, help="Of gradient descent from the anchor.")
@click.option(
    "--rigor",
    type=click.Choice(get_args(Rigor)),
    default="computed",
    help="proved: every bound includes rounding; slower.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all results.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def anchor(weights: str, data: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """Anchor a certificate at WEIGHTS, trained elsewhere, on DATA.

    WEIGHTS is a .safetensors, .pt, .pth or .npz file, or a folder of `overparam certify --out`.
    DATA is a CSV, Parquet or npz file, or a bundled set's name. Say with --standardize and
    --target-units how the data were prepared for the training: by default not at all.
    """
    chosen = ("target", "task", "samples", "seed", "test_fraction", "standardize")
    selection = {name: options.pop(name) for name in chosen}
    selection["standardize_target"] = options.pop("target_units") == "standardized"
    layers = options.pop("layers")
    reading = {name: options.pop(name) for name in ("activation", "scales")}
    settings = AnchorSettings(**options)
    if out is not None:
        prepare_folder(out)
    with ProgressBar() as progress:
        progress("reading the weights", 0, 0)
        names = None if layers is None else [name.strip() for name in layers.split(",")]
        network = load_network(weights, layers=names, **reading)
        progress("reading the data", 0, 0)
        dataset = load(data, **selection)
        result = anchor_network(dataset, network, settings, progress=progress)
        if out is not None:
            write_anchor_output(result, out, render_anchor(result, command_line()))
    if as_json:
        say_json(anchor_summary(result))
        return
    table = anchor_lines(result)
    if out is not None:
        table.append(("report", str(out / "report.html")))
    print_table(table)
