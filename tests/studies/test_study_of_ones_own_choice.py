"""Every study with the user's own network: another activation, depth and widths, on a table."""

import re

import numpy as np
import polars as pl
import pytest

from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.model.mlp import MLP
from overparam.studies import NAMES, Settings, get_study, run_study, transfer
from overparam.studies.eoc import condition
from overparam.studies.generalisation import draw_rows
from overparam.studies.output import pdf_bytes
from overparam.studies.problems import network, read_cell, start_of

OWN = {"activation": "erf", "depth": 3, "widths": (64, 16)}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "mine.csv"
    x = np.random.default_rng(0).standard_normal((80, 3))
    pl.DataFrame(x, schema=["a", "b", "price"]).write_csv(path)
    return str(path)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"applications", "moments", "eoc"}))
def test_every_cell_is_of_the_network_that_was_asked_for(name, table):
    cells = get_study(name).cells(Settings(data=table, quick=True, **OWN))
    found = {(c["activation"], c["depth"]) for c in cells}
    assert found == {("erf", 3)}
    assert {c["width"] for c in cells} == {16, 64}
    assert {c["data"] for c in cells} <= {table, "sphere"}


def test_the_network_is_the_one_that_a_cell_says(table):
    cells = get_study("lazy").cells(Settings(data=table, samples=6, **OWN))
    model = network(read_cell(cells[0]), cells[0])
    assert (model.widths, model.act.name) == ((2, 16, 16, 16, 1), "erf")


def test_eigenvalues_are_measured_of_that_network(table):
    own = OWN | {"depth": 2, "activation": "sin"}
    cells = get_study("eigenvalue").cells(Settings(data=table, samples=5, seeds=2, **own))
    cell = next(c for c in cells if c["sweep"] == "width")
    row = get_study("eigenvalue").measure(cell)[0]
    limit = infinite_ntk(MLP(2, (16, 16), 1, "sin"), read_cell(cell).train.x).ntk / 5
    assert row["limit"] == pytest.approx(np.linalg.eigvalsh(limit)[0], rel=1e-9)


def test_a_small_table_is_taken_whole_and_leaves_a_row_to_test_on(tmp_path):
    x = np.random.default_rng(0).standard_normal((9, 3))
    pl.DataFrame(x, schema=["a", "b", "c"]).write_csv(tmp_path / "few.csv")
    few = Settings(data=str(tmp_path / "few.csv"))
    lazy, transfer = (get_study(name).cells(few)[0] for name in ("lazy", "transfer"))
    assert (lazy["points"], transfer["points"]) == (8, 9)
    assert read_cell(lazy, 50).test.n == 1
    with pytest.raises(InputError, match="at most 8 of the rows and leave 1 to test on"):
        get_study("lazy").cells(Settings(data=few.data, samples=9))


@pytest.mark.parametrize("name", ["lazy", "generalisation"])
def test_a_table_is_read_as_the_user_says(name, tmp_path):
    """Without names, with bars, and categories: in the grid and again by whoever measures."""
    rng = np.random.default_rng(0)
    rows = [f"{v:.3f}/{'abc'[i % 3]}/{v + i % 3:.3f}" for i, v in enumerate(rng.normal(size=60))]
    (tmp_path / "rows.csv").write_text("\n".join(rows), "utf-8")
    how = {"separator": "/", "header": False, "one_hot": True}
    cells = get_study(name).cells(Settings(data=str(tmp_path / "rows.csv"), quick=True, **how))
    assert {(c["separator"], c["header"], c["one_hot"]) for c in cells} == {("/", False, True)}
    data = draw_rows(cells[0], 1)[0] if name == "generalisation" else read_cell(cells[0], 5)
    assert data.feature_names == ("column_1", "column_2=a", "column_2=b", "column_2=c")
    with pytest.raises(InputError, match="one_hot: of a table, which --data names"):
        Settings(one_hot=True)


