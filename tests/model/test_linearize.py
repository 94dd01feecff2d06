"""The first-order expansion against dense Jacobians and hand-made functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.errors import InputError
from overparam.model.linearize import linearize
from overparam.model.mlp import MLP
from overparam.precision import in_float64

MODEL = MLP(3, (8, 6), 2, "tanh", bias_scale=0.3, output_scale=2.0)


def moved(params, size=1.0, seed=5):
    draw = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda a: a + size * draw(a.shape), params)


def flat(params):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(params)])


def test_it_is_the_value_plus_the_jacobian_times_the_way():
    base, x = draw_params(MODEL), draw_inputs(5, MODEL, 1)
    params = moved(base)
    way = flat(params) - flat(base)
    expected = in_float64(MODEL.apply, base, x) + (dense_jacobian(MODEL, base, x) @ way).reshape(
        5, 2
    )
    found = in_float64(linearize(MODEL, base).apply, params, x)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_at_the_base_point_it_is_the_model():
    base, x = draw_params(MODEL), draw_inputs(5, MODEL, 1)
    linear = linearize(MODEL, base)
    assert linear.base is base
    assert linear.model is MODEL
    found = in_float64(linear.apply, base, x)
    np.testing.assert_array_equal(found, in_float64(MODEL.apply, base, x))


def test_the_error_is_of_second_order():
    base, x = draw_params(MODEL), draw_inputs(5, MODEL, 1)
    linear = linearize(MODEL, base)
    errors = []
    for size in (1e-2, 1e-3):
        params = moved(base, size)
        gap = in_float64(MODEL.apply, params, x) - in_float64(linear.apply, params, x)
        errors.append(np.linalg.norm(gap))
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2)


def test_its_gradient_and_hessian_are_those_of_an_affine_function():
    base, x = draw_params(MODEL), draw_inputs(1, MODEL, 1)
    linear = linearize(MODEL, base)
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(lambda p: linear.apply(p, x)[0, 0]))
        here, there = flat(gradient(base)), flat(gradient(moved(base)))
    np.testing.assert_allclose(here, dense_jacobian(MODEL, base, x)[0], rtol=1e-12)
    np.testing.assert_array_equal(here, there)


def test_any_function_of_a_pytree_can_be_linearised():
    def function(params, x):
        return jnp.sin(params["a"]) * x + params["b"] ** 2

    base = {"a": np.array(0.3), "b": np.array(2.0)}
    x = np.array([[1.0], [2.0]])
    found = in_float64(linearize(function, base).apply, {"a": 0.5, "b": 1.0}, x)
    np.testing.assert_allclose(
        found, np.sin(0.3) * x + 4 + np.cos(0.3) * 0.2 * x + 4 * (1.0 - 2.0), rtol=1e-14
    )


def test_it_can_be_a_static_argument_and_keeps_single_precision():
    base = draw_params(MODEL, np.float32)
    evaluate = jax.jit(lambda linear, p, x: linear.apply(p, x), static_argnums=0)
    x = draw_inputs(2, MODEL, 1)
    assert evaluate(linearize(MODEL, base), base, x).dtype == np.float32
    assert linearize(MODEL, base) != linearize(MODEL, base)


def test_unfit_input_is_refused():
    base, x = draw_params(MODEL), draw_inputs(2, MODEL, 1)
    with pytest.raises(InputError, match="use params from this model's init"):
        linearize(MLP(3, (8,), 2), base)
    with pytest.raises(InputError, match="give an MLP or a function"):
        linearize.__wrapped__("tanh", base)
    other = MLP(3, (8, 7), 2)
    with pytest.raises(InputError, match=r"shape \(7, 8\) where the base point has \(6, 8\)"):
        linearize(MODEL, base).apply(draw_params(other), x)
    with pytest.raises(InputError, match="the base point has PyTreeDef"):
        linearize(MODEL, base).apply(base[0], x)
