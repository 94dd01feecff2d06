"""What can be typed: the commands and their options.

Help and usage errors are answered from here alone. Each command's work is the function of its name
in the module of its name, imported once the command line is understood.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any, get_args

import click

from overparam.choices import (
    FINISHES,
    OPTIMIZERS,
    PARAMETRISATIONS,
    RIGOURS,
    STUDIES,
    THEOREMS,
    Rigor,
    Sampling,
)
from overparam.cli.endings import INTERRUPTED, leaving_at_once, say
from overparam.cli.options import (
    FLOATS,
    PLACE,
    Decorator,
    Duration,
    MemorySize,
    WeightDecay,
    data_options,
    examples,
    header_option,
    json_option,
    loss_option,
    model_options,
    option,
    reading_options,
    result_options,
    scale_options,
    separator_option,
    trainable_option,
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


def command(*lines: str) -> Decorator:
    """A command, and examples of its use."""
    return cli.command(epilog=examples(*lines))


def _complete_study(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [name for name in STUDIES if name.startswith(begun)]


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Within, modules are loaded: what they make stays, and is never searched for garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def run(command: str, given: dict[str, Any]) -> None:
    """Import the command's module, and do what was asked."""
    module = f"overparam.cli.{command}"
    loading = nullcontext() if module in sys.modules else nothing_collected()
    with leaving_at_once(), loading:
        from overparam.programs import keep_programs

        work = getattr(import_module(module), command)
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


@command(
    "anchor trained.safetensors digits --target parity --activation gelu",
    "anchor last.ckpt my.csv --activation tanh --standardize center --polish 10",
)
@click.argument("weights")
@data_options(test_fraction=0.0, standardize="none")
@option(
    *("--target-units", ("raw", "standardized"), "raw"),
    "Of a regression target: as in the table, or mean 0 and variance 1, as it was trained on.",
)
@option("--activation", str, None, "Between the layers, if the weights do not say.")
@option("--layers", str, None, "Names of the layers in order, separated by commas, if need be.")
@option(
    *("--scales", ("ntk", "standard"), "ntk"),
    "standard: one step size for all layers; needs layers with equal numbers of inputs.",
)
@loss_option
@trainable_option
@option(
    *("--polish", int, 0),
    "If the weights have no certificate, move them by up to so many Gauss-Newton steps.",
)
@option("--check-steps", int, 100, "Of gradient descent from the anchor.")
@option("--rigor", get_args(Rigor), "computed", "proved: every bound includes rounding; slower.")
@result_options
def anchor(**given: Any) -> None:
    """Anchor a certificate at WEIGHTS, trained elsewhere, on DATA.

    WEIGHTS is a .safetensors, .pt, .pth, .ckpt (Lightning) or .npz file, or a folder of `overparam
    certify --out`.
    DATA is a CSV, TSV, Parquet or npz file, or a bundled set's name. Say with --standardize and
    --target-units how the data were prepared for the training: by default not at all.
    """
    run("anchor", given)


@command(
    "certify digits --target parity --out digits-certificate",
    "certify my.csv --target price --one-hot --weight-decay 1e-3",
    "certify iris --budget 10m --rigor proved",
)
@data_options()
@model_options
@loss_option
@option(
    *("--weight-decay", WeightDecay(), 0.0),
    "lambda, towards the initialisation (with --no-centered towards 0), such as 1e-3; 0 for "
    "none; auto for the one, of those that can be certified, with the least leave-one-out error. "
    "What is certified then is the only minimum of a region, whatever the kernel.",
)
@trainable_option
@option(
    *("--batch-size", int, None),
    "Points of a mini-batch; all of them by default. What is certified then is convergence "
    "in the mean over runs, but for a few (Theorem S).",
)
@option(
    *("--sampling", get_args(Sampling), "subsets"),
    "Of mini-batches: subsets of different points, points drawn with replacement, or every "
    "point once an epoch.",
)
@option("--centered/--no-centered", bool, True, "Subtract the initial network.")
@option(
    *("--budget", Duration(), "60s"),
    "Time for steps in float64 that certify the run from initialisation where the network "
    "is too narrow for Theorem 1, such as 30s, 10m or 6h; 0 for none.",
)
@option("--steps", int, 100, "Steps of the optimiser.")
@option("--optimizer", OPTIMIZERS, "gd", "gd is the theorem's; the others are optax's.")
@option("--learning-rate", float, None, "Step size; for gd the theorem's by default.")
@option(
    *("--dtype", FLOATS, None),
    "Of the optimiser's steps; float32, or float64 with --finish none.",
)
@option(
    *("--until-certified/--no-until-certified", bool, True),
    "Go on to trained parameters at which the theorem holds.",
)
@option("--finish", FINISHES, "gauss-newton", "How to get there; none: by the optimiser alone.")
@option("--max-steps", int, 100_000, "Bound on steps with --finish none.")
@option("--rigor", RIGOURS, "computed", "proved: every bound includes rounding; slower.")
@option(
    *("--theorem", THEOREMS, None),
    "To certify the initialisation with; by default 1, then P where it has a chance; with "
    "--weight-decay R alone, with --batch-size S. overparam verify checks all but P.",
)
@option(
    *("--consequences/--no-consequences", bool, True),
    "Measure implicit regularisation, laziness, learning-rate transfer, and bound the risk.",
)
@option("--confidence", float, 0.95, "Of each bound on the risk, between 0 and 1.")
@option("--memory", MemorySize(), None, "Memory to use, such as 8GB; all free memory by default.")
@result_options
def certify(**given: Any) -> None:
    """Certify a network on DATA: a CSV, TSV, Parquet or npz file, or a bundled set's name.

    Bundled sets: digits, diabetes, breast_cancer, wine, iris.
    """
    run("certify", given)