def test_what_a_study_has_no_use_for_is_refused(table):
    with pytest.raises(InputError, match=r"a s \+ b \|s\|: leave --activation out"):
        get_study("eoc").cells(Settings(activation="erf"))
    with pytest.raises(InputError, match="bring their own networks: leave --widths out"):
        get_study("applications").cells(Settings(widths=(8,)))
    with pytest.raises(InputError, match="give --widths one number"):
        get_study("moments").cells(Settings(data=table, samples=20, widths=(8, 16)))
    cells = get_study("moments").cells(Settings(data=table, samples=20, widths=(8,), depth=3))
    assert {(c["width"], c["depth"]) for c in cells} == {(8, 3)}
    deep = get_study("eoc").cells(Settings(data=table, depth=3, widths=(8, 16)))
    assert {(c["width"], c["depths"]) for c in deep if c["width"]} == {(8, 3), (16, 3)}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"activation": "erff"}, "did you mean 'erf'"),
        ({"depth": 0}, "depth must be 1 or more"),
        ({"widths": ()}, "widths is empty"),
        ({"widths": (8, 0)}, "each of widths must be a whole number, 1 or more"),
    ],
)
def test_bad_choices_are_one_line(given, says):
    with pytest.raises(InputError, match=re.escape(says)):
        Settings(**given)


def test_the_order_of_widths_means_nothing():
    assert Settings(widths=(64, 16, 64)) == Settings(widths=(16, 64))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*NAMES} - {"applications", "transfer"}))
def test_every_study_runs_with_it(name, table, tmp_path):
    """Once, and a second time from what the first has left."""
    own = {"depth": 2} if name == "eoc" else OWN | {"depth": 2}
    own["widths"] = (16,) if name == "moments" else (16, 32)
    samples = 60 if name == "generalisation" else 8
    settings = Settings(data=table, samples=samples, seeds=2, quick=True, **own)
    result = run_study(name, settings, out=tmp_path, jobs=1)
    assert not result.report.failed
    assert result.table.height
    assert all(finding.words for finding in result.findings)
    assert result.figure().axes
    again = run_study(name, settings, out=tmp_path, jobs=1)
    assert again.report.measured == 0


@pytest.mark.slow
def test_a_sweep_of_steps_is_of_that_network(table, monkeypatch):
    """By itself: certificates take their budgets of time, of which this test gives none."""
    monkeypatch.setattr(transfer, "BUDGET", 1e-3)
    own = OWN | {"depth": 2, "widths": (16,)}
    cells = transfer.STUDY.cells(Settings(data=table, samples=8, seeds=2, **own))
    cell = next(cell for cell in cells if cell["parametrisation"] == "standard")
    rows = transfer.STUDY.measure(cell)
    assert len(rows) == 2 * len(transfer.WINDOW)
    kernel = empirical_ntk(
        MLP(2, (16, 16), 1, "erf"),
        start_of(MLP(2, (16, 16), 1, "erf"), 0),
        read_cell(cell).train.x,
        scales="standard",
    )
    largest = 2 / (np.linalg.eigvalsh(kernel)[-1] / 8)
    assert rows[0]["stable_step"] == pytest.approx(largest, rel=1e-4)


def test_a_figure_for_a_paper_has_its_fonts_in_it():
    """TrueType outlines (Type 42), no Type 3 fonts, and the same bytes each time."""
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot().set_title("width")
    written = pdf_bytes(figure)
    assert written == pdf_bytes(figure)
    assert written.startswith(b"%PDF")
    assert b"/FontFile2" in written
    assert b"/Type3" not in written


def test_a_singular_kernel_has_no_condition_number():
    """More points than a narrow network resolves: the least eigenvalue is rounding, of any sign."""
    assert condition(np.diag([2.0, -1e-17])) == np.inf
    assert condition(np.diag([2.0, 0.5])) == 4.0
