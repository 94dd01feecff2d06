"""One vector a step bounds the curvature of a run: Lemma D5."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from overparam.jacobian.random_curvature import (
    POWERS,
    SHARE,
    STEADY,
    expected_vectors,
    kappa,
    laplace,
    steady_kappa,
    steady_sample,
)


def test_the_factors_solve_their_equations():
    """Against the normal distribution's quantiles."""
    grid = (np.arange(2_000_000) + 0.5) / 2_000_000
    g = np.abs(norm.ppf(grid)) ** (1 / POWERS)
    assert laplace(1.3, POWERS) == pytest.approx(float(np.mean(np.exp(-1.3 * g))), rel=1e-5)
    assert laplace(kappa(POWERS) * SHARE, POWERS) <= 1 - SHARE + 1e-12
    # E |g|^(-s) has a heavy tail near 0, of which the grid misses a little.
    moment = float(np.mean(g**-STEADY))
    assert moment <= steady_kappa() ** STEADY <= 1.1 * moment


@partial(jax.jit, static_argnums=3)
def samples(curvature, cap, keys, step):
    """What vectors say of a known symmetric matrix, one number for each key."""
    nothing = jnp.zeros(len(curvature))
    return jax.vmap(
        lambda key: steady_sample(
            lambda v: curvature @ v, nothing, cap, jnp.asarray(step, np.float64), key
        )
    )(keys)


@pytest.mark.parametrize("cap", [np.inf, 1.0, 0.05])
@pytest.mark.parametrize("share", [1.0, 0.01])
@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.sample(4)
def test_a_sample_has_the_moment_that_lemma_d5_asks_for(cap, share, size):
    """E exp(-beta Y) <= (1 + a)^(-beta) for every a <= c, whatever a is where no cap is known."""
    rng, step = np.random.default_rng(0), 0.5
    matrix = rng.standard_normal((size, size))
    matrix = matrix + matrix.T
    matrix /= np.linalg.norm(matrix, 2)
    largest = share * (30.0 if cap == np.inf else cap)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), 20_000)
        found = np.asarray(samples(largest / step * matrix, np.float64(cap), keys, step))
    moments = np.exp(-STEADY * step * found)
    error = moments.std() / math.sqrt(len(moments))
    assert moments.mean() <= (1 + largest) ** -STEADY + 4 * error


def test_few_vectors_are_drawn_where_curvature_can_only_be_small():
    with jax.enable_x64(True):
        cap = 0.01 * SHARE / STEADY
        keys = jax.random.split(jax.random.key(0), 20_000)
        found = np.asarray(samples(np.eye(6), np.float64(cap), keys, 1.0))
    assert expected_vectors(cap, STEADY) == pytest.approx(0.01)
    assert abs(np.mean(found > 0) - 0.01) < 4 * math.sqrt(0.01 / 20_000)


def test_where_there_can_be_no_curvature_none_is_seen():
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        found = np.asarray(samples(np.zeros((2, 2)), np.float64(0.0), keys, 0.5))
    assert found.tolist() == [0.0, 0.0, 0.0]
