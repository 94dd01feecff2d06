"""How coefficients and measured behaviour follow the even moments of the data."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.figure import Figure

from overparam.apriori.coefficients import a_priori_coefficients
from overparam.apriori.moments import Moments
from overparam.apriori.width import required_width
from overparam.errors import InputError
from overparam.jacobian.bounds import jacobian_bounds
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.report.svg import styled
from overparam.studies import plotting
from overparam.studies.problems import Source, read_cell, sources, start_of
from overparam.studies.statistics import above, mean, median, slope
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts
from overparam.train.gradient_descent import gradient_descent

DIM, POINTS = 10, 200
WIDTH = 256
DELTA = 0.1
"""Failure probability of the a-priori bounds that measured norms are held to."""

STEPS = 200
"""Of gradient descent by 1 / lambda_max, after which the kernel's drift is measured."""

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
    """Coefficients depend on even moments of the data.

    The a-priori theorem sees the data through even moments of the norm, of an order that the
    depth sets: with one hidden layer the required width is proportional to E|x|^4 once E|x|^2 is
    fixed. Inputs are drawn with E|x|^2 equal to the dimension and ever heavier tails. Beside the
    coefficients are measured |J|, omega(1) (the bound on the change of J within distance 1, from
    the norms of a drawn network with one hidden layer), and the kernel's relative drift in
    training on random signs.
    """

    name: ClassVar = "moments"
    keys: ClassVar = ("data", "depth", "seed")
    columns: ClassVar = {
        **{"data": pl.String, "real": pl.Boolean, "depth": pl.Int64, "seed": pl.Int64},
        **dict.fromkeys(("fourth", "law_fourth", "width"), pl.Float64),
        **dict.fromkeys(("jacobian", "jacobian_bound", "omega", "drift"), pl.Float64),
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """One cell a distribution and depth."""
        seeds = settings.seeds or (4 if settings.quick else 8)
        widths = settings.widths or (WIDTH,)
        if len(widths) > 1:
            raise InputError("this study draws networks of one width: give --widths one number")
        laws = ("sphere", "Gaussian", "Student t, df 8.5") if settings.quick else tuple(KNOWN)
        shared = {"activation": settings.activation or "tanh", "seeds": seeds}
        real = [Source("diabetes", None, 200)]
        if not settings.quick:
            real += [Source("digits", "parity", 100), Source("wine", None, 100)]
        found = [] if settings.data is not None else [Source(law, None, POINTS) for law in laws]
        return [
            {**source.cell(), "depth": depth, "width": widths[0], **shared}
            for depth in ((1, 2) if settings.depth is None else (settings.depth,))
            for source in (*found, *sources(settings, real))
        ]

    def cost(self, cell: Cell) -> Cost:
        """Training and two kernels for every seed; the width takes about ten seconds."""
        width = cell["width"]
        weights = width * (64 + cell["depth"] * width)
        work = cell["seeds"] * POINTS * weights * (6 * STEPS + 20)
        return Cost(16 * (POINTS * width * 12 + weights), 2.5e10 + work)

    def measure(self, cell: Cell) -> list[Row]:
        """Measured norms of networks on samples, beside what the moments give."""
        return [self._draw(cell, seed) for seed in range(cell["seeds"])]

    def _draw(self, cell: Cell, seed: int) -> Row:
        law, depth = cell["data"], cell["depth"]
        x = sample(law, seed) if law in KNOWN else read_cell(cell, standardize="center").train.x
        d = x.shape[1]
        x = x * np.sqrt(d / np.mean(np.sum(x * x, axis=1)))
        own = Moments.of(Measure(x))
        # The width of a law is that of its moments, not of the sample's.
        moments = KNOWN[law](d) if law in KNOWN else own
        model = MLP(d, (cell["width"],) * depth, 1, cell["activation"])
        start = start_of(model, seed)
        signs = np.random.default_rng([seed, 1]).choice([-1.0, 1.0], (len(x), 1))
        problem = Problem(model, Measure(x, signs), "squared", centered_at=start)
        kernel = np.asarray(empirical_ntk(model, start, x)) / len(x)
        top = float(np.linalg.eigvalsh(kernel)[-1])
        trained = gradient_descent(problem, start, 1 / top, STEPS, dtype="float64").params
        drift = np.asarray(empirical_ntk(model, trained, x)) / len(x) - kernel
        bounds = a_priori_coefficients(
            own, model, residual=1.0, min_eigenvalue=1e-12, failure_probability=DELTA
        )
        width = None
        if seed == 0:
            found = required_width(moments, model, residual=1.0, min_eigenvalue=SMALLEST)
            width = float(found.width)
        # Deeper networks' omega costs half a minute a draw, in composed layer Jacobians.
        omega = jacobian_bounds(problem, start).modulus(1.0) if depth == 1 else None
        fourth, law_fourth = (float(each.even[1]) / d**2 for each in (own, moments))
        return {
            **{"data": law, "real": law not in KNOWN, "depth": depth, "seed": seed},
            **{"fourth": fourth, "law_fourth": law_fourth, "width": width, "omega": omega},
            **{"jacobian": float(np.sqrt(top)), "jacobian_bound": bounds["jacobian_norm"]},
            "drift": float(np.linalg.norm(drift, 2)) / top,
        }

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The order of the moment, the bound on J, and what is measured."""
        found = [_coverage(table)]
        for depth, part in parts(table.drop_nulls("width").filter(~pl.col("real")), "depth"):
            if part.height > 2:
                found.append(_order(depth, part))
        laws = table.filter(~pl.col("real") & pl.col("omega").is_not_null())
        if laws["data"].n_unique() > 1:
            found += [_rising(laws), _drifting(laws)]
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """By distribution and depth."""
        return table.group_by("data", "depth", maintain_order=True).agg(
            pl.col("law_fourth").first().alias("E|x|^4 / d^2"),
            pl.col("width").drop_nulls().first().alias("required width"),
            pl.col("jacobian").median().alias("|J|"),
            pl.col("jacobian_bound").median().alias("a-priori bound"),
            pl.col("omega").median().alias("omega(1)"),
            pl.col("drift").median().alias("drift"),
        )

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Required widths, and measured changes.

        Left: the width required a priori against the fourth moment at fixed second moment, by
        depth, with the line of slope one. Right, against the sample's own fourth moment: omega(1)
        at initialisation, one hidden layer, dotted its slope 1/2 a priori; and the kernel's
        relative drift in training.
        """
        figure, (left, right) = plotting.canvas(2)
        for series, (depth, part) in enumerate(parts(table, "depth")):
            style, name = plotting.SERIES[series], f"{depth} hidden"
            rows = part.drop_nulls("width").sort("law_fourth")
            left.plot(rows["law_fourth"], rows["width"], label=name, **style)
            plotting.power(left, rows["law_fourth"], rows["width"].min(), 1.0)
            dots = {**style, "linestyle": "none", "markersize": 3.5, "alpha": 0.6}
            right.plot(part["fourth"], part["drift"], label=f"drift, {name}", **dots)
            known = part.drop_nulls("omega")
            if known.height:
                dots |= {**plotting.SERIES[2], "linestyle": "none"}
                right.plot(known["fourth"], known["omega"], label=f"omega(1), {name}", **dots)
                plotting.power(right, known["fourth"], known["omega"].min(), 0.5)
        for axes in (left, right):
            axes.set(xscale="log", yscale="log", xlabel="E|x|^4 / d^2")
            plotting.plain_ticks(axes.xaxis, (1.0, 1.2, 1.4, 1.6, 1.8, 2.0))
            axes.margins(x=0.12)
        left.legend(fontsize=8)
        right.legend(fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
        left.set_ylabel("width required a priori")
        right.set_ylabel("omega(1); relative drift of the kernel")
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


def _coverage(table: pl.DataFrame) -> Finding:
    failed = table.filter(pl.col("jacobian") > pl.col("jacobian_bound")).height
    slack = median(table["jacobian_bound"] / table["jacobian"])
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
    exponent = slope(rows["law_fourth"], rows["width"])
    if depth == 1:
        claim = "One hidden layer: the required width is proportional to E|x|^4."
        holds, test = abs(exponent - 1) < 0.05, "it holds to 0.05"
    else:
        claim = f"{depth} hidden layers: heavier tails ask for more width, steeper than E|x|^4."
        holds, test = rising and exponent > 1, "it holds if it rises with a slope above 1"
    return Finding(
        claim=claim,
        holds=holds,
        words=(
            f"Over {rows.height} distributions of equal E|x|^2, from {rows['data'][0]} to "
            f"{rows['data'][-1]}, the exponent in E|x|^4 is {exponent:.3f}; {test}."
        ),
        statistics={"exponent": exponent},
    )


def _rising(laws: pl.DataFrame) -> Finding:
    found = mean(_slopes(laws, "omega"))
    return Finding(
        claim="1 hidden: omega(1) at initialisation grows with E|x|^4.",
        holds=above(found.low, found.high, 0.0),
        words=(
            f"Exponent {found} over {found.seeds} seeds, 95 % interval {found.low:.3f} to "
            f"{found.high:.3f}; it holds if the interval is above 0. A priori it is 1/2; in a "
            "sample the worst direction is that of its few largest points, and finds more."
        ),
        statistics={"exponent": found.value, "standard_error": found.standard_error},
    )


def _drifting(laws: pl.DataFrame) -> Finding:
    drift = mean(_slopes(laws, "drift"))
    behind = mean(_slopes(laws, "drift") - _slopes(laws, "omega"))
    return Finding(
        claim="1 hidden: the kernel's drift in training grows no faster than omega(1).",
        holds=True if behind.high <= 0 else False if behind.low > 0 else None,
        words=(
            f"The drift's exponent is {drift}; less omega's, pair by pair, {behind} over "
            f"{behind.seeds} seeds, 95 % interval {behind.low:.3f} to {behind.high:.3f}: it holds "
            "if that is not above 0. The bound provides for the worst direction; gradient descent "
            "takes another."
        ),
        statistics={
            **{"exponent": drift.value, "difference": behind.value},
            "standard_error": behind.standard_error,
        },
    )


def _slopes(laws: pl.DataFrame, column: str) -> Float[np.ndarray, " seeds"]:
    """For each seed, the exponent of a column in the sample's own fourth moment."""
    groups = parts(laws.sort("seed"), "seed")
    return np.array([slope(part["fourth"], part[column]) for _, part in groups])


STUDY = MomentsStudy()
