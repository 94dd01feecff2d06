"""Fitting noise costs on fresh rows, and the job says what."""

from dataclasses import replace

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


@pytest.fixture(scope="module")
def unfitted():
    """Irises on the sphere: rows of different kinds on nearly the same ray."""
    settings = JobSettings(width=32, depth=1, steps=5, consequences=False)
    job = run_job(load("iris", standardize="sphere"), settings)
    assert job.keeps_stopped
    return job


@pytest.mark.slow
def test_the_job_says_what_interpolating_did_to_held_out_rows(noisy):
    before, after = noisy.errors_before["test"], noisy.errors["test"]
    assert after["rmse"] > before["rmse"]
    said = dict(lines(findings(noisy)))["cost of fitting"]
    assert said.startswith("on 30 held-out rows RMSE")
    assert f"R2 {plain(number(after['r2']))} with every training row fitted" in said
    assert "worse than after descent" in said
    assert f"R2 {plain(number(before['r2']))}), worse than stopped early" in said
    brief = dict(lines(findings(noisy), verbose=False))["cost of fitting"]
    assert f"worse than after descent (RMSE {plain(number(before['rmse']))})" in brief
    assert summary(noisy, findings(noisy))["errors_before_gauss_newton"]["test"] == before
    assert "worse than after descent" in render(noisy)


FITTED = "with every training row fitted"


def said(found, fitted=FITTED, **others):
    errors = {name.replace("_", " "): {"rows": 10, "error": e} for name, e in others.items()}
    return plain(cost_of_fitting({"rows": 10, "error": found}, fitted, errors).brief)


def test_each_network_it_is_compared_with_is_named():
    text = said(0.2, after_descent=0.1, stopped_early=0.3)
    assert text == (
        f"on 10 held-out rows 20 % {FITTED}, worse than after descent (10 %), better than stopped "
        "early (30 %)"
    )
    assert said(0.2, after_descent=0.2).endswith("the same as after descent (20 %)")
    assert said(0.1, after_descent=0.2).endswith("better than after descent (20 %)")


def test_who_is_worse_than_all_others_is_told_where_to_read():
    assert said(0.3, after_descent=0.2, stopped_early=0.1).endswith("When not to interpolate")
    assert "When not" not in said(0.2, after_descent=0.1, stopped_early=0.3)


def test_nothing_was_fitted_where_the_network_stopped_early_is_kept(unfitted):
    found = dict(lines(findings(unfitted)))["cost of fitting"]
    assert "stopped early, " in found
    assert "Gauss-Newton" not in found
    assert "fitted" not in found


def test_nothing_is_said_without_held_out_rows_or_without_gauss_newton(unfitted):
    for job in (replace(unfitted, errors_before={}), replace(unfitted, errors={})):
        assert "cost of fitting" not in dict(lines(findings(job)))
