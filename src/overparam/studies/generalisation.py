"""The test error and every bound on the risk, against sample size and width."""

import math
from typing import Any, ClassVar

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from overparam.data.dataset import Dataset, load
from overparam.data.sources import read_table
from overparam.errors import InputError
from overparam.jacobian.layer_norms import top_eigenvalue
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.pipeline.generalisation import risk_bounds
from overparam.problem.measure import Measure
from overparam.report.svg import INK, styled
from overparam.risk.risk_bound import RiskBound
from overparam.studies import plotting
from overparam.studies.problems import (
    centred,
    network,
    reading_of,
    row_of,
    start_of,
    training_flops,
)
from overparam.studies.statistics import LEVEL, above, median, proportion_interval
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts
from overparam.train.gradient_descent import gradient_descent

STEPS = 12
SCALE = 1000.0
"""Of the output: training stays close to the linearisation, and stops early near the start."""

DECIDING = 6
"""Draws of which all have to agree to show that most do."""

LEAST = 40
"""Rows that the study needs."""

NAMES = {
    "G4 held out": "G4 held out",
    "G2 PAC-Bayes-kl around the first part": "G2 PAC-Bayes, data-dependent prior",
    "G7 one draw around the first part": "G7 one draw, data-dependent prior",
    "G6 derandomised around the first part": "G6 derandomised, data-dependent prior",
    "G1 Rademacher around the first part": "G1 Rademacher, around the first part's network",
    "G2 PAC-Bayes-kl around the initialisation": "G2 PAC-Bayes, around the start",
    "G7 one draw around the initialisation": "G7 one draw, around the start",
    "G6 derandomised around the initialisation": "G6 derandomised, around the start",
    "G1 Rademacher around the initialisation": "G1 Rademacher, around the start",
    "G3 kernel regime": "G3 kernel regime",
}
"""Beginnings of the bounds' names, and what they are called here, the usually smallest first."""

REFERENCE = "G3 kernel regime"

LARGEST = pl.all_horizontal(
    pl.col("width", "points") == pl.col("width", "points").max().over("data")
)
"""Of a table's rows those at the largest width and sample of each data set."""

INFORMATIVE = pl.col("value") < pl.col("loss_bound")


