"""Theorem G7: the density ratio, the equation, and coverage over draws of sample and noise."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from overparam import InputError
from overparam.risk.binary_kl import binary_kl
from overparam.risk.one_draw import log_density_ratio, one_draw, one_draw_terms


def test_the_ratio_is_that_of_the_densities():
    rng = np.random.default_rng(0)
    mean, centre = ({"a": rng.standard_normal((2, 3)), "b": rng.standard_normal(4)} for _ in "ab")
    drawn = one_draw(mean, 0.3, seed=5)
    flat = [np.concatenate([p["a"].ravel(), p["b"]]) for p in (drawn, mean, centre)]
    expected = norm.logpdf(flat[0], flat[1], 0.3).sum() - norm.logpdf(flat[0], flat[2], 0.3).sum()
    assert log_density_ratio(drawn, mean, centre, 0.3) == pytest.approx(expected)
    assert log_density_ratio(drawn, mean, mean, 0.3) == 0


def test_the_noise_is_that_of_its_seed_and_scale():
    big = {"a": np.zeros(40_000)}
    noise = one_draw(big, 0.2, seed=1)["a"]
    assert noise.std() == pytest.approx(0.2, rel=0.02)
    np.testing.assert_array_equal(noise, one_draw(big, 0.2, seed=1)["a"])
    assert not np.array_equal(noise, one_draw(big, 0.2, seed=2)["a"])
    with pytest.raises(InputError, match="scale"):
        one_draw(big, 0.0, seed=1)


@pytest.mark.parametrize("ratio", [3.0, -1.0, -50.0])
def test_the_terms_solve_the_theorems_equation(ratio):
    given = {"empirical_risk": 0.1, "sample_size": 300, "loss_bound": 2.0, "log_ratio": ratio}
    terms = one_draw_terms(**given, confidence=0.9, choices=4)
    budget = max(0.0, ratio + math.log(2 * math.sqrt(300) * 4 / 0.1))
    value = sum(terms.values()) / 2
    assert 300 * binary_kl(0.05, value) == pytest.approx(budget, abs=1e-9)
    with pytest.raises(InputError, match="log_ratio"):
        one_draw_terms(**given | {"log_ratio": math.inf}, confidence=0.9)


def failures(redraws: int, *, chosen: int = 1) -> int:
    """Failures at 50 % of linear classifiers of coin flips, whose risk is 1/2 whatever they are.

    The mean is fitted to the sample, around the prior's mean 0. With several draws the one with the
    least error is kept, against the theorem.
    """
    rng, count, n, d, s = np.random.default_rng(0), 0, 40, 15, 0.1
    for _ in range(redraws):
        x, y = rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], n)
        mean = 0.08 * np.linalg.lstsq(x, y, rcond=None)[0]
        drawn = mean + s * rng.standard_normal((chosen, d))
        errors = (drawn @ x.T * y <= 0).mean(axis=1)
        w = drawn[errors.argmin()]
        terms = one_draw_terms(
            empirical_risk=float(errors.min()),
            sample_size=n,
            loss_bound=1.0,
            log_ratio=log_density_ratio(w, mean, np.zeros(d), s),
            confidence=0.5,
        )
        count += sum(terms.values()) < 0.5
    return count


def test_coverage_and_what_choosing_the_draw_does_to_it():
    assert failures(60) <= 30
    assert failures(10, chosen=1000) > 5


@pytest.mark.slow
def test_coverage_over_a_thousand_draws():
    assert failures(1000) <= 500
