"""Certificates whose |J| is bounded without the kernel: looser, and true (Lemma R6)."""

import pytest

from altered import altered
from overparam import Problem, anchor
from overparam.certificate import trajectory_points
from overparam.train.decayed_minimum import decayed_minimum
from overparam.verification import verify
from tiny import Tiny

TINY = Tiny((12,), "gelu", 1)


@pytest.mark.slow
def test_a_bound_by_layers_is_confirmed(monkeypatch):
    monkeypatch.setattr(trajectory_points, "LARGE", 2)
    problem = Problem(TINY.model, TINY.measure(0), centered_at=TINY.start(0), weight_decay=0.3)
    params = decayed_minimum(problem, TINY.start(0)).params
    found = anchor(problem, params)
    assert found.certified, found.reason
    assert verify(found, problem, params).reasons == ()
    low = altered(found, max_eigenvalue=0.3 * found.numbers.max_eigenvalue)
    assert not verify(low, problem, params).ok
