"""The pictures of docs/concepts.md: ``python website/pictures.py`` writes docs/pictures/*.svg."""

from pathlib import Path

import matplotlib
import numpy as np
import polars as pl

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
BLUE, VERMILLION, GREEN, GREY = "#0072b2", "#d55e00", "#00734f", "#55585e"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "overparam",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

# Two weights a, b and the model a b, which is to be 1: F = a b, J = (b, a), |J - J_0| = |step|.
START = np.array([0.2, 1.8])
STEP = 0.05
RESIDUAL = 1 - START.prod()
SIGMA = np.hypot(*START)
RHO = RESIDUAL / 0.9  # with q = 0.9
RADIUS = SIGMA - np.sqrt(SIGMA**2 - 2 * RHO)  # the smallest root of sigma s - s^2 / 2 = rho


def ball(axes: plt.Axes) -> None:
    """Gradient descent on (a b - 1)^2 / 2, and the ball that Theorem 1 allows it."""
    a, b = np.meshgrid(np.linspace(-0.15, 1.05, 200), np.linspace(1.15, 2.4, 200))
    levels = [0.005, 0.02, 0.06, 0.15, 0.3, 0.5, 0.8]
    axes.contour(a, b, (a * b - 1) ** 2 / 2, levels=levels, colors=GREY, linewidths=0.5)
    minima = np.linspace(0.4, 1.05, 100)
    axes.plot(minima, 1 / minima, color=GREEN, linewidth=3)
    axes.annotate("global minima: a whole curve", (0.47, 2.13), (0.5, 2.28), color=GREEN)
    path = [START]
    for _ in range(60):
        weights = path[-1]
        path.append(weights - STEP * (weights.prod() - 1) * weights[::-1])
    axes.plot(*np.transpose(path), ".-", color=BLUE, markersize=5)
    axes.annotate("start", START, (0.18, 1.86), color=BLUE, ha="right")
    axes.annotate("gradient descent", (0.04, 1.7), color=BLUE)
    axes.add_patch(plt.Circle(START, RADIUS, fill=False, linestyle="--", color=VERMILLION))
    axes.annotate("it never leaves this ball", (-0.13, 1.22), color=VERMILLION)
    axes.set(xlabel="weight a", ylabel="weight b", aspect="equal")
    axes.set(xlim=(-0.15, 1.05), ylim=(1.15, 2.4))


def budget(axes: plt.Axes) -> None:
    """Psi against rho: enough kernel, and too little."""
    s = np.linspace(0, 2, 200)
    for sigma, colour, line, word, place in (
        (SIGMA, GREEN, "-", "certified", (1.25, 1.3)),
        (0.55 * SIGMA, VERMILLION, "--", "not certified: the margin is 0.7", (0.48, 0.18)),
    ):
        axes.plot(s, sigma * s - s**2 / 2, colour, linestyle=line)
        axes.annotate(word, place, color=colour)
    axes.axhline(RHO, color=GREY, linestyle=":")
    axes.annotate("needed: ρ, what is left to fit", (1.05, RHO + 0.04), color=GREY)
    axes.plot(RADIUS, RHO, "o", color=GREEN)
    axes.annotate("radius s*", (RADIUS, RHO), (RADIUS - 0.05, RHO + 0.12), color=GREEN, ha="right")
    axes.set(
        xlabel="distance s from the start", ylabel="Ψ(s), progress that is sure", ylim=(0, 1.9)
    )


def places(axes: plt.Axes) -> None:
    """Where a certificate can stand on the way of a training run; not a measurement."""
    t = np.linspace(0, 10, 200)
    axes.plot(t, np.exp(-0.45 * t), color=GREY)
    for at, colour, mark, word in (
        (0, VERMILLION, "s", "at the start: Theorems 1 and P,\nbefore any step; wide networks"),
        (4, BLUE, "D", "along the run: Theorem C makes the\nsteps, until Theorem 1 takes over"),
        (9, GREEN, "o", "at the end: anchored, Theorem 1 or R;\nany optimiser may have led here"),
    ):
        height = np.exp(-0.45 * at)
        axes.plot(at, height, mark, color=colour, markersize=9)
        axes.annotate(word, (at, height), (at + 0.35, height + 0.06), color=colour)
    axes.set(xlabel="training", ylabel="loss", xticks=[], yticks=[], xlim=(-0.2, 15), ylim=(0, 1.2))


def lazy(axes: plt.Axes) -> None:
    """The measured drift of the kernel by width, from the study's table."""
    table = pl.read_csv(ROOT / "docs/evidence/lazy/table.csv")
    drift = (
        table.filter(pl.col("data") == "digits parity")
        .group_by("width")
        .agg(pl.col("kernel_drift").median())
        .sort("width")
    )
    width, measured = drift["width"].to_numpy(), drift["kernel_drift"].to_numpy()
    axes.loglog(width, measured, "o-", color=BLUE)
    axes.annotate("measured", (1.1 * width[1], 1.5 * measured[1]), color=BLUE)
    axes.loglog(width, measured[0] * width[0] / width / 3, ":", color=GREY)
    axes.annotate("theory: 1 / width", (width[2], measured[2] / 8), color=GREY, ha="right")
    axes.set(xlabel="units in the hidden layer", ylabel="change of the kernel\nwhile training")


def main() -> None:
    """Write all pictures."""
    with plt.rc_context(STYLE):
        for draw in (ball, budget, places, lazy):
            figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
            draw(axes)
            path = ROOT / f"docs/pictures/{draw.__name__}.svg"
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    main()
