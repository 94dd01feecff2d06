"""Lemma P5: what the outputs deviate pulls the parameters back, so it is not large for long."""

import math

import numpy as np
import pytest

from overparam.theorems.path import _PastCell, _residual_in_window


def adversary(rng: np.random.Generator, cells: int) -> tuple[list[_PastCell], list[float]]:
    """Cells of a run whose every step is as Lemma P1 has it at worst, and its |b_t|."""
    eta, slack = 10 ** rng.uniform(-2, 1), rng.uniform(0.1, 2)
    e, off, passed = 10 ** rng.uniform(-2, 1), [], []
    for _ in range(cells):
        eps, begin, radius, pushed = rng.choice([0.0, rng.uniform()]), e, e, 0.0
        count = int(rng.integers(1, 6))
        for _ in range(count):
            most = (eps + math.sqrt(eps**2 + slack * e**2 / eta)) / slack  # what u_t >= 0 allows
            off.append(most * rng.choice([1.0, 0.9, rng.uniform()]))
            u = e**2 - eta * (slack * off[-1] ** 2 - 2 * eps * off[-1])
            push = rng.choice([0.0, rng.uniform()])
            e, pushed = math.sqrt(max(u, 0.0)) + push, pushed + push
            radius = max(radius, e)
        passed.append(_PastCell(1.0, begin, eps, 2 * radius * pushed, count * eta, slack))
    return passed, off


def test_outputs_do_not_stay_away_for_longer_than_the_lemma_allows():
    """|rbar| is 1 all along and |r_t| does not increase: |r_b| may be 1 + the least |b_t|."""
    rng, nearest = np.random.default_rng(0), 0.0
    for _ in range(2000):
        passed, off = adversary(rng, cells=int(rng.integers(1, 4)))
        bound = _residual_in_window(tuple(passed)) - 1
        assert min(off) <= bound * (1 + 1e-12) + 1e-15
        nearest = max(nearest, min(off) / bound if bound else 0.0)
    assert nearest > 0.99  # and it is attained


def cells_of(J, mismatch, eta, pushes, lengths, start):
    """e_{t+1} = e_t - eta J* (J e_t + delta) + v_t, and the cells that bound it."""
    e, past, deviations = np.array(start), [], []
    norm = np.linalg.norm(J, 2)
    for length in lengths:
        begin, largest, pushed, seen = np.linalg.norm(e), 0.0, 0.0, []
        for _ in range(length):
            b = J @ e + mismatch
            v = pushes(e)
            seen.append(np.linalg.norm(b))
            largest, pushed = max(largest, np.linalg.norm(e)), pushed + np.linalg.norm(v)
            e = e - eta * J.T @ b + v
        largest = max(largest, np.linalg.norm(e))
        past.append(
            _PastCell(
                residual=0.0,
                radius=float(begin),
                eps=float(np.linalg.norm(mismatch)),
                drive=float(2 * largest * pushed),
                time=length * eta,
                slack=float(2 - eta * norm**2),
            )
        )
        deviations.append(min(seen))
    return tuple(past), deviations, norm * np.linalg.norm(e) + np.linalg.norm(mismatch)


@pytest.mark.parametrize("seed", range(5))
def test_some_deviation_in_the_window_is_as_small_as_it_says(seed):
    rng = np.random.default_rng(seed)
    J = np.diag([1.0, 0.3, 0.05]) @ np.linalg.qr(rng.standard_normal((8, 3)))[0].T
    mismatch = 1e-3 * rng.standard_normal(3)
    drift = 1e-5 * rng.standard_normal(8)
    past, deviations, at_worst = cells_of(
        J, mismatch, 0.5, lambda e: drift, [1, 2, 5, 20, 100, 400, 800], np.zeros(8)
    )
    for last in range(1, len(past) + 1):
        assert min(deviations[:last]) <= _residual_in_window(past[:last]) * (1 + 1e-12)
    assert _residual_in_window(past) < at_worst


def test_one_step_by_hand():
    """f beta^2 - 2 eps beta = g, with f = 1.5, eps = 0.1 and g = (0.2^2 + 0.01) / 0.5."""
    only = _PastCell(residual=2.0, radius=0.2, eps=0.1, drive=0.01, time=0.5, slack=1.5)
    beta = _residual_in_window((only,)) - 2.0
    assert 1.5 * beta**2 - 0.2 * beta == pytest.approx(0.1, rel=1e-12)
    later = _PastCell(residual=1.0, radius=0.2, eps=0.1, drive=0.0, time=50.0, slack=1.5)
    both = 2.0 + (0.1 + math.sqrt(0.01 + 1.5 * 0.05 / 50.5)) / 1.5
    alone = 1.0 + (0.1 + math.sqrt(0.01 + 1.5 * 0.04 / 50)) / 1.5
    assert _residual_in_window((only, later)) == pytest.approx(min(both, alone), rel=1e-12)
