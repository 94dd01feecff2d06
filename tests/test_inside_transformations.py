"""Functions called inside jit, grad and vmap: they work, or say in a line that they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import overparam as op
from networks import draw_inputs, draw_params
from overparam import kernels

MODEL = op.MLP(3, (5,), 2, "tanh", bias_scale=0.3)
PARAMS = draw_params(MODEL, np.float32)
X = draw_inputs(4, MODEL, 1).astype(np.float32)
PROBLEM = op.Problem(MODEL, op.Measure(X, np.sign(X[:, :2])))
K = np.eye(4)
CURVE = op.linearised.kernel_curve(PROBLEM, K)


def scaled(factor):
    return jax.tree.map(lambda a: factor * a, PARAMS)


HOST = {
    "Measure": lambda t: op.Measure(t * X),
    "Problem": lambda t: op.Problem(MODEL, PROBLEM.measure, centered_at=scaled(t)),
    "Problem.residual": lambda t: PROBLEM.residual(scaled(t)),
    "empirical_ntk": lambda t: op.empirical_ntk(MODEL, scaled(t), X),
    "ntk_operator": lambda t: kernels.ntk_operator(MODEL, PARAMS, t * X),
    "ntk_vector_product": lambda t: kernels.ntk_vector_product(MODEL, PARAMS, X, t * np.ones(8)),
    "ntk_diagonal": lambda t: kernels.ntk_diagonal(MODEL, scaled(t), X),
    "nystrom": lambda t: kernels.nystrom(lambda s: K[:, s], t * np.ones(4), 2),
    "nystrom_ntk": lambda t: kernels.nystrom_ntk(MODEL, scaled(t), X, 2),
    "tangent_sketch": lambda t: kernels.tangent_sketch(MODEL, scaled(t), X, 8, jax.random.key(0)),
    "sampled_kernels": lambda t: kernels.sampled_kernels(MODEL, t * X, 2, jax.random.key(0)),
    "tangent_kernel": lambda t: kernels.tangent_kernel(PROBLEM, scaled(t)),
    "min_eigenvalue_by_width": lambda t: kernels.min_eigenvalue_by_width(MODEL, t * X, (4, 8)),
    "spectrum": lambda t: kernels.spectrum(t * K),
    "top_eigenvalues": lambda t: kernels.top_eigenvalues(t * K),
    "min_eigenvalue": lambda t: op.min_eigenvalue(t * K),
    "max_eigenvalue": lambda t: op.max_eigenvalue(t * K),
    "spectral_norm": lambda t: op.spectral_norm(t * K),
    "jacobian_modulus": lambda t: op.jacobian_modulus(PROBLEM, scaled(t), 1.0),
    "jacobian_bounds": lambda t: op.jacobian.jacobian_bounds(PROBLEM, scaled(t)),
    "stable_step": lambda t: op.stable_step(PROBLEM, scaled(t)),
    "training_curve": lambda t: op.linearised.training_curve(PROBLEM, scaled(t)),
    "kernel_curve": lambda t: op.linearised.kernel_curve(PROBLEM, t * K),
    "TrainingCurve.train": lambda t: CURVE.train(t),
    "TrainingCurve.excess": lambda t: CURVE.excess(t),
    "linearised_descent": lambda t: op.linearised.linearised_descent(PROBLEM, scaled(t), 0.1, 3),
    "linearised_params": lambda t: op.linearised.linearised_params(PROBLEM, PARAMS, t * np.ones(8)),
    "gradient_descent": lambda t: op.gradient_descent(PROBLEM, scaled(t), 0.1, 3),
    "train": lambda t: op.train(PROBLEM, scaled(t), optax.sgd(0.1), 3, label="sgd"),
    "gauss_newton": lambda t: op.gauss_newton(PROBLEM, scaled(t)),
    "closest_interpolant": lambda t: op.training.closest_interpolant(PROBLEM, scaled(t)),
    "minimum_norm_solution": lambda t: op.training.minimum_norm_solution(PROBLEM, scaled(t)),
    "measure_laziness": lambda t: op.training.measure_laziness(PROBLEM, PARAMS, scaled(t)),
    "Parametrised.tangent_kernel": lambda t: op.training.parametrise(MODEL, "ntk").tangent_kernel(
        PROBLEM.measure, scaled(t)
    ),
}

TRANSFORMED = {
    "jit": lambda f: jax.jit(f)(1.0),
    "grad": lambda f: jax.grad(f)(1.0),
    "vmap": lambda f: jax.vmap(f)(np.ones(2, np.float32)),
}


@pytest.mark.parametrize("call", TRANSFORMED.values(), ids=TRANSFORMED)
@pytest.mark.parametrize("name", HOST)
def test_what_runs_on_the_host_says_so(name, call):
    with pytest.raises(op.InputError, match=f"^{name} runs on the host") as caught:
        call(HOST[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", ["weight_scale", "bias_scale", "output_scale"])
def test_a_model_with_a_traced_scale_is_for_apply_and_the_limit_only(scale):
    def model(s):
        return op.MLP(3, (5,), 2, "tanh", **{scale: s})

    calls = {
        "empirical_ntk": lambda s: op.empirical_ntk(model(s), PARAMS, X),
        "ntk_operator": lambda s: kernels.ntk_operator(model(s), PARAMS, X),
        "Problem": lambda s: op.Problem(model(s), PROBLEM.measure),
    }
    for name, call in calls.items():
        with pytest.raises(op.InputError, match=f"^{name} runs on the host"):
            jax.grad(call)(0.7)


SCALES = np.array([1.1, 0.3, 0.7])


def network(scales, activation, hidden):
    weight, bias, output = scales
    return op.MLP(3, hidden, 2, activation, weight, bias, output)


def differences(function):
    """Central differences of a function of the scales, with its values in float64."""
    h = 1e-6
    steps = h * np.eye(3)
    return [(function(SCALES + e) - function(SCALES - e)) / (2 * h) for e in steps]


@pytest.mark.parametrize("activation", [pytest.param("relu", marks=pytest.mark.slow), "tanh"])
@pytest.mark.parametrize("hidden", [(5,), pytest.param((5, 4), marks=pytest.mark.slow)])
@pytest.mark.parametrize("jit", [jax.jit, pytest.param(lambda f: f, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_outputs_and_limiting_kernels_are_differentiable_in_the_scales(activation, hidden, jit):
    """Against central differences of the same functions called with numbers."""
    x = X.astype(np.float64)
    params = draw_params(network(SCALES, activation, hidden))

    def outputs(scales):
        return jnp.sum(network(scales, activation, hidden).apply(params, x) ** 2)

    def kernel(scales):
        return op.infinite_ntk(network(scales, activation, hidden), x).ntk[:2, 1:].sum()

    def diagonal(scales):
        return kernels.infinite_ntk_diagonal(network(scales, activation, hidden), x).ntk.sum()

    with jax.enable_x64(True):
        for function in (outputs, kernel, diagonal):
            expected = differences(lambda s, f=function: float(f(tuple(map(float, s)))))
            gradient = jit(jax.grad(function))(jnp.asarray(SCALES))
            np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_a_bias_scale_of_zero_has_a_derivative():
    """It switches the biases off where it is a number, and not where it is a variable."""

    def output(scale):
        params = ((np.ones((1, 3), np.float32),), (np.full(1, 5.0, np.float32),))
        return op.MLP(3, (), 1, "identity", bias_scale=scale).apply(params, X[:1])[0, 0]

    assert jax.grad(output)(0.0) == 5.0


def test_a_model_can_be_linearised_inside_a_transformation():
    def change(t):
        linear = op.linearised.linearize(MODEL, scaled(t))
        return linear.apply(scaled(t), X).sum()

    expected = jax.jit(lambda t: MODEL.apply(scaled(t), X).sum())(1.0)
    np.testing.assert_allclose(jax.jit(change)(1.0), expected, rtol=1e-6)
