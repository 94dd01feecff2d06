"""The job certifies the initialisation as ``certify`` does, by whatever theorem can."""

import json

import jax
import numpy as np
import pytest

import overparam as op
from overparam.cli.main import main
from overparam.pipeline.consequence_findings import _certified_laziness
from overparam.pipeline.job_findings import descent
from overparam.pipeline.output import history_columns
from overparam.pipeline.run import run_job
from overparam.pipeline.settings import JobSettings

CHOSEN = ("--target", "parity", "--samples", "6", "--test-fraction", "0")
NETWORK = ("--width", "256", "--depth", "1", "--steps", "5", "--no-consequences")


def status(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code


@pytest.mark.slow
def test_the_job_certifies_what_python_does():
    """Theorem 1 is short of this width by far, Theorem P is not: docs/path.md."""
    data = op.load("digits", target="parity", samples=6, test_fraction=0.0)
    model = op.MLP(64, (256,), 1, "gelu")
    start = model.init(jax.random.key(0))
    expected = op.certify(op.Problem(model, data.train, centered_at=start), start)
    assert (expected.certified, expected.theorem) == (True, "P")
    settings = JobSettings(
        width=256, depth=1, steps=5, until_certified=False, consequences=False, dtype="float64"
    )
    found = run_job(data, settings)
    assert (found.initial.certified, found.initial.theorem) == (True, "P")
    np.testing.assert_allclose(found.initial.radius, expected.radius, rtol=1e-6)
    assert found.descent.certificate_held


@pytest.mark.slow
def test_the_command_line_says_so_and_verify_says_what_it_cannot(tmp_path, capsys):
    assert status("certify", "digits", *CHOSEN, *NETWORK, "--out", tmp_path) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "certified by Theorem P" in said
    assert "all claims held in 5 steps" in said
    found = json.loads((tmp_path / "summary.json").read_text())["initialisation"]
    assert (found["certified"], found["theorem"]) == (True, "P")
    page = (tmp_path / "report.html").read_text()
    assert "The condition of Theorem P holds" in page
    # The anchor's certificate is checked again; the other one is told to be beyond the re-check.
    assert status("verify", tmp_path) == 0
    said = capsys.readouterr().out
    assert "certificate.json: OK" in said
    assert "certificate-initialisation.json: NOT CHECKED" in said
    assert status("verify", tmp_path / "certificate-initialisation.json") == 1
    assert "certificate-initialisation.json: NOT CHECKED" in capsys.readouterr().out


def test_one_theorem_alone(tmp_path, capsys):
    alone = (*NETWORK, "--theorem", "1", "--no-until-certified", "--json")
    assert status("certify", "digits", *CHOSEN, *alone) == 0
    found = json.loads(capsys.readouterr().out)["initialisation"]
    assert (found["certified"], found["theorem"]) == (False, "1")


@pytest.mark.slow
def test_the_figure_says_where_theorem_1_takes_over_from_the_run():
    """And the laziness is stated from both sides."""
    data = op.load("digits", target="parity", samples=6)
    chosen = {"width": 24, "depth": 1, "steps": 600, "theorem": "C", "budget": 600.0}
    settings = JobSettings(**chosen, until_certified=False, consequences=False)
    found = run_job(data, settings)
    numbers = found.initial.numbers
    assert found.initial.certified, found.initial.reason
    picture = descent(found).picture
    course = picture.data[-1]
    assert course == found.initial.course
    assert (course.steps[0], course.deviations[0], course.steps[-1]) == (0, 0.0, numbers.handover)
    assert course.deviations[-1] == numbers.deviation
    column = history_columns(found)["deviation"]
    made = int(numbers.handover)
    assert column[0] == 0
    assert column[made] == numbers.deviation
    assert (np.diff(column[: made + 1]) >= 0).all()
    assert np.isnan(column[made + 1 :]).all()
    assert f"Up to step {numbers.handover:,.0f} the certificate follows a run" in picture.caption
    said = _certified_laziness(found.initial)
    assert "in the end at least" in said
    assert "(Proposition C9)" in said
