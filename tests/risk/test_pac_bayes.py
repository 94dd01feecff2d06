"""G2: its inequality term by term, and the network whose parameters are drawn anew."""

import math

import jax
import mpmath
import numpy as np
import pytest

from overparam import MLP
from overparam.errors import InputError
from overparam.precision import in_float64
from overparam.risk.binary_kl import binary_kl
from overparam.risk.pac_bayes import (
    gaussian_divergence,
    pac_bayes_kl_terms,
    sampled_mean_upper,
)
from overparam.risk.stochastic_network import BATCH, stochastic_outputs

HYPOTHESES = {
    "empirical_risk": 0.02,
    "draws": 100_000,
    "sample_size": 700,
    "loss_bound": 1.0,
    "divergence": 9.0,
    "confidence": 0.95,
}


def value(**changes) -> float:
    return sum(pac_bayes_kl_terms(**{**HYPOTHESES, **changes}).values())


def test_the_bound_solves_the_theorems_equation():
    """kl(upper, value) = (KL + ln(2 sqrt(n) / delta)) / n, with the sampling's share taken off."""
    bound = value(sampling_share=0.02)
    upper = sampled_mean_upper(0.02, 100_000, 1 - 0.05 * 0.02)
    budget = (9.0 + math.log(2 * math.sqrt(700) / (0.05 * 0.98))) / 700
    assert binary_kl(upper, bound) == pytest.approx(budget, rel=1e-12)
    assert binary_kl(0.02, upper) == pytest.approx(math.log(1 / 0.001) / 100_000, rel=1e-9)


def test_what_makes_it_larger_and_what_smaller():
    assert value(divergence=10.0) > value()
    assert value(empirical_risk=0.03) > value()
    assert value(confidence=0.99) > value()
    assert value(choices=12) > value()
    assert value(sample_size=1400) < value()
    assert value(draws=1_000_000) < value()


def test_a_loss_of_another_scale_scales_the_bound():
    scaled = value(empirical_risk=0.06, loss_bound=3.0)
    assert scaled == pytest.approx(3 * value(), rel=1e-12)


def test_the_terms_name_what_dominates():
    terms = pac_bayes_kl_terms(**{**HYPOTHESES, "divergence": 300.0})
    assert max(terms, key=terms.get) == "divergence"
    terms = pac_bayes_kl_terms(**{**HYPOTHESES, "divergence": 0.0})
    assert terms["divergence"] == pytest.approx(0.0, abs=1e-12)
    assert max(terms, key=terms.get) == "confidence"


def test_gaussian_divergence_against_quadrature():
    s, shift = 0.7, 1.3
    with mpmath.workdps(30):
        density = lambda t, m: mpmath.npdf(t, m, s)  # noqa: E731
        integral = mpmath.quad(
            lambda t: density(t, shift) * mpmath.log(density(t, shift) / density(t, 0)),
            [-10, 0, shift, 12],
        )
    assert gaussian_divergence(shift, s) == pytest.approx(float(integral), rel=1e-10)


@pytest.mark.parametrize("n", range(1, 60))
def test_maurers_moment_is_at_most_two_roots_of_n(n):
    """The constant of the theorem: sum_k C(n,k) (k/n)^k (1-k/n)^(n-k) <= 2 sqrt(n), n >= 1."""
    moment = sum(math.comb(n, k) * (k / n) ** k * (1 - k / n) ** (n - k) for k in range(n + 1))
    assert moment <= 2 * math.sqrt(n) * (1 + 1e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_sampled_means_are_covered_though_the_draws_differ_in_law(confidence):
    rng = np.random.default_rng(0)
    chances = rng.uniform(0, 0.3, 40)
    failures = 0
    for _ in range(200):
        mean = float(np.mean(rng.uniform(size=(25, 40)) < chances))
        failures += sampled_mean_upper(mean, 1000, confidence) < chances.mean()
    assert failures <= 200 * (1 - confidence)


@pytest.mark.parametrize("hidden", [(), (12, 16)])
@pytest.mark.sample(1)
def test_noise_on_preactivations_has_the_law_of_noise_on_parameters(hidden):
    """Mean, spread and distribution at each point against draws of all parameters."""
    model = MLP(3, hidden, 1, activation="tanh", bias_scale=0.5)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    x, scale, draws = np.random.default_rng(1).standard_normal((4, 3)), 0.8, 4_000

    @jax.jit
    @jax.vmap
    def slow(key):
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            a + scale * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)
        ]
        return model.apply(jax.tree.unflatten(tree, noisy), x)

    reference = np.asarray(slow(jax.random.split(jax.random.key(5), draws)))[..., 0]
    fast = stochastic_outputs(model, params, scale, x, draws, seed=3)[..., 0]
    assert fast.shape == reference.shape
    spread = reference.std(axis=0)
    error = np.hypot(fast.std(axis=0), spread) / np.sqrt(draws)
    assert np.all(np.abs(fast.mean(axis=0) - reference.mean(axis=0)) < 4.5 * error)
    np.testing.assert_allclose(fast.std(axis=0), spread, rtol=0.06)
    for level in (-0.5, 0.0, 0.5):
        a, b = (fast > level).mean(axis=0), (reference > level).mean(axis=0)
        assert np.all(np.abs(a - b) < 4.5 * np.sqrt(0.5 / draws))


def test_without_noise_it_is_the_network_and_every_draw_is_its_own():
    model = MLP(3, (8,), 2)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    x = np.random.default_rng(0).standard_normal((5, 3))
    still = stochastic_outputs(model, params, 0.0, x, 3, seed=0)
    expected = in_float64(model.apply, params, x)
    np.testing.assert_allclose(still, np.broadcast_to(expected, still.shape), atol=1e-6)
    draws = BATCH // len(x) + 2  # more than one batch
    noisy = stochastic_outputs(model, params, 0.1, x, draws, seed=0)
    assert len(np.unique(noisy[:, 0, 0])) == draws
    np.testing.assert_array_equal(noisy, stochastic_outputs(model, params, 0.1, x, draws, seed=0))
    scaled = MLP(3, (8,), 2, output_scale=1e4)
    assert stochastic_outputs(scaled, params, 1e-4, x, 1, seed=0).dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": 1.0}, "confidence is 1.0: choose it between 0 and 1"),
        ({"confidence": -0.5}, "confidence is -0.5"),
        ({"sample_size": 0}, "the sample has 0 points"),
        ({"draws": 0}, "the sample has 0 points"),
        ({"divergence": -1.0}, "divergence is -1.0"),
        ({"empirical_risk": 1.5}, "q is 1.5"),
        ({"sampling_share": 1.0}, "sampling_share is 1.0"),
        ({"choices": 0}, "choices must be a whole number, 1 or more, not 0"),
    ],
)
def test_hypotheses_that_fail_are_refused_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        value(**change)
    assert "\n" not in str(caught.value)


def test_a_scale_must_be_positive():
    with pytest.raises(InputError, match="scale must be positive"):
        gaussian_divergence(1.0, 0.0)
