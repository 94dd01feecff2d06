"""Bounds on the risk over sample size and width: the rows, the verdicts, the figure."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from overparam.errors import InputError
from overparam.studies.generalisation import NAMES, STUDY, draw_rows, refuted
from overparam.studies.study import Settings

CELL = {
    **{"data": "breast_cancer", "target": None, "standardize": "sphere", "points": 80},
    **{"tests": 60, "width": 16, "depth": 1, "output_scale": 1000.0, "seeds": 2},
}


@pytest.fixture(scope="module")
def rows():
    return STUDY.measure(CELL)


def made(values, risk=0.1):
    """A table of three sizes, two widths and six seeds with a bound's value for each size."""
    return STUDY.table(
        [
            {
                **{"data": "made", "width": width, "points": points, "seed": seed, "bound": name},
                **{"value": value, "risk": risk, "test_error": risk, "fresh_rows": 200},
                **{"loss_bound": 1.0, "confidence": 0.95, "dominant": "confidence"},
                "kind": "computed",
            }
            for width in (32, 128)
            for points, value in values.items()
            for seed in range(6)
            for name in NAMES.values()
        ]
    )


def verdicts(table, text):
    return {f.verdict for f in STUDY.findings(table) if text in f.claim}


@pytest.mark.slow
def test_every_bound_is_measured_once_a_seed(rows):
    table = STUDY.table(rows)
    assert set(table["bound"]) == set(NAMES.values())
    assert table.height == 2 * len(NAMES)
    assert table.filter(pl.col("fresh_rows") != 30).is_empty()
    assert rows == STUDY.measure(CELL)


@pytest.mark.slow
def test_the_held_out_bound_belongs_to_a_count_of_errors(rows):
    """Clopper and Pearson's limit is where so few errors have probability 5 %."""
    for row in rows:
        if row["bound"] == "G4 held out":
            levels = [binom.cdf(errors, 30, row["value"]) for errors in range(30)]
            assert min(abs(level - 0.05) for level in levels) < 1e-9
            assert row["risk"] == row["test_error"] == round(row["risk"] * 30) / 30


def test_the_fresh_rows_are_in_no_bound():
    """Sample, held-out rows and fresh rows are distinct rows of the table."""
    data, held_out, fresh = draw_rows(CELL, 0)
    points = [tuple(x) for part in (data.train, held_out, fresh) for x in part.x]
    assert len(set(points)) == len(points) == 140


def test_a_risk_below_the_bound_holds_and_falls():
    table = made({100: 0.8, 300: 0.5, 900: 0.3})
    assert verdicts(table, "the risk is below") == {"holds"}
    assert verdicts(table, "not vacuous") == {"holds"}
    assert verdicts(table, "fall with the sample") == {"holds"}


def test_broken_and_vacuous_bounds_fail():
    table = made({100: 0.04, 300: 0.05, 900: 0.06})
    assert verdicts(table, "the risk is below") == {"fails"}
    assert verdicts(table, "fall with the sample") == {"fails"}
    assert verdicts(made({100: 3.0, 300: 2.0}), "not vacuous") == {"fails"}


def test_an_error_above_the_bound_within_chance_refutes_nothing():
    row = {"fresh_rows": 100, "risk": 0.10, "loss_bound": 1.0, "value": 0.09}
    assert not refuted(row)
    assert refuted(row | {"value": 0.04})
    # P(X >= 10) for X ~ Bin(100, v) reaches 2.5 % at the limit.
    limit = min(float(v) for v in np.linspace(0.01, 0.1, 9001) if binom.sf(9, 100, v) >= 0.025)
    assert refuted(row | {"value": limit - 1e-4})
    assert not refuted(row | {"value": limit + 1e-4})


def test_the_figure_shows_every_bound_and_where_they_are_vacuous():
    figure = STUDY.figure(made({100: 3.0, 300: 0.5, 900: 0.3}))
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert labels[:9] == [n for n in NAMES.values() if "G3" not in n]
    assert "trained network, error on fresh rows" in labels
    assert len(figure.axes) == 2
    assert STUDY.summary(made({100: 3.0, 900: 0.3})).height == len(NAMES)


def test_own_data_are_cut_into_sample_and_test_rows():
    cells = STUDY.cells(Settings(data="wine", samples=120, quick=True))
    assert {c["points"] for c in cells} == {90, 18}
    assert {c["tests"] for c in cells} == {30}
    with pytest.raises(InputError, match="needs 40 rows or more, not 20"):
        STUDY.cells(replace(Settings(data="wine"), samples=20))
