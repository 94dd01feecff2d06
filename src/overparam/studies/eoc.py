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
from overparam.studies.problems import Source, label, read_cell, sources, start_of
from overparam.studies.statistics import median
from overparam.studies.study import Cell, Cost, Finding, Row, Settings, Study

DELTAS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Delta = b^2 / (a^2 + b^2) of act(s) = a s + b |s|; 1/2 is relu's."""

FACTOR = 1.5
"""The depth needed is the first with a condition number within this factor of the limit's."""

SMALL = 0.25
"""Delta up to which the pace is fitted: docs/eoc.md, Proposition E2 is about small ones."""

WIDE = 1024


class EdgeOfChaos(Study):
    """Depth against conditioning for act(s) = a s + b |s|."""

    name: ClassVar = "eoc"
    title: ClassVar = "At the edge of chaos the kernel's condition number converges with depth"
    question: ClassVar = (
        "Beyond the paper: for act(s) = a s + b |s| without biases, scaled to the edge of chaos, "
        "the limiting kernel of n points tends with depth to a multiple of 3/4 I + 1/4 1 1^T, "
        "whose condition number is 1 + n/3, at a pace that Delta = b^2 / (a^2 + b^2) sets: the "
        "depth needed is inversely proportional to it (docs/eoc.md). Compare arXiv 2501.13225 and "
        "2501.14724."
    )
    keys: ClassVar = ("data", "delta", "width", "seed", "depth")
    columns: ClassVar = {
        "data": pl.String,
        "points": pl.Int64,
        "delta": pl.Float64,
        "width": pl.Int64,
        "seed": pl.Int64,
        "depth": pl.Int64,
        "condition": pl.Float64,
        "limit": pl.Float64,
        "overlap": pl.Float64,
    }
    caption: ClassVar = (
        "Condition number of the limiting kernel against depth (left) and against Delta times "
        "depth (middle), where the curves fall on one another; dotted, the limit 1 + n/3. Right: "
        "finite networks, medians over seeds and bands from the 10 % to the 90 % quantile, beside "
        "their limiting kernel (dotted)."
    )

    def cells(self, settings: Settings) -> list[Cell]:
        """The limit for every Delta, and finite networks for two of them."""
        depths = 256 if settings.quick else 1024
        own = [
            Source("digits", "parity", 20),
            Source("diabetes", None, 20),
            Source("sphere", None, 20),
        ]
        cells: list[Cell] = []
        for source in sources(settings, own):
            for delta in DELTAS:
                cells.append({**source.cell(), "delta": delta, "width": 0, "depths": depths})
            for delta in (1.0, 0.25):
                cells.append(
                    {**source.cell(), "delta": delta, "width": WIDE if not settings.quick else 512}
                    | {"depths": 8 if settings.quick else 16}
                    | {"seeds": settings.seeds or (3 if settings.quick else 6)}
                )
        return cells[::-1]

    def cost(self, cell: Cell) -> Cost:
        """Layers of kernels; finite networks also compile one program a depth."""
        n, depth, width = (float(cell[c] or 0) for c in ("points", "depths", "width"))
        if not width:
            return Cost(1e8, 3e9 + 20 * n * n * depth * 60)
        weights = depth * width * width
        work = float(cell["seeds"] or 1) * weights * n * 30
        return Cost(8 * 4 * weights, 2e10 + work)

    def measure(self, cell: Cell) -> list[Row]:
        """Condition numbers over depths."""
        x = _points(cell)
        delta, width = float(cell["delta"] or 0), int(cell["width"] or 0)
        rows = []
        for depth in _depths(int(cell["depths"] or 1)):
            model = edge_of_chaos(x.shape[1], depth, delta, max(width, 1))
            with jax.enable_x64(True):
                limit = np.asarray(infinite_ntk(model, x).ntk)
            for seed in range(int(cell.get("seeds") or 1)):
                kernel = limit
                if width:
                    kernel = np.asarray(empirical_ntk(model, start_of(model, seed), x))
                rows.append(
                    {
                        "data": label(cell),
                        "points": len(x),
                        "delta": delta,
                        "width": width,
                        "seed": seed,
                        "depth": depth,
                        "condition": condition(kernel),
                        "limit": condition(limit),
                        "overlap": overlap(kernel),
                    }
                )
        return rows

    def findings(self, table: pl.DataFrame) -> list[Finding]:
        """The limit, the pace, and finite width."""
        infinite = table.filter(pl.col("width") == 0)
        found = []
        for (data,), part in infinite.group_by(["data"], maintain_order=True):
            found += [_limit(str(data), part), _overlap(str(data), part), _pace(str(data), part)]
        finite = table.filter(pl.col("width") > 0)
        for (data,), part in finite.group_by(["data"], maintain_order=True):
            ratio = (part["condition"] / part["limit"]).to_numpy()
            away = float(np.max(np.abs(np.log(ratio))))
            found.append(
                Finding(
                    claim=f"On {data}, networks of width {part['width'][0]:,} have the limit's "
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
        for (data, delta), part in infinite.group_by(["data", "delta"], maintain_order=True):
            at = dict(zip(part["depth"], part["condition"], strict=True))
            limit = 1 + part["points"][0] / 3
            deepest = max(at)
            rows.append((data, delta, at[1], at[16], at[deepest], limit, _needed(part)))
        head = ("data", "Delta", "depth 1", "depth 16", "deepest", "1 + n/3", "depth needed")
        return pl.DataFrame(rows, schema=head, orient="row")

    @styled
    def figure(self, table: pl.DataFrame) -> Figure:
        """Depth, scaled depth, finite width, for the first data set."""
        figure, (left, middle, right) = plotting.canvas(3)
        table = table.filter(pl.col("data") == pl.col("data").first())
        n = int(table["points"][0])
        infinite = table.filter(pl.col("width") == 0)
        groups = infinite.sort("delta", descending=True).group_by(["delta"], maintain_order=True)
        for series, ((delta,), part) in enumerate(groups):
            part, style = part.sort("depth"), plotting.SERIES[series % len(plotting.SERIES)]
            depths = part["depth"].to_numpy()
            for axes, scale in ((left, 1.0), (middle, float(str(delta)))):
                style = {**style, "markersize": 3, "linewidth": 1.3}
                axes.plot(scale * depths, part["condition"], label=f"Delta = {delta:g}", **style)
        for axes, words in ((left, "hidden layers"), (middle, "Delta x hidden layers")):
            axes.axhline(1 + n / 3, **plotting.THEORY)
            axes.set(xscale="log", yscale="log", xlabel=words, title="infinite width")
        finite = table.filter(pl.col("width") > 0)
        for series, ((delta,), part) in enumerate(finite.group_by(["delta"], maintain_order=True)):
            depths, values = plotting.by_seed(part, "depth", "condition")
            plotting.band(right, depths, values, series, f"Delta = {delta:g}")
            limit = np.nanmedian(plotting.by_seed(part, "depth", "limit")[1], axis=0)
            plotting.theory_curve(right, depths, limit, "infinite width" if series == 0 else "_")
        plotting.log_ticks(right, depths, "hidden layers")
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
    """lambda_max / lambda_min."""
    values = np.linalg.eigvalsh(kernel)
    return float(values[-1] / values[0])


def overlap(kernel: Float[np.ndarray, "n n"]) -> float:
    """The mean entry off the diagonal over the mean on it."""
    n, trace = len(kernel), np.trace(kernel)
    return float((kernel.sum() - trace) / (n - 1) / trace)


def _points(cell: Cell) -> Float[np.ndarray, "n d"]:
    if cell["data"] != "sphere":
        return read_cell(cell).train.x
    x = np.random.default_rng(0).standard_normal((int(cell["points"] or 1), 10))
    return np.sqrt(10) * x / np.linalg.norm(x, axis=1, keepdims=True)


def _depths(deepest: int) -> list[int]:
    return [2**k for k in range(int(np.log2(deepest)) + 1)]


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
    for _, rows in part.group_by(["delta"], maintain_order=True):
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
    needed: dict[float, float] = {}
    for (delta,), rows in part.group_by(["delta"], maintain_order=True):
        depth = _needed(rows)
        if depth is not None:
            needed[float(str(delta))] = depth
    claim = f"On {data}, the depth needed is inversely proportional to a small Delta."
    small = {delta: depth for delta, depth in needed.items() if delta <= SMALL}
    if len(small) < 3:
        return Finding(claim, None, "Fewer than three small values of Delta reach the limit.", {})
    deltas, depths = np.array(list(small)), np.array(list(small.values()))
    slope = float(np.polyfit(np.log(deltas), np.log(depths), 1)[0])
    shown = ", ".join(f"{d:.1f} for {delta:g}" for delta, d in needed.items())
    return Finding(
        claim=claim,
        holds=abs(slope + 1) < 0.1,
        words=(
            f"Within a factor {FACTOR} of the limit from depth {shown} on; exponent {slope:.3f} "
            f"over Delta up to {SMALL:g}: it holds to 0.1."
        ),
        statistics={"exponent": slope},
    )


STUDY = EdgeOfChaos()
