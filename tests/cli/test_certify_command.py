"""`overparam certify` end to end on a small real data set."""

import csv
import json
import os
import re
import signal

import jax
import numpy as np
import pytest

import overparam as op
from overparam.cli.main import main
from overparam.pipeline.output import FILES

COMMAND = ["certify", "iris", "--samples", "30", "--width", "64", "--steps", "20", "--budget", "0"]


def run_into(out, *options):
    with pytest.raises(SystemExit) as stop:
        main([*COMMAND, *options, "--out", str(out)])
    assert stop.value.code == 0
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return run_into(tmp_path_factory.mktemp("iris"), "--no-consequences")


def params(folder, prefix=""):
    file = np.load(folder / "params.npz")
    return tuple(
        tuple(file[f"{prefix}{kind}_{layer}"] for layer in range(3))
        for kind in ("weights", "biases")
    )


def test_the_folder_holds_every_file_and_no_rest(folder):
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)


def test_summary_tells_the_story(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["certified"] is True
    assert summary["initialisation"]["certified"] is False
    assert summary["initialisation"]["short_by_factor"] > 1
    assert summary["anchor"]["certificate_held"] is True
    assert summary["training_points"] == 24
    assert summary["outputs"] == 3
    assert summary["errors"]["train"]["error"] == 0.0
    assert 0.0 <= summary["errors"]["test"]["error"] < 0.5


@pytest.mark.slow
def test_summary_tells_what_follows(tmp_path):
    found = json.loads((run_into(tmp_path) / "summary.json").read_text())["consequences"]
    distances = found["implicit_regularisation"]
    assert distances["certified_lower_bound"] <= distances["distance"]
    assert distances["distance"] <= distances["certified_limit"]
    assert found["laziness"]["anchor"]["verdict"] in ("lazy", "partly lazy", "not lazy")
    assert set(found["transfer"]["measured"]) == {"ntk", "standard", "mup"}
    assert {bound["name"][:2] for bound in found["risk_bounds"]} == {"G1", "G2", "G3", "G4"}
    assert all(bound["confidence"] == 0.95 for bound in found["risk_bounds"])


def test_the_certificate_is_about_the_saved_network_and_data(folder):
    """Recompute the certificate's hypotheses from the files with a dense Jacobian."""
    certificate = op.load_certificate(folder / "certificate.json")
    data = np.load(folder / "data.npz")
    model = op.MLP(5, (64, 64), 3, "gelu")
    trained, initial = params(folder), params(folder, "initial_")
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), initial)
        outputs = model.apply(trained, data["x"]) - model.apply(wide, data["x"])
        jacobian = jax.jit(jax.jacobian(model.apply))(trained, data["x"])
        rows = [np.asarray(leaf).reshape(24 * 3, -1) for leaf in jax.tree.leaves(jacobian)]
    dense = np.concatenate(rows, axis=1) / np.sqrt(24)
    eigenvalues = np.linalg.eigvalsh(dense @ dense.T)
    residual = np.linalg.norm(np.asarray(outputs) - data["y"]) / np.sqrt(24)
    assert certificate.min_eigenvalue == pytest.approx(eigenvalues[0], rel=1e-6)
    assert certificate.constants["max_eigenvalue"].value == pytest.approx(eigenvalues[-1], rel=1e-4)
    assert certificate.residual == pytest.approx(residual, rel=1e-6)


def test_history_has_both_runs_with_the_envelope_above_the_excess(folder):
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["descent"] * 21 + ["anchor"] * 26
    assert rows[20]["linearised"]
    assert not rows[20]["envelope"]
    anchored = [(float(row["excess"]), float(row["envelope"])) for row in rows[21:]]
    assert all(excess <= envelope * (1 + 1e-6) for excess, envelope in anchored)


def test_the_report_is_one_file_with_the_verdict(folder):
    page = (folder / "report.html").read_text()
    assert "not certified" in page.lower()
    assert "global minimum" in page
    assert page.count("<svg") >= 4
    assert not re.search(r"""(?:src|href)=["']https?:""", page)


