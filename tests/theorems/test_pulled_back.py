"""Lemma P5 against an adversary: sequences that Lemma P1 allows, with equality."""

import math

import numpy as np

from overparam.theorems.path import _Passed, _pulled_back


def adversary(rng: np.random.Generator, cells: int) -> tuple[list[_Passed], list[float]]:
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
        passed.append(_Passed(1.0, begin, eps, 2 * radius * pushed, count * eta, slack))
    return passed, off


def test_outputs_do_not_stay_away_for_longer_than_the_lemma_allows():
    """|rbar| is 1 all along and |r_t| does not increase: |r_b| may be 1 + the least |b_t|."""
    rng, nearest = np.random.default_rng(0), 0.0
    for _ in range(2000):
        passed, off = adversary(rng, cells=int(rng.integers(1, 4)))
        bound = _pulled_back(tuple(passed)) - 1
        assert min(off) <= bound * (1 + 1e-12) + 1e-15
        nearest = max(nearest, min(off) / bound if bound else 0.0)
    assert nearest > 0.99  # and it is attained
