"""`overparam certify --weight-decay` end to end, on rows that no network of this size can fit."""

import json
import re

import numpy as np
import pytest

import overparam as op
from overparam.cli.main import main
from overparam.pipeline.output import FILES

COMMAND = ["certify", "iris", "--samples", "40", "--width", "64", "--depth", "1", "--steps", "20"]


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return stop.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("decayed")
    assert run(*COMMAND, "--weight-decay", "0.05", "--no-consequences", "--out", out) == 0
    return out


def test_the_anchor_is_certified_and_says_by_what(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["certified"] is True
    assert summary["weight_decay"] == 0.05
    anchor = summary["anchor"]
    assert anchor["theorem"] == "R"
    assert anchor["exists"] is False
    assert anchor["certificate_held"] is True
    assert 0 < anchor["residual_curvature"] < 0.05
    assert anchor["gradient_norm"] < 1e-8
    assert summary["newton"]["converged"] is True
    assert summary["newton"]["gradient_after"] < 1e-10 * summary["newton"]["gradient_before"]


def test_from_the_initialisation_it_is_certified_by_a_run(folder):
    found = op.load_certificate(folder / "certificate-initialisation.json")
    assert found.certified, found.reason
    assert found.theorem == "R"
    numbers = found.numbers
    at_end = op.load_certificate(folder / "certificate.json").numbers
    assert numbers.region_minimum == pytest.approx(at_end.region_minimum, rel=1e-6)
    file = np.load(folder / "params.npz")
    gaps = [file[name] - file[f"initial_{name}"] for name in ("weights_0", "weights_1")]
    gaps += [file[name] - file[f"initial_{name}"] for name in ("biases_0", "biases_1")]
    gone = np.sqrt(sum(float((gap.astype(float) ** 2).sum()) for gap in gaps))
    assert numbers.limit_distance_lower - 1e-6 <= gone <= numbers.limit_distance + 1e-6


def test_the_page_and_the_folder_are_whole(folder):
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    page = (folder / "report.html").read_text()
    assert re.search(r"objective [\d.]+ to [\d.]+ \(minimum [\d.]+\)", page)
    assert "no eigenvalue of the kernel is needed (Theorem R)" in page
    assert "not that no better minimum exists elsewhere" in page.lower()
    assert "bend of the residual, certified below λ" in page


def test_a_recheck_confirms_the_anchor_and_the_run(folder, capsys):
    assert run("verify", folder) == 0
    said = capsys.readouterr().out
    assert "certificate.json: OK" in said
    assert "certificate-initialisation.json: OK" in said


@pytest.mark.slow
def test_too_little_decay_names_one_that_would_do(capsys):
    code = run(*COMMAND, "--weight-decay", "1e-6", "--budget", "0", "--json")
    assert code == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["certified"] is False
    assert "would do (Theorem R)" in summary["anchor"]["reason"]


@pytest.mark.slow
def test_rows_are_predicted_by_networks_that_have_not_seen_them(capsys):
    few = ["certify", "iris", "--samples", "12", "--width", "16", "--depth", "1", "--steps", "5"]
    assert run(*few, "--weight-decay", "0.3", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    found, train = summary["leave_one_out"], summary["errors"]["train"]
    assert found["rows"] == train["rows"] == found["certified"]
    assert found["error"] >= train["error"]
    assert 0 < found["output_error"] < 1e-3
    assert any(bound["name"].startswith("G4") for bound in summary["consequences"]["risk_bounds"])


def test_rows_that_contradict_each_other_are_taken(tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [(*rng.uniform(-1, 1, 2).round(3), round(rng.standard_normal(), 3)) for _ in range(12)]
    rows += [(*rows[0][:2], 5.0)]
    table = tmp_path / "contradiction.csv"
    table.write_text("a,b,y\n" + "\n".join(",".join(map(str, row)) for row in rows))
    network = (
        "--width",
        "8",
        "--depth",
        "1",
        "--steps",
        "2",
        "--budget",
        "0",
        "--test-fraction",
        "0",
    )
    assert run("certify", table, *network, "--no-consequences") == 2
    assert "--weight-decay 0.003" in capsys.readouterr().err
    assert run("certify", table, *network, "--no-consequences", "--weight-decay", "0.5") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "lines 2 and 14 have the same features and different targets" in said
    assert "certified by Theorem R" in said
