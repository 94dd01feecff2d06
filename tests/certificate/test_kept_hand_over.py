"""A run that goes on after Theorem 1 took over may be lost: what was certified before stays."""

from types import SimpleNamespace

from overparam import certify
from overparam.certificate import trajectory
from overparam.certificate.prediction import Prediction
from overparam.certificate.reason import Lost
from tiny import Tiny


def test_a_run_that_was_certified_is_not_made_again(monkeypatch):
    attempts, handed, tiny = [], [], Tiny((3, 3), "tanh", 1)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)

    def attempt(problem, run, *settings):
        attempts.append(run.how)
        why = Lost(9, 1.0, 30.0)
        return SimpleNamespace(why=why, run=run, adrift=False), "what was found"

    monkeypatch.setattr(trajectory, "make_attempt", attempt)
    monkeypatch.setattr(trajectory, "predict_run", lambda *given, **how: Prediction(1, 1.0))
    monkeypatch.setattr(
        trajectory,
        "certificate_of",
        lambda hypotheses, first, found: handed.append(found) or first,
    )
    certify(problem, start, theorem="C")
    assert handed == ["what was found"]
    assert attempts == ["layers"]
