"""How coefficients and measured behaviour follow the even moments of the data."""

from collections.abc import Callable
from typing import ClassVar

import jax
import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.figure import Figure

from overparam.kernel.change import jacobian_change_gram
from overparam.kernel.empirical import empirical_ntk
from overparam.model.mlp import MLP, Params
from overparam.problem.measure import Measure
from overparam.report.svg import styled
from overparam.studies import plotting
from overparam.studies.problems import Source, read_cell, sources, start_of
from overparam.studies.statistics import mean
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study
from overparam.theory.apriori.coefficients import a_priori_coefficients
from overparam.theory.apriori.moments import Moments
from overparam.theory.apriori.width import required_width

DIM, POINTS = 10, 200
WIDTH = 256
DELTA = 0.1
"""Failure probability of the a-priori bounds that measured norms are held to."""

SMALLEST = 1e-3
"""lambda_min assumed for the required width, the same for all data."""

KNOWN: dict[str, Callable[[int], Moments]] = {
    "sphere": Moments.sphere,
    "uniform cube": Moments.uniform_cube,
    "Gaussian": Moments.gaussian,
    "Laplace": Moments.laplace,
    "Student t, df 8.5": lambda d: Moments.student_t(d, 8.5),
}


class MomentsStudy(Study):
    """Synthetic data of equal second moment with ever heavier tails, and real data."""

    name: ClassVar = "moments"
    title: ClassVar = "Coefficients depend on even moments of the data"
    question: ClassVar = (
        "The a-priori theorem sees the data through even moments of the norm, of an order that the "
        "depth sets: with one hidden layer the required width is proportional to E|x|^4 once "
        "E|x|^2 is fixed. Inputs are drawn with E|x|^2 equal to the dimension and ever heavier "
        "tails; beside the coefficients are measured: |J|, and how much J changes in a random "
        "direction."
    )
    keys: ClassVar = ("data", "depth", "seed")
    columns: ClassVar = {
        "data": pl.String,
        "real": pl.Boolean,
        "depth": pl.Int64,
        "seed": pl.Int64,
        "fourth": pl.Float64,
        "law_fourth": pl.Float64,
        "width": pl.Float64,
        "jacobian": pl.Float64,
        "jacobian_bound": pl.Float64,
        "change": pl.Float64,
    }
    caption: ClassVar = (
        "Left: the width required a priori against the fourth moment at fixed second moment, by "
        "depth, with the line of slope one. Right: the mean square change of the Jacobian in a "
        "random direction of length one, measured, against the sample's own fourth moment; dotted, "
        "slope one."
    )

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a distribution and depth."""
        seeds = settings.seeds or (3 if settings.quick else 8)
        laws = ("sphere", "Gaussian", "Student t, df 8.5") if settings.quick else tuple(KNOWN)
        real = [
            Source("diabetes", None, 200),
            Source("digits", "parity", 100),
            Source("wine", None, 100),
        ][: 1 if settings.quick else 3]
        found = [] if settings.data is not None else [Source(law, None, POINTS) for law in laws]
        return [
            {**source.cell(), "depth": depth, "width": WIDTH, "seeds": seeds}
            for depth in (2, 1)
            for source in (*found, *sources(settings, real))
        ]

    def cost(self, cell: Cell) -> Cost:
        """A kernel and a Gram matrix for every seed; the width takes about ten seconds."""
        weights = WIDTH * (64 + WIDTH)
        work = float(cell["seeds"] or 1) * POINTS * weights * 20
        return Cost(16 * POINTS * WIDTH * 12, 2.5e10 + work)

    def measure(self, cell: Cell) -> list[Row]:
        """Measured norms of networks on samples, beside what the moments give."""
        law = str(cell["data"])
        depth = int(cell["depth"] or 1)
        return [self._draw(cell, law, depth, seed) for seed in range(int(cell["seeds"] or 1))]

    def _draw(self, cell: Cell, law: str, depth: int, seed: int) -> Row:
        x = sample(law, seed) if law in KNOWN else read_cell(cell, standardize="center").train.x
        d = x.shape[1]
        x = x * np.sqrt(d / np.mean(np.sum(x * x, axis=1)))
        own = Moments.of(Measure(x))
        # The width of a law is that of its moments, not of the sample's.
        moments = KNOWN[law](d) if law in KNOWN else own
        model = MLP(d, (WIDTH,) * depth, 1, "tanh")
        start = start_of(model, seed)
        kernel = np.asarray(empirical_ntk(model, start, x)) / len(x)
        change = jacobian_change_gram(model, start, _moved(start, seed), x)
        bounds = a_priori_coefficients(
            own,
            model.hidden_widths,
            "tanh",
            residual=1.0,
            min_eigenvalue=1e-12,
            failure_probability=DELTA,
        )
        width = None
        if seed == 0:
            width = float(
                required_width(moments, depth, "tanh", residual=1.0, min_eigenvalue=SMALLEST).width
            )
        return {
            "data": law,
            "real": law not in KNOWN,
            "depth": depth,
            "seed": seed,
            "fourth": float(own.even[1]) / d**2,
            "law_fourth": float(moments.even[1]) / d**2,
            "width": width,
            "jacobian": float(np.sqrt(np.linalg.eigvalsh(kernel)[-1])),
            "jacobian_bound": bounds["jacobian_norm"],
            "change": float(np.trace(change)) / len(x),
        }

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The order of the moment, the bound on J, and what is measured."""
        found = [_coverage(table)]
        for (depth,), part in table.group_by(["depth"], maintain_order=True):
            widths = part.filter(pl.col("width").is_not_null() & ~pl.col("real"))
            if widths.height > 2:
                found.append(_order(int(str(depth)), widths))
            laws = part.filter(~pl.col("real"))
            if laws.height:
                found.append(_measured(int(str(depth)), laws))
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """By distribution and depth."""
        return table.group_by("data", "depth", maintain_order=True).agg(
            pl.col("law_fourth").first().alias("E|x|^4 / d^2"),
            pl.col("width").drop_nulls().first().alias("required width"),
            pl.col("jacobian").median().alias("|J|"),
            pl.col("jacobian_bound").median().alias("a-priori bound"),
            pl.col("change").median().alias("change of J"),
        )

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Required widths, and measured changes."""
        figure, (left, right) = plotting.canvas(2)
        for series, ((depth,), part) in enumerate(table.group_by(["depth"], maintain_order=True)):
            style, name = plotting.SERIES[series], f"{depth} hidden"
            rows = part.filter(pl.col("width").is_not_null()).sort("law_fourth")
            left.plot(rows["law_fourth"], rows["width"], label=name, **style)
            dots = {**style, "linestyle": "none", "markersize": 3.5, "alpha": 0.6}
            drawn = part.filter(~pl.col("real"))
            right.plot(drawn["fourth"], drawn["change"], label=name, **dots)
            for axes, values, x in (
                (left, rows["width"], rows["law_fourth"]),
                (right, drawn["change"], drawn["fourth"]),
            ):
                span = np.array([float(str(x.min())), float(str(x.max()))])
                plotting.power(axes, span, float(str(values.min())), 1.0)
        for axes in (left, right):
            axes.set(xscale="log", yscale="log", xlabel="E|x|^4 / d^2")
            axes.xaxis.set_minor_formatter("{x:g}")
            axes.margins(x=0.12)
            axes.legend(fontsize=8)
        left.set_ylabel("width required a priori")
        right.set_ylabel("|J(theta_0 + v) - J(theta_0)|^2, |v| = 1")
        return figure


def sample(law: str, seed: int) -> Float[np.ndarray, "n d"]:
    """Independent points of a law in KNOWN, shape (200, 10)."""
    rng = np.random.default_rng([seed, list(KNOWN).index(law)])
    shape = (POINTS, DIM)
    normal = rng.standard_normal(shape)
    if law == "sphere":
        return np.sqrt(DIM) * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    if law == "uniform cube":
        return rng.uniform(-np.sqrt(3), np.sqrt(3), shape)
    if law == "Laplace":
        return rng.laplace(scale=np.sqrt(0.5), size=shape)
    if law == "Gaussian":
        return normal
    df = 8.5
    return normal * np.sqrt((df - 2) / rng.chisquare(df, (POINTS, 1)))


def _moved(start: Params, seed: int) -> Params:
    """The parameters moved by a random direction of length 1."""
    rng = np.random.default_rng([seed, 1])
    leaves, tree = jax.tree.flatten(start)
    way = [rng.standard_normal(np.shape(leaf)) for leaf in leaves]
    length = np.sqrt(sum(np.vdot(v, v) for v in way))
    moved = [np.asarray(leaf) + v / length for leaf, v in zip(leaves, way, strict=True)]
    return jax.tree.unflatten(tree, moved)


def _coverage(table: pl.DataFrame) -> Finding:
    failed = table.filter(pl.col("jacobian") > pl.col("jacobian_bound")).height
    slack = float(np.median(table["jacobian_bound"] / table["jacobian"]))
    return Finding(
        claim=f"|J| is below its a-priori bound in all but a share {DELTA} of the draws.",
        holds=failed <= DELTA * table.height,
        words=(
            f"Above it were {failed} of {table.height} draws; the bound is {slack:.2f} times the "
            "measured norm in the median."
        ),
        statistics={"failed": failed, "draws": table.height, "slack": slack},
    )


def _order(depth: int, widths: pl.DataFrame) -> Finding:
    rows = widths.sort("law_fourth")
    rising = bool((np.diff(rows["width"].to_numpy()) > 0).all())
    slope = _slope(rows["law_fourth"], rows["width"])
    if depth == 1:
        claim = "One hidden layer: the required width is proportional to E|x|^4."
        holds, test = abs(slope - 1) < 0.05, "it holds to 0.05"
    else:
        claim = f"{depth} hidden layers: heavier tails ask for more width, steeper than E|x|^4."
        holds, test = rising and slope > 1, "it holds if it rises with a slope above 1"
    return Finding(
        claim=claim,
        holds=holds,
        words=(
            f"Over {rows.height} distributions of equal E|x|^2, from {rows['data'][0]} to "
            f"{rows['data'][-1]}, the exponent in E|x|^4 is {slope:.3f}; {test}."
        ),
        statistics={"exponent": slope},
    )


def _measured(depth: int, laws: pl.DataFrame) -> Finding:
    groups = laws.group_by(["seed"], maintain_order=True)
    slope = mean(np.array([_slope(part["fourth"], part["change"]) for _, part in groups]))
    return Finding(
        claim=f"{depth} hidden: the measured change of J grows no faster than E|x|^4.",
        holds=True if slope.high <= 1 else False if slope.low > 1 else None,
        words=(
            f"Exponent {slope} over {slope.seeds} seeds, 95 % interval {slope.low:.3f} to "
            f"{slope.high:.3f}; it holds if the interval is not above 1. The coefficient provides "
            "for the worst direction; in a random one the change follows the second moment."
        ),
        statistics={"exponent": slope.value, "standard_error": slope.standard_error},
    )


def _slope(x: pl.Series, y: pl.Series) -> float:
    """The slope of log y over log x."""
    return float(np.polyfit(np.log(x.to_numpy()), np.log(y.to_numpy()), 1)[0])


STUDY = MomentsStudy()