@pytest.fixture
def ctrl_c_arrives():
    """Whoever started the tests may have them ignore it, as a shell does in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_arrives")
@pytest.mark.slow
def test_ctrl_c_after_the_verdict_keeps_what_there_is(capsys, monkeypatch, tmp_path):
    """Certificates, parameters and data are on disk and said before the consequences."""

    def ctrl_c(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("overparam.pipeline.from_initialisation.measure_consequences", ctrl_c)
    (tmp_path / "report.html").write_text("of an earlier run")
    with pytest.raises(SystemExit) as stop:
        main([*COMMAND, "--no-until-certified", "--out", str(tmp_path)])
    assert stop.value.code == 130
    out, err = capsys.readouterr()
    assert re.search(r"^from initialisation +not certified", out, re.MULTILINE)
    assert err.splitlines()[-1].startswith("overparam: interrupted")
    written = {path.name for path in tmp_path.iterdir()} - {"checkpoint.npz"}
    assert written == set(FILES) - {"report.html"}
    assert op.verify(tmp_path / "certificate.json").ok
    assert json.loads((tmp_path / "summary.json").read_text())["consequences"] is None


def test_json_prints_the_summary_and_nothing_else(capsys):
    with pytest.raises(SystemExit) as stop:
        main([*COMMAND, "--no-until-certified", "--no-consequences", "--json"])
    captured = capsys.readouterr()
    assert stop.value.code == 0
    summary = json.loads(captured.out)
    assert summary["anchor"] is None
    assert summary["certified"] is False
    assert summary["consequences"] is None
    phases = captured.err.splitlines()
    assert any("descent" in line for line in phases)
    assert all(re.match(r" +\d+\.\d s  \S", line) for line in phases)


@pytest.mark.slow
def test_the_suggested_output_scale_is_certified_from_initialisation(capsys):
    """What `--output-scale` is suggested for, on a net small enough for a test."""

    def run(*extra):
        command = ["certify", "iris", "--samples", "10", "--width", "256", "--depth", "1"]
        with pytest.raises(SystemExit):
            main([*command, "--no-until-certified", "--no-consequences", "--json", *extra])
        return json.loads(capsys.readouterr().out)

    first = run()["initialisation"]
    assert not first["certified"]
    second = run("--output-scale", str(first["remedies"]["output_scale"]), "--dtype", "float64")
    assert second["initialisation"]["certified"]
    assert second["descent"]["certificate_held"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "loss"),
    [
        ("breast_cancer", "smoothed_cross_entropy:0.1"),
        pytest.param("iris", "smoothed_cross_entropy:0.1", marks=pytest.mark.slow),
        pytest.param("diabetes", "huber:1.0", marks=pytest.mark.slow),
        pytest.param("diabetes", "pseudo_huber", marks=pytest.mark.slow),
        pytest.param("diabetes", "log_cosh", marks=pytest.mark.slow),
        pytest.param("diabetes", "expectile:0.8", marks=pytest.mark.slow),
        pytest.param("iris", "weighted_quadratic:1,1,5", marks=pytest.mark.slow),
    ],
)
def test_every_loss_reaches_a_certificate_that_verifies(capsys, tmp_path, data, loss):
    command = ["certify", data, "--samples", "16", "--width", "128", "--depth", "1", "--steps", "5"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--loss", loss, "--no-consequences", "--out", str(tmp_path)])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    integrand = op.problem.integrands.get_integrand(loss)
    assert integrand.title in printed
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["anchor"]["certified"]
    assert summary["anchor"]["certificate_held"]
    assert summary["loss"] == integrand.spelling
    zero = "entropy" not in loss  # the least cross-entropy is the entropy of the smoothed labels
    assert ("(zero loss)" in printed) == zero
    report = (tmp_path / "report.html").read_text()
    assert ("a global minimum of the loss" in report) != zero
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(tmp_path)])
    assert stop.value.code == 0


@pytest.mark.slow
def test_a_narrow_network_is_certified_from_initialisation_within_a_budget(tmp_path, capsys):
    """Theorem C: named on the page, in the summary and in the file."""
    narrow = ["certify", "wine", "--samples", "12", "--width", "16", "--depth", "1"]
    rest = ["--steps", "20", "--no-until-certified", "--no-consequences", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        main([*narrow, "--budget", "2m", *rest])
    assert stop.value.code == 0
    assert "certified by Theorem C" in " ".join(capsys.readouterr().out.split())
    found = json.loads((tmp_path / "summary.json").read_text())["initialisation"]
    assert found["certified"] is True
    assert found["theorem"] == "C"
    assert "Theorem C" in (tmp_path / "report.html").read_text()
    with pytest.raises(SystemExit) as stop:
        main([*narrow, "--budget", "0", *rest])
    assert stop.value.code == 0
    found = json.loads((tmp_path / "summary.json").read_text())["initialisation"]
    assert found["certified"] is False


@pytest.mark.parametrize("budget", ["soon", "-3s", "5 parsecs", "nan"])
def test_a_budget_is_a_time(budget, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*COMMAND, "--budget", budget])
    assert stop.value.code == 2
    assert "30s, 10m or 6h" in capsys.readouterr().err
