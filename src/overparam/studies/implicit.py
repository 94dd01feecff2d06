"""How far gradient descent ends from its start, beside bounds and the closest global minimiser."""

from typing import Any, ClassVar

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from overparam.model.function import parameter_distance
from overparam.report.svg import styled
from overparam.studies import plotting
from overparam.studies.problems import (
    Source,
    by_width,
    certified_run,
    label,
    network,
    read_cell,
    training_flops,
)
from overparam.studies.statistics import exponent, median
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study
from overparam.train.closest import ClosestInterpolant, closest_interpolant

STEPS = 200
SCALE = 100.0
SHARP: dict[str, Any] = {"tolerance": 1e-10, "optimality": 1e-5, "max_steps": 100}
ROUNDING = 1e-9
"""Relative; what the searches for minimisers do not resolve."""


class Implicit(Study):
    """Distance travelled against certified bounds and the closest interpolating network."""

    name: ClassVar = "implicit"
    title: ClassVar = "Gradient descent ends near the closest global minimum"
    question: ClassVar = (
        "Of all networks that fit the data, gradient descent finds one that is hardly farther from "
        "the initialisation than the closest. The certificate says how much farther at most, and "
        "how close no global minimum can be, before training; the closest network is looked for by "
        "projections onto the networks that interpolate."
    )
    keys: ClassVar = ("data", "width", "seed")
    columns: ClassVar = {
        "data": pl.String,
        "width": pl.Int64,
        "seed": pl.Int64,
        "certified": pl.Boolean,
        "found": pl.Boolean,
        "lower_bound": pl.Float64,
        "closest": pl.Float64,
        "travelled": pl.Float64,
        "upper_bound": pl.Float64,
        "excess_ratio": pl.Float64,
        "ratio_bound": pl.Float64,
    }
    caption: ClassVar = (
        "Left: distances from the initialisation over that of the closest global minimiser found. "
        "Right: by what fraction farther gradient descent ends, measured and certified (dotted). "
        "Medians over seeds and bands from the 10 % to the 90 % quantile."
    )

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a data set and width."""
        widths = (64, 256, 1024) if settings.quick else (64, 256, 1024, 4096, 16384)
        own = [Source("digits", "parity", 10), Source("diabetes", None, 10)]
        seeds = 3 if settings.quick else 6
        return by_width(settings, own, widths, seeds, depth=1, output_scale=SCALE)

    def cost(self, cell: Cell) -> Cost:
        """Training, and about twenty kernels in the searches."""
        training = training_flops(cell, 64, STEPS)
        seeds, width = float(cell["seeds"] or 1), float(cell["width"] or 1)
        return Cost(64 * 8 * 60 * width, 1.8e10 + seeds * (4 * training + 3e9))

    def measure(self, cell: Cell) -> list[Row]:
        """Train from each seed, then project."""
        data = read_cell(cell)
        model = network(data, cell)
        return [self._run(cell, data, model, seed) for seed in range(int(cell["seeds"] or 1))]

    def _run(self, cell: Cell, data: Any, model: Any, seed: int) -> Row:
        problem, start, certificate, run = certified_run(data, model, seed, STEPS)
        numbers, trained = certificate.numbers, run.params
        closest = closest_interpolant(problem, start, **SHARP)
        limit = closest_interpolant(problem, trained, **SHARP)
        travelled = parameter_distance(limit.params, start)
        return {
            "data": label(cell),
            "width": cell["width"],
            "seed": seed,
            "certified": certificate.certified,
            "found": closest.converged and _ended(limit, travelled),
            "lower_bound": numbers.distance_lower_bound,
            "closest": closest.distance,
            "travelled": travelled,
            "upper_bound": numbers.limit_distance,
            "excess_ratio": travelled / closest.distance - 1,
            "ratio_bound": numbers.distance_ratio - 1,
        }

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The bounds, and how the ratio falls."""
        sure = table.filter(pl.col("certified") & pl.col("found"))
        slack = 1 + ROUNDING
        broken = {
            "closer than the lower bound": pl.col("closest") * slack < pl.col("lower_bound"),
            "farther than the upper bound": pl.col("travelled") > pl.col("upper_bound") * slack,
            "above the certified ratio": pl.col("excess_ratio") > pl.col("ratio_bound") + ROUNDING,
        }
        counts = {name: sure.filter(test).height for name, test in broken.items()}
        found = [
            Finding(
                claim="The certified distances hold.",
                holds=None if sure.is_empty() else not any(counts.values()),
                words=(
                    ", ".join(f"{count} {name}" for name, count in counts.items())
                    + f", in {sure.height} certified runs whose searches converged, of "
                    f"{table.height}."
                ),
                statistics={**counts, "runs": sure.height},
            )
        ]
        for (data,), part in sure.group_by(["data"], maintain_order=True):
            by_width = part.group_by("width", maintain_order=True)
            medians = by_width.agg(pl.col("ratio_bound", "excess_ratio").median())
            steps = np.diff(medians["ratio_bound"].to_numpy())
            slope = exponent(part, "width", "ratio_bound")
            largest = median(medians["excess_ratio"].tail(1))
            found.append(
                Finding(
                    claim=f"On {data}, the certified ratio to the closest minimum tends to one.",
                    holds=bool((steps < 0).all() and slope.high < 0) if slope.seeds > 1 else None,
                    words=(
                        f"Its excess over one falls at {int((steps < 0).sum())} of {len(steps)} "
                        f"steps of the width, like width^{slope}; at the largest width it is "
                        f"{median(medians['ratio_bound'].tail(1)):.2g}, and measured {largest:.1g}."
                    ),
                    statistics={"exponent": slope.value, "standard_error": slope.standard_error},
                )
            )
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """Medians by data set and width."""
        columns = ("lower_bound", "closest", "travelled", "upper_bound")
        ratios = ("excess_ratio", "ratio_bound")
        return table.group_by("data", "width", maintain_order=True).agg(
            pl.col("certified").sum(), *(pl.col(c).median() for c in columns + ratios)
        )

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Distances on the left, ratios on the right."""
        figure, (left, right) = plotting.canvas(2)
        names = table["data"].unique(maintain_order=True).to_list()
        for series, name in enumerate(names):
            part = table.filter((pl.col("data") == name) & pl.col("found"))
            widths, closest = plotting.by_seed(part, "width", "closest")
            travelled = plotting.by_seed(part, "width", "travelled")[1]
            plotting.band(left, widths, travelled / closest, series, f"travelled, {name}")
            for bound in ("lower_bound", "upper_bound"):
                level = np.nanmedian(plotting.by_seed(part, "width", bound)[1] / closest, axis=0)
                text = "certified" if bound == "lower_bound" and series == 0 else "_"
                plotting.theory_curve(left, widths, level, text)
                start = (widths[0], level[0])  # where the bounds are apart
                left.annotate(
                    name, start, (-4, -2), textcoords="offset points", fontsize=7, ha="right"
                )
            ratio = plotting.by_seed(part, "width", "excess_ratio")[1]
            plotting.band(right, widths, np.maximum(ratio, 1e-16), series, f"measured, {name}")
            bound = np.nanmedian(plotting.by_seed(part, "width", "ratio_bound")[1], axis=0)
            plotting.theory_curve(right, widths, bound, "certified" if series == 0 else "_")
            right.annotate(
                name, (widths[-1], bound[-1]), (3, -3), textcoords="offset points", fontsize=7
            )
        left.set_ylabel("distance / closest found")
        right.set(yscale="log", ylabel="ratio to the closest - 1")
        for axes in (left, right):
            plotting.log_ticks(axes, table["width"].unique().sort(), "width")
            axes.legend(fontsize=8)
            axes.margins(x=0.28 if axes is left else 0.12)
        return figure


def _ended(limit: ClosestInterpolant, travelled: float) -> bool:
    """Whether the trained network's own minimiser is known as exactly as the ratio asks for.

    Next to one, the optimality of the way there, relative to its length, says nothing any more.
    """
    fits = limit.residual <= SHARP["tolerance"]
    return limit.converged or (fits and limit.distance < 1e-6 * travelled)


STUDY = Implicit()
