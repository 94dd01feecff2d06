"""What can be typed: the commands and their options.

Help and usage errors are answered from here alone. Each command's work is the function of its name
in the module of its name, imported once the command line is understood.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import click

from overparam.choices import (
    FINISHES,
    OPTIMIZERS,
    PARAMETRISATIONS,
    PREPARED,
    RIGOURS,
    STUDIES,
    THEOREMS,
    Rigor,
    Sampling,
)
from overparam.cli.endings import INTERRUPTED, leaving_at_once, say
from overparam.cli.options import (
    Choice,
    Duration,
    MemorySize,
    data_argument,
    data_options,
    data_options_with,
    examples,
    loss_option,
    memory_option,
    model_options,
    process_options,
    reading_options,
    trainable_option,
    verbose_option,
)
from overparam.cli.terminal import drop_output, flush
from overparam.memory import WORKING_MEMORY
from overparam.version import VERSION


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "certify digits --target parity --out digits-certificate",
        "verify digits-certificate",
        "anchor trained.safetensors my.csv --activation tanh",
        "certify --help",
    ),
)
@click.version_option(VERSION)
def cli() -> None:
    """Certificates of convergence for overparameterized networks, on your own data."""


def _complete_study(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [name for name in STUDIES if name.startswith(begun)]


def run(command: str, given: dict[str, Any]) -> None:
    """Import the command's module, and do what was asked."""
    with leaving_at_once():
        from overparam.programs import keep_programs

        work = getattr(import_module(f"overparam.cli.{command}"), command)
        keep_programs()
    # Here, since click has ways of its own with these two.
    try:
        work(**given)
        flush()
    except KeyboardInterrupt:
        line = "interrupted; with --out, or of a study, the same command goes on where it was"
        raise SystemExit(say(line, INTERRUPTED)) from None
    except BrokenPipeError:
        drop_output()
        raise SystemExit(0) from None


@cli.command(
    epilog=examples(
        "anchor trained.safetensors digits --target parity --activation gelu",
        "anchor last.ckpt my.csv --activation tanh --standardize center --polish 10",
    )
)
@click.argument("weights")
@data_argument
@data_options_with(test_fraction=0.0, standardize="none")
@click.option(
    "--target-units",
    type=Choice(["raw", "standardized"]),
    default="raw",
    help="Of a regression target: as in the table, or mean 0 and variance 1, as it was trained on.",
)
@click.option("--activation", help="Between the layers, if the weights do not say.")
@click.option("--layers", help="Names of the layers in order, separated by commas, if need be.")
@click.option(
    "--scales",
    type=Choice(["ntk", "standard"]),
    default="ntk",
    help="standard: one step size for all layers; needs layers with equal numbers of inputs.",
)
@loss_option
@trainable_option
@click.option(
    "--polish",
    type=int,
    default=0,
    help="If the weights have no certificate, move them by up to so many Gauss-Newton steps.",
)
@click.option("--check-steps", type=int, default=100, help="Of gradient descent from the anchor.")
@click.option(
    "--rigor",
    type=Choice(get_args(Rigor)),
    default="computed",
    help="proved: every bound includes rounding; slower.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for all results.")
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def anchor(**given: Any) -> None:
    """Anchor a certificate at WEIGHTS, trained elsewhere, on DATA.

    WEIGHTS is a .safetensors, .pt, .pth, .ckpt (Lightning) or .npz file, or a folder of `overparam
    certify --out`.
    DATA is a CSV, TSV, Parquet or npz file, or a bundled set's name. Say with --standardize and
    --target-units how the data were prepared for the training: by default not at all.
    """
    run("anchor", given)


