"""The figures draw what they are given, and only what a reader can tell apart."""

import io
import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from overparam.certificate.certificate import Course
from overparam.pipeline import distances
from overparam.pipeline.job_findings import spectrum_caption
from overparam.pipeline.result import JobResult, Spectrum
from overparam.report import plots, topic_plots
from overparam.report.svg import inline_svg
from overparam.risk.risk_bound import RiskBound
from overparam.train.gradient_descent import History


def history(excess: object, envelope: object = None) -> History:
    """A run with the given excess."""
    excess = np.asarray(excess, dtype=float)
    steps = np.arange(float(len(excess)))
    bound = None if envelope is None else np.asarray(envelope, dtype=float)
    return History(excess, excess, steps, steps / 2, bound)


def drawn(figure: Figure) -> dict[str, np.ndarray]:
    """The labelled curves, as points (x, y)."""
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}


def test_descent_draws_the_run_and_the_prediction() -> None:
    run = history([1.0, 0.5, 0.25])
    curves = drawn(plots.figure_descent(run, np.array([1.0, 0.4, np.inf])))
    np.testing.assert_array_equal(
        curves["network (gradient descent)"], [[0, 1], [1, 0.5], [2, 0.25]]
    )
    np.testing.assert_array_equal(curves["linearised model"], [[0, 1], [1, 0.4], [2, np.nan]])


def test_where_theorem_1_takes_over_is_marked_with_what_is_known_there() -> None:
    run = history([1.0, 0.5, 0.25])
    course = Course(steps=(0, 2), deviations=(0.0, 1.42e-10))
    figure = plots.figure_descent(run, None, "gd", course)
    (mark,) = (xy for name, xy in drawn(figure).items() if "Theorem 1 takes over, δ_T = 1" in name)
    assert mark[:, 0].tolist() == [2, 2]
    (line,) = figure.axes[1].lines  # delta_t, on the right
    np.testing.assert_array_equal(line.get_xydata(), [[0, np.nan], [1, 1.42e-10], [2, 1.42e-10]])
    assert line.get_label() in [text.get_text() for text in figure.axes[0].get_legend().texts]
    farther = Course(steps=(0, 3), deviations=(0.0, 1e-9))
    curves = drawn(plots.figure_descent(run, None, "gd", farther))
    assert not any("takes over" in name for name in curves)  # not reached


def test_long_runs_are_thinned_but_keep_their_ends() -> None:
    run = history(0.999 ** np.arange(20_001))
    points = drawn(plots.figure_descent(run, None))["network (gradient descent)"]
    assert len(points) <= 601
    assert points[0].tolist() == [0, 1]
    assert points[-1].tolist() == [20_000, 0.999**20_000]


def test_curves_differ_in_colour_and_style() -> None:
    run = history([1.0, 0.5], [1.0, 0.9])
    lines = plots.figure_descent(run, np.array([1.0, 0.4])).axes[0].lines
    assert len({line.get_color() for line in lines}) == 3
    assert len({str(line._dash_pattern) for line in lines}) == 3


def test_a_run_from_the_anchor_is_relative_to_its_start() -> None:
    curves = drawn(plots.figure_anchored_run(history([4e-20, 1e-20], [4e-20, 3e-20])))
    np.testing.assert_allclose(curves["measured"][:, 1], [1, 0.25])
    np.testing.assert_allclose(curves["certified envelope"][:, 1], [1, 0.75])


def test_a_flat_run_is_drawn_by_its_decrease() -> None:
    rate = 1 - 2.0**-20
    run = history([1.0, 1 - 2.0**-10, 1 - 2.0**-9], rate ** np.arange(3))
    curves = drawn(plots.figure_anchored_run(run))
    np.testing.assert_array_equal(
        curves["measured decrease"], [[0, np.nan], [1, 2.0**-10], [2, 2.0**-9]]
    )
    np.testing.assert_allclose(curves["certified decrease"][1:, 1], [2**-20, 2**-19], rtol=1e-5)


