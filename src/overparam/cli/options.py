"""Options shared by the commands."""

import difflib
import math
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import CompletionItem

from overparam.choices import DATA_SETS, PREPARED, Mode
from overparam.errors import InputError
from overparam.limits import MOST_WIDTH, require_whole
from overparam.memory import parse_size

Decorator = Callable[[Callable], Callable]

PLACE = click.Path(path_type=Path)
TASKS = ("auto", "classification", "regression")
FLOATS = ("float32", "float64")


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


class WeightDecay(click.ParamType):
    """A number, or ``auto``."""

    name = "lambda"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        """A number from text."""
        try:
            return value if value == "auto" else float(value)
        except ValueError:
            self.fail(f"{value!r} is no weight decay: write 1e-3, or auto", param, ctx)


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


def option(names: str, kind: Any, default: Any, says: str, **more: Any) -> Decorator:
    """An option of a command in one line.

    Args:
        names: As typed; after a space, what the command's function calls it.
        kind: Its type; several words stand for a choice among them.
        default: None for none.
        says: Its help.
        **more: What else click takes.
    """
    if isinstance(kind, tuple) and all(isinstance(word, str) for word in kind):
        kind = Choice(kind)
    if kind is bool and "/" not in names:
        more["is_flag"] = True
    elif kind is not bool:
        more["type"] = kind
    if not more.get("required"):  # to which a default of None would be a value that was given
        more["default"] = default
    return click.option(*names.split(), help=says, **more)


def together(*decorators: Decorator) -> Decorator:
    """Several arguments and options as one, in their order."""
    return lambda command: reduce(lambda of, decorate: decorate(of), reversed(decorators), command)


def _complete_data(ctx: Any, param: Any, begun: str) -> list[CompletionItem]:
    """Names of data sets; without one, the shell offers files."""
    names = [CompletionItem(name) for name in DATA_SETS if name.startswith(begun)]
    return names or [CompletionItem(begun, type="file")]


separator_option = option(
    *("--separator", str, None),
    "Between the columns of a text file: a character, or tab, space, ...; told from the file by "
    "default.",
)

header_option = option(
    *("--header/--no-header", bool, True),
    "Whether a text file's first line names the columns; if not, they are column_1, ...",
)

reading_options = together(
    separator_option,
    header_option,
    option(
        *("--one-hot", bool, False),
        "Make of each column of text a column of 0 and 1 for each of its values.",
    ),
)
"""How a table is to be read."""


def data_options(*, test_fraction: float = 0.2, standardize: str = PREPARED) -> Decorator:
    """DATA, a file or the name of a bundled set, and what selects and prepares it."""
    return together(
        click.argument("data", shell_complete=_complete_data),
        option("--target", str, None, "Column to learn; the last one by default."),
        option("--task", TASKS, "auto", "Kind of target; auto tells from its values."),
        reading_options,
        option("--samples", int, None, "Draw this many rows; all by default."),
        option("--seed", int, 0, "Of the draw, the split and the network."),
        option(
            "--test-fraction", float, test_fraction, "Fraction of the rows held out; 0 for none."
        ),
        option(
            *("--standardize", get_args(Mode), standardize),
            "center: mean 0, variance 1 per feature; lift: then one more coordinate of "
            "constant height, and the same norm for every point; sphere: the same norm without "
            "it, which keeps a point's direction only; norm: norm sqrt(d) only, "
            "which fits nothing to the sample and so keeps the bounds evaluated on it free of "
            "that reservation.",
        ),
    )


scale_options = together(
    option("--output-scale", float, 1.0, "Factor on the output."),
    option("--weight-scale", float, 1.0, "Factor on the weights."),
    option("--bias-scale", float, 0.1, "Factor on the biases."),
)

model_options = together(
    option("--width", int, 512, "Units of each hidden layer."),
    option("--depth", int, 2, "Number of hidden layers."),
    option("--activation", str, "gelu", "tanh, erf, gelu, softplus, sin, ..."),
    scale_options,
)
"""What describes the network."""

loss_option = option(
    *("--loss", str, "squared"),
    "squared, huber:DELTA, pseudo_huber:DELTA, log_cosh, expectile:TAU, "
    "weighted_quadratic:W1,W2,...; for classes also squared_hinge and "
    "smoothed_cross_entropy:SMOOTHING, and with weight decay cross_entropy.",
)

trainable_option = option(
    *("--trainable", str, "all"),
    'What moves: "last layer", layers.1: (all but the first), weights, biases.0, several with '
    "commas; the rest keeps its values.",
)

json_option = option("--json as_json", bool, False, "Print a machine-readable summary.")

result_options = together(
    option(
        *("--out", PLACE, None),
        "Folder for all results. Those of an earlier job there are replaced; files of the same "
        "names that no job wrote are not: the folder is refused.",
    ),
    option("--verbose -v", bool, False, "Say all that was found, not the gist of it."),
    json_option,
)
"""Of the jobs whose results are a page and files."""
