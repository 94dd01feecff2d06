"""How lazy training gets with width: movement, drift and linearisation error, and their bounds."""

from typing import ClassVar

import polars as pl
from matplotlib.figure import Figure

from overparam.report.svg import styled
from overparam.studies import plotting, problems
from overparam.studies.statistics import at_most, exponent, median, never, power_law
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts
from overparam.train.laziness import measure_laziness

SEEDS = 16
"""With 12, an exponent of the ten is undecided."""

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

AT_LEAST = -0.5
"""Each exponent of deeper networks is this or less: J. Lee et al. (2019), Theorem 2.1."""

WITHIN = 0.15
"""How near a fitted exponent must be to the theory's."""


class Lazy(Study):
    """Wide networks train lazily.

    The wider a network, the less its parameters and its tangent kernel move, and the closer it
    stays to its linearisation. With one hidden layer the theory gives the exponents: -1/2 for the
    parameters and the Jacobian, -1 for the kernel and the linearisation error, whose first order
    is odd in the output weights' signs and cancels. Of deeper networks it says that all are -1/2
    or less.
    """

    name: ClassVar = "lazy"
    keys: ClassVar = ("data", "depth", "width", "seed")
    columns: ClassVar = {
        "data": pl.String,
        "depth": pl.Int64,
        "width": pl.Int64,
        "seed": pl.Int64,
        "certified": pl.Boolean,
        "drift_bound": pl.Float64,
        **dict.fromkeys(THEORY, pl.Float64),
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a data set and width."""
        widths = (64, 4096) if settings.quick else (64, 256, 1024, 4096, 16384)
        own = [problems.Source("digits", "parity", 10), problems.Source("diabetes", None, 10)]
        return problems.by_width(settings, own, widths, SEEDS, spare=1, output_scale=SCALE)

    def cost(self, cell: Cell) -> Cost:
        """Training, and four kernels; compiling takes about five seconds a width."""
        flops = 1.5e10 + cell["seeds"] * (6 * problems.training_flops(cell, STEPS) + 1e9)
        width, depth = cell["width"], cell["depth"]
        return Cost(8 * 40 * (64 + (depth - 1) * width) * width, flops)

    def measure(self, cell: Cell) -> list[Row]:
        """Train from each seed by the certified step."""
        data = problems.read_cell(cell, TESTS)
        model, rows = problems.network(data, cell), []
        assert data.test is not None
        for seed in range(cell["seeds"]):
            problem, start, certificate, run = problems.certified_run(data, model, seed, STEPS)
            lazy = measure_laziness(problem, start, run.params, test_x=data.test.x)
            own = problems.row_of(cell, "depth", "width", seed=seed)
            own["certified"] = certificate.certified
            own["drift_bound"] = certificate.numbers.relative_kernel_drift
            changes = lazy.movement, lazy.jacobian_drift, lazy.kernel_drift
            errors = lazy.linearisation_error, lazy.linearisation_error_test
            rows.append(own | dict(zip(THEORY, changes + errors, strict=True)))
        return rows

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The exponents, and the bound on the drift."""
        found = []
        for data, depth, part in parts(table, "data", "depth"):
            for column, (theory, words) in THEORY.items():
                slope = exponent(part, "width", column)
                if depth == 1:
                    claim = f"On {data}, {words} falls like width^{theory:g}."
                    found.append(power_law(claim, slope, theory, WITHIN))
                else:
                    claim = f"On {data}, {words} falls at least like width^{AT_LEAST:g}."
                    found.append(at_most(claim, slope, AT_LEAST, WITHIN))
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
        """A panel a data set.

        Median over seeds and the band from their 10 % to their 90 % quantile, against the width
        of the hidden layers. Dotted: the slopes -1/2 and -1, and the certified bound on the
        kernel's drift.
        """
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