class Generalisation(Study):
    """Bounds on the risk, beside the test error.

    Each bound holds with probability 95 % over the draw of the sample, for a network of its own:
    the trained one, one drawn around it, or one around a network trained on half of the rows.
    Every seed draws the rows and the initialisation anew; the risk of each bound's network is
    measured on fresh rows that are in no bound, not even in the held-out one.
    """

    name: ClassVar = "generalisation"
    keys: ClassVar = ("data", "width", "points", "seed", "bound")
    columns: ClassVar = {
        "data": pl.String,
        **dict.fromkeys(("width", "points", "seed"), pl.Int64),
        "bound": pl.String,
        **dict.fromkeys(("value", "risk", "test_error"), pl.Float64),
        **{"fresh_rows": pl.Int64, "loss_bound": pl.Float64, "confidence": pl.Float64},
        **{"dominant": pl.String, "kind": pl.String},
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a data set, width and sample size."""
        widths = settings.widths or ((32, 128) if settings.quick else (32, 128, 512))
        parts = (1, 5) if settings.quick else (1, 3, 9)
        cells: list[Cell] = []
        chosen = _data(settings)
        seeds = settings.seeds or (DECIDING // len(chosen) if settings.quick else DECIDING)
        for data, target, standardize, rows in chosen:
            tests, points = rows // 4, rows - rows // 4
            cells += [
                {
                    **{"data": data, "target": target, "standardize": standardize},
                    **settings.reading,
                    **{"points": points // part, "tests": tests, "width": width},
                    **{"depth": settings.depth or 1, "activation": settings.activation or "gelu"},
                    **{"output_scale": SCALE, "seeds": seeds},
                }
                for width in widths
                for part in parts
                if part == 1 or width == max(widths)
            ]
        return cells

    def cost(self, cell: Cell) -> Cost:
        """Descents, and 300,000 losses of stochastic networks; six seconds of compiling."""
        points, width = cell["points"], cell["width"]
        training = training_flops(cell, 120) / 10  # large products run at ten times the rate
        flops = training + 3e5 * 4 * 66 * width + 3 * points**3 + 3e8
        size = 8 * (4 * points**2 + 400 * width + points * width * 4)
        return Cost(size, 1.8e10 + cell["seeds"] * flops)

    def measure(self, cell: Cell) -> list[Row]:
        """Draw, train, and bound, for each seed."""
        return [row for seed in range(cell["seeds"]) for row in _run(cell, seed)]

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """Which bounds hold, and which say something."""
        found = []
        for name, part in _by_bound(table):
            found.append(_kept(name, part))
            found.append(_informative(name, part))
        found.append(_improves(table))
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """At the largest width and sample of each data set."""
        largest = table.filter(LARGEST).group_by("data", "bound", maintain_order=True)
        useful = INFORMATIVE.mean().alias("not vacuous")
        return largest.agg(pl.col("value", "risk").median(), useful, pl.col("kind").first())

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """A column of panels for each data set.

        Bounds on the risk over the loss's largest value, at 95 %, against the sample size at the
        largest width (top) and the width at the largest sample (bottom): medians over seeds,
        bands from the 10 % to the 90 % quantile. Thick grey: the trained error on fresh rows.
        Vacuous in the shaded part. Dotted: the reference value of the kernel regime, no bound.
        """
        groups = list(parts(table, "data"))
        figure, panels = plotting.canvas(2 * len(groups), rows=2)
        left = iter(panels)
        for along, other in (("points", "width"), ("width", "points")):
            for (name, part), axes in zip(groups, left, strict=False):
                _draw(axes, part.filter(pl.col(other) == pl.col(other).max()), along)
                axes.set_title(f"{name}, {other} {max(part[other]):,}")
        for axes in panels[:: len(groups)]:
            axes.set_ylabel("risk and bounds on it")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.set_figheight(figure.get_figheight() + 1.0)
        return figure


def _data(settings: Settings) -> list[tuple[str, str | None, str, int]]:
    """Name, target, preprocessing and rows used of each data set.

    Raises:
        InputError: Too few rows.
    """
    if settings.data is None:
        few = 0.25 if settings.quick else 1
        return [
            ("digits", "parity", "norm", int(1600 * few)),
            ("breast_cancer", None, "sphere", int(560 * min(1, 2 * few))),
        ]
    table = read_table(settings.data, settings.target, **settings.reading)
    rows = min(settings.samples or 1600, table.n)
    if rows < LEAST:
        raise InputError(f"this study needs {LEAST} rows or more, not {rows}: raise --samples")
    return [(settings.data, settings.target, "sphere", rows)]


def _run(cell: Cell, seed: int) -> list[Row]:
    data, held_out, fresh = draw_rows(cell, seed)
    model = network(data, cell)
    start = start_of(model, seed)
    problem = centred(data, model, start)
    part = problem.measure.subsample(min(400, problem.measure.n), 0)
    step = 1 / top_eigenvalue(tangent_kernel(type(problem)(model, part, "squared", start), start))
    trained = gradient_descent(problem, start, step, STEPS, dtype="float64").params
    bounds = risk_bounds(
        *(problem, start, trained),
        test=held_out,
        sample=data.sample,
        caveats=data.fitted_to(data.train_rows),
        fresh=fresh,
    )
    own = row_of(cell, "width", "points", seed=seed, fresh_rows=fresh.n)
    own["test_error"] = bounds[0].details["fresh_risk"]
    return [own | _about(bound) for bound in bounds]


def draw_rows(cell: Cell, seed: int) -> tuple[Dataset, Measure, Measure]:
    """A sample, the rows of the held-out bound, and fresh rows."""
    samples = cell["points"] + cell["tests"]
    data = load(
        cell["data"],
        target=cell["target"],
        samples=samples,
        test_fraction=cell["tests"] / samples,
        standardize=cell["standardize"],
        seed=seed,
        **reading_of(cell),
    )
    test = data.test
    assert test is not None
    assert test.y is not None
    order = np.random.default_rng(seed).permutation(test.n)
    first, second = order[: test.n // 2], order[test.n // 2 :]
    return data, Measure(test.x[first], test.y[first]), Measure(test.x[second], test.y[second])


def _about(bound: RiskBound) -> Row:
    """What a bound says, in the columns of its names."""
    numbers = {name: getattr(bound, name) for name in ("value", "loss_bound", "confidence")}
    return numbers | {
        "bound": next(short for long, short in NAMES.items() if bound.name.startswith(long)),
        "risk": bound.details.get("fresh_risk"),
        **{"dominant": bound.dominant, "kind": bound.kind},
    }


def _by_bound(table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """The rows of each bound that is one."""
    parts = [(name, table.filter(pl.col("bound") == name)) for name in NAMES.values()]
    return [(name, part) for name, part in parts if name != REFERENCE and not part.is_empty()]


def refuted(row: dict[str, Any]) -> bool:
    """Whether fresh rows show the risk to be above the bound, at ``LEVEL``.

    Losses between 0 and b are counted as if they were 0 or b, which spreads them the most.
    """
    rows, share = int(row["fresh_rows"]), row["risk"] / row["loss_bound"]
    wrong = min(rows, math.floor(share * rows + 1e-9))
    return proportion_interval(wrong, rows)[0] > row["value"] / row["loss_bound"]


def _draws(part: pl.DataFrame, value: pl.Expr) -> tuple[int, int]:
    """How many independent draws have a property, and how many there are.

    A draw is a data set and a seed: runs of other widths and sizes take the same rows, and all
    bounds speak of them.
    """
    draws = part.group_by("data", "seed").agg(value.alias("has"))
    return int(draws["has"].sum()), draws.height


def _kept(name: str, part: pl.DataFrame) -> Finding:
    over = part.filter(pl.col("risk") > pl.col("value")).height
    marks = pl.Series("refuted", map(refuted, part.iter_rows(named=True)))
    broken, draws = _draws(part.with_columns(marks), pl.col("refuted").any())
    allowed = 1 - float(part["confidence"][0])
    low = proportion_interval(broken, draws)[0]
    holds = True if broken == 0 else False if low > allowed else None
    return Finding(
        claim=f"{name}: the risk is below the bound.",
        holds=holds,
        words=(
            f"Any of a draw's runs refuted the bound in {broken} of {draws} draws, by Clopper and "
            f"Pearson's interval at {LEVEL:.0%} for the risk on {min(part['fresh_rows'])} or more "
            f"fresh rows; the error there was above the bound in {over} of {part.height} runs. "
            f"It fails if more than {allowed:.0%} of draws are refuted beyond chance, and is "
            "undecided if any is."
        ),
        statistics={"refuted": broken, "above": over, "draws": draws, "runs": part.height},
    )


def _informative(name: str, part: pl.DataFrame) -> Finding:
    top = part.filter(LARGEST)
    useful, draws = _draws(top, INFORMATIVE.all())
    low, high = proportion_interval(useful, draws)
    share = top["value"] / top["loss_bound"]
    everywhere = part.filter(INFORMATIVE).height
    return Finding(
        claim=f"{name}: the bound is not vacuous in most draws, at the largest sample and width.",
        holds=above(low, high, 0.5),
        words=(
            f"{useful} of {draws} draws, 95 % interval {low:.2f} to {high:.2f} against one half; "
            f"over the loss's largest value the median is {median(share):.3g}. Of all runs, "
            f"{everywhere} of {part.height} are not vacuous."
        ),
        statistics={"not_vacuous": useful, "draws": draws, "median": median(share)},
    )


def _improves(table: pl.DataFrame) -> Finding:
    """A sign test over draws at the largest width: all bounds must fall together."""
    widest = pl.col("width") == pl.col("width").max().over("data")
    wide = table.filter(widest & (pl.col("bound") != REFERENCE)).sort("points")
    ends = wide.group_by("data", "bound", "seed", maintain_order=True).agg(
        pl.col("value").first().alias("few"),
        pl.col("value").last().alias("many"),
        pl.col("points").n_unique().alias("sizes"),
    )
    ends = ends.filter(pl.col("sizes") > 1)
    fell, draws = _draws(ends, (pl.col("many") < pl.col("few")).all())
    single = ends.filter(pl.col("many") < pl.col("few")).height
    low, high = proportion_interval(fell, draws) if draws else (0.0, 1.0)
    return Finding(
        claim="The bounds fall with the sample size.",
        holds=above(low, high, 0.5),
        words=(
            f"From the smallest to the largest sample all bounds fell in {fell} of {draws} draws "
            f"({single} of {ends.height} single bounds); sign test, 95 % interval {low:.2f} to "
            f"{high:.2f} against one half."
        ),
        statistics={"fell": fell, "draws": draws},
    )


def _draw(axes: Axes, part: pl.DataFrame, along: str) -> None:
    """Bounds and the error of one data set against sample size or width."""
    part = part.with_columns(pl.col("value", "test_error") / pl.col("loss_bound"))
    for series, (name, rows) in enumerate(_by_bound(part)):
        plotting.band(axes, rows, along, "value", series, name)
    first = part.filter(pl.col("bound") == part["bound"][0])
    error: dict[str, Any] = {"color": "#8a8a8a", "linewidth": 3.5, "marker": "x"}
    error["label"] = "trained network, error on fresh rows"
    axes.plot(*plotting.medians(first, along, "test_error"), **error)
    reference = part.filter(pl.col("bound") == REFERENCE)
    if not reference.is_empty():
        text = "G3 kernel regime (reference, no bound)"
        plotting.theory_curve(axes, reference, along, "value", text)
    plotting.log_ticks(axes, part[along], "sample size" if along == "points" else "width")
    axes.set_yscale("log")
    top = max(axes.get_ylim()[1], 1.5)
    axes.axhspan(1, top, color=INK, alpha=0.08, linewidth=0)
    axes.set_ylim(top=top)


STUDY = Generalisation()
