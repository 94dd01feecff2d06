"""Options shared by the commands."""

import difflib
import math
from collections.abc import Callable
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

from overparam.choices import DATA_SETS, PREPARED, Mode
from overparam.errors import InputError
from overparam.limits import MOST_WIDTH, require_whole
from overparam.memory import parse_size


def data_argument(command: Callable) -> Callable:
    """DATA: a file, or the name of a data set that ships with scikit-learn."""
    return click.argument("data", shell_complete=_complete_data)(command)


def _complete_data(ctx: Any, param: Any, begun: str) -> list[CompletionItem]:
    """Names of data sets; without one, the shell offers files."""
    names = [CompletionItem(name) for name in DATA_SETS if name.startswith(begun)]
    return names or [CompletionItem(begun, type="file")]


def examples(*commands: str) -> str:
    """What stands below a command's help."""
    return "\b\n" + "\n".join(["Examples:", *(f"  overparam {each}" for each in commands)])


class Choice(click.Choice):
    """One of some words; another one is answered with the nearest, too."""

    def get_invalid_choice_message(self, value: Any, ctx: Any) -> str:
        """What is said of another word."""
        words = list(map(str, self.choices))
        near = difflib.get_close_matches(str(value).lower(), words, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return super().get_invalid_choice_message(value, ctx) + hint


class MemorySize(click.ParamType):
    """A number of bytes such as 2GB."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Bytes from text."""
        return value if isinstance(value, int) else parse_size(value)


READING = ("target", "task", "separator", "header", "one_hot")
SELECTION = (*READING, "samples", "seed", "test_fraction", "standardize")


def data_selection(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of a command's options what selects and prepares the data."""
    return {name: options.pop(name) for name in SELECTION}


def whole_numbers(name: str, text: str) -> list[int]:
    """Numbers separated by commas.

    Raises:
        InputError: It is something else, or a number is not a width.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{name} must be numbers such as 64,128,256, not {text!r}") from None
    return [require_whole(f"each of {name}", number, 1, MOST_WIDTH) for number in numbers]


class Duration(click.ParamType):
    """Seconds such as 30s, 10m, 6h, 2d, or a plain number."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Seconds from text."""
        text = str(value).strip().lower()
        scale = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}.get(text[-1:], 0.0)
        try:
            seconds = float(text[:-1]) * scale if scale else float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            self.fail(f"{value!r} is no time: write 30s, 10m or 6h", param, ctx)
        return seconds


def data_options(command: Callable) -> Callable:
    """What selects and prepares the data."""
    return data_options_with(test_fraction=0.2, standardize=PREPARED)(command)


def data_options_with(*, test_fraction: float, standardize: str) -> Callable:
    """The same with other defaults."""

    def decorate(command: Callable) -> Callable:
        return _data_options(command, test_fraction, standardize)

    return decorate


_reading_options = (
    click.option(
        "--separator",
        help="Between the columns of a text file: a character, or tab, space, ...; told from the "
        "file by default.",
    ),
    click.option(
        "--header/--no-header",
        default=True,
        help="Whether a text file's first line names the columns; if not, they are column_1, ...",
    ),
    click.option(
        "--one-hot",
        is_flag=True,
        help="Make of each column of text a column of 0 and 1 for each of its values.",
    ),
)
"""How a table is to be read."""


def reading_options(command: Callable) -> Callable:
    """How a table is to be read."""
    for option in reversed(_reading_options):
        command = option(command)
    return command


def _data_options(command: Callable, test_fraction: float, standardize: str) -> Callable:
    for option in reversed(
        (
            click.option("--target", help="Column to learn; the last one by default."),
            click.option(
                "--task",
                type=Choice(["auto", "classification", "regression"]),
                default="auto",
                help="Kind of target; auto tells from its values.",
            ),
            *_reading_options,
            click.option("--samples", type=int, help="Draw this many rows; all by default."),
            click.option(
                "--seed", type=int, default=0, help="Of the draw, the split and the network."
            ),
            click.option(
                "--test-fraction",
                type=float,
                default=test_fraction,
                help="Fraction of the rows held out; 0 for none.",
            ),
            click.option(
                "--standardize",
                type=Choice(get_args(Mode)),
                default=standardize,
                help="center: mean 0, variance 1 per feature; lift: then one more coordinate of "
                "constant height, and the same norm for every point; sphere: the same norm without "
                "it, which keeps a point's direction only; norm: norm sqrt(d) only, "
                "which fits nothing to the sample and so keeps the bounds evaluated on it free of "
                "that reservation.",
            ),
        )
    ):
        command = option(command)
    return command


def model_options(command: Callable) -> Callable:
    """What describes the network."""
    for option in reversed(
        (
            click.option("--width", type=int, default=512, help="Units of each hidden layer."),
            click.option("--depth", type=int, default=2, help="Number of hidden layers."),
            click.option(
                "--activation", default="gelu", help="tanh, erf, gelu, softplus, sin, ..."
            ),
            click.option("--output-scale", type=float, default=1.0, help="Factor on the output."),
            click.option("--weight-scale", type=float, default=1.0, help="Factor on the weights."),
            click.option("--bias-scale", type=float, default=0.1, help="Factor on the biases."),
        )
    ):
        command = option(command)
    return command


loss_option = click.option(
    "--loss",
    default="squared",
    help="squared, huber:DELTA, pseudo_huber:DELTA, log_cosh, expectile:TAU, "
    "weighted_quadratic:W1,W2,...; for classes also squared_hinge and "
    "smoothed_cross_entropy:SMOOTHING, and with weight decay cross_entropy.",
)

trainable_option = click.option(
    "--trainable",
    default="all",
    help='What moves: "last layer", layers.1: (all but the first), weights, biases.0, several with '
    "commas; the rest keeps its values.",
)

memory_option = click.option(
    "--memory", type=MemorySize(), help="Memory to use, such as 8GB; all free memory by default."
)

verbose_option = click.option(
    "--verbose", "-v", is_flag=True, help="Say all that was found, not the gist of it."
)

process_options = click.option(
    "--processes",
    type=(str, int, int),
    metavar="HOST:PORT I N",
    help="This is process I (from 0) of N that run the same command; process 0 listens at "
    "HOST:PORT.",
)
