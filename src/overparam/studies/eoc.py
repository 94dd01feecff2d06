"""The edge of chaos: how the kernel's condition number converges with depth."""

from typing import ClassVar

import jax
import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.figure import Figure

from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.activation import abs_linear
from overparam.model.mlp import MLP
from overparam.report.svg import styled
from overparam.studies import plotting
from overparam.studies.problems import Source, read_cell, row_of, sources, sphere, start_of
from overparam.studies.statistics import median, slope
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study, parts

DELTAS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Delta = b^2 / (a^2 + b^2) of act(s) = a s + b |s|; 1/2 is relu's."""

FACTOR = 1.5
"""The depth needed is the first with a condition number within this factor of the limit's."""

SMALL = 0.25
"""Delta up to which the pace is fitted: docs/eoc.md, Proposition E2 is about small ones."""

WIDE = 1024


class EdgeOfChaos(Study):
    """At the edge of chaos the kernel's condition number converges with depth.

    Beyond the paper: for act(s) = a s + b |s| without biases, scaled to the edge of chaos, the
    limiting kernel of n points tends with depth to a multiple of 3/4 I + 1/4 1 1^T, whose
    condition number is 1 + n/3, at a pace that Delta = b^2 / (a^2 + b^2) sets: the depth needed
    is inversely proportional to it (docs/eoc.md). Compare arXiv 2501.13225 and 2501.14724.
    """

    name: ClassVar = "eoc"
    keys: ClassVar = ("data", "delta", "width", "seed", "depth")
    columns: ClassVar = {
        **{"data": pl.String, "points": pl.Int64, "delta": pl.Float64},
        **dict.fromkeys(("width", "seed", "depth"), pl.Int64),
        **dict.fromkeys(("condition", "limit", "overlap"), pl.Float64),
    }

    def cells(self, settings: Settings) -> list[Cell]:
        """The limit for every Delta, and finite networks for two of them."""
        quick = settings.quick
        own = [Source("digits", "parity", 20), Source("diabetes", None, 20)]
        settings.refuse("this study is about activations a s + b |s|", "activation")
        infinite = {"width": 0, "depths": 256 if quick else 1024}
        finite = {"depths": settings.depth or (8 if quick else 16)}
        finite["seeds"] = settings.seeds or (3 if quick else 6)
        widths = settings.widths or (512 if quick else WIDE,)
        cells: list[Cell] = []
        for source in sources(settings, [*own, Source("sphere", None, 20)]):
            cells += [{**source.cell(), "delta": delta, **infinite} for delta in DELTAS]
            cells += [
                {**source.cell(), "delta": delta, "width": width, **finite}
                for width in widths
                for delta in (1.0, 0.25)
            ]
        return cells[::-1]

    def cost(self, cell: Cell) -> Cost:
        """Layers of kernels; finite networks also compile one program a depth."""
        n, depth, width = cell["points"], cell["depths"], cell["width"]
        if not width:
            return Cost(1e8, 3e9 + 20 * n * n * depth * 60)
        weights = depth * width * width
        return Cost(8 * 4 * weights, 2e10 + cell["seeds"] * weights * n * 30)

    def measure(self, cell: Cell) -> list[Row]:
        """Condition numbers over depths."""
        x, width, rows = _points(cell), cell["width"], []
        for depth in _depths(cell["depths"]):
            model = edge_of_chaos(x.shape[1], depth, cell["delta"], max(width, 1))
            with jax.enable_x64(True):
                limit = np.asarray(infinite_ntk(model, x).ntk)
            for seed in range(cell.get("seeds", 1)):
                kernel = limit
                if width:
                    kernel = np.asarray(empirical_ntk(model, start_of(model, seed), x))
                own = row_of(cell, "delta", "width", points=len(x), seed=seed, depth=depth)
                own |= {"condition": condition(kernel), "limit": condition(limit)}
                rows.append(own | {"overlap": overlap(kernel)})
        return rows

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The limit, the pace, and finite width."""
        infinite = table.filter(pl.col("width") == 0)
        found = []
        for data, part in parts(infinite, "data"):
            found += [_limit(data, part), _overlap(data, part), _pace(data, part)]
        for data, width, part in parts(table.filter(pl.col("width") > 0), "data", "width"):
            ratio = (part["condition"] / part["limit"]).to_numpy()
            away = float(np.max(np.abs(np.log(ratio))))
            found.append(
                Finding(
                    claim=f"On {data}, networks of width {width:,} have the limit's "
                    f"conditioning up to {max(part['depth'])} hidden layers, to a factor 2.",
                    holds=bool(away < np.log(2)),
                    words=(
                        f"Condition numbers were {ratio.min():.3f} to {ratio.max():.3f} times the "
                        f"limit's, {np.median(ratio):.3f} in the median of {len(ratio)} networks."
                    ),
                    statistics={"least": float(ratio.min()), "largest": float(ratio.max())},
                )
            )
        return found

    def summary(self, table: pl.DataFrame) -> pl.DataFrame:
        """By data set and Delta: conditioning at some depths, and the depth needed."""
        rows = []
        infinite = table.filter(pl.col("width") == 0)
        for data, delta, part in parts(infinite, "data", "delta"):
            at = dict(zip(part["depth"], part["condition"], strict=True))
            limit = 1 + part["points"][0] / 3
            deepest = max(at)
            rows.append((data, delta, at[1], at[16], at[deepest], limit, _needed(part)))
        head = ("data", "Delta", "depth 1", "depth 16", "deepest", "1 + n/3", "depth needed")
        return pl.DataFrame(rows, schema=head, orient="row")

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Depth, scaled depth, finite width, for the first data set.

        Condition number of the limiting kernel against depth (left) and against Delta times depth
        (middle), where the curves fall on one another; dotted, the limit 1 + n/3. Right: finite
        networks, the widest, medians over seeds and bands from their 10 % to their 90 % quantile,
        beside their limiting kernel (dotted).
        """
        figure, (left, middle, right) = plotting.canvas(3)
        table = table.filter(pl.col("data") == pl.col("data").first())
        n = int(table["points"][0])
        infinite = table.filter(pl.col("width") == 0)
        for series, (delta, part) in enumerate(parts(infinite.sort(-pl.col("delta")), "delta")):
            part = part.sort("depth")
            style = {**plotting.SERIES[series], "markersize": 3, "linewidth": 1.3}
            for axes, scale in ((left, 1.0), (middle, delta)):
                depths = scale * part["depth"].to_numpy()
                axes.plot(depths, part["condition"], label=f"Delta = {delta:g}", **style)
        for axes, words in ((left, "hidden layers"), (middle, "Delta x hidden layers")):
            axes.axhline(1 + n / 3, **plotting.THEORY)
            axes.set(xscale="log", yscale="log", xlabel=words, title="infinite width")
        finite = table.filter((pl.col("width") > 0) & (pl.col("width") == pl.col("width").max()))
        for series, (delta, part) in enumerate(parts(finite, "delta")):
            known = part.filter(pl.col("condition").is_finite())
            plotting.band(right, known, "depth", "condition", series, f"Delta = {delta:g}")
            text = "infinite width" if series == 0 else "_"
            plotting.theory_curve(right, part, "depth", "limit", text)
        plotting.log_ticks(right, finite["depth"], "hidden layers")
        right.set(yscale="log", title=f"width {finite['width'][0]:,}")
        plotting.plain_ticks(right.yaxis, (1.0, 2.0, 5.0))
        left.set_ylabel("condition number")
        left.legend(fontsize=7.5)
        right.legend(fontsize=7.5)
        return figure


