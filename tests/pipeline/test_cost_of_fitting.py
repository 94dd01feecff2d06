"""Fitting noise costs on fresh rows, and the job says what."""

import numpy as np
import pytest

from overparam.data import load
from overparam.pipeline.findings import findings, lines, summary
from overparam.pipeline.formatting import number, plain
from overparam.pipeline.job_findings import cost_of_fitting
from overparam.pipeline.run import run_job
from overparam.pipeline.settings import JobSettings
from overparam.report.page import render


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A line in noise as large as itself: whoever interpolates is worse than who stops."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 3))
    y = x[:, 0] + rng.standard_normal(60)
    rows = "\n".join(",".join(f"{v:.6f}" for v in (*row, t)) for row, t in zip(x, y, strict=True))
    path = tmp_path_factory.mktemp("noisy") / "line.csv"
    path.write_text(f"a,b,c,y\n{rows}\n")
    data = load(str(path), test_fraction=0.5)
    return run_job(data, JobSettings(width=64, depth=1, steps=20, consequences=False))


@pytest.mark.slow
def test_the_job_says_what_interpolating_did_to_held_out_rows(noisy):
    before, after = noisy.errors_before["test"], noisy.errors["test"]
    assert after["rmse"] > before["rmse"]
    said = dict(lines(findings(noisy)))["cost of fitting"]
    assert said.startswith("on 30 held-out rows")
    assert f"R2 {plain(number(before['r2']))} before Gauss-Newton" in said
    assert f"R2 {plain(number(after['r2']))} after" in said
    assert "WORSE on fresh ones" in said
    assert summary(noisy, findings(noisy))["errors_before_gauss_newton"]["test"] == before
    assert "WORSE on fresh ones" in render(noisy)


def test_nothing_is_said_without_held_out_rows_or_without_gauss_newton():
    error = {"rows": 10, "error": 0.2}
    assert cost_of_fitting({}, {"train": error, "test": error}) is None
    assert cost_of_fitting({"train": error}, {"train": error}) is None


@pytest.mark.parametrize(
    ("after", "end"),
    [(0.3, "When not to interpolate"), (0.1, "cost nothing"), (0.2, "no different")],
)
def test_the_words_follow_the_numbers(after, end):
    before, after = ({"test": {"rows": 10, "error": e}} for e in (0.2, after))
    assert cost_of_fitting(before, after).endswith(end)
