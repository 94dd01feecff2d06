"""A run that goes on after Theorem 1 took over may be lost: what was certified before stays."""

from overparam import certify
from overparam.certificate import trajectory
from overparam.certificate.prediction import Prediction
from overparam.certificate.reason import Lost
from overparam.certificate.trajectory_attempt import Attempt
from overparam.certificate.trajectory_certificate import Found
from tiny import Tiny


def test_a_run_that_was_certified_is_not_made_again(monkeypatch):
    attempts, handed, tiny = [], [], Tiny((3, 3), "tanh", 1)
    kept = object.__new__(Found)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)

    def attempt(problem, run, settings):
        attempts.append(run.how)
        lost = Attempt(problem, run, settings)
        lost.why = Lost(9, 1.0, 30.0)
        return lost, kept

    monkeypatch.setattr(trajectory, "make_attempt", attempt)
    monkeypatch.setattr(trajectory, "predict_run", lambda *given, **how: Prediction(1, 1.0))
    monkeypatch.setattr(
        trajectory,
        "certificate_of",
        lambda hypotheses, first, found: handed.append(found) or first,
    )
    certify(problem, start, theorem="C")
    assert handed == [kept]
    assert attempts == ["layers"]
