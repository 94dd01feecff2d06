"""omega, L and the curvature of the residual of what moves, by an attack and by dense matrices."""

from functools import cache

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from frozen import MASKS, TINY, dense, moving_entries, on_features, partly
from overparam import Measure, Problem
from overparam.certificate.description import describe
from overparam.certificate.trajectory_points import relative_curvature
from overparam.jacobian.bounds import jacobian_bounds
from overparam.jacobian.curvature import input_grams, neuron_curvature, third_derivative
from overparam.jacobian.estimated import estimate_bounds
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.kernel.empirical.jacobian_change import jacobian_change_gram
from overparam.kernels import tangent_kernel
from overparam.precision import in_float64
from overparam.rounding.layer_norms import prove_layer_norms
from tiny import Tiny

RADII = (0.1, 1.0)


@cache
def bounds_of(trainable: str) -> MLPBounds:
    return jacobian_bounds(partly(TINY, trainable), TINY.start(0))


@pytest.mark.sample(1)
@pytest.mark.parametrize("trainable", MASKS)
def test_kernel_and_gradient_are_those_of_the_dense_jacobian_without_the_frozen_columns(trainable):
    problem, params = partly(TINY, trainable), TINY.start(0)
    mask, roots = moving_entries(problem, params), np.repeat(np.sqrt(problem.measure.weights), 2)
    with jax.enable_x64(True):
        jacobian = np.asarray(
            dense(problem.model)[0](ravel_pytree(params)[0], problem.measure.x, roots)
        )
        gradient = ravel_pytree(jax.jit(jax.grad(problem.objective))(params))[0]
    restricted = jacobian * mask
    np.testing.assert_allclose(
        tangent_kernel(problem, params), restricted @ restricted.T, rtol=1e-11, atol=1e-14
    )
    residual = roots * (problem.predict(params) - problem.targets).reshape(-1)
    np.testing.assert_allclose(gradient, restricted.T @ residual, rtol=1e-11, atol=1e-13)


@pytest.mark.sample(1)
@pytest.mark.parametrize("trainable", MASKS)
def test_an_attack_within_what_moves_does_not_exceed_the_modulus(trainable):
    problem, params = partly(TINY, trainable), TINY.start(0)
    mask, roots = moving_entries(problem, params), np.repeat(np.sqrt(problem.measure.weights), 2)
    attack = dense(problem.model)[2]
    for radius in RADII:
        omega, lipschitz = bounds_of(trainable).on_ball(radius)
        for seed in range(2):
            start = np.random.default_rng(seed).standard_normal(len(mask))
            with jax.enable_x64(True):
                theta = ravel_pytree(params)[0]
                found = float(attack(theta, mask, start, problem.measure.x, roots, radius))
            assert found <= omega <= lipschitz * radius * (1 + 1e-9)
            assert (found > 0) == (trainable != "last layer")


@pytest.mark.sample(2)
@pytest.mark.parametrize("trainable", MASKS)
def test_what_moves_changes_no_more_than_the_whole(trainable):
    whole, part = bounds_of("all").on_balls(RADII), bounds_of(trainable).on_balls(RADII)
    assert (part <= whole * (1 + 1e-3)).all()
    assert (part[:, 0] < whole[:, 0]).all()


@pytest.mark.parametrize("rigor", ["computed", "proved"])
def test_frozen_first_layers_leave_the_network_on_their_values(rigor):
    problem, params = partly(TINY, "layers.1:"), TINY.start(0)
    top, rest = on_features(problem, params, 1)
    pair = [(problem, params), (top, rest)]
    np.testing.assert_allclose(*(tangent_kernel(*both) for both in pair), rtol=1e-12, atol=1e-15)
    if rigor == "proved":
        both = [MLPBounds(prove_layer_norms(*each).norms, "proved") for each in pair]
    else:
        both = [jacobian_bounds(*each) for each in pair]
    found, expected = (bounds.on_balls(RADII) for bounds in both)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_jacobian_of_a_last_layer_is_constant_whatever_the_activation(activation):
    tiny = Tiny((8, 6), activation, outputs=2)
    bounds = jacobian_bounds(partly(tiny, "last layer"), tiny.start(0))
    assert not bounds.on_balls([0.0, 1e-9, 1.0, 1e9]).any()