@cli.command(
    epilog=examples(
        "certify digits --target parity --out digits-certificate",
        "certify my.csv --target price --one-hot --weight-decay 1e-3",
        "certify iris --budget 10m --rigor proved",
    )
)
@data_argument
@data_options
@model_options
@loss_option
@click.option(
    "--weight-decay",
    type=float,
    default=0.0,
    help="lambda, towards the initialisation (with --no-centered towards 0), such as 1e-3; 0 for "
    "none. What is certified then is the only minimum of a region, whatever the kernel.",
)
@trainable_option
@click.option(
    "--batch-size",
    type=int,
    help="Points of a mini-batch; all of them by default. What is certified then is convergence "
    "in the mean over runs, but for a few (Theorem S).",
)
@click.option(
    "--sampling",
    type=Choice(get_args(Sampling)),
    default="subsets",
    help="Of mini-batches: subsets of different points, points drawn with replacement, or every "
    "point once an epoch.",
)
@click.option("--centered/--no-centered", default=True, help="Subtract the initial network.")
@click.option(
    "--budget",
    type=Duration(),
    default="60s",
    help="Time for steps in float64 that certify the run from initialisation where the network "
    "is too narrow for Theorem 1, such as 30s, 10m or 6h; 0 for none.",
)
@click.option("--steps", type=int, default=100, help="Steps of the optimiser.")
@click.option(
    "--optimizer",
    type=Choice(OPTIMIZERS),
    default="gd",
    help="gd is the theorem's; the others are optax's.",
)
@click.option("--learning-rate", type=float, help="Step size; for gd the theorem's by default.")
@click.option(
    "--dtype",
    type=Choice(["float32", "float64"]),
    help="Of the optimiser's steps; float32, or float64 with --finish none.",
)
@click.option(
    "--until-certified/--no-until-certified",
    default=True,
    help="Go on to trained parameters at which the theorem holds.",
)
@click.option(
    "--finish",
    type=Choice(FINISHES),
    default="gauss-newton",
    help="How to get there; none: by the optimiser alone.",
)
@click.option("--max-steps", type=int, default=100_000, help="Bound on steps with --finish none.")
@click.option(
    "--rigor",
    type=Choice(RIGOURS),
    default="computed",
    help="proved: every bound includes rounding; slower.",
)
@click.option(
    "--theorem",
    type=Choice(THEOREMS),
    help="To certify the initialisation with; by default 1, then P where it has a chance; with "
    "--weight-decay R alone, with --batch-size S. overparam verify checks all but P.",
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
@verbose_option
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def certify(**given: Any) -> None:
    """Certify a network on DATA: a CSV, TSV, Parquet or npz file, or a bundled set's name.

    Bundled sets: digits, diabetes, breast_cancer, wine, iris.
    """
    run("certify", given)


@cli.command(
    epilog=examples(
        "kernel digits --width 1024 --out K.zarr", "kernel my.csv --infinite --out K.npy"
    )
)
@data_argument
@data_options_with(test_fraction=0.0, standardize=PREPARED)
@model_options
@click.option("--infinite", is_flag=True, help="Of the infinitely wide network.")
@click.option(
    "--kind",
    type=Choice(["ntk", "nngp"]),
    default="ntk",
    help="nngp: the covariance of the infinite network's output at initialisation.",
)
@click.option(
    "--dtype", type=Choice(["float32", "float64"]), default="float64", help="Of the file."
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
def kernel(**given: Any) -> None:
    """Compute the kernel of DATA's rows into K.npy or K.zarr.

    The empirical NTK at initialisation, with a row for each point and output (row i k + a for point
    i and output a), or with --infinite its limit, with a row for each point. Points are all rows of
    the table in its order, repeated ones too, unless --samples or --test-fraction ask for less.
    Works tile by tile; after a kill or Ctrl-C the same command continues.
    """
    run("kernel", given)


@cli.command(
    epilog=examples(
        "study --list",
        "study lazy --quick",
        "study lazy --activation erf --depth 3 --widths 64,256,1024 --data my.csv",
    )
)
@click.argument("name", required=False, shell_complete=_complete_study)
@click.option("--list", "listing", is_flag=True, help="Print the studies and end.")
@click.option("--all", "everything", is_flag=True, help="Run all studies, and write an index.")
@click.option("--data", help="A bundled set's name or a file, in place of the study's own data.")
@click.option("--target", help="The column to predict, with --data.")
@reading_options
@click.option("--samples", type=int, help="Points used at most, with --data.")
@click.option("--activation", help="Of all networks, in place of the study's own.")
@click.option("--depth", type=int, help="Number of hidden layers, in place of the study's own.")
@click.option("--widths", help="Of the hidden layers, by commas, in place of the study's own.")
@click.option("--seeds", type=int, help="Initialisations drawn in each cell.")
@click.option("--quick", is_flag=True, help="A small grid, for a first look.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; evidence/NAME by default.")
@click.option("--jobs", type=int, help="Workers, one core each; all cores by default.")
@click.option("--backend", default="loky", help="Of joblib: loky, dask, ray.")
@click.option("--memory", help="For all workers together, such as 8GB; what is free by default.")
@click.option("--time-limit", type=float, help="Minutes; refuse what is estimated to take longer.")
@click.option("--tensorboard", type=click.Path(path_type=Path), help="Folder for TensorBoard logs.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings machine-readably.")
def study(**given: Any) -> None:
    """Run the study NAME: a sweep with a table, a figure and a verdict.

    A study that was interrupted goes on where it was when the same command is given again.
    """
    run("study", given)


@cli.command(
    epilog=examples(
        "verify digits-certificate", "verify digits-certificate/certificate.json --json"
    )
)
@click.argument("path", metavar="DIR_OR_CERTIFICATE", type=click.Path(path_type=Path))
@click.option("--precision", type=int, default=128, help="Bits of the ball arithmetic.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable result.")
def verify(**given: Any) -> None:
    """Check certificates again from data and parameters, in ball arithmetic.

    Takes a folder that `overparam certify --out` wrote, or one certificate in it. Exit status 1 if
    a certificate does not hold.
    """
    run("verify", given)


@cli.command(
    epilog=examples(
        "width iris --assume-limit",
        "width my.csv --depth 2 --knowing moments --min-eigenvalue 0.01",
    )
)
@data_argument
@data_options
@click.option("--depth", type=int, default=1, help="Number of hidden layers, 1 or more.")
@click.option("--activation", default="gelu", help="One with a bounded second derivative.")
@click.option("--loss", default="squared", help="squared, squared_hinge, huber:0.5, ...")
@click.option("--output-scale", type=float, default=1.0, help="Factor on the output.")
@click.option("--weight-scale", type=float, default=1.0, help="Factor on the weights.")
@click.option("--bias-scale", type=float, default=0.1, help="Factor on the biases.")
@click.option(
    "--knowing",
    type=Choice(["points", "norms", "moments"]),
    default="points",
    help="What the bounds may know of the data: its points, their norms, or even moments of these.",
)
@click.option(
    "--min-eigenvalue",
    type=float,
    help="Assume this lambda_min(K) at initialisation; by default it is bounded from the points.",
)
@click.option(
    "--eigenvalue-failure-probability",
    type=float,
    default=0.0,
    help="With which an assumed lambda_min(K) is missed by the draw of the network; it is added.",
)
@click.option(
    "--assume-limit",
    is_flag=True,
    help="Assume that lambda_min(K) is at least the limiting kernel's.",
)
@click.option("--failure-probability", type=float, default=0.05, help="Of the draw of the network.")
@click.option(
    "--step-fraction",
    type=float,
    default=0.9,
    help="1 - eta L_phi / 2: near 1 for small steps, from a smaller width on.",
)
@click.option("--step", type=float, help="A given step size, in the place of --step-fraction.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for summary.json and plots.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def width(**given: Any) -> None:
    """Print the width from which gradient descent on DATA provably converges.

    With probability 1 - FAILURE-PROBABILITY over the random initialisation, at this width and,
    each by itself, at every larger one; no network is drawn. DATA is a CSV, TSV, Parquet or npz
    file, or a bundled set's name.
    """
    run("width", given)


@cli.command(epilog=examples("coordcheck digits --samples 200 --widths 64,256,1024"))
@data_argument
@data_options_with(test_fraction=0.0, standardize="center")
@click.option("--widths", default="64,256,1024", help="Of the hidden layers, by commas.")
@click.option("--depth", type=int, default=2, help="Number of hidden layers.")
@click.option("--activation", default="gelu", help="tanh, erf, gelu, relu, softplus, sin, ...")
@click.option(
    "--parametrisation",
    "parametrisations",
    multiple=True,
    type=Choice(PARAMETRISATIONS),
    help="May be given several times; all by default.",
)
@click.option("--steps", type=int, default=5, help="Of gradient descent on all rows.")
@click.option(
    "--step", type=float, help="Step size; by default half the narrowest network's stable one."
)
@click.option("--seeds", type=int, default=3, help="Networks drawn at each width.")
@click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
def coordcheck(**given: Any) -> None:
    """Do activations keep their size as the width grows, over some steps on DATA?

    In the NTK, the standard and the maximal-update (mup) parametrisation, each with one step size
    at all widths: how the change of each layer's activations depends on the width. Where it stays
    put, a step size found on a narrow network serves a wide one, and wide networks learn features.
    """
    run("coordcheck", given)


@cli.command(epilog=examples("doctor", "doctor --json"))
@click.option("--json", "as_json", is_flag=True, help="Print it machine-readably.")
def doctor(**given: Any) -> None:
    """Say what overparam runs on: versions, devices, whether arithmetic is what proofs assume.

    Exit status 1 if it is not. An answer to this is the best beginning of a bug report.
    """
    run("doctor", given)


@cli.command(epilog=examples("cite"))
@click.option("--json", "as_json", is_flag=True, help="Print it machine-readably.")
def cite(**given: Any) -> None:
    """Print how to cite overparam and the theorem that it rests on, as BibTeX."""
    run("cite", given)
