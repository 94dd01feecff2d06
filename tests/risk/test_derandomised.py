"""Theorem G6: its lemma by drawing, its terms by their equation, what it takes from the kernel."""

import math

import jax
import numpy as np
import pytest
from scipy.special import ndtr

from networks import dense_jacobian, draw_inputs, draw_params
from overparam import MLP, InputError, Measure, Problem
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.pipeline.derandomised import _covariances, spectral_shape
from overparam.precision import as_float64
from overparam.risk.binary_kl import binary_kl
from overparam.risk.bounded_loss import (
    ClippedCrossEntropy,
    ClippedSquared,
    ClippedSquaredHinge,
    Ramp,
    ZeroOne,
    margins,
)
from overparam.risk.derandomised import derandomised_terms
from overparam.risk.gaussian_outputs import GaussianOutputs
from overparam.risk.kernel_blocks import kernel_blocks
from overparam.risk.linearisation import layered_remainder

DRAWS, POINTS = 2000, 12
LOSSES = (ZeroOne(), Ramp(0.7), ClippedSquared(2.0), ClippedSquaredHinge(1.0))
LOSSES += (ClippedCrossEntropy(1.5),)


def setting(k: int):
    """Targets, Gaussian outputs with correlations, and draws of them, shape (draws n, k)."""
    rng = np.random.default_rng(k)
    y = rng.choice([-1.0, 1.0], (POINTS, 1))
    if k > 1:
        y = np.where(rng.integers(k, size=(POINTS, 1)) == np.arange(k), 1.0, -1.0)
    roots = 0.6 * rng.standard_normal((POINTS, k, k))
    roots[0] = 0  # a point at which nothing varies
    mean = 0.7 * y + rng.standard_normal((POINTS, k))
    covariance = roots @ np.swapaxes(roots, 1, 2)
    outputs = GaussianOutputs(mean, covariance, rng.uniform(0, 0.3, POINTS))
    noise = np.einsum("njk,dnk->dnj", roots, rng.standard_normal((DRAWS, POINTS, k)))
    return y, outputs, (mean + noise).reshape(-1, k)


def raised_loss(loss, z, y, outputs, tau):
    """l+ at each draw, (draws, n): the table of docs/generalisation.md, column two."""
    repeats = len(z) // len(y)
    y = np.tile(y, (repeats, 1))
    outputs = GaussianOutputs(
        np.tile(outputs.mean, (repeats, 1)),
        np.tile(outputs.covariance, (repeats, 1, 1)),
        np.tile(outputs.remainder, repeats),
    )
    return raised_at(loss, z, y, outputs, tau).reshape(repeats, -1)


def raised_at(loss, z, y, outputs, tau):
    if isinstance(loss, ZeroOne | Ramp):
        hidden = outputs.remainder * (1 if y.shape[1] == 1 else math.sqrt(2))
        wrong = np.eye(y.shape[1])[None] * np.ones((len(y), 1, 1))
        direction = y[:, :, None] if y.shape[1] == 1 else (y > 0)[:, :, None] - wrong
        spread = np.sqrt(np.einsum("nkj,nkl,nlj->nj", direction, outputs.covariance, direction))
        gaps = np.einsum("nk,nkj->nj", z, direction) - tau * spread - hidden[:, None]
        gaps = np.where((y > 0) & (y.shape[1] > 1), np.inf, gaps).min(axis=1)
        if isinstance(loss, ZeroOne):
            return (gaps <= 0).astype(float)
        return np.clip(1 - gaps / loss.margin, 0, 1)
    deviation = np.sqrt(np.linalg.eigvalsh(outputs.covariance)[:, -1].clip(0))
    hidden = tau * deviation + outputs.remainder
    wide = type(loss)(1e9)(z, y)
    if isinstance(loss, ClippedCrossEntropy):
        return np.minimum(wide + loss.lipschitz(y.shape[1]) * hidden, loss.bound)
    return np.minimum((np.sqrt(2 * wide) + hidden) ** 2 / 2, loss.bound)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("k", [1, 3])
def test_the_raised_loss_is_above_the_networks_own_as_often_as_the_lemma_says(loss, k):
    """The network's outputs are put as far from the linearisation's as they may be, and worse."""
    y, outputs, draws = setting(k)
    rng = np.random.default_rng(1)
    for tau in (0.0, 1.0):
        raised = raised_loss(loss, draws, y, outputs, tau)
        for _ in range(6):
            away = rng.standard_normal((POINTS, k))
            away *= (outputs.remainder / np.linalg.norm(away, axis=1))[:, None]
            own = loss(outputs.mean + away, y)
            often = (raised >= own - 1e-12).mean(axis=0)
            assert often.min() >= ndtr(tau) - 4 * math.sqrt(0.25 / len(raised))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("k", [1, 3])
def test_the_mean_of_the_raised_loss_is_bounded_and_for_two_classes_known(loss, k):
    y, outputs, draws = setting(k)
    for tau in (0.5, 1.5):
        raised = raised_loss(loss, draws, y, outputs, tau)
        error = 5 * raised.std(axis=0) / math.sqrt(DRAWS) + 1e-3
        bound = loss.raised(outputs, y, tau)
        assert np.all(raised.mean(axis=0) <= bound + error)
        assert np.all((bound >= 0) & (bound <= loss.bound))
        if k == 1 and isinstance(loss, ZeroOne | Ramp):
            assert np.all(np.abs(raised.mean(axis=0) - bound) <= error)


