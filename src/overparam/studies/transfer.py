"""Step size by width in three parametrisations: does the best step carry over?"""

from typing import Any, ClassVar

import jax
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from overparam.enclosures.eigenvalue import max_eigenvalue
from overparam.errors import InputError
from overparam.model.mlp import MLP
from overparam.problem.problem import Problem
from overparam.report.svg import styled
from overparam.steps.certified_widths import certified_widths
from overparam.studies import plotting
from overparam.studies.problems import Source, label, read_cell, sources, training_flops
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts
from overparam.train.parametrisation import PARAMETRISATIONS, parametrise
from overparam.train.step_optimum import Runs, StepSweep
from overparam.train.step_sweep import step_sweep

STEPS = 30
BASE = 64
"""The width at which all parametrisations but the standard one coincide."""

EXPECTED = {"ntk": True, "mup": True, "standard": False}
"""Whether the theory lets the best step carry over."""

WORDS = {"ntk": "NTK", "mup": "maximal-update", "standard": "standard"}
RATIO = float(np.sqrt(2))
"""Of neighbouring step sizes."""

WINDOW = np.arange(-5.0, 6.0)
"""Exponents of the steps around the largest stable one of a network drawn at a width."""


BUDGET = 10.0
"""Seconds in which Theorem C has to certify a step at a width, or it says nothing."""


