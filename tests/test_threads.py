"""Small eigenvalue problems are left to one thread of the linear algebra library."""

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from overparam.certificate.hypotheses import measure_hypotheses
from overparam.kernel.empirical.expansion import Expansion
from overparam.threads import threads_for
from tiny import Tiny

TINY = Tiny((8,), "gelu", outputs=1)


def threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return {library["num_threads"] for library in threadpool_info()}


def test_bounds_on_many_balls_are_computed_on_one_thread(monkeypatch):
    hypotheses = measure_hypotheses(Expansion(TINY.problem(0), TINY.start(0)))
    seen, on_balls = [], type(hypotheses.bounds).on_nested_balls

    def watched(bounds, radii):
        seen.append(threads())
        return on_balls(bounds, radii)

    monkeypatch.setattr(type(hypotheses.bounds), "on_nested_balls", watched)
    with threadpool_limits(2):
        before = threads()
        hypotheses.grid(1.0)
        assert threads() == before
    assert {1} in seen
    assert all(found == {1} for found in seen)


def test_threads_are_given_back_after_two_pieces_of_work_that_overlap():
    """The first to come is the first to leave: what it found must not be lost with the other."""
    with threadpool_limits(2):
        before = threads()
        first, second = threads_for(10), threads_for(10)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == before
