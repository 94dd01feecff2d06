"""How lazy training gets with width: movement, drift and linearisation error, and their bounds."""

from typing import ClassVar

import polars as pl
from matplotlib.figure import Figure

from overparam.report.svg import styled
from overparam.studies import plotting
from overparam.studies.problems import (
    Source,
    by_width,
    certified_run,
    identity,
    network,
    read_cell,
    training_flops,
)
from overparam.studies.statistics import exponent, median, never, power_law
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts
from overparam.train.laziness import measure_laziness

TESTS = 50
STEPS = 200
SCALE = 100.0
"""Of the output, so that convergence is certified from initialisation at every width."""

THEORY = {
    "movement": (-0.5, "the parameters' relative movement"),
    "jacobian_drift": (-0.5, "the Jacobian's relative drift"),
    "kernel_drift": (-1.0, "the kernel's relative drift"),
    "error_train": (-1.0, "the linearisation error on training points"),
    "error_test": (-1.0, "the linearisation error on test points"),
}
"""Exponents in the width of one hidden layer; docs/linearised.md, Proposition L5."""

WITHIN = 0.15
"""How near a fitted exponent must be to the theory's."""


class Lazy(Study):
    """Movement, kernel drift and linearisation error against width."""

    name: ClassVar = "lazy"
    title: ClassVar = "Wide networks train lazily"
    question: ClassVar = (
        "The wider a network, the less its parameters and its tangent kernel move, and the closer "
        "it stays to its linearisation. With one hidden layer the theory gives the exponents: -1/2 "
        "for the parameters and the Jacobian, -1 for the kernel and the linearisation error, whose "
        "first order is odd in the output weights' signs and cancels."
    )
    keys: ClassVar = ("data", "width", "seed")
    columns: ClassVar = {
        "data": pl.String,
        "width": pl.Int64,
        "seed": pl.Int64,
        "certified": pl.Boolean,
        "drift_bound": pl.Float64,
        **dict.fromkeys(THEORY, pl.Float64),
    }
    caption: ClassVar = (
        "Median over seeds and the band from their 10 % to their 90 % quantile, against the width "
        "of one hidden layer. Dotted: the theory's slopes -1/2 and -1, and the certified bound on "
        "the kernel's drift."
    )

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a data set and width."""
        widths = (64, 256, 1024) if settings.quick else (64, 256, 1024, 4096, 16384)
        own = [Source("digits", "parity", 10), Source("diabetes", None, 10)]
        seeds = 3 if settings.quick else 16
        return by_width(settings, own, widths, seeds, depth=1, output_scale=SCALE)

    def cost(self, cell: Cell) -> Cost:
        """Training, and four kernels; compiling takes about five seconds a width."""
        flops = 1.5e10 + cell["seeds"] * (6 * training_flops(cell, STEPS) + 1e9)
        return Cost(64 * 8 * 40 * cell["width"], flops)

    def measure(self, cell: Cell) -> list[Row]:
        """Train from each seed by the certified step."""
        data = read_cell(cell, TESTS)
        model, rows = network(data, cell), []
        assert data.test is not None
        for seed in range(cell["seeds"]):
            problem, start, certificate, run = certified_run(data, model, seed, STEPS)
            lazy = measure_laziness(problem, start, run.params, test_x=data.test.x)
            own = identity(cell, "width", seed=seed, certified=certificate.certified)
            own["drift_bound"] = certificate.numbers.relative_kernel_drift
            moved = lazy.movement, lazy.jacobian_drift, lazy.kernel_drift
            errors = lazy.linearisation_error, lazy.linearisation_error_test
            rows.append(own | dict(zip(THEORY, moved + errors, strict=True)))
        return rows

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The exponents, and the bound on the drift."""
        found = []
        for data, part in parts(table, "data"):
            for column, (theory, words) in THEORY.items():
                claim = f"On {data}, {words} falls like width^{theory:g}."
                slope = exponent(part, "width", column)
                found.append(power_law(claim, slope, theory, WITHIN))
        bounded = table.filter("certified")
        broken = bounded.filter(pl.col("kernel_drift") > pl.col("drift_bound")).height
        slack = median(bounded["drift_bound"] / bounded["kernel_drift"])
        claim = "The kernel drifts no farther than certified before training."
        words = f"{bounded.height} certified runs of {table.height}; the bound is {slack:.3g} "
        words += "times the measured drift in the median."
        found.append(never(claim, broken, bounded.height, words))
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """Medians by data set and width."""
        medians = [pl.col(c).median() for c in ("drift_bound", *THEORY)]
        return table.group_by("data", "width", maintain_order=True).agg(*medians)

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """A panel a data set."""
        groups = list(parts(table, "data"))
        figure, panels = plotting.canvas(len(groups))
        labels = ("parameters", "Jacobian", "kernel", "linearisation (train)", "(test)")
        for axes, (name, part) in zip(panels, groups, strict=True):
            for series, (column, text) in enumerate(zip(THEORY, labels, strict=True)):
                plotting.band(axes, part, "width", column, series, text)
            plotting.theory_curve(axes, part, "width", "drift_bound", "bound on the kernel")
            for column, slope in (("jacobian_drift", -0.5), ("kernel_drift", -1.0)):
                plotting.power(axes, part["width"], 1.6 * part[column][0], slope)
            plotting.log_ticks(axes, part["width"], "width")
            axes.set(yscale="log", title=name)
        panels[0].set_ylabel("relative change")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")
        return figure


STUDY = Lazy()
