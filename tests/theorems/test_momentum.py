"""Momentum: the norm in which it does not amplify deviations, and that there is none beyond."""

from fractions import Fraction

import numpy as np
import pytest


def heavy_ball(before, now, hessian, beta):
    """One step of a deviation; eta is in the Hessian."""
    return now, (1 + beta) * now - beta * before - hessian @ now


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.81, 0.99])
def test_where_steps_are_short_a_common_norm_does_not_grow(beta):
    """Hessians anew in every step, half of them at the ends of the interval."""
    rng, s = np.random.default_rng(0), np.sqrt(beta)
    before, now = rng.standard_normal((2, 5))
    size = lambda: max(np.linalg.norm(now), np.linalg.norm(now - s * before) / (1 - s))  # noqa: E731
    last, first = size(), size()
    for step in range(400):
        basis = np.linalg.qr(rng.standard_normal((5, 5)))[0]
        shares = rng.random(5) if step % 2 else rng.integers(0, 2, 5)
        hessian = (1 - s) ** 2 * (basis * shares) @ basis.T
        before, now = heavy_ball(before, now, hessian, beta)
        assert size() <= last * (1 + 1e-12)
        last = size()
    assert last > 1e-6 * first or beta < 0.9  # it does not say so because everything vanishes


def test_beyond_three_stable_steps_in_a_row_amplify():
    """Over the rationals: trace above 1 + determinant means an eigenvalue above 1."""
    beta, product = Fraction(4, 9), np.array([[Fraction(1), 0], [0, Fraction(1)]])
    for h in (25, 25, 1):
        product = np.array([[1 + beta - Fraction(h, 9), -beta], [1, 0]]) @ product
    trace = product[0, 0] + product[1, 1]
    determinant = product[0, 0] * product[1, 1] - product[0, 1] * product[1, 0]
    assert (trace, determinant) == (Fraction(80, 27), Fraction(64, 729))
    for h in (25, 1):  # alone each has complex or double eigenvalues of modulus sqrt(beta)
        assert (1 + beta - Fraction(h, 9)) ** 2 <= 4 * beta


def test_a_strongly_convex_loss_of_one_variable_on_which_the_heavy_ball_cycles():
    def slope(x):
        return 25 * x if x < 1 else x + 24 if x < 2 else 25 * x - 24

    before = now = 3.3
    for _ in range(3000):
        before, now = now, now - slope(now) / 9 + 4 / 9 * (now - before)
    seen = []
    for _ in range(30):
        before, now = now, now - slope(now) / 9 + 4 / 9 * (now - before)
        seen.append(now)
    assert min(abs(x) for x in seen) > 0.1  # the minimum is at 0
    plain = 3.3
    for _ in range(3000):
        plain -= slope(plain) / 25
    assert plain == 0.0


def test_nesterovs_steps_amplify_by_the_sum_of_powers():
    beta = Fraction(9, 10)
    before, now = Fraction(0), Fraction(1)
    for h in (1, 0, 0, 0, 0):
        before, now = now, (1 - h) * ((1 + beta) * now - beta * before)
    assert now == -sum(beta**power for power in range(1, 5)) == Fraction(-30951, 10000)
