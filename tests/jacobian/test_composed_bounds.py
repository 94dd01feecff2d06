"""omega, L and N of composed networks: attacked on balls, layer by layer against dense matrices."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from composed_networks import NETWORKS, Dense64, problem_of
from overparam.jacobian.bounds import jacobian_bounds
from overparam.jacobian.composed_bounds import norms, symbol_norm
from overparam.jacobian.composed_calculus import SECOND, THIRD
from overparam.model import Composed, Conv, Dense
from overparam.model.composed_layers import Factors
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem


def ones(leaf):
    return np.ones(leaf.shape)


SLACK = {
    "others": {1e-3: 300, 0.1: 300, 1.0: 1e5},
    "vector": {1e-3: 300, 0.1: 1e4, 1.0: 4e6},  # layer norm: a variance may vanish on the ball
}
"""What L is at most, in units of the largest that an attack finds. Runs need a small ball only."""


@cache
def dense(name):
    return Dense64(name)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("radius", [1e-3, 0.1, 1.0])
@pytest.mark.sample(3)
def test_an_attack_on_the_ball_does_not_exceed_the_bounds(name, radius):
    """Power steps towards the direction in which J changes most, from several points."""
    truth = dense(name)
    bounds = jacobian_bounds(truth.problem, truth.params)
    (omega, lipschitz), third = bounds.on_ball(radius), bounds.third(radius)
    rng, worst = np.random.default_rng(1), np.zeros(3)
    with jax.enable_x64(True):
        base = np.asarray(truth.jacobian(truth.centre))
        for _ in range(3):
            v = rng.standard_normal(len(truth.centre))
            for _ in range(4):
                v /= np.linalg.norm(v)
                there = truth.centre + radius * v
                second, cubic = truth.along(there, v)
                change = np.asarray(truth.jacobian(there)) - base
                found = [np.linalg.norm(matrix, 2) for matrix in (change, second, cubic)]
                worst = np.maximum(worst, found)
                _, _, rows = np.linalg.svd(second, full_matrices=False)
                v = rows[0]
    assert bounds.kind == "computed"
    assert worst[0] <= omega
    assert worst[1] <= lipschitz
    assert worst[2] <= third
    assert worst[1] >= lipschitz / SLACK[name if name in SLACK else "others"][radius]


def test_bounds_grow_with_the_ball_and_end_at_infinity():
    problem, params = problem_of("image")
    bounds = jacobian_bounds(problem, params)
    found = bounds.on_balls([0.0, 1e-3, 0.1, 1.0, 1e12])
    assert found[0, 0] == 0 < found[0, 1]
    assert np.all(np.diff(found, axis=0) >= 0)
    assert bounds.third(0.0) <= bounds.third(0.5)


def test_layers_that_are_frozen_do_not_count():
    """Of the last layer alone nothing bends; the others' bounds are at most those of all."""
    truth = dense("vector")
    problem, params = truth.problem, truth.params
    whole = np.array([*jacobian_bounds(problem, params).on_ball(0.1)])
    part = Problem(problem.model, problem.measure, trainable=["0.bias", "3"])
    found = jacobian_bounds(part, params)
    rng, moves = np.random.default_rng(0), ravel_pytree(part.moving(jax.tree.map(ones, params)))[0]
    v = rng.standard_normal(len(truth.centre)) * np.asarray(moves)
    v /= np.linalg.norm(v)
    with jax.enable_x64(True):
        second, _ = truth.along(truth.centre, v)
    assert found.kind == "computed"
    assert np.all(found.on_ball(0.1) < whole)
    assert 0 < np.linalg.norm(second @ v) <= found.lipschitz(0.0)
    last = Problem(problem.model, problem.measure, trainable="3")
    bounds = jacobian_bounds(last, params)
    assert bounds.on_ball(1e3) == (0.0, 0.0)
    assert bounds.third(1e3) == 0.0


def test_kinks_in_front_of_what_moves_do_no_harm():
    network = Composed((Dense(4), "relu", Dense(1)), 3)
    params = jax.tree.map(np.asarray, network.init(jax.random.key(0)))
    measure = Measure(np.eye(3), np.ones(3))
    last = jacobian_bounds(Problem(network, measure, trainable="2"), params)
    assert last.on_ball(1e3) == (0.0, 0.0)
    assert jacobian_bounds(Problem(network, measure), params).on_ball(1e-3) == (np.inf, np.inf)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", 2])
@pytest.mark.sample(3)
def test_the_symbol_bounds_a_convolutions_dense_matrix(stride, padding):
    rng, shape = np.random.default_rng(0), (4, 5, 2)
    layer = Conv(3, (3, 2), stride, padding)
    weights = rng.standard_normal((3, 3, 2, 2))
    with jax.enable_x64(True):
        units = jnp.eye(40).reshape(40, *shape)
        rows = np.asarray(jax.jit(layer.patches)(units))
        exact = np.linalg.norm((rows @ weights.reshape(3, -1).T).reshape(40, -1), 2)
        patches = np.linalg.norm(rows.reshape(40, -1), axis=1)
    symbol = symbol_norm(weights, shape)
    assert exact <= symbol
    assert exact <= np.sqrt(layer.overlap) * np.linalg.norm(weights.reshape(3, -1), 2)
    assert patches.max() ** 2 <= layer.overlap + 1e-12
    assert stride > 1 or symbol <= 1.6 * exact


def test_norms_of_families_are_bounds_and_exact_for_a_row():
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((4, 3, 7))
    exact = np.linalg.norm(matrices, 2, axis=(1, 2))
    with jax.enable_x64(True):
        of = lambda family: np.asarray(norms(jnp.asarray(family)))  # noqa: E731
        found, rows = of(matrices), of(matrices[:, :1])
        flipped = of(np.swapaxes(matrices, 1, 2))
    assert np.all(exact <= found)
    assert np.all(found <= 1.3 * exact)
    np.testing.assert_allclose(flipped, found)
    np.testing.assert_allclose(rows, np.linalg.norm(matrices[:, 0], axis=1))


def test_the_norms_derivatives_reach_the_constants_of_lemma_d3():
    """Of y / |(y, e)|: suprema over angles in closed form, by numbers on a fine grid."""
    a = np.linspace(-1, 1, 200_001)
    second, third = np.abs(3 * a * (1 - a**2)), np.abs(3 * (1 - a**2) * (1 - 5 * a**2))
    assert second.max() <= SECOND <= second.max() * (1 + 1e-9)
    assert third.max() <= THIRD <= third.max() * (1 + 1e-9)


@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_derivatives_of_a_normalisation_stay_below_its_row_of_the_table(scale):
    layer, rng = NETWORKS["image"].parts[3], np.random.default_rng(0)
    width, h = 3, scale * rng.standard_normal(3)
    y = h - h.mean()
    size = np.sqrt(y @ y + width * layer.epsilon)

    @jax.jit
    def derivatives(h, v):
        def value(t):
            return layer({}, (h + t * v)[None], Factors(1.0, 0.0))[0]

        first = jax.jacfwd(value)
        second = jax.jacfwd(first)
        return first(0.0), second(0.0), jax.jacfwd(second)(0.0)

    worst = np.zeros(3)
    with jax.enable_x64(True):
        for _ in range(300):
            v = rng.standard_normal(width)
            v /= np.linalg.norm(v)
            worst = np.maximum(worst, [np.linalg.norm(d) for d in derivatives(h, v)])
    limits = np.sqrt(width) / size ** np.arange(1, 4) * [1, SECOND, THIRD]
    assert np.all(worst <= limits)
    assert np.all(worst >= limits / 10)
