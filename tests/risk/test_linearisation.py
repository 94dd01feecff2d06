"""Theorem G5 under attack: no perturbation is further from the linearisation than the bound."""

from functools import partial

import jax
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam import MLP, Measure, Problem
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.precision import in_float64
from overparam.risk.kernel_blocks import kernel_trace
from overparam.risk.linearisation import linearisation_remainder

MODELS = (
    MLP(3, (), 2),
    MLP(3, (32,), 1, activation="gelu"),
    MLP(3, (12, 20), 1, activation="tanh", weight_scale=1.4, output_scale=3.0),
    MLP(3, (10, 14, 8), 3, activation="softplus", bias_scale=0.7),
    MLP(3, (16,), 2, activation="relu"),
)


def setting(model: MLP):
    x = draw_inputs(5, model, seed=1)
    params = draw_params(model)
    problem = Problem(model, Measure(x, np.zeros((5, model.out_dim))))
    return x, params, problem


def gap(model: MLP, params, step, x):
    """N(theta + v) - N(theta) - DN(theta) v, by forward differentiation."""
    values, slope = jax.jvp(lambda p: model.apply(p, x), (params,), (step,))
    return model.apply(jax.tree.map(lambda a, b: a + b, params, step), x) - values - slope


@partial(jax.jit, static_argnums=0)
def remainders(model: MLP, params, step, x):
    return (gap(model, params, step, x) ** 2).sum(axis=1) ** 0.5


@partial(jax.jit, static_argnums=0)
def uphill(model: MLP, params, step, x, point):
    """Gradient of the squared remainder at one point."""
    return jax.grad(lambda v: (gap(model, params, v, x)[point] ** 2).sum())(step)


def climbed(model: MLP, params, x, radius: float, point: int, seed: int):
    """Normalised gradient ascent on the remainder at one point, on the sphere."""
    rng = np.random.default_rng(seed)
    step = scaled(jax.tree.map(lambda a: rng.standard_normal(a.shape), params), radius)
    for pace in np.geomspace(1.0, 0.02, 25):
        gradient = scaled(in_float64(uphill, model, params, step, x, point), radius)
        step = scaled(jax.tree.map(lambda a, b, t=pace: a + t * b, step, gradient), radius)
    return step


def scaled(tree, radius: float):
    norm = np.sqrt(sum(float(np.sum(np.asarray(a) ** 2)) for a in jax.tree.leaves(tree)))
    return jax.tree.map(lambda a: np.asarray(a) * (radius / max(norm, 1e-300)), tree)


@pytest.mark.parametrize("model", MODELS[1:], ids=lambda m: f"{m.activation}{m.hidden_widths}")
@pytest.mark.sample(1)
def test_gradient_ascent_does_not_exceed_the_bound(model):
    x, params, problem = setting(model)
    base = measure_layer_norms(problem, params)
    for radius in (0.1, 1.0, 4.0):
        bound = linearisation_remainder(base, radius)
        for seed, point in enumerate((0, 3)):
            step = climbed(model, params, x, radius, point, seed)
            found = in_float64(remainders, model, params, step, x)
            assert np.all(found <= bound + 1e-12)
            assert found[point] > 0


def test_the_constant_is_sharp_for_one_linear_unit():
    """N = c_2 v c_1 w x without biases: the remainder is c_1 c_2 dv dw x, at most |x| R^2 / 2."""
    model = MLP(1, (1,), 1, activation="identity", bias_scale=0.0)
    problem = Problem(model, Measure([[2.0]], [0.0]))
    base = measure_layer_norms(problem, draw_params(model))
    bound = linearisation_remainder(base, 3.0)
    assert 2.0 * 3.0**2 / 2 <= bound[0] <= 1.05 * 2.0 * 3.0**2 / 2


def test_the_remainder_is_quadratic_at_first_and_grows_with_the_radius():
    _, params, problem = setting(MODELS[2])
    base = measure_layer_norms(problem, params)
    small, smaller = linearisation_remainder(base, 1e-3), linearisation_remainder(base, 1e-4)
    np.testing.assert_allclose(small / smaller, 100.0, rtol=1e-2)
    grid = np.array([linearisation_remainder(base, r) for r in np.linspace(0, 5, 20)])
    assert np.all(np.diff(grid, axis=0) > 0)
    assert np.all(grid[0] == 0)


def test_norms_of_composed_layers_are_neither_used_nor_measured(monkeypatch):
    """They would take most of the time of the bounds on the risk."""
    _, params, problem = setting(MODELS[3])
    expected = linearisation_remainder(measure_layer_norms(problem, params), 0.5)
    monkeypatch.setattr("overparam.jacobian.layer_norms.measure_partials", None)
    base = measure_layer_norms(problem, params, composed=False)
    assert np.array_equal(linearisation_remainder(base, 0.5), expected)


def test_a_linear_network_has_no_remainder():
    _, params, problem = setting(MODELS[0])
    assert np.all(linearisation_remainder(measure_layer_norms(problem, params), 7.0) == 0)


@pytest.mark.parametrize("model", MODELS[:4], ids=lambda m: f"{m.activation}{m.hidden_widths}")
@pytest.mark.sample(2)
def test_the_trace_is_the_dense_jacobians(model):
    x, params, _ = setting(model)
    dense = np.sum(dense_jacobian(model, params, x) ** 2)
    assert kernel_trace(model, params, x) == pytest.approx(dense, rel=1e-12)
