"""`overparam study`: the studies from the command line, on a small one that is real."""

import json

import polars as pl
import pytest

from overparam.cli.main import main
from overparam.errors import InputError
from overparam.studies import NAMES
from overparam.studies.store import Store
from overparam.studies.study import Settings

SMALL = ("eoc", "--quick", "--data", "diabetes", "--samples", 12, "--seeds", 2, "--jobs", 1)


def run(capsys, *arguments, status=0):
    with pytest.raises(SystemExit) as stop:
        main(["study", *map(str, arguments)])
    captured = capsys.readouterr()
    assert stop.value.code == status, captured.err
    return captured


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("eoc") / "out"


def test_a_quick_study_leaves_table_figure_findings_and_page(capsys, folder):
    text = run(capsys, *SMALL, "--out", folder).out
    assert "holds" in text
    names = {
        "README.md",
        "cells",
        "figure.png",
        "figure.svg",
        "figure.pdf",
        "findings.json",
        "study.json",
    }
    names |= {"table.csv", "table.parquet", ".lock"}
    assert {path.name for path in folder.iterdir()} == names
    table = pl.read_parquet(folder / "table.parquet")
    assert set(table["points"]) == {12}
    assert pl.read_csv(folder / "table.csv").height == table.height
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / "figure.svg").read_text()
    page = (folder / "README.md").read_text()
    assert "![" in page
    assert "| diabetes |" in page


@pytest.mark.slow
def test_the_same_command_measures_nothing_and_gives_the_same_files(capsys, folder):
    before = {name: (folder / name).read_bytes() for name in ("table.parquet", "figure.svg")}
    found = json.loads(run(capsys, *SMALL, "--out", folder, "--json").out)
    assert found["this_run"]["cells"] == 0
    assert found["verdict"] in ("holds", "fails", "undecided")
    assert set(found["versions"]) >= {"jax", "numpy", "scipy", "overparam", "python"}
    assert before == {name: (folder / name).read_bytes() for name in before}


@pytest.mark.slow
def test_numbers_go_to_tensorboard(capsys, folder, tmp_path):
    run(capsys, *SMALL, "--out", folder, "--tensorboard", tmp_path)
    (events,) = (tmp_path / "eoc").iterdir()
    assert b"condition/data_diabetes" in events.read_bytes()


def test_the_list_names_every_study(capsys):
    text = run(capsys, "--list").out
    assert all(name in text for name in NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lasy",), "did you mean 'lazy'"),
        ((), "name one study, or give --all"),
        (("lazy", "--all"), "name one study, or give --all"),
        (("lazy", "--speed", "9"), "No such option"),
        (("eoc", "--seeds", "1"), "seeds must be a whole number, 2 or more"),
        (("eoc", "--target", "x"), "name one with --data"),
        (("eoc", "--data", "missing.csv"), "missing.csv"),
        (("applications", "--data", "iris"), "bring their own data"),
        (("eoc", "--memory", "1MB"), "may be used"),
        (("lazy", "--time-limit", "0.01"), "are allowed"),
        (("lazy", "--widths", "64,wide"), "--widths must be numbers such as 64,128,256"),
        (("lazy", "--activation", "gleu"), "did you mean 'gelu'"),
        (("eoc", "--jobs", "0"), "jobs must be a whole number, 1 or more"),
        (("eoc", "--time-limit", "nan"), "must be positive"),
        (("eoc", "--seeds", "9" * 30), "at most 2,147,483,647"),
        (("eoc", "--memory", "9" * 400), "no memory of a machine"),
        (("--all", "--data", "missing.csv"), "missing.csv"),
        (("..",), "no study in the module"),
        (("eoc", "--quick", "--backend", "carrier-pigeon"), "the backend 'carrier-pigeon' cannot"),
        (("eoc", "--quick", "--backend", "dask"), "the backend 'dask' cannot be used"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    captured = run(capsys, *arguments, status=2)
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_data_that_cannot_be_read_leave_the_folder_free(capsys, tmp_path):
    out = tmp_path / "out"
    run(capsys, "eoc", "--quick", "--data", tmp_path / "nope.csv", "--out", out, status=2)
    assert not out.exists()


def test_a_folder_in_which_nothing_was_measured_is_free(tmp_path):
    with Store(tmp_path, "eoc", Settings(seeds=2)):
        pass
    with Store(tmp_path, "eoc", Settings(seeds=3)) as store:
        store.write({"seed": 0}, [{"x": 1.0}], 0.1)
    with pytest.raises(InputError, match="name another folder"):
        Store(tmp_path, "eoc", Settings(seeds=2))
