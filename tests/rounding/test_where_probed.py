"""What is proved is computed on the processor whose arithmetic was probed, runs included."""

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, certify
from overparam.certificate import certify as entry
from overparam.rounding.probes import on_cpu, where_probed


def device():
    return jax.config.jax_default_device


def test_drift_along_run_an_accelerator_the_processor_is_named(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with where_probed(True):
        assert device() == on_cpu()
    with where_probed(False):
        assert device() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "how"), [("certify_batch_run", {"batch_size": 1}), ("or_by_running", {})]
)
def test_runs_are_made_there(monkeypatch, what, how):
    seen = []

    def run(_, failed, *rest, **named):
        seen.append(device())
        return failed

    monkeypatch.setattr(entry, what, run)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    model = MLP(2, (3,), 1, "tanh")
    start = model.init(jax.random.key(0))
    problem = Problem(model, Measure(np.eye(2), np.ones((2, 1))), "squared", start)
    certify(problem, start, rigor="proved", **how)
    certify(problem, start, **how)
    assert seen == [on_cpu(), None]
