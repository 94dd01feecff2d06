"""Figures of what follows from convergence; the same rules as in ``plots.py``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from overparam.pipeline.curves import positive
from overparam.pipeline.distances import Distance
from overparam.pipeline.formatting import at_most, number
from overparam.report.plots import SIZE, beside, distance_panel, dots, log_axis
from overparam.report.svg import BLUE, GREEN, GREY, INK, PURPLE, VERMILLION, styled
from overparam.risk.risk_bound import RiskBound
from overparam.train.laziness import LAZY, PARTLY_LAZY, Laziness
from overparam.train.step_optimum import StepSweep

LOOKS = (
    (BLUE, "o", "-"),
    (VERMILLION, "s", (0, (4, 2))),
    (GREEN, "^", (0, (6, 2, 1.5, 2))),
    (PURPLE, "D", (0, (1, 1.5))),
)
"""Colour, marker and line of one curve among a few."""


NEAR = 0.1
"""From this share of the largest loss on a number to the right of its mark would reach the line."""


@styled
def figure_regularisation(rows: Sequence[Distance]) -> Figure:
    """Distances from the initialisation on one line each."""
    figure = Figure(figsize=(SIZE[0], 0.8 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    distance_panel(axes, "", rows)
    axes.set_xlabel("distance from the initialisation")
    return figure


@styled
def figure_laziness(runs: Mapping[str, Laziness]) -> Figure:
    """Measures of laziness on a logarithmic axis, beside the thresholds of the verdict."""
    figure = Figure(figsize=(SIZE[0], 3.0), layout="constrained")
    axes = figure.subplots()
    measures = {
        "kernel drift": "kernel_drift",
        "linearisation error, training": "linearisation_error",
        "linearisation error, test": "linearisation_error_test",
        "parameter movement": "movement",
    }
    axes.set_xscale("log")
    for (name, lazy), (color, marker, _) in zip(runs.items(), LOOKS, strict=False):
        points = [
            (value, line)
            for line, field in enumerate(measures.values())
            if (value := getattr(lazy, field)) is not None and 0 < value < np.inf
        ]
        values, lines = zip(*points, strict=True) if points else ((), ())
        dots(axes, values, lines, (marker, color), hollow=marker != "o", label=name)
    for threshold in (LAZY, PARTLY_LAZY):
        axes.axvline(threshold, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(measures)), list(measures))
    axes.set_ylim(len(measures) - 0.5, -0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, LAZY / 3), max(high, 2 * PARTLY_LAZY))
    log_axis(axes, "x")
    axes.set_xlabel("relative change")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


@styled
def figure_transfer(sweeps: Mapping[str, StepSweep], titles: Mapping[str, str]) -> Figure:
    """Final excess against the step size, a panel for each parametrisation, a curve a width."""
    figure = Figure(figsize=(SIZE[0] * 1.3, 3.1), layout="constrained")
    grid = figure.subplots(1, len(sweeps), squeeze=False, sharey=True)
    for axes, (name, sweep) in zip(grid[0], sweeps.items(), strict=True):
        for runs, (color, marker, line) in zip(sweep.runs, LOOKS, strict=False):
            # A run that ends above its start has learnt nothing: it counts as standing still.
            ends = np.minimum(runs.final, runs.initial[None, :])
            with np.errstate(divide="ignore"):
                mean = np.exp(np.log(ends).mean(axis=1))
            look: dict[str, Any] = {"color": color, "marker": marker, "linestyle": line}
            name_of_width = f"width {runs.width:,}"
            axes.plot(runs.step_sizes, positive(mean), linewidth=1.4, label=name_of_width, **look)
        log_axis(axes, "x")
        axes.set_xlabel("step size")
        axes.set_title(titles[name], fontsize=10, color=INK)
    log_axis(grid[0, 0], "y")
    grid[0, 0].set_ylabel("excess at the end")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


@styled
def figure_risks(risks: Sequence[RiskBound], test_error: float | None) -> Figure:
    """Bounds on the risk, one line each, beside the measured test error."""
    figure = Figure(figsize=(SIZE[0] * 1.25, 1.0 + 0.34 * len(risks)), layout="constrained")
    axes = figure.subplots()
    highest = max([bound.loss_bound for bound in risks])
    axes.set_xscale("log")
    for line, bound in enumerate(risks):
        _risk(axes, line, bound)
    axes.axvline(highest, color=GREY, linestyle="--", linewidth=1)
    if test_error:
        axes.axvline(test_error, color=BLUE, linewidth=1.4, label="measured on the test part")
        figure.legend(loc="outside upper right")
    axes.set_yticks(range(len(risks)), [bound.name for bound in risks])
    axes.set_ylim(len(risks) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 3)
    log_axis(axes, "x")
    axes.set_xlabel(f"{risks[0].loss}, at most")
    return figure


def _risk(axes: Axes, line: int, bound: RiskBound) -> None:
    """A value, in a place where the line at the largest loss does not strike it through.

    Beyond that loss nothing is said, so nothing is drawn there.
    """
    look, show = (("s", GREEN), at_most) if bound.is_bound else (("D", VERMILLION), number)
    value = min(bound.value, bound.loss_bound)
    dots(axes, value, line, look, hollow=bound.vacuous or not bound.is_bound)
    text = "vacuous" if bound.is_bound and bound.vacuous else show(bound.value, 3)
    beside(axes, text, value, line, left=NEAR * bound.loss_bound < value < bound.loss_bound)