def test_an_error_by_a_hair_is_made_by_the_draw_with_that_probability_and_no_more():
    """Sharp: one output, no remainder, the network at the boundary."""
    outputs = GaussianOutputs(np.zeros((1, 1)), np.ones((1, 1, 1)), np.zeros(1))
    for tau in (0.0, 0.5, 2.0):
        assert ZeroOne().raised(outputs, np.ones((1, 1)), tau) == pytest.approx(ndtr(tau))


def test_the_terms_solve_the_theorems_equation():
    given = {"raised": 0.03, "tau": 1.0, "sample_size": 500, "loss_bound": 2.0, "divergence": 4.0}
    terms = derandomised_terms(**given, empirical_risk=0.01, confidence=0.9, choices=50)
    assert all(part > 0 for part in terms.values())
    p = sum(terms.values()) * ndtr(1.0) / 2
    budget = 4.0 + math.log(2 * math.sqrt(500) * 50 / 0.1)
    assert 500 * binary_kl(0.015, p) == pytest.approx(budget)
    for change in ({"tau": -0.1}, {"divergence": -1.0}, {"sample_size": 0}):
        with pytest.raises(InputError):
            derandomised_terms(**given | change, empirical_risk=0.01, confidence=0.9)


MODELS = (
    MLP(3, (10, 14), 2, activation="tanh", weight_scale=1.4, output_scale=2.0),
    MLP(3, (12,), 1, activation="relu"),
)


@pytest.mark.parametrize("model", [MODELS[0], pytest.param(MODELS[1], marks=pytest.mark.slow)])
def test_no_perturbation_with_these_spectral_norms_is_further_from_the_linearisation(model):
    """Ascent over the product of spectral balls: a gradient's best step is its polar factor."""
    x, params = draw_inputs(4, model, seed=1), draw_params(model)
    base = measure_layer_norms(Problem(model, Measure(x, np.zeros((4, model.out_dim)))), params)
    radii = np.array([0.5, 0.9, 0.7])[: model.layers]

    def gap(step):
        values, slope = jax.jvp(lambda p: model.apply(p, x), (params,), (step,))
        moved = model.apply(jax.tree.map(lambda a, b: a + b, params, step), x)
        return (((moved - values - slope) ** 2).sum(axis=1)) ** 0.5

    uphill = jax.jit(jax.value_and_grad(lambda step: gap(step)[0]))
    rng = np.random.default_rng(0)
    step = polar(jax.tree.map(lambda a: rng.standard_normal(a.shape), params), radii)
    bound = layered_remainder(base, radii)
    with jax.enable_x64(True):
        for _ in range(12):
            found, gradient = uphill(step)
            assert found <= bound[0]
            step = polar(jax.tree.map(lambda a, b: a + 3 * b, step, gradient), radii)
        assert found > bound[0] / 40
    np.testing.assert_allclose(spectral_shape(step), radii / radii.max())


def polar(step, radii):
    weights, biases = [], []
    for w, b, r in zip(*step, radii, strict=True):
        u, _, v = np.linalg.svd(np.column_stack([w, b]), full_matrices=False)
        block = r * u @ v
        weights.append(block[:, :-1])
        biases.append(block[:, -1])
    return tuple(weights), tuple(biases)


def test_blocks_and_conditioning_against_the_dense_jacobian():
    model = MODELS[0]
    x, params = draw_inputs(9, model, seed=2), as_float64(draw_params(model))
    seen, new = x[:6], x[6:]
    rng = np.random.default_rng(0)
    step = jax.tree.map(lambda a: rng.standard_normal(a.shape), params)
    flat = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(step)])
    there = dense_jacobian(model, params, seen).reshape(12, -1)
    here = dense_jacobian(model, params, new).reshape(3, 2, -1)
    problem = Problem(model, Measure(new, np.zeros((3, 2))))
    rows = Measure(seen, np.zeros((6, 2)))
    found = list(_covariances(problem, params, step, 0.0, rows, (np.inf, 1.0, 0.1)))
    np.testing.assert_allclose(found[0][1], kernel_blocks(model, params, new))
    for nu, covariance, length in found:
        precision = np.eye(len(flat)) + there.T @ there / nu
        dense = here @ np.linalg.solve(precision, np.swapaxes(here, 1, 2))
        np.testing.assert_allclose(covariance, dense, rtol=1e-8, atol=1e-12)
        assert length == pytest.approx(flat @ precision @ flat)


def test_clipped_cross_entropy_is_the_training_loss_below_the_clip():
    y, outputs, _ = setting(3)
    z = outputs.mean
    logits = z - z.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ClippedCrossEntropy(1e9)(z, y), -log_p[y > 0])
    two = np.array([[1.0], [-1.0]])
    np.testing.assert_allclose(ClippedCrossEntropy(9.0)(0.3 * two, two), np.log1p(np.exp(-0.3)))
    assert np.all(ClippedCrossEntropy(0.5)(z, y) <= 0.5)
    assert np.all(margins(z, y).shape == (POINTS,))
