"""The smallest eigenvalue: against a dense computation, and verdicts both ways."""

import numpy as np
import polars as pl
import pytest

from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.mlp import MLP
from overparam.studies.eigenvalue import STUDY, _points
from overparam.studies.problems import start_of
from overparam.studies.study import Settings

CELL = {
    "sweep": "points", "data": "sphere", "target": None, "activation": "tanh", "depth": 1,
    "width": 16, "points": 6, "dim": 4, "angle": 0.0, "seeds": 2,
}  # fmt: skip


def test_a_cell_against_a_dense_jacobian():
    rows = STUDY.measure(CELL)
    x = _points(CELL)
    for row in rows:
        (first, last), (bias, _) = start_of(MLP(4, (16,), 1, "tanh"), row["seed"])
        z = x @ first.T / 2 + 0.1 * bias
        slope = last * (1 - np.tanh(z) ** 2) / 4
        by_first = (slope[:, :, None] * x[:, None, :] / 2).reshape(6, -1)
        dense = np.hstack([by_first, np.tanh(z) / 4, 0.1 * slope, np.full((6, 1), 0.1)])
        smallest = np.linalg.svd(dense, compute_uv=False)[-1] ** 2 / 6
        assert row["smallest"] == pytest.approx(smallest, rel=1e-6)
        assert abs(row["smallest"] - row["limit"]) <= row["distance"]


@pytest.mark.parametrize("angle", [0.3, 1e-3])
def test_the_closest_pair_is_at_its_angle(angle):
    x = _points({**CELL, "angle": angle})
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 2)
    assert np.linalg.norm(x[0] - x[1]) == pytest.approx(4 * np.sin(angle / 2))


@pytest.mark.parametrize(("activation", "power"), [("tanh", 2), ("gelu", 2), ("relu", 1)])
def test_a_close_pair_bounds_the_limits_eigenvalue(activation, power):
    """docs/spectrum.md, section 1: by its gap, which is of the order of angle^power."""
    gaps = []
    for angle in (1e-2, 1e-3, 1e-4):
        x = _points({**CELL, "angle": angle})
        kernel = infinite_ntk(MLP(4, (16,), 1, activation), x).ntk
        gaps.append(kernel[0, 0] - kernel[0, 1])
        assert 0 < np.linalg.eigvalsh(kernel)[0] <= gaps[-1] * (1 + 1e-9)
    np.testing.assert_allclose(-np.diff(np.log10(gaps)), power, atol=0.05)


def row(width, seed, ratio=0.95, distance=None, **other):
    away = 0.5 / np.sqrt(width) * (1 + 0.01 * seed) if distance is None else distance
    return {
        "sweep": "width", "data": "digits", "activation": "tanh", "depth": 1, "points": 20,
        "dim": 64, "angle": 0.0, "width": width, "seed": seed, "smallest": 0.01 * ratio,
        "limit": 0.01, "distance": away, "gap": 0.02,
    } | other  # fmt: skip


def made(seeds=80, fall=2, **other):
    rows = [row(w, s, **other) for w in (64, 256, 1024) for s in range(seeds)]
    for angle in (0.1, 0.03, 0.01):
        shared = {"sweep": "angle", "data": "sphere", "angle": angle, "limit": angle**fall / 50}
        exact = {"smallest": angle**fall / 50, "distance": 0.1, "gap": angle**fall / 40}
        rows += [row(1024, s) | shared | exact for s in range(3)]
    return STUDY.table(rows)


def verdicts(table):
    return {f.claim.split(",")[-1].strip(): f.verdict for f in STUDY.findings(table)}


def test_verdicts_hold_on_a_table_as_in_theory():
    assert set(verdicts(made()).values()) == {"holds"}