@command("kernel digits --width 1024 --out K.zarr", "kernel my.csv --infinite --out K.npy")
@data_options(test_fraction=0.0)
@model_options
@option("--infinite", bool, False, "Of the infinitely wide network.")
@option(
    *("--kind", ("ntk", "nngp"), "ntk"),
    "nngp: the covariance of the infinite network's output at initialisation.",
)
@option("--dtype", FLOATS, "float64", "Of the file.")
@option("--block", int, None, "Points on a tile's side; by default what --memory allows.")
@option(
    *("--memory", MemorySize(), WORKING_MEMORY),
    "Memory for tiles and what they are made from, such as 2GB; 512MiB by default.",
)
@option(
    *("--processes", (str, int, int), None),
    "This is process I (from 0) of N that run the same command; process 0 listens at HOST:PORT.",
    metavar="HOST:PORT I N",
)
@option("--out", PLACE, None, "The .npy or .zarr file.", required=True)
@option("--overwrite", bool, False, "Replace a file of another job, or a damaged one.")
@json_option
def kernel(**given: Any) -> None:
    """Compute the kernel of DATA's rows into K.npy or K.zarr.

    The empirical NTK at initialisation, with a row for each point and output (row i k + a for point
    i and output a), or with --infinite its limit, with a row for each point. Points are all rows of
    the table in its order, repeated ones too, unless --samples or --test-fraction ask for less.
    Works tile by tile; after a kill or Ctrl-C the same command continues.
    """
    run("kernel", given)


@command("predict iris-certificate new.csv", "predict prices-certificate new.csv --out prices.csv")
@click.argument("folder", type=PLACE)
@click.argument("table")
@separator_option
@header_option
@option("--out", PLACE, None, "CSV file for the predictions; the terminal by default.")
@option("--overwrite", bool, False, "Replace that file.")
@json_option
def predict(**given: Any) -> None:
    """Predict the rows of TABLE with the network in FOLDER.

    FOLDER is what `overparam certify --out` or `overparam anchor --out` wrote, TABLE a file with
    the same columns as the data of that job; it need not have the target. What is printed, or
    written with --out, is CSV: a class by its name, a number in the target's units.
    """
    run("predict", given)


@command(
    "study --list",
    "study lazy --quick",
    "study lazy --activation erf --depth 3 --widths 64,256,1024 --data my.csv",
)
@click.argument("name", required=False, shell_complete=_complete_study)
@option("--list listing", bool, False, "Print the studies and end.")
@option("--all everything", bool, False, "Run all studies, and write an index.")
@option("--data", str, None, "A bundled set's name or a file, in place of the study's own data.")
@option("--target", str, None, "The column to predict, with --data.")
@reading_options
@option("--samples", int, None, "Points used at most, with --data.")
@option("--activation", str, None, "Of all networks, in place of the study's own.")
@option("--depth", int, None, "Number of hidden layers, in place of the study's own.")
@option("--widths", str, None, "Of the hidden layers, by commas, in place of the study's own.")
@option("--seeds", int, None, "Initialisations drawn in each cell.")
@option("--quick", bool, False, "A small grid, for a first look.")
@option("--out", PLACE, None, "Folder; evidence/NAME by default.")
@option("--jobs", int, None, "Workers, one core each; all cores by default.")
@option("--backend", str, "loky", "Of joblib: loky, dask, ray.")
@option("--memory", str, None, "For all workers together, such as 8GB; what is free by default.")
@option("--time-limit", float, None, "Minutes; refuse what is estimated to take longer.")
@option("--tensorboard", PLACE, None, "Folder for TensorBoard logs.")
@json_option
def study(**given: Any) -> None:
    """Run the study NAME: a sweep with a table, a figure and a verdict.

    A study that was interrupted goes on where it was when the same command is given again.
    """
    run("study", given)


