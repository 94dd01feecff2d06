"""The assumption: how far from zero the tangent kernel's smallest eigenvalue stays at the start."""

from typing import Any, ClassVar

import jax
import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.figure import Figure

from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.activation import get_activation
from overparam.model.mlp import MLP
from overparam.report.svg import styled
from overparam.studies import plotting, statistics
from overparam.studies.problems import Source, read_cell, row_of, sources, sphere, start_of
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts

ACTIVATIONS = ("tanh", "gelu", "relu")
ANGLES = (0.3, 0.1, 0.03, 0.01)
HALF = 0.5
"""c: below this part of the limit's smallest eigenvalue counts as a failure of the assumption."""

WITHIN = 0.2

SEEDS = 80
"""Without a failure in 72 the interval of its probability ends below 0.05."""

RATIO = pl.col("smallest") / pl.col("limit")

SMOOTH, KINKED = 2.0, 1.0
"""Exponent of the gap between two points in their angle, as that goes to 0.

The kernel of a smooth activation is smooth in the angle, that of relu has a cusp; a network
resolves it as long as many of its kinks lie between the two points. lambda_min is at most the gap,
and need not follow it: other points bound it from above, too.
"""

SMALL = 0.2
"""Angles that are small: at 0.1 to 0.3 the limiting gap of relu still grows like angle^1.32."""

RESOLVING = 16384
"""Width of these networks: 52 kinks between points at the smallest angle."""

SIZES = {"digits": (100, 300, 1000, 1797), "breast_cancer": (100, 300, 569)}
"""Points of real rows, up to all that a data set has."""

SIZED = 10_000
"""Networks times points at each of these sizes, at most."""


