"""The assumption: how far from zero the tangent kernel's smallest eigenvalue stays at the start."""

from typing import Any, ClassVar

import jax
import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.figure import Figure

from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.mlp import MLP
from overparam.report.svg import styled
from overparam.studies import plotting
from overparam.studies.problems import Source, label, read_cell, sources, start_of
from overparam.studies.statistics import (
    exponent,
    mean,
    never,
    power_law,
    proportion_interval,
)
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study

ACTIVATIONS = ("tanh", "gelu", "relu")
ANGLES = (0.3, 0.1, 0.03, 0.01)
HALF = 0.5
"""c: below this part of the limit's smallest eigenvalue counts as a failure of the assumption."""

WITHIN = 0.2

ANGLE_EXPONENTS = {"tanh": (2.0, 0.0, 0.2), "gelu": (2.0, 0.0, 0.2), "relu": (1.0, 0.02, 0.4)}
"""Of lambda_min in the angle of two nearly parallel points, and the angles it is fitted on.

The kernel of a smooth activation is smooth in the angle, that of relu has a cusp; a network
resolves it as long as many of its kinks lie between the two points.
"""


class Eigenvalue(Study):
    """lambda_min(K(theta_0)) over seeds, against everything it may depend on."""

    name: ClassVar = "eigenvalue"
    title: ClassVar = "The tangent kernel's smallest eigenvalue stays away from zero"
    question: ClassVar = (
        "The one assumption of the theory that is not mild: lambda_min of the tangent kernel at "
        "the initialisation is bounded away from zero. Networks are drawn many times, and "
        "lambda_min is compared with that of the limiting kernel, over width, depth, activation, "
        "number of points, dimension, and the angle between the two closest points."
    )
    keys: ClassVar = (
        *("sweep", "data", "activation", "depth", "points", "dim", "angle", "width", "seed"),
    )
    columns: ClassVar = {
        "sweep": pl.String,
        "data": pl.String,
        "activation": pl.String,
        "depth": pl.Int64,
        "points": pl.Int64,
        "dim": pl.Int64,
        "angle": pl.Float64,
        "width": pl.Int64,
        "seed": pl.Int64,
        "smallest": pl.Float64,
        "limit": pl.Float64,
        "distance": pl.Float64,
    }
    caption: ClassVar = (
        "lambda_min(K) over that of the limiting kernel: against the width (left) and against the "
        "number of points (middle); right, lambda_min against the angle between the two closest "
        "points. Medians over seeds, bands from the 10 % to the 90 % quantile; dotted, the limit."
    )

    def cells(self, settings: Settings) -> list[Cell]:
        """Widths on data; numbers of points, dimensions and angles on the sphere."""
        quick = settings.quick
        widths = (64, 256, 1024) if quick else (64, 256, 1024, 4096)
        seeds = settings.seeds or (10 if quick else 80)
        shared: dict[str, Any] = {"angle": 0.0, "seeds": seeds}
        cells: list[Cell] = [
            {"sweep": "width", **source.cell(), "dim": 0, "activation": act, "depth": depth}
            | {"width": width, **shared}
            for width in widths
            for source in sources(
                settings, [Source("digits", "parity", 20), Source("wine", None, 20)]
            )
            for depth in (1, 2)
            if depth * width <= 4096
            for act in ACTIVATIONS
        ]
        sphere = {"data": "sphere", "target": None, "activation": "tanh", "depth": 1, "width": 1024}
        cells += [
            {"sweep": "points", **sphere, "points": n, "dim": 20, **shared}
            for n in (10, 20, 40, 80)
        ]
        cells += [
            {"sweep": "dimension", **sphere, "points": 20, "dim": d, **shared} for d in (3, 10, 30)
        ]
        return cells + [
            {"sweep": "angle", **sphere, "points": 10, "dim": 20, **shared}
            | {"activation": act, "angle": angle}
            for act in ACTIVATIONS
            for angle in ANGLES
        ]

    def cost(self, cell: Cell) -> Cost:
        """A kernel for every seed, and about two seconds of compiling."""
        width, depth, n = (float(cell[c] or 1) for c in ("width", "depth", "points"))
        parameters = width * 66 + (depth - 1) * width * width
        kernel = 6 * n * parameters + 4 * n * n * width * depth
        return Cost(
            8 * (4 * parameters + 6 * n * width), 5e9 + float(cell["seeds"] or 1) * 3 * kernel
        )

    def measure(self, cell: Cell) -> list[Row]:
        """lambda_min of every seed's kernel, the weights 1 / n included."""
        x = _points(cell)
        widths = (int(cell["width"] or 1),) * int(cell["depth"] or 1)
        model = MLP(x.shape[1], widths, 1, str(cell["activation"]))
        with jax.enable_x64(True):
            limit = np.asarray(infinite_ntk(model, x).ntk) / len(x)
        smallest = float(np.linalg.eigvalsh(limit)[0])
        rows = []
        for seed in range(int(cell["seeds"] or 1)):
            kernel = np.asarray(empirical_ntk(model, start_of(model, seed), x)) / len(x)
            apart = np.linalg.eigvalsh(kernel - limit)[[0, -1]]
            rows.append(
                {
                    "sweep": cell["sweep"],
                    "data": label(cell),
                    "activation": cell["activation"],
                    "depth": cell["depth"],
                    "points": len(x),
                    "dim": x.shape[1],
                    "angle": cell["angle"],
                    "width": cell["width"],
                    "seed": seed,
                    "smallest": float(np.linalg.eigvalsh(kernel)[0]),
                    "limit": smallest,
                    "distance": float(np.abs(apart).max()),
                }
            )
        return rows

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The assumption, its concentration, and what breaks it."""
        widths = table.filter(pl.col("sweep") == "width")
        found = [self._weyl(table)]
        for (data,), part in widths.group_by(["data"], maintain_order=True):
            for (depth,), rows in part.group_by(["depth"], maintain_order=True):
                found.append(self._assumption(str(data), int(str(depth)), rows))
            found.append(self._mean(str(data), part))
            found += self._concentration(str(data), part)
        return found + self._angles(table.filter(pl.col("sweep") == "angle"))

    def _weyl(self, table: pl.DataFrame) -> Finding:
        moved = (pl.col("smallest") - pl.col("limit")).abs()
        broken = table.filter(moved > pl.col("distance") * (1 + 1e-9) + 1e-12).height
        claim = "lambda_min moves by at most |K - K_inf|."
        return never(
            claim, broken, table.height, f"{table.height} networks.", networks=table.height
        )

    def _assumption(self, data: str, depth: int, part: pl.DataFrame) -> Finding:
        """Counted by seeds: activations of one seed share their weights, so are one draw."""
        widest, narrow = (_failures(part, end(part["width"])) for end in (max, min))
        low, high = proportion_interval(widest[1], widest[2])
        return Finding(
            claim=(
                f"On {data}, {depth} hidden, lambda_min(K) of wide networks is at least half of "
                "the limit's, all but surely."
            ),
            holds=True if high < 0.05 else False if low > 0.05 else None,
            words=(
                f"With any activation below half of it were {widest[1]} of {widest[2]} draws of "
                f"width {widest[0]:,} (95 % interval of the probability {low:.3f} to {high:.3f}; "
                f"it holds if that is below 0.05), and {narrow[1]} of {narrow[2]} of width "
                f"{narrow[0]:,}."
            ),
            statistics={"below": widest[1], "draws": widest[2], "low": low, "high": high},
        )

    def _mean(self, data: str, part: pl.DataFrame) -> Finding:
        shallow = part.filter(pl.col("depth") == 1).with_columns(
            (pl.col("smallest") / pl.col("limit")).alias("ratio")
        )
        means = [
            mean(rows["ratio"].to_numpy())
            for _, rows in shallow.group_by(["activation", "width"], maintain_order=True)
        ]
        above = sum(each.low > 1 for each in means)
        return Finding(
            claim=f"On {data}, with one hidden layer the mean of lambda_min is below the limit's.",
            holds=above == 0,
            words=(
                f"The 95 % interval of the mean ratio is above one in {above} of {len(means)} "
                f"cases of width and activation; the means go from "
                f"{min(m.value for m in means):.3f} to {max(m.value for m in means):.3f}."
            ),
            statistics={"above": above, "cases": len(means)},
        )

    def _concentration(self, data: str, part: pl.DataFrame) -> list[Finding]:
        found = []
        for (act, depth), rows in part.group_by(["activation", "depth"], maintain_order=True):
            slope = exponent(rows, "width", "distance")
            claim = f"On {data}, {act}, {depth} hidden, |K - K_inf| falls like width^-1/2."
            found.append(power_law(claim, slope, -0.5, WITHIN))
        return found

    def _angles(self, part: pl.DataFrame) -> list[Finding]:
        found = []
        for (act,), rows in part.group_by(["activation"], maintain_order=True):
            expected, low, high = ANGLE_EXPONENTS[str(act)]
            used = rows.filter(pl.col("angle").is_between(low, high))
            slope = exponent(used, "angle", "smallest")
            limit = exponent(used, "angle", "limit").value
            claim = f"Two points at a small angle, {act}: lambda_min falls like angle^{expected:g}."
            what = f"The limiting kernel's exponent at the same angles is {limit:.3f}. "
            found.append(power_law(claim, slope, expected, WITHIN, what, limit=limit))
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """Ratios to the limit at the smallest and largest width, and over points and dimensions."""
        ratio = pl.col("smallest") / pl.col("limit")
        ends = (pl.col("sweep") != "width") | pl.col("width").is_in(
            [table["width"].min(), table["width"].max()]
        )
        groups = ("sweep", "data", "activation", "depth", "points", "dim", "angle", "width")
        return (
            table.filter(ends & (pl.col("sweep") != "angle"))
            .group_by(*groups, maintain_order=True)
            .agg(
                pl.col("limit").first(),
                ratio.median().alias("median ratio"),
                ratio.min().alias("least ratio"),
            )
            .drop("angle")
        )

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Over width, over points, over the angle."""
        figure, (left, middle, right) = plotting.canvas(3)
        table = table.with_columns((pl.col("smallest") / pl.col("limit")).alias("ratio"))
        first = table.filter(pl.col("sweep") == "width")
        first = first.filter(pl.col("data") == pl.col("data").first())
        groups = first.group_by(["activation", "depth"], maintain_order=True)
        for series, ((act, depth), part) in enumerate(groups):
            widths, values = plotting.by_seed(part, "width", "ratio")
            plotting.band(left, widths, values, series, f"{act}, {depth} hidden")
        plotting.log_ticks(left, first["width"].unique().sort(), "width")
        part = table.filter(pl.col("sweep") == "points")
        points, values = plotting.by_seed(part, "points", "ratio")
        plotting.band(middle, points, values, 0, f"tanh, width {part['width'][0]:,}")
        plotting.log_ticks(middle, points, "points, on the sphere in 20 dimensions")
        for axes in (left, middle):
            axes.axhline(1, **plotting.THEORY)
            axes.set_ylabel("lambda_min(K) / lambda_min(K_inf)")
        part = table.filter(pl.col("sweep") == "angle")
        for series, ((act,), rows) in enumerate(part.group_by(["activation"], maintain_order=True)):
            angles, values = plotting.by_seed(rows, "angle", "smallest")
            plotting.band(right, angles, values, series, str(act))
            limit = np.nanmedian(plotting.by_seed(rows, "angle", "limit")[1], axis=0)
            plotting.theory_curve(right, angles, limit, "limit" if series == 0 else "_")
        plotting.log_ticks(right, angles, "angle of the closest pair")
        right.set(yscale="log", ylabel="lambda_min(K)")
        for axes in (left, middle, right):
            axes.legend(fontsize=7.5)
        return figure


def _failures(part: pl.DataFrame, width: int) -> tuple[int, int, int]:
    """A width, the draws there of which any network failed, and all draws."""
    failed = (pl.col("smallest") < HALF * pl.col("limit")).any()
    draws = part.filter(pl.col("width") == width).group_by("seed").agg(failed.alias("failed"))
    return width, int(draws["failed"].sum()), draws.height


def _points(cell: Cell) -> Float[np.ndarray, "n d"]:
    """Points on a sphere of radius sqrt(d): data, or random ones with one pair at an angle."""
    if cell["data"] != "sphere":
        return read_cell(cell).train.x
    n, d, angle = int(cell["points"] or 1), int(cell["dim"] or 1), float(cell["angle"] or 0)
    x = np.random.default_rng(0).standard_normal((n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if angle:
        across = x[1] - (x[1] @ x[0]) * x[0]
        x[1] = np.cos(angle) * x[0] + np.sin(angle) * across / np.linalg.norm(across)
    return np.sqrt(d) * x


STUDY = Eigenvalue()