def test_spectrum_marks_the_bounds() -> None:
    first = Spectrum(np.array([1.0, 0.1, 0.0]), 3, 3)
    second = Spectrum(np.array([2.0, 0.2, 0.02]), 3, 3)
    figure = plots.figure_spectrum(first, -1e-9, second, 0.0199)
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert levels == [0.0199]
    assert "1 at initialisation" in spectrum_caption(first, second)


def test_the_spectrum_of_a_subset_says_so() -> None:
    part = Spectrum(np.geomspace(1, 1e-6, 2000), 2000, 10_000)
    assert "2,000 of the 10,000" in spectrum_caption(part, None)
    assert "drawn at random" not in spectrum_caption(replace(part, total=2000), None)


def test_distances_hold_measured_and_certified(job: JobResult) -> None:
    assert job.anchored is not None
    rows = {row.label: row for row in distances.from_anchor(job.anchored)}
    certificate = job.anchored.certificate
    assert rows["whole path of descent ≤ s*"].value == certificate.radius
    assert rows["nearest global minimiser ≤ s_K"].value == certificate.existence_radius
    lower = certificate.constants["distance_lower_bound"].value
    assert rows["nearest global minimiser ≥"].value == lower
    assert rows["path travelled"].side == "measured"
    labels = [row.label for row in distances.from_initialisation(job)]
    assert "whole path of descent ≤ s*" not in labels  # infinite: not certified
    figure = plots.figure_distances([("one", list(rows.values())), ("none", [])])
    assert len(figure.axes) == 1


def test_figures_leave_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 33, "axes.facecolor": "black"}):
        figure = plots.figure_gauss_newton([1.0, 1e-3])
        assert figure.axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)
        inline_svg(figure, "a", "a figure")
        assert matplotlib.rcParams["font.size"] == 33
    assert dict(matplotlib.rcParams) == before


def test_svg_is_reproducible_and_stands_alone() -> None:
    run = history([1.0, 0.5], [1.0, 0.9])
    first, second = (
        inline_svg(plots.figure_descent(run, None), "f1", 'a "figure" <b>') for _ in range(2)
    )
    assert first == second
    assert "://" not in first
    assert 'aria-label="a &#34;figure&#34; &lt;b&gt;"' in first
    identifiers = set(re.findall(r' id="([^"]*)"', first))
    used = set(re.findall(r'(?:url\(|href=")#([^")]*)', first))
    assert used
    assert used <= identifiers
    assert all(name.startswith("f1-") for name in identifiers)
    assert ">certified envelope</text>" in first


@pytest.mark.parametrize("excess", [[1.0], [0.0, 0.0], [np.nan, np.inf], []])
def test_degenerate_runs_draw_without_a_warning(excess: list[float]) -> None:
    run = history(excess, excess)
    FigureCanvasAgg(plots.figure_descent(run, None)).print_png(io.BytesIO())


def bound(value: float, is_bound: bool = True) -> RiskBound:
    """A bound on a loss of at most 1."""
    return RiskBound("G1", "a network", "0-1 error", 1.0, 0.95, {"all": value}, 9, (), (), is_bound)


def test_a_bound_beyond_the_largest_loss_is_drawn_there_and_called_vacuous() -> None:
    axes = topic_plots.figure_risks((bound(91.0), bound(0.5), bound(0.03125)), None).axes[0]
    ends = [float(line.get_xdata()[0]) for line in axes.lines[:3]]
    assert ends == [1.0, 0.5, 0.03125]
    texts = {text.get_text(): text for text in axes.texts}
    assert set(texts) == {"vacuous", "0.5", "0.0313"}
    # What would reach the line at the largest loss stands on the other side of its mark.
    assert [texts[t].get_ha() for t in ("vacuous", "0.5", "0.0313")] == ["left", "right", "left"]


def test_the_minimum_of_theorem_r_is_drawn() -> None:
    curves = drawn(plots.figure_descent(history([1.0, 0.5]), None, minimum=0.1875))
    np.testing.assert_array_equal(curves["the region's minimum, 0.1875"][:, 1], [0.1875, 0.1875])
