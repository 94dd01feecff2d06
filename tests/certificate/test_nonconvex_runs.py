"""Theorem C with a loss that bends downwards away from its minimisers (Lemmas C1 and C11)."""

import math

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from exact_descent import distance, exact_run
from overparam import certify
from overparam.certificate.reason import Lost
from overparam.certificate.trajectory_run import Run
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.losses import CustomIntegrand
from overparam.theorems.trajectory import Ball, next_spread
from tiny import Tiny

MOST = 0.0739
"""max (s tanh s - 1) / cosh^2 s, near s = 1.718."""


def bend(excess):
    """By how much asinh(r)^2 / 2 bends downwards where it is at most this."""
    s = min(math.sqrt(2 * excess), 1.718)
    return max((s * math.tanh(s) - 1) / math.cosh(s) ** 2 * (1 + 1e-3), 0.0)


def asinh_squared(nonconvexity, name="asinh_squared"):
    return CustomIntegrand(
        name,
        lambda z, y: jnp.sum(jnp.arcsinh(z - y) ** 2) / 2,
        smoothness=1.0,
        pl_constant=lambda e: math.cosh(min(math.sqrt(2 * e), 300.0)) ** -2,
        nearest_minimiser=lambda z, y: y,
        nonconvexity=nonconvexity,
    )


@pytest.fixture(scope="module")
def loss():
    return asinh_squared(bend)


def step_of(problem, start, factor):
    return factor / float(np.linalg.norm(tangent_kernel(problem, start), 2))


def test_two_exact_runs_drift_apart_as_fast_as_the_theorem_allows():
    """F = id: without kappa nothing would amplify the error of the first step."""
    eta, steps = mp.mpf(1) / 2, 20
    with mp.workdps(40):
        first, second, error = mp.mpf(4), mp.mpf(4) + mp.mpf(10) ** -20, 1e-20
        spread, gaps = error * (1 + 1e-15), []
        ball = Ball(radius=1.0, jacobian_norm=1.0, lipschitz=0.0, third=0.0)
        for _ in range(steps):
            kappa = bend(float(mp.asinh(first) ** 2 / 2) * (1 + 1e-12))
            spread = next_spread(
                spread=spread,
                slack=1.0,
                ball=ball,
                gradient=1.0,
                exponent=0.0,
                error=0.0,
                step_size=0.5,
                smoothness=1.0,
                nonconvexity=kappa,
            )
            first, second = (r - eta * mp.asinh(r) / mp.sqrt(1 + r * r) for r in (first, second))
            gaps.append(float(abs(first - second)))
            assert gaps[-1] <= spread
    assert max(gaps) > 1.15 * error  # kappa = 0 would allow no more than the error itself


@pytest.mark.parametrize(("scale", "factor"), [(3.0, 1.7), (3.0, 0.9), (1.0, 1.7)])
@pytest.mark.sample(1)
def test_the_run_in_60_digits_stays_within_delta(loss, factor, scale):
    """At residuals of about 3 the loss bends downwards, at 1 it does not."""
    tiny = Tiny((5,), "gelu", 1)
    problem, start = tiny.problem(1, loss, centred=True, target_scale=scale), tiny.start(1)
    eta, cells = step_of(problem, start, factor), []
    for cell in Run(problem, start, eta).cells():
        cells.append(cell)
        if cell.start.step + len(cell.rows) >= 12:
            break
    ends = [cell.start.step + len(cell.rows) for cell in cells]
    assert ends[-1] <= 300
    with mp.workdps(60):
        exact = exact_run(tiny, problem, start, loss.name, eta, ends[-1])
        for end, cell in zip(ends, cells, strict=True):
            assert distance(exact[end], cell.end) <= cell.deviations[-1] < 0.1


def through_where_it_bends(loss):
    tiny = Tiny((24,), "gelu", 1)
    problem, start = tiny.problem(0, loss, centred=True, target_scale=2.0), tiny.start(0)
    return certify(problem, start, step_of(problem, start, 0.5), theorem="C", budget=600.0)


@pytest.mark.slow
def test_a_run_through_where_it_bends_is_certified(loss):
    found = through_where_it_bends(loss)
    assert found.certified
    assert 1 < found.constants["exponent"].value < 3
    assert "declared" in str(found.assumptions)


@pytest.mark.slow
def test_with_one_constant_for_all_steps_errors_would_grow_at_each():
    found = through_where_it_bends(asinh_squared(MOST, "by_one_constant"))
    assert isinstance(found.why, Lost)
    assert found.constants["steps_made"].value > 100


def test_what_is_declared_is_tried_and_nothing_is_taken_for_granted():
    with pytest.raises(InputError, match=r"nonconvexity of the loss by_half is false between"):
        asinh_squared(lambda e: bend(e) / 2, "by_half")
    with pytest.raises(InputError, match=r"nonconvexity.* is -1"):
        asinh_squared(-1.0, "negative")
    tiny = Tiny((6,), "gelu", 1)
    with pytest.raises(InputError, match="declare nonconvexity"):
        certify(tiny.problem(0, asinh_squared(None, "unknown")), tiny.start(0), theorem="C")
