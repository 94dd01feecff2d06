"""``overparam certify``: the main job."""

import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import click

from overparam.cli.options import data_options, loss_option, memory_option, model_options
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import say, say_json
from overparam.data import load
from overparam.files import prepare_folder
from overparam.job import JobResult, JobSettings, run_job
from overparam.job.output import write_output
from overparam.job.settings import FINISHES, OPTIMIZERS, RIGOURS
from overparam.job.summary import lines, summary
from overparam.report import render


@click.command()
@click.argument("data")
@data_options
@model_options
@loss_option
@click.option("--centered/--no-centered", default=True, help="Subtract the initial network.")
@click.option("--steps", type=int, default=100, help="Steps of the optimiser.")
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    default="gd",
    help="gd is the theorem's; the others are optax's.",
)
@click.option("--learning-rate", type=float, help="Step size; for gd the theorem's by default.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    help="Of the optimiser's steps; float32, or float64 with --finish none.",
)
@click.option(
    "--until-certified/--no-until-certified",
    default=True,
    help="Go on to trained parameters at which the theorem holds.",
)
@click.option(
    "--finish",
    type=click.Choice(FINISHES),
    default="gauss-newton",
    help="How to get there; none: by the optimiser alone.",
)
@click.option("--max-steps", type=int, default=100_000, help="Bound on steps with --finish none.")
@click.option(
    "--rigor",
    type=click.Choice(RIGOURS),
    default="computed",
    help="proved: every bound includes rounding; slower.",
)
@click.option(
    "--consequences/--no-consequences",
    default=True,
    help="Measure implicit regularisation, laziness, learning-rate transfer, and bound the risk.",
)
@click.option(
    "--confidence", type=float, default=0.95, help="Of each bound on the risk, between 0 and 1."
)
@memory_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all results.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def certify(data: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """Certify a network on DATA: a CSV, Parquet or npz file, or a bundled set's name.

    Bundled sets: digits, diabetes, breast_cancer, wine, iris.
    """
    chosen = ("target", "task", "samples", "seed", "test_fraction", "standardize")
    selection = {name: options.pop(name) for name in chosen}
    settings = JobSettings(seed=selection["seed"], **options)
    if out is not None:
        prepare_folder(out)
    checkpoint = None if out is None else out / "checkpoint.npz"
    with ProgressBar() as progress:
        progress("reading the data", 0, 0)
        dataset = load(data, **selection)
        result = run_job(dataset, settings, progress=progress, checkpoint=checkpoint)
        if out is not None:
            progress("writing the report", 0, 0)
            write_output(result, out, render(result, command_line()))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    if as_json:
        say_json(summary(result))
    else:
        show(result, out)


def command_line() -> str:
    """The command as typed."""
    return shlex.join(["overparam", *sys.argv[1:]])


def show(result: JobResult, out: Path | None) -> None:
    """Print the readable summary, wrapped to the terminal."""
    table = lines(result)
    if out is not None:
        table.append(("report", str(out / "report.html")))
    print_table(table)


def print_table(table: list[tuple[str, str]]) -> None:
    """Print (heading, text) pairs, wrapped to the terminal."""
    column = max(len(heading) for heading, _ in table) + 2
    width = max(shutil.get_terminal_size((100, 24)).columns, column + 40)
    for heading, text in table:
        wrapped = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        for start, line in zip((heading, *("",) * len(wrapped)), wrapped, strict=False):
            say(f"{start:<{column}}{line}")
