"""Random vectors bound the curvature of a run: Lemma C6."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.stats import norm

from overparam.jacobian.random_curvature import (
    DRAWINGS,
    SHARE,
    certain_factor,
    chance,
    curvature_sample,
    expected_products,
    laplace,
    rare_factor,
)

POWERS = sorted({drawing.rare for drawing in DRAWINGS})


@pytest.mark.parametrize("power", POWERS)
def test_the_factor_of_a_rare_vector_solves_its_equation(power):
    """Against the normal distribution's quantiles."""
    grid = (np.arange(2_000_000) + 0.5) / 2_000_000
    g = np.abs(norm.ppf(grid)) ** (1 / power)
    for s in (0.1, 1.3, 4.0):
        assert laplace(s, power) == pytest.approx(float(np.mean(np.exp(-s * g))), rel=1e-5)
    assert laplace(rare_factor(power) * SHARE, power) <= 1 - SHARE + 1e-12
    assert laplace(rare_factor(power) * SHARE * (1 - 1e-6), power) > 1 - SHARE


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_the_factor_of_a_certain_vector_is_a_moment(drawing):
    """Of the half-normal distribution, by quadrature in u = g^(1 - s), which is smooth at 0."""
    left = 1 - mp.mpf(drawing.beta) / drawing.power
    integral = mp.quad(lambda u: mp.exp(-(u ** (2 / left)) / 2), [0, 0.5, 1, 1.5, 2, 4])
    moment = integral / left * mp.sqrt(2 / mp.pi)
    factor = certain_factor(drawing.beta, drawing.power)
    assert 1 < factor**drawing.beta / moment < 1 + 1e-6


@partial(jax.jit, static_argnums=4)
def samples(curvature, cap, keys, step, drawing):
    """What vectors say of a known symmetric matrix, one number for each key."""
    nothing = jnp.zeros(len(curvature))
    eta = jnp.asarray(step, np.float64)
    return jax.vmap(
        lambda key: curvature_sample(lambda v: curvature @ v, nothing, cap, eta, key, drawing)
    )(keys)


@pytest.mark.parametrize("drawing", DRAWINGS)
@pytest.mark.parametrize("cap", [np.inf, 1.0, 0.05, 0.004])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.sample(6)
def test_a_sample_has_the_moment_that_lemma_c6_asks_for(cap, share, size, drawing):
    """E exp(-beta Y) <= (1 + a)^(-beta) for every a <= c, whatever a is where no cap is known."""
    rng, step = np.random.default_rng(0), 0.5
    matrix = rng.standard_normal((size, size))
    matrix = matrix + matrix.T
    matrix /= np.linalg.norm(matrix, 2)
    largest = share * (30.0 if cap == np.inf else cap)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), 20_000)
        found = np.asarray(samples(largest / step * matrix, np.float64(cap), keys, step, drawing))
    moments = np.exp(-drawing.beta * step * found)
    error = moments.std() / math.sqrt(len(moments))
    assert moments.mean() <= (1 + largest) ** -drawing.beta + 4 * error


def test_few_vectors_are_drawn_where_curvature_can_only_be_small():
    drawing = DRAWINGS[0]
    with jax.enable_x64(True):
        cap = 0.01 * SHARE / drawing.beta
        keys = jax.random.split(jax.random.key(0), 20_000)
        found = np.asarray(samples(np.eye(6), np.float64(cap), keys, 1.0, drawing))
    # An identity's vectors are never 0, so what is drawn is seen.
    assert chance(cap, drawing.beta) == pytest.approx(0.01)
    assert abs(np.mean(found > 0) - 0.01) < 4 * math.sqrt(0.01 / 20_000)


def test_products_are_counted():
    drawing = DRAWINGS[1]
    certain, rare = SHARE / drawing.beta, 0.01 * SHARE / drawing.beta
    counted = expected_products([10 * certain, certain, rare, 0.0], drawing)
    assert counted == pytest.approx([drawing.power, drawing.power, 0.01 * drawing.rare, 0.0])


def test_where_there_can_be_no_curvature_none_is_seen():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        found = np.asarray(samples(np.zeros((2, 2)), np.float64(0.0), keys, 0.5, DRAWINGS[0]))
    assert found.tolist() == [0.0, 0.0, 0.0]
