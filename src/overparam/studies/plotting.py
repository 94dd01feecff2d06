"""What the studies' figures share: series told apart without colour, bands, the theory's curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from overparam.report.svg import BLUE, GREEN, INK, ORANGE, PURPLE, VERMILLION

SERIES: tuple[dict[str, Any], ...] = (
    {"color": BLUE, "marker": "o", "linestyle": "-"},
    {"color": VERMILLION, "marker": "s", "linestyle": "--"},
    {"color": GREEN, "marker": "^", "linestyle": "-."},
    {"color": PURPLE, "marker": "D", "linestyle": ":"},
    {"color": INK, "marker": "v", "linestyle": (0, (5, 1, 1, 1, 1, 1))},
    {"color": ORANGE, "marker": "P", "linestyle": (0, (3, 1))},
)
"""Colours of Okabe and Ito; markers and dashes carry the difference in grey."""

THEORY: dict[str, Any] = {"color": INK, "linestyle": (0, (1, 1.2)), "linewidth": 1.4}
"""Curves of the theory: dotted, without markers."""


def canvas(panels: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a row of panels, or several rows; draw it inside ``report.svg.styled``."""
    columns = -(-panels // rows)
    size = (4.1 * columns + 0.4, 3.4 * rows)
    figure = Figure(figsize=size, layout="constrained")
    return figure, [figure.add_subplot(rows, columns, 1 + i) for i in range(panels)]


def band(
    axes: Axes, table: pl.DataFrame, x: str, y: str | pl.Expr, series: int, label: str
) -> None:
    """The median of y over seeds against x, and a band from their 10 % to their 90 % quantile."""
    style = SERIES[series % len(SERIES)]
    at, values = by_seed(table, x, y)
    low, middle, high = np.nanquantile(values, [0.1, 0.5, 0.9], axis=0)
    axes.plot(at, middle, label=label, **style)
    axes.fill_between(at, low, high, color=style["color"], alpha=0.18, linewidth=0)


def theory_curve(axes: Axes, table: pl.DataFrame, x: str, y: str | pl.Expr, label: str) -> None:
    """The theory's curve: the median of y over seeds against x."""
    axes.plot(*medians(table, x, y), label=label, **THEORY)


def power(axes: Axes, x: pl.Series, through: Any, slope: float) -> None:
    """A dotted line of a given slope in doubly logarithmic axes, its slope written beside it.

    It goes through ``through`` at the least x.
    """
    ends = np.unique(x.to_numpy()).astype(np.float64)[[0, -1]]
    heights = float(through) * (ends / ends[0]) ** slope
    axes.plot(ends, heights, **THEORY)
    beside_the_end(axes, f"slope {slope:g}", ends, heights)


def beside_the_end(axes: Axes, text: str, x: Any, y: Any, size: float = 8) -> None:
    """A text beside the last point of a curve."""
    axes.annotate(text, (x[-1], y[-1]), (4, 0), textcoords="offset points", fontsize=size)


def log_ticks(axes: Axes, measured: pl.Series, words: str) -> None:
    """A logarithmic x axis with a tick at each value that was measured."""
    values = measured.unique().sort().to_list()
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:,g}" for value in values])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(words)


def plain_ticks(axis: Axis, multiples: Sequence[float]) -> None:
    """Ticks of a logarithmic axis at these multiples of powers of ten, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def by_seed(
    table: pl.DataFrame, x: str, y: str | pl.Expr
) -> tuple[Float[np.ndarray, " x"], Float[np.ndarray, "seeds x"]]:
    """The values of x, and y as an array of seeds by x; NaN where there is none."""
    column = table.with_columns((pl.col(y) if isinstance(y, str) else y).alias("y"))
    wide = column.pivot(x, index="seed", values="y", sort_columns=False).drop("seed")
    order = sorted(wide.columns, key=float)
    return np.array([float(c) for c in order]), wide.select(order).to_numpy().astype(np.float64)


def medians(
    table: pl.DataFrame, x: str, y: str | pl.Expr
) -> tuple[Float[np.ndarray, " x"], Float[np.ndarray, " x"]]:
    """The values of x, and the medians of y over seeds."""
    at, values = by_seed(table, x, y)
    return at, np.nanmedian(values, axis=0)
