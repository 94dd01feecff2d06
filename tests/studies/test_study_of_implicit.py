"""Distances travelled: the measurement by hand, the verdicts, the figure."""

import pytest

from overparam.studies.implicit import STUDY

CELL = {
    **{"data": "diabetes", "target": None, "points": 4, "width": 64, "depth": 1},
    **{"output_scale": 100.0, "seeds": 1},
}


def made(**columns):
    """A table in which all bounds hold and the certified ratio falls like 1/width."""
    return STUDY.table(
        [
            {
                **{"data": "made", "width": width, "seed": seed, "certified": True, "found": True},
                **{"lower_bound": 0.9, "closest": 1.0, "travelled": 1.01, "upper_bound": 1.1},
                **{"excess_ratio": 0.01 / width, "ratio_bound": (1 + seed / 100) / width},
                **columns,
            }
            for width in (64, 256, 1024)
            for seed in range(4)
        ]
    )


def verdicts(table):
    return [finding.verdict for finding in STUDY.findings(table)]


@pytest.mark.slow
def test_distances_are_in_their_certified_order():
    """No network that fits is closer than the lower bound; descent stays below the upper one."""
    (row,) = STUDY.measure(CELL)
    assert row["certified"]
    assert row["found"]
    assert 0 < row["lower_bound"] <= row["closest"] <= row["travelled"] * (1 + 1e-9)
    assert row["travelled"] <= row["upper_bound"]
    assert row["excess_ratio"] == pytest.approx(row["travelled"] / row["closest"] - 1, abs=1e-15)


def test_bounds_that_hold_and_a_ratio_that_falls():
    assert verdicts(made()) == ["holds", "holds"]


@pytest.mark.parametrize(
    ("column", "value"), [("closest", 0.8), ("travelled", 1.2), ("excess_ratio", 0.5)]
)
def test_each_broken_bound_fails(column, value):
    assert verdicts(made(**{column: value}))[0] == "fails"


def test_runs_that_found_no_minimiser_decide_nothing():
    assert verdicts(made(found=False)) == ["undecided"]


def test_a_ratio_that_stays_does_not_tend_to_one():
    assert verdicts(made(ratio_bound=0.5))[1] == "fails"


def test_the_figure_names_measured_and_certified():
    left, right = STUDY.figure(made()).axes
    assert left.get_legend_handles_labels()[1] == ["travelled, made", "certified"]
    assert right.get_legend_handles_labels()[1] == ["measured, made", "certified"]