@command("verify digits-certificate", "verify digits-certificate/certificate.json --json")
@click.argument("path", metavar="DIR_OR_CERTIFICATE", type=PLACE)
@option("--precision", int, 128, "Bits of the ball arithmetic.")
@json_option
def verify(**given: Any) -> None:
    """Check certificates again from data and parameters, in ball arithmetic.

    Takes a folder that `overparam certify --out` wrote, or one certificate in it. Exit status 1 if
    a certificate does not hold.
    """
    run("verify", given)


@command(
    "width iris --assume-limit",
    "width my.csv --depth 2 --knowing moments --min-eigenvalue 0.01",
)
@data_options()
@option("--depth", int, 1, "Number of hidden layers, 1 or more.")
@option("--activation", str, "gelu", "One with a bounded second derivative.")
@option("--loss", str, "squared", "squared, squared_hinge, huber:0.5, ...")
@scale_options
@option(
    *("--knowing", ("points", "norms", "moments"), "points"),
    "What the bounds may know of the data: its points, their norms, or even moments of these.",
)
@option(
    *("--min-eigenvalue", float, None),
    "Assume this lambda_min(K) at initialisation; by default it is bounded from the points.",
)
@option(
    *("--eigenvalue-failure-probability", float, 0.0),
    "With which an assumed lambda_min(K) is missed by the draw of the network; it is added.",
)
@option(
    *("--assume-limit", bool, False),
    "Assume that lambda_min(K) is at least the limiting kernel's.",
)
@option("--failure-probability", float, 0.05, "Of the draw of the network.")
@option(
    *("--step-fraction", float, 0.9),
    "1 - eta L_phi / 2: near 1 for small steps, from a smaller width on.",
)
@option("--step", float, None, "A given step size, in the place of --step-fraction.")
@option("--out", PLACE, None, "Folder for summary.json and plots.")
@json_option
def width(**given: Any) -> None:
    """Print the width from which gradient descent on DATA provably converges.

    With probability 1 - FAILURE-PROBABILITY over the random initialisation, at this width and,
    each by itself, at every larger one; no network is drawn. DATA is a CSV, TSV, Parquet or npz
    file, or a bundled set's name.
    """
    run("width", given)


@command("coordcheck digits --samples 200 --widths 64,256,1024")
@data_options(test_fraction=0.0, standardize="center")
@option("--widths", str, "64,256,1024", "Of the hidden layers, by commas.")
@option("--depth", int, 2, "Number of hidden layers.")
@option("--activation", str, "gelu", "tanh, erf, gelu, relu, softplus, sin, ...")
@option(
    *("--parametrisation parametrisations", PARAMETRISATIONS, None),
    "May be given several times; all by default.",
    multiple=True,
)
@option("--steps", int, 5, "Of gradient descent on all rows.")
@option("--step", float, None, "Step size; by default half the narrowest network's stable one.")
@option("--seeds", int, 3, "Networks drawn at each width.")
@json_option
def coordcheck(**given: Any) -> None:
    """Do activations keep their size as the width grows, over some steps on DATA?

    In the NTK, the standard and the maximal-update (mup) parametrisation, each with one step size
    at all widths: how the change of each layer's activations depends on the width. Where it stays
    put, a step size found on a narrow network serves a wide one, and wide networks learn features.
    """
    run("coordcheck", given)


@command("doctor", "doctor --json")
@json_option
def doctor(**given: Any) -> None:
    """Say what overparam runs on: versions, devices, whether arithmetic is what proofs assume.

    Exit status 1 if it is not. An answer to this is the best beginning of a bug report.
    """
    run("doctor", given)


@command("cite")
@json_option
def cite(**given: Any) -> None:
    """Print how to cite overparam and the theorem that it rests on, as BibTeX."""
    run("cite", given)