def test_the_change_between_two_points_is_that_of_what_moves():
    problem, params = partly(TINY, "weights"), TINY.start(0)
    mask, roots = moving_entries(problem, params), np.repeat(np.sqrt(problem.measure.weights), 2)
    moved = problem.moving(TINY.start(1))
    end = jax.tree.map(np.add, params, moved)
    with jax.enable_x64(True):
        jacobian = dense(problem.model)[0]
        before, after = (
            np.asarray(jacobian(ravel_pytree(p)[0], problem.measure.x, roots)) * mask
            for p in (params, end)
        )
    change = jacobian_change_gram(problem.model, params, end, problem.measure.x)
    expected = (after - before) @ (after - before).T
    np.testing.assert_allclose(change * np.outer(roots, roots), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.sample(1)
@pytest.mark.parametrize("hidden", [(8,), (8, 6)], ids=str)
@pytest.mark.parametrize("trainable", ["last layer", "layers.1:", "weights", "biases", "weights.0"])
def test_the_curvature_of_the_residual_is_that_of_what_moves(hidden, trainable):
    tiny = Tiny(hidden, "tanh", outputs=2)
    problem, whole, params = partly(tiny, trainable), tiny.problem(0), tiny.start(0)
    x, weights = problem.measure.x, problem.measure.weights
    ghat = problem.predict(params) - problem.targets
    size = np.sqrt(weights @ (ghat**2).sum(axis=1))
    mask = moving_entries(problem, params)
    with jax.enable_x64(True):
        theta = ravel_pytree(params)[0]
        hessian = np.asarray(dense(problem.model)[1](theta, x, weights[:, None] * ghat))
        there = theta + 0.1 * mask / np.linalg.norm(mask)
        moved = np.asarray(dense(problem.model)[1](there, x, weights[:, None] * ghat))
    actual = np.linalg.norm(hessian * np.outer(mask, mask), 2)

    base = measure_layer_norms(problem, params)

    def bound(problem) -> float:
        if len(hidden) == 1:
            grams = input_grams(problem.model, x)
            weighted = weights[:, None] * ghat
            return float(in_float64(neuron_curvature, problem.model, params, grams, x, weighted))
        return relative_curvature(problem, params, base) * size

    found = bound(problem)
    assert actual <= found * (1 + 1e-9) <= bound(whole) * (1 + 1e-6)
    if trainable == "last layer":
        assert found <= 1e-12
    slack = third_derivative(base, problem.model.act.third_bound, 0.1) * size * 0.1
    assert np.linalg.norm((moved - hessian) * np.outer(mask, mask), 2) <= slack + 1e-15


@pytest.mark.slow
def test_a_part_of_an_array_changes_no_more_than_the_whole_array():
    params, rng = TINY.start(0), np.random.default_rng(0)
    entries = rng.random((6, 8)) < 0.5
    mask = ((False, entries, False), (False, False, True))
    problem = partly(TINY, mask)
    flat = np.concatenate([np.zeros(24), entries.ravel(), np.zeros(12 + 8 + 6), np.ones(2)])
    roots = np.repeat(np.sqrt(problem.measure.weights), 2)
    jacobian, _, attack = dense(TINY.model)
    with jax.enable_x64(True):
        theta, start = ravel_pytree(params)[0], rng.standard_normal(len(flat))
        rows = np.asarray(jacobian(theta, problem.measure.x, roots)) * flat
        found = float(attack(theta, flat, start, problem.measure.x, roots, 0.5))
    kernel = tangent_kernel(problem, params)
    np.testing.assert_allclose(kernel, rows @ rows.T, rtol=1e-11, atol=1e-14)
    whole = partly(TINY, ((False, True, False), (False, False, True)))
    bounds = jacobian_bounds(problem, params)
    assert bounds.on_ball(0.5) == jacobian_bounds(whole, params).on_ball(0.5)
    assert 0 < found <= bounds.modulus(0.5)
    about = describe(problem, params)
    assert about.trainable == (f"weights.1 ({entries.sum()} of 48 entries)", "biases.2")
    assert about.parameters == entries.sum() + 2


@pytest.mark.slow
def test_a_search_moves_only_what_moves():
    def scaled(params, x):  # linear in v, and as curved as one likes in what is frozen
        return x @ params["v"] * (1 + params["u"] ** 2)

    params = {"u": np.ones((1, 1)), "v": np.ones((2, 1))}
    measure = Measure(np.eye(2), np.ones((2, 1)))
    fixed = estimate_bounds(Problem(scaled, measure, trainable="v"), params, radius=1.0)
    assert not fixed.on_balls([0.5, 1e6]).any()
    both = estimate_bounds(Problem(scaled, measure), params, radius=1.0)
    assert both.modulus(0.5) > 0.1
