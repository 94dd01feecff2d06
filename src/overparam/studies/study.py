"""What a study is: a grid of cells, the measurement of one cell, and what the table then says.

A cell is a flat mapping of numbers and strings that says everything about one measurement: data,
width, seeds, steps. Its measurement is a pure function of it, so a sweep can be interrupted,
resumed, spread over processes and repeated, and always ends with the same table.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
from matplotlib.figure import Figure

from overparam.errors import InputError
from overparam.limits import MOST_STEPS, MOST_WIDTH, require_depth, require_whole
from overparam.model.activation import get_activation

Cell = Mapping[str, Any]
"""Numbers, strings, booleans and None by name; floats may be infinite or NaN. So is a row."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What the user chose; None leaves the choice to the study.

    Attributes:
        data: A bundled set's name or a file, in place of the study's own data.
        target: The column to predict, with ``data``.
        samples: Points used at most, with ``data``.
        seeds: How many initialisations are drawn in each cell.
        quick: A small grid, for a first look, with as many seeds as its tests need to decide.
        activation: A built-in activation's name, in place of the study's own.
        depth: Hidden layers, 1 or more.
        widths: Widths of the hidden layers, ascending.
        separator, header, one_hot: How the table is to be read, see :func:`overparam.load`.
    """

    data: str | None = None
    target: str | None = None
    samples: int | None = None
    seeds: int | None = None
    quick: bool = False
    activation: str | None = None
    depth: int | None = None
    widths: tuple[int, ...] | None = None
    separator: str | None = None
    header: bool = True
    one_hot: bool = False

    def __post_init__(self) -> None:
        for name in ("samples", "seeds"):
            value = getattr(self, name)
            if value is not None:
                require_whole(name, value, 2, MOST_STEPS)
        if self.data is None and (self.target is not None or self.samples is not None):
            raise InputError("target and samples choose from a data set: name one with --data")
        if self.data is None and self.reading:
            raise InputError(f"{', '.join(self.reading)}: of a table, which --data names")
        if self.activation is not None:
            get_activation(self.activation)
        if self.depth is not None and require_depth(self.depth) < 1:
            raise InputError("depth must be 1 or more: studies are about hidden layers")
        if self.widths is not None:
            self._order_widths()

    def _order_widths(self) -> None:
        """Ascending, each once: the order in which they were given means nothing."""
        assert self.widths is not None
        each = {require_whole("each of widths", width, 1, MOST_WIDTH) for width in self.widths}
        if not each:
            raise InputError("widths is empty: give some, such as 64,256,1024")
        object.__setattr__(self, "widths", tuple(sorted(each)))

    @property
    def reading(self) -> dict[str, Any]:
        """What is unusual about reading the table; a cell says it, too."""
        usual = {"separator": None, "header": True, "one_hot": False}
        return {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}

    def refuse(self, why: str, *names: str) -> None:
        """Refuse what a study has no use for.

        Raises:
            InputError: One of these settings was chosen.
        """
        for name in names:
            if getattr(self, name) is not None:
                raise InputError(f"{why}: leave --{name} out")


@dataclass(frozen=True)
class Cost:
    """What measuring a cell takes, roughly, known before it is done.

    Attributes:
        size: Bytes of memory at the peak.
        flops: Floating-point operations.
    """

    size: float | int
    flops: float | int


@dataclass(frozen=True)
class Finding:
    """What the table says about one claim.

    Attributes:
        claim: What the theory says, one sentence.
        holds: True, False, or None if the data decide neither way.
        words: What was found and by which test, one or two sentences with the numbers.
        statistics: The numbers the verdict follows from, by name.
    """

    claim: str
    holds: bool | None
    words: str
    statistics: Mapping[str, float | int]

    @property
    def verdict(self) -> str:
        """``holds``, ``fails`` or ``undecided``."""
        return {True: "holds", False: "fails", None: "undecided"}[self.holds]


def parts(table: pl.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The values of some columns with the rows that have them, in the table's order."""
    for values, rows in table.group_by(columns, maintain_order=True):
        yield (*values, rows)


class Study(ABC):
    """One piece of empirical evidence.

    Attributes:
        name: As on the command line.
        title: For headings; if it is not given, the first line of the class's docstring.
        question: What is studied and why, two or three sentences for the page; if it is not given,
            the rest of the docstring.
        columns: The table's columns and their polars types, in order; floats are Float64.
        keys: The columns that identify a row; the table is sorted by them.
        caption: What the figure shows, for those who cannot see it; if it is not given, the
            docstring of ``figure`` after its first line.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    columns: ClassVar[Mapping[str, Any]]
    keys: ClassVar[tuple[str, ...]]
    caption: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Read the page's texts from the docstrings, where they are not given."""
        title, _, question = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")
        _, _, caption = inspect.cleandoc(cls.figure.__doc__ or "").partition("\n\n")
        texts = {"title": title.rstrip("."), "question": question, "caption": caption}
        for name in texts.keys() - vars(cls).keys():
            setattr(cls, name, " ".join(texts[name].split()))

    @abstractmethod
    def cells(self, settings: Settings) -> list[Cell]:
        """The grid, in any order: the sweep begins with what costs most.

        Raises:
            InputError: The settings do not fit the study.
        """

    @abstractmethod
    def cost(self, cell: Cell) -> Cost:
        """Estimate what a cell takes."""

    @abstractmethod
    def measure(self, cell: Cell) -> list[Row]:
        """Measure one cell: a pure function of it, without time or place in its rows."""

    @abstractmethod
    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The verdicts, each by a test that the words name."""

    @abstractmethod
    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """The few rows that the page shows."""

    @abstractmethod
    def figure(self, table: pl.DataFrame) -> Figure:
        """The figure: measured with bands of uncertainty, the theory's curve in the same axes."""

    def table(self, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        """Put rows into the study's columns and order, the same whatever order they came in."""
        columns = {
            name: pl.Series(name, [row[name] for row in rows], dtype=kind)
            for name, kind in self.columns.items()
        }
        return pl.DataFrame(columns).sort(self.keys, maintain_order=True)