class Eigenvalue(Study):
    """The tangent kernel's smallest eigenvalue stays away from zero.

    The one assumption of the theory that is not mild: lambda_min of the tangent kernel at the
    initialisation is bounded away from zero. Networks are drawn many times, and lambda_min is
    compared with that of the limiting kernel, over width, depth, activation, number of points,
    dimension, and the angle between the two closest points.
    """

    name: ClassVar = "eigenvalue"
    columns: ClassVar = {
        **dict.fromkeys(("sweep", "data", "activation"), pl.String),
        **dict.fromkeys(("depth", "points", "dim"), pl.Int64),
        **{"angle": pl.Float64, "width": pl.Int64, "seed": pl.Int64},
        **dict.fromkeys(("smallest", "limit", "distance", "gap"), pl.Float64),
    }
    keys: ClassVar = tuple(columns)[:9]

    def cells(self, settings: Settings) -> list[Cell]:
        """Widths on data; numbers of points, dimensions and angles on the sphere."""
        quick = settings.quick
        widths = (64, 256, 1024) if quick else (64, 256, 1024, 4096)
        seeds = settings.seeds or SEEDS
        activations = ACTIVATIONS if settings.activation is None else (settings.activation,)
        own = sources(settings, [Source("digits", "parity", 20), Source("wine", None, 20)])
        shared: dict[str, Any] = {"angle": 0.0, "seeds": seeds}
        cells: list[Cell] = [
            {"sweep": "width", **source.cell(), "dim": 0, "activation": act, "depth": depth}
            | {"width": width, **shared}
            for width in settings.widths or widths
            for source in own
            for depth in ((1, 2) if settings.depth is None else (settings.depth,))
            if settings.widths or depth * width <= 4096
            for act in activations
        ]
        widest = 1024 if settings.widths is None else settings.widths[-1]
        on_sphere = {"data": "sphere", "target": None, "width": widest, **shared}
        on_sphere |= {"depth": settings.depth or 1, "activation": activations[0]}
        on_sphere |= {"points": 20, "dim": 20}
        cells += [on_sphere | {"sweep": "points", "points": n} for n in (10, 20, 40, 80)]
        cells += [on_sphere | {"sweep": "dimension", "dim": d} for d in (3, 10, 30)]
        cells += [
            on_sphere
            | {**source.cell(), "sweep": "size", "dim": 0}
            | {"seeds": min(seeds, SIZED // source.points)}
            for source in _sizes(settings)
        ]
        return cells + [
            on_sphere
            | {"sweep": "angle", "points": 10, "activation": act}
            | {"angle": angle, "width": RESOLVING if settings.widths is None else widest}
            for act in activations
            for angle in ANGLES
        ]

    def cost(self, cell: Cell) -> Cost:
        """A kernel for every seed, and about two seconds of compiling."""
        width, depth, n = cell["width"], cell["depth"], cell["points"]
        parameters = width * 66 + (depth - 1) * width * width
        kernel = 6 * n * parameters + 4 * n * n * width * depth + 8 * n**3
        size = 8 * (4 * parameters + 6 * n * width + 6 * n**2)
        return Cost(size, 5e9 + cell["seeds"] * 3 * kernel)

    def measure(self, cell: Cell) -> list[Row]:
        """lambda_min of every seed's kernel, the weights 1 / n included."""
        x = _points(cell)
        n, dim = x.shape
        model = MLP(dim, (cell["width"],) * cell["depth"], 1, cell["activation"])
        with jax.enable_x64(True):
            limit = np.asarray(infinite_ntk(model, x).ntk) / n
        own = row_of(cell, "sweep", "activation", "depth", "angle", "width", points=n, dim=dim)
        own["limit"] = float(np.linalg.eigvalsh(limit)[0])
        rows = []
        for seed in range(cell["seeds"]):
            kernel = np.asarray(empirical_ntk(model, start_of(model, seed), x)) / n
            smallest = float(np.linalg.eigvalsh(kernel)[0])
            apart = float(np.abs(np.linalg.eigvalsh(kernel - limit)[[0, -1]]).max())
            rows.append(own | {"seed": seed, "smallest": smallest, "distance": apart})
            rows[-1]["gap"] = _least_gap(kernel)
        return rows

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The assumption, its concentration, and what breaks it."""
        widths = table.filter(pl.col("sweep") == "width")
        found = [self._weyl(table), self._pairs(table)]
        for data, part in parts(widths, "data"):
            found += [self._assumption(data, *each) for each in parts(part, "depth")]
            if 1 in part["depth"]:
                found.append(self._mean(data, part))
            found += self._concentration(data, part)
        sizes = parts(table.filter(pl.col("sweep") == "size"), "data")
        found += [self._size(*each) for each in sizes]
        return found + self._angles(table.filter(pl.col("sweep") == "angle"))

    def _weyl(self, table: pl.DataFrame) -> Finding:
        change = (pl.col("smallest") - pl.col("limit")).abs()
        broken = table.filter(change > pl.col("distance") * (1 + 1e-9) + 1e-12).height
        claim, runs = "lambda_min moves by at most |K - K_inf|.", table.height
        return statistics.never(claim, broken, runs, f"{runs} networks.", networks=runs)

    def _pairs(self, table: pl.DataFrame) -> Finding:
        """docs/spectrum.md, section 1: the Rayleigh quotient of a difference of two points."""
        broken = table.filter(pl.col("smallest") > pl.col("gap") * (1 + 1e-9) + 1e-15).height
        claim, runs = "lambda_min is at most the gap of the closest pair.", table.height
        return statistics.never(claim, broken, runs, f"{runs} networks.", networks=runs)

    def _size(self, data: str, part: pl.DataFrame) -> Finding:
        """Whether more points bring a network's lambda_min away from the limit's."""
        least = part.group_by("points", maintain_order=True).agg(
            RATIO.min().alias("ratio"), RATIO.len().alias("draws"), pl.col("limit").first()
        )
        sizes = ", ".join(
            f"{row['points']:,}: {row['ratio']:.3f} ({row['limit']:.2g})"
            for row in least.sort("points").iter_rows(named=True)
        )
        lowest, most = float(part.select(RATIO.min()).item()), max(part["points"])
        return Finding(
            claim=(
                f"On {data}, tanh, width {part['width'][0]:,}, no draw's lambda_min is below half "
                f"of the limit's at any number of points up to {most:,}."
            ),
            holds=lowest >= HALF,
            words=f"Least ratio (limit) by points: {sizes}; {min(least['draws'])} or more draws.",
            statistics={"least_ratio": lowest, "draws": int(least["draws"].sum())},
        )

    def _assumption(self, data: str, depth: int, part: pl.DataFrame) -> Finding:
        """Counted by seeds: activations of one seed share their weights, so are one draw."""
        widest, narrow = (_failures(part, end(part["width"])) for end in (max, min))
        low, high = statistics.proportion_interval(widest[1], widest[2])
        return Finding(
            claim=(
                f"On {data}, {depth} hidden, lambda_min(K) of wide networks is at least half of "
                "the limit's, all but surely."
            ),
            holds=statistics.above(-high, -low, -0.05),
            words=(
                f"With any activation below half of it were {widest[1]} of {widest[2]} draws of "
                f"width {widest[0]:,} (95 % interval of the probability {low:.3f} to {high:.3f}; "
                f"it holds if that is below 0.05), and {narrow[1]} of {narrow[2]} of width "
                f"{narrow[0]:,}."
            ),
            statistics={"below": widest[1], "draws": widest[2], "low": low, "high": high},
        )

    def _mean(self, data: str, part: pl.DataFrame) -> Finding:
        shallow = part.filter(pl.col("depth") == 1)
        means = [
            statistics.mean((rows["smallest"] / rows["limit"]).to_numpy())
            for *_, rows in parts(shallow, "activation", "width")
        ]
        over, values = sum(each.low > 1 for each in means), [each.value for each in means]
        return Finding(
            claim=f"On {data}, with one hidden layer the mean of lambda_min is below the limit's.",
            holds=over == 0,
            words=(
                f"The 95 % interval of the mean ratio is above one in {over} of {len(means)} "
                f"cases of width and activation; the means go from {min(values):.3f} to "
                f"{max(values):.3f}."
            ),
            statistics={"above": over, "cases": len(means)},
        )

    def _concentration(self, data: str, part: pl.DataFrame) -> list[Finding]:
        found = []
        for act, depth, rows in parts(part, "activation", "depth"):
            slope = statistics.exponent(rows, "width", "distance")
            claim = f"On {data}, {act}, {depth} hidden, |K - K_inf| falls like width^-1/2."
            found.append(statistics.power_law(claim, slope, -0.5, WITHIN))
        return found

    def _angles(self, part: pl.DataFrame) -> list[Finding]:
        found = []
        for act, rows in parts(part, "activation"):
            smooth = get_activation(act).curvature_bound is not None
            expected = SMOOTH if smooth else KINKED
            used = rows.filter(pl.col("angle") < SMALL)
            slope = statistics.exponent(used, "angle", "gap")
            own = statistics.exponent(used, "angle", "smallest").value
            claim = (
                f"Two points at a small angle, {act}: their gap, which lambda_min is at most, "
                f"falls like angle^{expected:g}."
            )
            what = f"lambda_min itself, which other points bound, too, has the exponent {own:.3f}. "
            found.append(statistics.power_law(claim, slope, expected, WITHIN, what, smallest=own))
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """Ratios to the limit at the smallest and largest width, and over points and dimensions."""
        width = pl.col("width")
        ends = (pl.col("sweep") != "width") | (width == width.min()) | (width == width.max())
        shown = table.filter(ends & (pl.col("sweep") != "angle"))
        return (
            shown.group_by(*self.keys[:-1], maintain_order=True)
            .agg(
                pl.col("limit").first(),
                RATIO.median().alias("median ratio"),
                RATIO.min().alias("least ratio"),
            )
            .drop("angle")
        )

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Over width, over points, over the angle.

        lambda_min(K) over that of the limiting kernel: against the width (left) and against the
        number of points (middle), random ones on the sphere in 20 dimensions and real rows; right,
        lambda_min against the angle between the two closest points. Medians over seeds, bands from
        the 10 % to the 90 % quantile; dotted, the limit.
        """
        figure, (left, middle, right) = plotting.canvas(3)
        first = table.filter(pl.col("sweep") == "width")
        first = first.filter(pl.col("data") == pl.col("data").first())
        for series, (act, depth, part) in enumerate(parts(first, "activation", "depth")):
            plotting.band(left, part, "width", RATIO, series, f"{act}, {depth} hidden")
        plotting.log_ticks(left, first["width"], "width")
        part = table.filter(pl.col("sweep").is_in(["points", "size"]))
        for series, (name, rows) in enumerate(parts(part, "data")):
            plotting.band(middle, rows, "points", RATIO, series, name)
        text = f"points ({part['activation'][0]}, width {part['width'][0]:,})"
        several = pl.Series(sorted(part["points"].unique())[::2])
        plotting.log_ticks(middle, several, text)
        for axes in (left, middle):
            axes.axhline(1, **plotting.THEORY)
            axes.set_ylabel("lambda_min(K) / lambda_min(K_inf)")
        part = table.filter(pl.col("sweep") == "angle")
        for series, (act, rows) in enumerate(parts(part, "activation")):
            plotting.band(right, rows, "angle", "smallest", series, act)
            text = "limit" if series == 0 else "_"
            plotting.theory_curve(right, rows, "angle", "limit", text)
        plotting.log_ticks(right, part["angle"], "angle of the closest pair")
        right.set(yscale="log", ylabel="lambda_min(K)")
        for axes in (left, middle, right):
            axes.legend(fontsize=7.5)
        return figure


def _failures(part: pl.DataFrame, width: int) -> tuple[int, int, int]:
    """A width, the draws there of which any network failed, and all draws."""
    failed = (pl.col("smallest") < HALF * pl.col("limit")).any()
    draws = part.filter(pl.col("width") == width).group_by("seed").agg(failed.alias("failed"))
    return width, int(draws["failed"].sum()), draws.height


def _sizes(settings: Settings) -> list[Source]:
    """The bundled data at growing numbers of points; the user's at the number asked for."""
    if settings.data is not None:
        return sources(settings, [Source("", None, 20)])
    few = 2 if settings.quick else None
    targets = {"digits": "parity"}
    return [Source(name, targets.get(name), n) for name, all_ in SIZES.items() for n in all_[:few]]


def _least_gap(kernel: Float[np.ndarray, "n n"]) -> float:
    """The least of (K_ii + K_jj - 2 K_ij) / 2 over pairs of points."""
    diagonal = np.diag(kernel)
    gaps = (diagonal[:, None] + diagonal[None, :]) / 2 - kernel
    np.fill_diagonal(gaps, np.inf)
    return float(gaps.min())


def _points(cell: Cell) -> Float[np.ndarray, "n d"]:
    """Points on a sphere of radius sqrt(d): data, or random ones with one pair at an angle."""
    if cell["data"] != "sphere":
        return read_cell(cell).train.x
    x, angle = sphere(cell["points"], cell["dim"]), cell["angle"]
    if angle:
        across = x[1] - (x[1] @ x[0]) * x[0]
        x[1] = np.cos(angle) * x[0] + np.sin(angle) * across / np.linalg.norm(across)
    return np.sqrt(cell["dim"]) * x


STUDY = Eigenvalue()