class TransferStudy(Study):
    """A step size carries over to other widths in the right parametrisation.

    In the NTK parametrisation the largest stable step tends to that of the limiting kernel, so the
    best step at one width should be the best at others; so it should be in the maximal-update
    parametrisation, and not in the standard one, whose stable step falls like 1/width. Each run is
    full-batch gradient descent from a centred start; the optimum of a seed is the step with the
    least final excess. In the NTK parametrisation, whose steps are gradient descent's, each step
    is certified to converge to a global minimiser, or not, by Theorem C from the first seed's
    network.
    """

    name: ClassVar = "transfer"
    keys: ClassVar = ("data", "parametrisation", "width", "step_size", "seed")
    columns: ClassVar = {
        **{"data": pl.String, "parametrisation": pl.String, "width": pl.Int64},
        **{"step_size": pl.Float64, "seed": pl.Int64},
        **dict.fromkeys(("initial_excess", "final_excess", "best_excess"), pl.Float64),
        "stable_step": pl.Float64,
        "certified": pl.Boolean,
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a data set, parametrisation and width."""
        widths = (64, 512) if settings.quick else (64, 512, 4096)
        own = [Source("digits", "parity", 100), Source("diabetes", None, 100)]
        return [
            {
                **source.cell(),
                "parametrisation": name,
                "width": width,
                "depth": settings.depth or 1,
                "activation": settings.activation or "tanh",
                "seeds": settings.seeds or (8 if settings.quick else 24 if width < 4096 else 12),
            }
            for width in settings.widths or widths
            for source in sources(settings, own)
            for name in PARAMETRISATIONS
        ]

    def cost(self, cell: Cell) -> Cost:
        """A window of step sizes for every seed, in float32; seeds share a program."""
        runs = len(WINDOW) * cell["seeds"]
        width, depth = cell["width"], cell["depth"]
        size = 4 * (66 + (depth - 1) * width) * width * 6 * cell["seeds"]
        certifying = len(WINDOW) * BUDGET * 1e9 * (cell["parametrisation"] == "ntk")
        return Cost(size, 6e9 + certifying + runs * training_flops(cell, STEPS) / 3)

    def measure(self, cell: Cell) -> list[Row]:
        """Sweep a window of steps around the largest stable one of a network drawn there."""
        measure = read_cell(cell).train
        width, name = cell["width"], cell["parametrisation"]
        shape = (width,) * cell["depth"]
        model = MLP(measure.dim, shape, measure.outputs, cell["activation"])
        stable = _stable(model, measure, name)
        nearest = RATIO ** np.round(np.log(stable) / np.log(RATIO))
        sweep = step_sweep(
            model,
            measure,
            [width],
            nearest * RATIO**WINDOW,
            parametrisation=name,
            base_width=BASE,
            keys=[jax.random.key(seed) for seed in range(cell["seeds"])],
            steps=STEPS,
        )
        certified = {}
        if name == "ntk":
            chosen = sweep.runs[0].step_sizes
            problem, key = Problem(model, measure), jax.random.key(0)
            known = certified_widths(problem, [width], chosen, key=key, budget=BUDGET)
            certified = dict(zip(chosen.tolist(), known.converges[0].tolist(), strict=True))
        columns = sweep.table()
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return [
            {key: value.item() for key, value in row.items()}
            | {
                "data": label(cell),
                "stable_step": stable,
                "certified": None if row["seed"] else certified.get(float(row["step_size"])),
            }
            for row in rows
        ]

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """A verdict for each data set and parametrisation."""
        found = []
        for data, name, part in parts(table, "data", "parametrisation"):
            expected = EXPECTED[name]
            carries = "carries over" if expected else "does not carry over"
            claim = f"On {data}, the best step {carries} in the {WORDS[name]} parametrisation."
            try:
                transfer = _sweep(part).transfer()
            except InputError as error:
                found.append(Finding(claim, None, f"Undecided: {error}.", {}))
                continue
            seen = transfer.transferred
            found.append(
                Finding(
                    claim=claim,
                    holds=None if seen is None else seen == expected,
                    words=(
                        f"{transfer.reason[:1].upper()}{transfer.reason[1:]}. It carried over if "
                        "all of the interval, and half a grid step beyond, is within that factor, "
                        "and not if none is."
                    ),
                    statistics={
                        "factor": 2**transfer.shift,
                        "low": 2**transfer.low,
                        "high": 2**transfer.high,
                    },
                )
            )
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """The optimum by data set, parametrisation and width."""
        rows = []
        for data, name, part in parts(table, "data", "parametrisation"):
            sweep = _sweep(part)
            for width in sweep.widths:
                optimum = _optimum(sweep, width)
                there = part.filter(pl.col("width") == width)
                largest = there.filter("certified")["step_size"].max()
                found = (None,) * 3 if optimum is None else optimum
                rows.append((data, name, width, there["stable_step"][0], largest, *found))
        head = (
            *("data", "parametrisation", "width", "2 / lambda_max", "largest certified"),
            *("best step", "low", "high"),
        )
        return pl.DataFrame(rows, schema=head, orient="row", infer_schema_length=None)

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """A panel a data set.

        The step size with the least excess after 30 steps against the width, with the 95 %
        bootstrap interval over seeds; dotted, 2 / lambda_max of a network drawn at each width,
        the largest step stable at its start; dots, steps certified to converge (NTK).
        """
        summary = self.summary(table)
        groups = list(parts(summary, "data"))
        figure, panels = plotting.canvas(len(groups))
        for axes, (data, rows) in zip(panels, groups, strict=True):
            for series, name in enumerate(PARAMETRISATIONS):
                part = rows.filter(pl.col("parametrisation") == name).drop_nulls("best step")
                style, widths = plotting.SERIES[series], part["width"].to_numpy()
                axes.plot(widths, part["best step"], label=WORDS[name], **style)
                ends = part["low"], part["high"]
                axes.fill_between(widths, *ends, color=style["color"], alpha=0.2)
                text = "largest stable" if series == 0 else "_"
                axes.plot(widths, part["2 / lambda_max"], label=text, **plotting.THEORY)
                sure = table.filter(
                    (pl.col("data") == data)
                    & (pl.col("parametrisation") == name)
                    & pl.col("certified")
                )
                axes.plot(sure["width"], sure["step_size"], ".", color=style["color"], ms=3)
            plotting.log_ticks(axes, summary["width"], "width")
            axes.set(yscale="log", title=data)
            axes.legend(fontsize=8)
        panels[0].set_ylabel("best step size")
        return figure


def _stable(model: MLP, measure: Any, name: str) -> float:
    network = parametrise(model, name, BASE)
    params = network.model.init(jax.random.key(0))
    return float(2 / max_eigenvalue(network.tangent_kernel(measure, params)).upper)


def _sweep(part: pl.DataFrame) -> StepSweep:
    """The sweep behind rows of one data set and parametrisation."""
    runs = []
    for width, rows in parts(part, "width"):
        steps, seeds = (np.unique(rows[c].to_numpy()) for c in ("step_size", "seed"))
        shape = (len(steps), len(seeds))
        ordered = rows.sort("step_size", "seed")
        initial, final, best = (
            ordered[c].to_numpy().reshape(shape)
            for c in ("initial_excess", "final_excess", "best_excess")
        )
        runs.append(Runs(width, tuple(seeds.tolist()), steps, initial[0], final, best))
    return StepSweep(str(part["parametrisation"][0]), STEPS, RATIO, tuple(runs))


def _optimum(sweep: StepSweep, width: int) -> tuple[float, float, float] | None:
    try:
        found = sweep.optimum(width)
    except InputError:
        return None
    return found.step_size, found.low, found.high


STUDY = TransferStudy()
