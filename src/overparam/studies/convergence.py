"""Loss curves over widths and depths against the certified and the limiting envelope."""

from typing import Any, ClassVar

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from overparam.linearised.training_curve import infinite_training_curve
from overparam.problem.problem import Problem
from overparam.report.svg import styled
from overparam.studies import plotting, problems
from overparam.studies.statistics import exponent, median, never, power_law
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts

STEPS = 256
SCALE = 30.0
"""Of the output, times 10 for each of the first hidden layers: the initialisation is certified."""

RECORDED = tuple(sorted({0, *(int(t) for t in np.geomspace(1, STEPS, 25))}))

WITHIN = 0.2

SEEDS = 24
"""With 12, the approach to the limit is undecided on one of two data sets."""


class ConvergenceStudy(Study):
    """Gradient descent converges at a linear rate, under its certified envelope.

    Theorem 1 bounds the excess at every step before training starts, and the training curve of
    the infinitely wide network, known in closed form, is what wide networks approach. All widths
    are trained with one step, a quarter of the largest stable one of the limiting kernel.
    """

    name: ClassVar = "convergence"
    keys: ClassVar = ("data", "depth", "width", "seed", "step")
    columns: ClassVar = {
        "data": pl.String,
        **dict.fromkeys(("depth", "width", "seed", "step"), pl.Int64),
        **dict.fromkeys(("excess", "envelope", "limit", "certified_rate"), pl.Float64),
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a data set, depth and width."""
        widths = (64, 1024) if settings.quick else (64, 256, 1024, 4096)
        depths = (1,) if settings.quick else (1, 2)
        seeds = settings.seeds or SEEDS
        own = [problems.Source("digits", "parity", 10), problems.Source("diabetes", None, 10)]
        activation = settings.activation or "gelu"
        shared: dict[str, Any] = {"activation": activation, "seeds": seeds}
        return [
            {
                **source.cell(),
                "width": w,
                "depth": d,
                "output_scale": SCALE * 10.0 ** min(d, 5),
                **shared,
            }
            for w in settings.widths or widths
            for d in (depths if settings.depth is None else (settings.depth,))
            for source in problems.sources(settings, own)
            if settings.widths or not (d == 2 and w > 2048)
        ]

    def cost(self, cell: Cell) -> Cost:
        """Training, and compiling for about five seconds."""
        width, depth = cell["width"], cell["depth"]
        parameters = width * 66 + (depth - 1) * width * width
        training = problems.training_flops(cell, STEPS)
        return Cost(parameters * 8 * 12, 1.5e10 + cell["seeds"] * (3 * training + 1e9))

    def measure(self, cell: Cell) -> list[Row]:
        """Train from each seed; the limit's curve does not depend on it."""
        data = problems.read_cell(cell)
        model = problems.network(data, cell)
        problem = Problem(model, data.train, "squared")
        limit = infinite_training_curve(problem)
        step_size = 0.5 / float(limit.eigenvalues.max())
        steps = np.array(RECORDED)
        curve = infinite_training_curve(problem, step_size=step_size).excess(steps).tolist()
        rows = []
        for seed in range(cell["seeds"]):
            _, _, certificate, run = problems.certified_run(data, model, seed, STEPS, step_size)
            rate, envelope = None, [None] * len(steps)
            if certificate.certified:
                rate, envelope = certificate.rate, certificate.envelope(steps).tolist()
            own = problems.row_of(cell, "depth", "width", seed=seed, certified_rate=rate)
            rows += [
                own | {"step": t, "excess": excess, "envelope": most, "limit": there}
                for t, excess, most, there in zip(
                    RECORDED, run.history.excess[steps].tolist(), envelope, curve, strict=True
                )
            ]
        return rows

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The envelope, the approach to the limit, and the rates."""
        found = [self._envelope(table)]
        for data, depth, part in parts(table, "data", "depth"):
            apart = (pl.col("excess") - pl.col("limit")).abs() / pl.col("limit").first()
            runs = part.group_by("width", "seed", maintain_order=True)
            slope = exponent(runs.agg(apart.max().alias("gap")), "width", "gap")
            claim = f"On {data} with {_layers(depth)}, the loss curve approaches the infinitely "
            claim += "wide network's like width^-1/2."
            what = "Of the largest distance over the excess at the start. "
            found.append(power_law(claim, slope, -0.5, WITHIN, what))
            found.append(self._rates(data, depth, part))
        return found

    def _envelope(self, table: pl.DataFrame) -> Finding:
        held = table.filter(pl.col("envelope").is_not_null())
        broken = held.filter(pl.col("excess") > pl.col("envelope") * (1 + 1e-9)).height
        runs = held.select("data", "depth", "width", "seed").unique().height
        every = table.select("data", "depth", "width", "seed").unique().height
        claim = "Gradient descent stays under the envelope certified before training."
        words = f"{held.height} recorded steps of {runs} certified runs, of {every} runs in all."
        return never(claim, broken, runs, words, certified=runs, runs=every)

    def _rates(self, data: str, depth: int, part: pl.DataFrame) -> Finding:
        certified = part.filter(pl.col("certified_rate").is_not_null())
        ends = certified.group_by("width", "seed", maintain_order=True).agg(
            ((pl.col("excess").last() / pl.col("excess").first()) ** (1 / STEPS)).alias("rate"),
            pl.col("certified_rate").first(),
        )
        slower = ends.filter(pl.col("rate") > pl.col("certified_rate")).height
        wide = ends.filter(pl.col("width") == pl.col("width").max())
        return Finding(
            claim=f"On {data} with {_layers(depth)}, it is at least as fast as certified.",
            holds=None if ends.is_empty() else slower == 0,
            words=(
                f"{slower} of {ends.height} certified runs were slower; at the largest width the "
                f"factor a step was {median(wide['rate']):.6f} measured over {STEPS} steps and "
                f"{median(wide['certified_rate']):.6f} certified."
            ),
            statistics={"slower": slower, "runs": ends.height},
        )

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """At the last step, medians by data set, depth and width."""
        last = table.filter(pl.col("step") == RECORDED[-1])
        return last.group_by("data", "depth", "width", maintain_order=True).agg(
            pl.col("excess", "limit", "envelope").median(),
            (1 - pl.col("certified_rate")).median().alias("1 - certified rate"),
        )

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """A panel for each data set and depth.

        Excess over its start against the step of gradient descent: median over seeds and the band
        from the 10 % to the 90 % quantile, by width. Dotted: the infinitely wide network's.
        Dash-dotted grey: the certified envelope of the widest network.
        """
        groups = list(parts(table, "data", "depth"))
        figure, panels = plotting.canvas(len(groups), rows=2)
        for axes, (data, depth, part) in zip(panels, groups, strict=True):
            for series, (width, runs) in enumerate(parts(part, "width")):
                start = median(runs.filter(pl.col("step") == 0)["excess"])
                relative = pl.col("excess") / start
                plotting.band(axes, runs, "step", relative, series, f"width {width:,}")
            limit = pl.col("limit") / pl.col("limit").first()
            plotting.theory_curve(axes, runs, "step", limit, "infinite width")
            certified = runs.drop_nulls("envelope")
            if certified.height:
                steps, level = plotting.medians(certified, "step", "envelope")
                style: dict[str, Any] = {"color": "#6b6b6b", "linestyle": "-.", "linewidth": 1.2}
                axes.plot(steps, level / start, label="certified, widest", **style)
            title = f"{data}, {_layers(depth)}"
            axes.set(xscale="symlog", yscale="log", xlabel="step", title=title)
            axes.set_xlim(0, STEPS)
            axes.legend(fontsize=7.5, loc="lower left")
        for axes in panels[:: max(1, len(panels) // 2)]:
            axes.set_ylabel("excess / excess at the start")
        return figure


def _layers(depth: int) -> str:
    return "1 hidden layer" if depth == 1 else f"{depth} hidden layers"


STUDY = ConvergenceStudy()
