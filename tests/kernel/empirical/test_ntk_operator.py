"""Products, diagonal and generic kernels against Jacobians formed entry by entry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import cg, eigsh

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.function_kernel import fill_by_jacobians
from overparam.kernel.empirical.ntk_operator import ntk_diagonal, ntk_operator, ntk_vector_product
from overparam.model.mlp import MLP

SHAPES = [
    MLP(4, (7,), 3, "gelu", output_scale=2.5),
    MLP(3, (), 2),
    MLP(3, (6, 4), 1, "softplus", bias_scale=0.0),
    MLP(2, (5, 9), 4, "sin", weight_scale=1.7),
]


def convolution(params, x):
    """A small convolutional network in plain JAX: images (n, 5, 5) to (n, 2)."""
    kernel = params["kernel"]
    windows = jnp.stack([x[:, i : i + 3, j : j + 3] for i in range(3) for j in range(3)], axis=1)
    h = jnp.tanh(jnp.einsum("nwij,cij->nwc", windows, kernel))
    return h.reshape(h.shape[0], -1) @ params["head"]


def draw_convolution(dtype=np.float64):
    rng = np.random.default_rng(0)
    params = {
        "kernel": rng.standard_normal((4, 3, 3)).astype(dtype),
        "head": rng.standard_normal((36, 2)).astype(dtype),
    }
    return params, rng.standard_normal((6, 5, 5)).astype(dtype)


def dense(function, params, x):
    with jax.enable_x64(True):
        jacobian = jax.jit(jax.jacobian(lambda p: function(p, x).reshape(-1)))(params)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(jacobian)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


@pytest.mark.parametrize("model", SHAPES, ids=lambda m: f"{m.widths}-{m.activation}")
@pytest.mark.sample(1)
def test_operator_multiplies_by_the_kernel(model):
    params, x1, x2 = draw_params(model), draw_inputs(5, model, 1), draw_inputs(3, model, 2)
    j1, j2 = dense_jacobian(model, params, x1), dense_jacobian(model, params, x2)
    operator = ntk_operator(model, params, x1, x2, batch=2)
    v = np.random.default_rng(0).standard_normal((len(j2), 19))  # more columns than go at once
    np.testing.assert_allclose(operator @ v, j1 @ (j2.T @ v), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(operator @ v[:, 0], j1 @ (j2.T @ v[:, 0]), rtol=1e-11, atol=1e-12)
    u = np.random.default_rng(1).standard_normal(len(j1))
    np.testing.assert_allclose(operator.T @ u, j2 @ (j1.T @ u), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(u @ operator, j2 @ (j1.T @ u), rtol=1e-11, atol=1e-12)
    assert operator.dtype == np.float64
    product = ntk_vector_product(model, params, x1, v, x2)
    np.testing.assert_allclose(product, j1 @ (j2.T @ v), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("model", SHAPES, ids=lambda m: f"{m.widths}-{m.activation}")
@pytest.mark.sample(3)
def test_diagonal(model):
    params, x = draw_params(model), draw_inputs(7, model, 1)
    squares = np.sum(dense_jacobian(model, params, x) ** 2, axis=1)
    np.testing.assert_allclose(ntk_diagonal(model, params, x, batch=3), squares, rtol=1e-12)


def test_scipy_solves_with_the_operator():
    model = MLP(4, (64,), 1, "tanh")
    params, x = draw_params(model), draw_inputs(8, model, 1)
    operator = ntk_operator(model, params, x)
    jacobian = dense_jacobian(model, params, x)
    kernel = jacobian @ jacobian.T
    top = eigsh(operator, k=1, return_eigenvectors=False, v0=np.ones(8))
    np.testing.assert_allclose(top, np.linalg.eigvalsh(kernel)[-1:], rtol=1e-10)
    y = np.arange(8.0)
    solution, status = cg(operator, y, rtol=1e-12, maxiter=500)
    assert status == 0
    np.testing.assert_allclose(kernel @ solution, y, atol=1e-9)


def test_a_function_that_is_no_mlp():
    params, x = draw_convolution()
    jacobian = dense(convolution, params, x)
    operator = ntk_operator(convolution, params, x, x[:4])
    np.testing.assert_allclose(
        operator @ np.eye(8), jacobian @ jacobian[:8].T, rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(
        ntk_diagonal(convolution, params, x), np.sum(jacobian**2, axis=1), rtol=1e-12
    )


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 4, 100])
@pytest.mark.sample(2)
def test_kernel_by_jacobians_in_blocks(rows, given):
    params, x = draw_convolution()
    count = sum(leaf.size for leaf in params.values())
    jacobian = dense(convolution, params, x)
    right = jacobian[:6] if given else jacobian
    kernel = np.full((12, len(right)), np.nan)
    calls = []
    with jax.enable_x64(True):
        fill_by_jacobians(
            *(kernel, convolution, params, x, x[:3] if given else None),
            working_memory=4 * 8 * count * 2 * rows,
            progress=lambda _, done, total: calls.append((done, total)),
        )
    np.testing.assert_allclose(kernel, jacobian @ right.T, rtol=1e-11, atol=1e-12)
    assert calls[-1][0] == calls[-1][1] == len(calls)
    if not given:
        np.testing.assert_array_equal(kernel, kernel.T)


def test_empirical_ntk_of_a_function():
    params, x = draw_convolution()
    jacobian = dense(convolution, params, x)
    kernel = empirical_ntk(convolution, params, x)
    np.testing.assert_allclose(kernel, jacobian @ jacobian.T, rtol=1e-11, atol=1e-12)
    cross = empirical_ntk(convolution, params, x, x[:2])
    np.testing.assert_allclose(cross, jacobian @ jacobian[:4].T, rtol=1e-11, atol=1e-12)
    with pytest.raises(InputError, match="depends on the other points of the batch"):
        empirical_ntk(normalised, WEIGHTS, X)


def test_a_function_gives_the_kernel_of_the_mlp_it_evaluates():
    model = MLP(4, (7, 5), 3, "gelu", output_scale=2.5)
    params, x = draw_params(model), draw_inputs(5, model, 1)
    np.testing.assert_allclose(
        empirical_ntk(lambda p, x: model.apply(p, x), params, x),
        empirical_ntk(model, params, x),
        rtol=1e-11,
        atol=1e-12,
    )


def test_float32_stays_float32():
    params, x = draw_convolution(np.float32)
    operator = ntk_operator(convolution, params, x)
    assert operator.dtype == np.float32
    assert (operator @ np.ones(12, np.float32)).dtype == np.float32


def normalised(params, x):
    return (x - x.mean(axis=0, keepdims=True)) @ params


MODEL = MLP(3, (4,), 1)
PARAMS = draw_params(MODEL)
X = draw_inputs(4, MODEL, 1)
WEIGHTS = np.ones((3, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MODEL, PARAMS, X[:, :2]), r"x1 has shape \(4, 2\), the model needs \(n, 3\)"),
        ((MODEL, PARAMS, X[:0]), r"x1 has shape \(0, 3\): it must be \(n, ...\) with n >= 1"),
        ((MODEL, PARAMS, X, np.full((2, 3), np.nan)), "x2 has a NaN or infinite entry"),
        ((lambda p, x: x @ p, WEIGHTS[:2], X), "the model does not take x1 of shape"),
        ((lambda p, x: x @ p[:, 0], WEIGHTS, X), r"gives shape \(2,\) for 2 points"),
        ((normalised, WEIGHTS, X), "depends on the other points of the batch"),
        ((lambda p, x: x @ p["w"], {"w": WEIGHTS.astype(int)}, X), r"params\['w'\] must be an"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        ntk_operator(*arguments)


def test_bad_vector_and_batch():
    with pytest.raises(InputError, match=r"v has shape \(3,\), the kernel needs \(4,\) or"):
        ntk_vector_product(MODEL, PARAMS, X, np.ones(3))
    with pytest.raises(InputError, match="batch must be a whole number, 1 or more"):
        ntk_operator(MODEL, PARAMS, X, batch=0)