def edge_of_chaos(dim: int, depth: int, delta: float, width: int) -> MLP:
    """act(s) = a s + b |s| with a^2 + b^2 = 1 and b^2 = Delta, weights N(0, 1/m), no biases.

    ``abs_linear`` takes the coefficient of |s|, the b here, first.
    """
    act = abs_linear(np.sqrt(delta), np.sqrt(1 - delta))
    return MLP(dim, (width,) * depth, 1, act, weight_scale=1.0, bias_scale=0.0)


def condition(kernel: Float[np.ndarray, "n n"]) -> float:
    """lambda_max / lambda_min; infinite if rounding is all that is left of lambda_min."""
    values = np.linalg.eigvalsh(kernel)
    return float(values[-1] / values[0]) if values[0] > 0 else float("inf")


def overlap(kernel: Float[np.ndarray, "n n"]) -> float:
    """The mean entry off the diagonal over the mean on it."""
    n, trace = len(kernel), np.trace(kernel)
    return float((kernel.sum() - trace) / (n - 1) / trace)


def _points(cell: Cell) -> Float[np.ndarray, "n d"]:
    if cell["data"] != "sphere":
        return read_cell(cell).train.x
    return np.sqrt(10) * sphere(cell["points"], 10)


def _depths(deepest: int) -> list[int]:
    return sorted({deepest, *(2**k for k in range(deepest.bit_length()) if 2**k <= deepest)})