def test_verdicts_fail_where_the_assumption_does():
    assert verdicts(made(ratio=0.4, distance=0.1))["all but surely."] == "fails"
    assert verdicts(made(ratio=0.4, distance=0.1))["|K - K_inf| falls like width^-1/2."] == "fails"
    above = made(ratio=1.2, distance=0.1)
    assert [f.verdict for f in STUDY.findings(above) if "mean of lambda_min" in f.claim] == [
        "fails"
    ]
    broken = made(ratio=0.9, distance=1e-6)
    assert STUDY.findings(broken)[0].verdict == "fails"
    assert verdicts(made(seeds=10))["all but surely."] == "undecided"
    slow = [f.verdict for f in STUDY.findings(made(fall=1.5)) if "small angle" in f.claim]
    assert slow == ["fails"]
    assert STUDY.findings(made(gap=0.009))[1].verdict == "fails"  # lambda_min above the gap


def test_an_eigenvalue_that_other_points_bound_is_no_failure():
    """The theorem bounds lambda_min by the closest pair's gap; it does not say it is attained."""
    table = made().with_columns(
        pl.when(pl.col("sweep") == "angle").then(0.3 * pl.col("angle") * pl.col("smallest"))
        .otherwise(pl.col("smallest")).alias("smallest")
    )  # fmt: skip
    (found,) = [f for f in STUDY.findings(table) if "small angle" in f.claim]
    assert found.verdict == "holds"
    assert found.statistics["smallest"] == pytest.approx(3)


def test_sizes_are_judged_by_their_least_draw():
    rows = [row(1024, s, ratio=1 - n / 4000) for n in (100, 1797) for s in range(3)]
    sized = [
        r | {"sweep": "size", "points": n}
        for r, n in zip(rows, np.repeat([100, 1797], 3), strict=True)
    ]
    found = [f for f in STUDY.findings(STUDY.table(sized)) if "number of points" in f.claim]
    assert [f.verdict for f in found] == ["holds"]
    sized[-1]["smallest"] = 0.004
    found = [f for f in STUDY.findings(STUDY.table(sized)) if "number of points" in f.claim]
    assert [f.verdict for f in found] == ["fails"]


def test_relus_gap_falls_like_the_angle_where_that_is_small_and_the_width_resolves_it():
    gaps = []
    for angle in (0.1, 0.03, 0.01):
        cell = CELL | {"sweep": "angle", "activation": "relu", "width": 4096, "angle": angle}
        rows = STUDY.measure(cell)
        gaps.append(np.mean([r["gap"] for r in rows]))
        assert all(r["smallest"] <= r["gap"] for r in rows)
    power = np.polyfit(np.log((0.1, 0.03, 0.01)), np.log(gaps), 1)[0]
    assert power == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize(("seeds", "verdict"), [(40, "undecided"), (80, "holds")])
def test_activations_that_share_their_weights_are_one_draw(seeds, verdict):
    """0 of 120 networks would decide; 0 of the 40 draws behind them do not."""
    rows = [
        row(w, s, activation=act)
        for act in ("gelu", "relu", "tanh")
        for w in (64, 1024)
        for s in range(seeds)
    ]
    found = next(f for f in STUDY.findings(STUDY.table(rows)) if "at least half" in f.claim)
    assert (found.verdict, found.statistics["draws"]) == (verdict, seeds)


def test_each_depth_is_judged_at_its_own_largest_width():
    rows = [row(w, s) for w in (64, 4096) for s in range(80)]
    rows += [row(w, s, ratio=0.4, distance=0.1, depth=2) for w in (64, 1024) for s in range(80)]
    found = [f for f in STUDY.findings(STUDY.table(rows)) if "at least half" in f.claim]
    assert [f.verdict for f in found] == ["holds", "fails"]


def test_the_figure_compares_with_the_limit():
    table = pl.concat([made(), STUDY.table([row(1024, s) | {"sweep": "points"} for s in range(3)])])
    figure = STUDY.figure(table)
    assert figure.axes[2].get_legend_handles_labels()[1] == ["tanh", "limit"]
    assert len(STUDY.cells(Settings(quick=True))) > 50
