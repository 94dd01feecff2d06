"""How far gradient descent ends from its start, beside bounds and the closest global minimiser."""

from typing import Any, ClassVar

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from overparam.model.function import parameter_distance
from overparam.report.svg import styled
from overparam.studies import plotting, problems
from overparam.studies.statistics import exponent
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts
from overparam.train.closest import ClosestInterpolant, closest_interpolant

STEPS = 200
SCALE = 100.0
SHARP: dict[str, Any] = {"tolerance": 1e-10, "optimality": 1e-5, "max_steps": 100}
ROUNDING = 1e-9
"""Relative; what the searches for minimisers do not resolve."""


DISTANCES = ("lower_bound", "closest", "travelled", "upper_bound")
RATIOS = ("excess_ratio", "ratio_bound")


class Implicit(Study):
    """Gradient descent ends near the closest global minimum.

    Of all networks that fit the data, gradient descent finds one that is hardly farther from the
    initialisation than the closest. The certificate says how much farther at most, and how close
    no global minimum can be, before training; the closest network is looked for by projections
    onto the networks that interpolate.
    """

    name: ClassVar = "implicit"
    keys: ClassVar = ("data", "width", "seed")
    columns: ClassVar = {
        **{"data": pl.String, "width": pl.Int64, "seed": pl.Int64},
        **{"certified": pl.Boolean, "found": pl.Boolean},
        **dict.fromkeys((*DISTANCES, *RATIOS), pl.Float64),
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a data set and width."""
        widths = (64, 256, 1024) if settings.quick else (64, 256, 1024, 4096, 16384)
        own = [problems.Source("digits", "parity", 10), problems.Source("diabetes", None, 10)]
        seeds = 3 if settings.quick else 6
        return problems.by_width(settings, own, widths, seeds, output_scale=SCALE)

    def cost(self, cell: Cell) -> Cost:
        """Training, and about twenty kernels in the searches."""
        flops = 1.8e10 + cell["seeds"] * (4 * problems.training_flops(cell, STEPS) + 3e9)
        width, depth = cell["width"], cell["depth"]
        return Cost(8 * 60 * (64 + (depth - 1) * width) * width, flops)

    def measure(self, cell: Cell) -> list[Row]:
        """Train from each seed, then project."""
        data = problems.read_cell(cell)
        model, rows = problems.network(data, cell), []
        for seed in range(cell["seeds"]):
            problem, start, certificate, run = problems.certified_run(data, model, seed, STEPS)
            numbers = certificate.numbers
            found = closest_interpolant(problem, start, **SHARP)
            limit = closest_interpolant(problem, run.params, **SHARP)
            closest, travelled = found.distance, parameter_distance(limit.params, start)
            own = problems.row_of(cell, "width", seed=seed, certified=certificate.certified)
            own["found"] = found.converged and _ended(limit, travelled)
            bounds = numbers.distance_lower_bound, numbers.limit_distance
            distances = bounds[0], closest, travelled, bounds[1]
            ratios = travelled / closest - 1, numbers.distance_ratio - 1
            rows.append(own | dict(zip(DISTANCES + RATIOS, distances + ratios, strict=True)))
        return rows

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
        for data, part in parts(sure, "data"):
            by_width = part.group_by("width", maintain_order=True)
            medians = by_width.agg(pl.col(RATIOS).median())
            steps = np.diff(medians["ratio_bound"].to_numpy())
            slope = exponent(part, "width", "ratio_bound")
            largest, bound = medians.select(RATIOS).row(-1)
            found.append(
                Finding(
                    claim=f"On {data}, the certified ratio to the closest minimum tends to one.",
                    holds=bool((steps < 0).all() and slope.high < 0) if slope.seeds > 1 else None,
                    words=(
                        f"Its excess over one falls at {int((steps < 0).sum())} of {len(steps)} "
                        f"steps of the width, like width^{slope}; at the largest width it is "
                        f"{bound:.2g}, and measured {largest:.1g}."
                    ),
                    statistics={"exponent": slope.value, "standard_error": slope.standard_error},
                )
            )
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """Medians by data set and width."""
        medians = pl.col(DISTANCES + RATIOS).median()
        groups = table.group_by("data", "width", maintain_order=True)
        return groups.agg(pl.col("certified").sum(), medians)

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Distances on the left, ratios on the right.

        Left: distances from the initialisation over that of the closest global minimiser found.
        Right: by what fraction farther gradient descent ends, measured and certified (dotted).
        Medians over seeds and bands from the 10 % to the 90 % quantile.
        """
        figure, (left, right) = plotting.canvas(2)
        small: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7}
        for series, (name, part) in enumerate(parts(table.filter("found"), "data")):
            distance = pl.col("travelled") / pl.col("closest")
            plotting.band(left, part, "width", distance, series, f"travelled, {name}")
            for bound in ("lower_bound", "upper_bound"):
                level = pl.col(bound) / pl.col("closest")
                text = "certified" if bound == "lower_bound" and series == 0 else "_"
                plotting.theory_curve(left, part, "width", level, text)
                widths, levels = plotting.medians(part, "width", level)
                # At the start, where the bounds are apart.
                left.annotate(name, (widths[0], levels[0]), (-4, -2), ha="right", **small)
            ratio = pl.col("excess_ratio").clip(1e-16)
            plotting.band(right, part, "width", ratio, series, f"measured, {name}")
            text = "certified" if series == 0 else "_"
            plotting.theory_curve(right, part, "width", "ratio_bound", text)
            widths, levels = plotting.medians(part, "width", "ratio_bound")
            right.annotate(name, (widths[-1], levels[-1]), (3, -3), **small)
        left.set_ylabel("distance / closest found")
        right.set(yscale="log", ylabel="ratio to the closest - 1")
        for axes in (left, right):
            plotting.log_ticks(axes, table["width"], "width")
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
