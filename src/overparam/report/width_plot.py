"""Every a-priori coefficient against the width, one small panel each."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from overparam.pipeline.curves import positive
from overparam.pipeline.formatting import number
from overparam.report.plots import log_axis
from overparam.report.svg import BLUE, GREY, INK, VERMILLION, styled

COLUMNS = 3
SPREAD = 10

TITLES = {
    "margin": "margin  (above 1: certified)",
    "min_eigenvalue": "λₘᵢₙ of the kernel, from below",
    "jacobian_norm": "|J|",
    "modulus": "ω at the reference radius",
    "lipschitz": "L at the reference radius",
    "smoothness": "L_φ",
    "step_size": "step size η",
    "rate": "1 − rate a step",
    "radius": "path length s*",
    "sigma_end": "σ at the end of the path",
    "limit_distance": "|θ_∞ − θ₀|",
    "distance_ratio": "distance ratio − 1",
    "kernel_drift": "kernel drift",
    "linearisation_distance": "distance to the linearised model",
}
"""What each panel shows; two are shown as their distance to 1, which is what changes."""


@styled
def figure_width(
    widths: Sequence[int], columns: Mapping[str, Float[np.ndarray, " t"]], required: int
) -> Figure:
    """One panel for each coefficient, with a line at the required width.

    Values that spread over less than a decade are drawn on a linear axis.

    Args:
        widths: Widths of all hidden layers, increasing.
        columns: Each coefficient at these widths; not finite or 0 where there is none.
        required: The width from which the theorem holds.

    Returns:
        The figure.
    """
    shown = {name: _values(name, columns[name]) for name in TITLES if name in columns}
    shown = {name: values for name, values in shown.items() if np.isfinite(values).any()}
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(3.1 * COLUMNS, 2.0 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True)
    for axes, (name, values) in zip(grid.flat, shown.items(), strict=False):
        _panel(axes, np.array([float(w) for w in widths]), values, float(required), TITLES[name])
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    for axes in list(grid.flat)[max(len(shown) - COLUMNS, 0) : len(shown)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel(
        f"width of every hidden layer; dashed: {number(float(required), 3)}, from where the "
        "theorem holds",
        fontsize=10,
        color=INK,
    )
    return figure


def _values(name: str, values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    values = np.asarray(values, dtype=float)
    if name == "rate":
        values = 1 - values
    if name == "distance_ratio":
        values = values - 1
    return positive(np.where(np.isfinite(values), values, np.nan))


def _panel(axes: Axes, widths: np.ndarray, values: np.ndarray, required: float, title: str) -> None:
    axes.plot(widths, values, color=BLUE, marker="o", markersize=2.5, linewidth=1.4)
    axes.axvline(required, color=VERMILLION, linestyle=(0, (4, 3)), linewidth=1.1)
    axes.set_title(title, loc="left", fontsize=9.5, color=INK)
    axes.set_xlim(widths[0], widths[-1])
    log_axis(axes, "x")
    if np.nanmax(values) > SPREAD * np.nanmin(values):
        log_axis(axes, "y")
    axes.minorticks_off()  # there is no room for them, and they take longer than all the rest
    axes.tick_params(labelsize=8.5, color=GREY)
