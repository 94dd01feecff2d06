"""The report's figures, as pure functions from results to matplotlib figures.

Every curve differs from its neighbours in colour and in line style or marker, so that the figures
survive a black-and-white printer. What a figure shows is said by its caption (``Picture``).
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from overparam.certificate.certificate import Course
from overparam.pipeline.curves import decrease, is_flat, positive, thinned
from overparam.pipeline.distances import Distance
from overparam.pipeline.formatting import at_least, at_most, number, power_of_ten
from overparam.pipeline.result import Spectrum
from overparam.report.svg import BLUE, GREEN, GREY, INK, VERMILLION, styled
from overparam.train.gradient_descent import History

SIZE = (5.4, 3.4)
"""Inches: two figures side by side on a page, one on a telephone."""


FEW = 60
"""Up to so many eigenvalues are drawn one by one, on a linear axis."""


@styled
def figure_descent(
    history: History,
    linearised: Float[np.ndarray, " t"] | None,
    optimizer: str = "gd",
    course: Course | None = None,
    minimum: float | None = None,
) -> Figure:
    """The excess from initialisation, the linearised prediction, and the certified envelope.

    Args:
        history: The optimiser's run.
        linearised: The linearised model's excess at the same steps, if known.
        optimizer: Names the run in the legend.
        course: delta_t along the run that Theorem C made, up to the step T at which Theorem 1 takes
            over; None for other theorems.
        minimum: With weight decay the excess of the minimum that Theorem R found.

    Returns:
        The figure.
    """
    figure, axes = _canvas()
    name = "gradient descent" if optimizer == "gd" else optimizer
    _curve(axes, history.excess, label=f"network ({name})", color=BLUE)
    if linearised is not None:
        _curve(axes, linearised, label="linearised model", color=VERMILLION, linestyle=(0, (4, 2)))
    if history.envelope is not None:
        _envelope(axes, history.envelope)
    if course is not None and course.steps[-1] < len(history):
        text = f"Theorem 1 takes over, δ_T = {at_most(course.deviations[-1], 2)}"
        axes.axvline(course.steps[-1], color=GREY, linestyle=":", label=text)
    if minimum:
        text = f"the region's minimum, {at_most(minimum)}"
        axes.axhline(minimum, color=GREY, linestyle=":", label=text)
    log_axis(axes, "y")
    axes.set(xlabel="step", ylabel="excess loss  φ − f*")
    handles, _ = axes.get_legend_handles_labels()
    if course is not None and max(course.deviations) > 0:
        handles.append(_deviations(axes.twinx(), course, len(history)))
    axes.legend(handles=handles, loc="best")
    return figure


def _deviations(right: Axes, course: Course, count: int) -> Line2D:
    """delta_t on an axis of its own: it is a distance of parameters."""
    steps = thinned(min(course.steps[-1] + 1, count))
    style: dict[str, Any] = {"color": GREY, "linestyle": (0, (1, 1.5)), "linewidth": 1.4}
    (line,) = right.plot(steps, positive(course.at(steps)), label="δₜ (right)", **style)
    log_axis(right, "y")
    right.set_ylabel("exact from computed run  δₜ")
    return line


@styled
def figure_anchored_run(history: History) -> Figure:
    """Gradient descent from the anchor against its certified envelope, relative to the start.

    Where the run hardly moves the excess, its decrease 1 - Delta_t / Delta_0 is drawn instead: the
    measured one must lie above the certified one.

    Args:
        history: A run with an envelope.

    Returns:
        The figure.
    """
    assert history.envelope is not None, "a certified run has an envelope"
    figure, axes = _canvas()
    if is_flat(history):
        _curve(axes, decrease(history.excess), label="measured decrease", color=BLUE)
        _curve(
            axes,
            decrease(history.envelope),
            label="certified decrease",
            color=GREEN,
            linestyle=(0, (6, 2, 1.5, 2)),
        )
        axes.set_ylabel("decrease  1 − Δₜ / Δ₀")
        log_axis(axes, "x")
    else:
        start = history.excess[0]
        _curve(axes, history.excess / start, label="measured", color=BLUE)
        _envelope(axes, history.envelope / start)
        axes.set_ylabel("excess relative to the start  Δₜ / Δ₀")
    log_axis(axes, "y")
    axes.set_xlabel("step from the anchor")
    axes.legend(loc="best")
    return figure


@styled
def figure_spectrum(
    initial: Spectrum,
    initial_bound: float,
    anchor: Spectrum | None = None,
    anchor_bound: float | None = None,
) -> Figure:
    """Eigenvalues of the tangent kernel in decreasing order, with the bounds on the smallest.

    Args:
        initial: The spectrum at initialisation.
        initial_bound: Lower bound on lambda_min there; drawn if positive.
        anchor: The spectrum at the anchor, if there is one.
        anchor_bound: Lower bound on lambda_min there.

    Returns:
        The figure.
    """
    figure, axes = _canvas()
    _eigenvalues(axes, initial, initial_bound, "at initialisation", (BLUE, "-", "o"))
    if anchor is not None:
        look = (VERMILLION, (0, (4, 2)), "s")
        _eigenvalues(axes, anchor, anchor_bound or 0.0, "at the anchor", look)
    count = max(len(initial.eigenvalues), 1 if anchor is None else len(anchor.eigenvalues))
    if count > FEW:
        log_axis(axes, "x")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    log_axis(axes, "y")
    axes.set(xlabel="index of the eigenvalue", ylabel="eigenvalue of K")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 0.18))  # below the decay, above the bounds
    return figure


@styled
def figure_distances(panels: Sequence[tuple[str, Sequence[Distance]]]) -> Figure:
    """Distances measured and certified, one panel for each starting point.

    Args:
        panels: A title and distances, from ``distances.py``; panels without distances are left out.

    Returns:
        The figure.
    """
    panels = [(title, rows) for title, rows in panels if rows]
    lines = sum(len(rows) for _, rows in panels)
    figure = Figure(figsize=(SIZE[0], 0.75 * len(panels) + 0.3 * lines), layout="constrained")
    grid = figure.subplots(
        len(panels), 1, squeeze=False, height_ratios=[len(rows) + 1 for _, rows in panels]
    )
    for axes, (title, rows) in zip(grid[:, 0], panels, strict=True):
        distance_panel(axes, title, rows)
    grid[-1, 0].set_xlabel("Euclidean distance in parameter space")
    return figure


@styled
def figure_gauss_newton(residuals: Sequence[float]) -> Figure:
    """The residual |h* - F| after each Gauss-Newton step.

    Args:
        residuals: Before the first step and after each.

    Returns:
        The figure.
    """
    figure, axes = _canvas()
    values = positive(np.asarray(residuals, dtype=float))
    axes.plot(np.arange(len(values)), values, marker="o", color=BLUE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    log_axis(axes, "y")
    axes.set(xlabel="Gauss-Newton step", ylabel="residual  |h* − F|")
    return figure


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _curve(axes: Axes, values: Float[np.ndarray, " t"], **style: Any) -> None:
    """A curve over the steps, without the points that a logarithmic axis cannot show."""
    steps = thinned(len(values))
    marker = "o" if len(steps) == 1 else None
    axes.plot(steps, positive(values)[steps], marker=marker, **style)


def _envelope(axes: Axes, envelope: Float[np.ndarray, " t"]) -> None:
    """The certified envelope, with the region above it hatched: the run cannot go there."""
    steps = thinned(len(envelope))
    values = positive(envelope)[steps]
    axes.plot(steps, values, color=GREEN, linestyle=(0, (6, 2, 1.5, 2)), label="certified envelope")
    if np.isfinite(values).any():
        top = 3 * np.nanmax(values)
        axes.fill_between(steps, values, top, facecolor="none", hatch="///", linewidth=0, zorder=0)


def _eigenvalues(
    axes: Axes, spectrum: Spectrum, bound: float, label: str, look: tuple[str, Any, str]
) -> None:
    """A spectrum, and a thin line at the lower bound on its smallest eigenvalue."""
    color, style, marker = look
    index = np.arange(1, len(spectrum.eigenvalues) + 1)
    axes.plot(
        *(index, positive(spectrum.eigenvalues)),
        color=color,
        linestyle=style,
        linewidth=1.4,
        label=f"{label}, λₘᵢₙ ≥ {at_least(bound, 3)}" if bound > 0 else label,
        marker=marker if len(index) <= FEW else None,
        markerfacecolor=color if marker == "o" else "white",
    )
    if bound > 0:
        axes.axhline(bound, color=color, linestyle=style, linewidth=0.9, alpha=0.8)


def distance_panel(axes: Axes, title: str, rows: Sequence[Distance]) -> None:
    """One line for each distance: a bar to a marker that tells how it was obtained."""
    markers = {"measured": ("o", BLUE), "upper": ("<", GREEN), "lower": (">", VERMILLION)}
    shown = {"measured": number, "upper": at_most, "lower": at_least}
    values = [row.value for row in rows]
    low, high = min(values), max(values)
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.08 / 1.6, high * (high / low) ** 0.35 * 3)
    for line, row in enumerate(rows):
        dots(axes, row.value, line, markers[row.side])
        beside(axes, shown[row.side](row.value), row.value, line)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="y", color=GREY, alpha=0.25)
    log_axis(axes, "x")


def dots(
    axes: Axes, x: Any, y: Any, look: tuple[str, str], hollow: bool = False, label: str = "_"
) -> None:
    """Markers without a line, of a marker and a colour."""
    marker, color = look
    face = "white" if hollow else color
    style: dict[str, Any] = {"linestyle": "none", "markersize": 7.5, "markerfacecolor": face}
    axes.plot(x, y, marker=marker, color=color, label=label, **style)


def beside(axes: Axes, text: str, x: float, y: int, left: bool = False) -> None:
    """A text to the right of a point, or to the left of it."""
    where: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    where["ha"] = "right" if left else "left"
    axes.annotate(text, (x, y), (-8 if left else 8, 0), fontsize=9.5, **where)


def log_axis(axes: Axes, name: Literal["x", "y"]) -> None:
    """A logarithmic scale with plain-text labels: at decades, or at 1, 2, 5 if there are few."""
    (axes.set_yscale if name == "y" else axes.set_xscale)("log")
    axis: Axis = axes.yaxis if name == "y" else axes.xaxis
    low, high = axis.get_view_interval()
    if high < 50 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=7))
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value), 1)))
    else:
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axis.set_minor_formatter(NullFormatter())