def _needed(part: pl.DataFrame) -> float | None:
    """The depth at which the condition number comes within FACTOR of its limit, interpolated."""
    part = part.sort("depth")
    logs = np.log(part["condition"].to_numpy() / (1 + part["points"][0] / 3) / FACTOR)
    depth = np.log(part["depth"].to_numpy())
    below = np.flatnonzero(logs <= 0)
    if not len(below) or below[0] == 0:
        return None
    k = below[0]
    return float(np.exp(np.interp(0, [logs[k], logs[k - 1]], [depth[k], depth[k - 1]])))


def _limit(data: str, part: pl.DataFrame) -> Finding:
    limit = 1 + part["points"][0] / 3
    deepest = part.filter(pl.col("depth") == pl.col("depth").max()).sort("delta")
    away = (deepest["condition"] / limit - 1).to_numpy()
    rates = []
    for _, rows in parts(part, "delta"):
        ends = (rows.sort("depth")["condition"].tail(2) / limit - 1).to_numpy()
        rates.append(abs(ends[1]) < abs(ends[0]))
    return Finding(
        claim=f"On {data}, the condition number of the limiting kernel tends to 1 + n/3.",
        holds=bool(abs(away[-1]) < 0.1 and all(rates)),
        words=(
            f"At {deepest['depth'][0]:,} layers it is away from it by {away[-1]:.2%} for Delta = 1 "
            f"and {away[0]:.1%} for Delta = {deepest['delta'][0]:g}, still nearing it "
            f"for {sum(rates)} of {len(rates)} values of Delta; it holds if the first is below "
            "10 % and all near it."
        ),
        statistics={"deviation": float(away[-1])},
    )


def _overlap(data: str, part: pl.DataFrame) -> Finding:
    deepest = part.filter((pl.col("depth") == pl.col("depth").max()) & (pl.col("delta") == 1))
    value = median(deepest["overlap"])
    return Finding(
        claim=f"On {data}, entries off the kernel's diagonal tend to a quarter of those on it.",
        holds=abs(value - 0.25) < 0.025,
        words=f"At the largest depth with Delta = 1 they are {value:.4f} times; it holds to 10 %.",
        statistics={"overlap": value},
    )


def _pace(data: str, part: pl.DataFrame) -> Finding:
    depths = [(delta, _needed(rows)) for delta, rows in parts(part, "delta")]
    needed = pl.DataFrame(depths, schema=("delta", "depth"), orient="row").drop_nulls()
    claim = f"On {data}, the depth needed is inversely proportional to a small Delta."
    small = needed.filter(pl.col("delta") <= SMALL)
    if small.height < 3:
        return Finding(claim, None, "Fewer than three small values of Delta reach the limit.", {})
    exponent = slope(small["delta"], small["depth"])
    shown = ", ".join(f"{depth:.1f} for {delta:g}" for delta, depth in needed.rows())
    return Finding(
        claim=claim,
        holds=abs(exponent + 1) < 0.1,
        words=(
            f"Within a factor {FACTOR} of the limit from depth {shown} on; exponent {exponent:.3f} "
            f"over Delta up to {SMALL:g}: it holds to 0.1."
        ),
        statistics={"exponent": exponent},
    )


STUDY = EdgeOfChaos()
