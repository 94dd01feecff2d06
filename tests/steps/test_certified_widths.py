"""Which steps are certified at which width, against the certificates themselves and a run."""

import time

import jax
import numpy as np
import pytest

from one_run import TINY
from overparam import MLP, InputError, Measure, Problem, certify, gradient_descent
from overparam.steps import certified_widths
from overparam.steps.stable_step import draw_at_width

WIDTHS, KEY = (12, 16), jax.random.key(3)


@pytest.fixture(scope="module")
def problem():
    return TINY.problem(0, centred=True)


@pytest.fixture(scope="module")
def stable(problem):
    """2 / lambda_max of the network that is drawn at the first width."""
    drawn, start = draw_at_width(problem, WIDTHS[0], KEY)
    return 2 / certify(drawn, start, theorem="1").constants["max_eigenvalue"].value


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def found(request, problem, stable):
    steps = (0.25 * stable, 1.15 * stable, 40 * stable)
    if request.param == 1:  # the cheaper one, of one width
        steps = (0.25 * stable, 40 * stable)
    return certified_widths(problem, WIDTHS[: request.param], steps, key=KEY, budget=120.0)


def test_moderate_steps_are_certified_at_every_width_and_huge_ones_at_none(found, stable):
    assert found.converges[:, 0].all()
    assert not found.converges[:, -1].any()
    assert 0.25 * stable in found.at_every_width
    assert found.stable_step[0] == pytest.approx(stable, rel=1e-9)
    assert np.isfinite(found.handover[:, 0]).all()
    assert np.isinf(found.distance[:, -1]).all()


def test_what_is_certified_converges_no_farther_than_it_says(found, problem):
    """Also with a step beyond 2 / lambda_max, if that is certified."""
    checked = 0
    for i, width in enumerate(found.widths):
        drawn, start = draw_at_width(problem, width, KEY)
        for j in np.flatnonzero(found.converges[i]):
            run = gradient_descent(drawn, start, found.step_sizes[j], 4000, dtype="float64")
            assert run.history.excess[-1] < 1e-3 * run.history.excess[0]
            assert run.history.distance[-1] <= found.distance[i, j]
            checked += 1
    assert checked >= len(found.widths)


BAD = [
    (((), (0.1,)), "at least one width"),
    (((8,), ()), "at least one width"),
    (((8, 0), (0.1,)), "every width must be a whole number, 1 or more, not 0"),
    (((8,), (0.1, -1.0)), "every step size must be positive and finite"),
    (((8,), (0.1, np.nan)), "not nan"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=lambda v: str(v))
def test_bad_arguments_are_refused_before_any_certificate_is_made(problem, arguments, says):
    made = []
    with pytest.raises(InputError, match=says):
        certified_widths(problem, *arguments, key=KEY, progress=lambda *seen: made.append(seen))
    assert not made


@pytest.mark.slow
def test_arrays_and_no_time_at_all(problem):
    found = certified_widths(problem, np.array([12, 16]), np.array([0.1]), key=KEY, budget=0)
    assert found.widths == (12, 16)
    assert found.step_sizes == (0.1,)
    assert not found.converges.any()


@pytest.mark.slow
def test_a_network_that_nothing_moves_ends_within_the_budget():
    """Inputs are 0 and there is no bias: J vanishes, and how far a cell may go has no limit."""
    model = MLP(3, (8,), 1, activation="tanh", bias_scale=0.0)
    still = Problem(model, Measure(np.zeros((2, 3)), np.ones((2, 1))), "squared")
    began = time.process_time()  # whatever else the machine does
    assert not certified_widths(still, (8,), (0.1,), key=KEY, budget=0.5).converges.any()
    assert time.process_time() - began < 20
