"""The edge of chaos: the recursion of the cosine, its limits, and the verdicts."""

import jax
import numpy as np
import polars as pl
import pytest
from scipy.integrate import dblquad

from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.studies.eoc import STUDY, condition, edge_of_chaos, overlap
from overparam.studies.study import Settings


def cosine_map(rho, delta):
    theta = np.arccos(np.clip(rho, -1, 1))
    return rho + delta * (2 / np.pi) * (np.sin(theta) - theta * np.cos(theta)), theta


def recursion(rho, delta, depth):
    """docs/eoc.md: Theta_l for l hidden layers, over l + 1."""
    kernel = rho
    for _ in range(depth):
        after, theta = cosine_map(rho, delta)
        kernel = after + (1 - delta * (2 / np.pi) * theta) * kernel
        rho = after
    return kernel / (depth + 1)


@pytest.mark.parametrize("delta", [1.0, 0.5, 0.0625])
@pytest.mark.parametrize("depth", [1, 7, 40])
def test_the_kernel_is_that_of_the_scalar_recursion(delta, depth):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3))
    x *= np.sqrt(3) / np.linalg.norm(x, axis=1, keepdims=True)
    with jax.enable_x64(True):
        kernel = np.asarray(infinite_ntk(edge_of_chaos(3, depth, delta, 1), x).ntk)
    rho = np.clip(x @ x.T / 3, -1, 1)
    np.fill_diagonal(rho, 1)
    np.testing.assert_allclose(kernel / kernel[0, 0], recursion(rho, delta, depth), atol=1e-12)


@pytest.mark.parametrize("rho", [-0.7, 0.2, 0.95])
def test_the_cosine_map_is_the_gaussian_mean_of_products(rho):
    delta, a, b = 0.3, np.sqrt(0.7), np.sqrt(0.3)

    def product(v, u):
        w = rho * u + np.sqrt(1 - rho**2) * v
        density = np.exp(-(u * u + v * v) / 2) / (2 * np.pi)
        return (a * u + b * abs(u)) * (a * w + b * abs(w)) * density

    mean, _ = dblquad(product, -8, 8, -8, 8, epsabs=1e-8)
    assert cosine_map(rho, delta)[0] == pytest.approx(mean, abs=1e-6)


def test_proposition_e1_at_great_depth():
    depth, delta = 20_000, 0.5
    rho = 0.3
    for _ in range(depth):
        rho, _ = cosine_map(rho, delta)
    assert (1 - rho) * (delta * depth) ** 2 == pytest.approx(9 * np.pi**2 / 8, rel=0.02)
    assert recursion(0.3, delta, depth) == pytest.approx(0.25, abs=0.003)


def test_condition_and_overlap_of_the_limit():
    limit = 0.75 * np.eye(12) + 0.25 * np.ones((12, 12))
    assert condition(limit) == pytest.approx(1 + 12 / 3)
    assert overlap(limit) == pytest.approx(0.25)


@pytest.fixture(scope="module")
def table():
    cells = [c for c in STUDY.cells(Settings(quick=True)) if c["data"] == "sphere"]
    return STUDY.table([row for cell in cells if not cell["width"] for row in STUDY.measure(cell)])


def test_the_verdicts_hold_on_the_sphere_and_fail_where_the_pace_is_wrong(table):
    verdicts = {f.claim: f.verdict for f in STUDY.findings(table)}
    assert set(verdicts.values()) == {"holds"}
    flat = table.with_columns(
        pl.col("condition").first().over("depth"), pl.lit(0.5).alias("overlap")
    )
    failed = [f.claim for f in STUDY.findings(flat) if f.verdict == "fails"]
    assert any("inversely proportional" in claim for claim in failed)
    assert any("a quarter" in claim for claim in failed)
    assert any("tends to 1 + n/3" in claim for claim in failed)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "holds"), (1.9, "holds"), (2.2, "fails")])
def test_networks_are_held_against_the_limit(table, factor, verdict):
    drawn = table.filter(pl.col("depth") <= 8).with_columns(
        pl.lit(64, pl.Int64).alias("width"), pl.col("condition") * factor
    )
    found = [f for f in STUDY.findings(pl.concat([table, drawn])) if "networks of width" in f.claim]
    assert [f.verdict for f in found] == [verdict]


def test_the_figure_has_a_curve_for_every_delta(table):
    finite = table.filter(pl.col("delta") == 1).with_columns(pl.lit(64, pl.Int64).alias("width"))
    figure = STUDY.figure(pl.concat([table, finite]))
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels == ["Delta = 1", "Delta = 0.5", "Delta = 0.25", "Delta = 0.125", "Delta = 0.0625"]
