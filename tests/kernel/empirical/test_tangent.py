"""K = J J* on L2(mu; R^k): weights enter through their roots."""

import jax
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.kernel.empirical import tangent
from overparam.kernel.empirical.tangent import coordinate_weights, tangent_kernel, to_coordinates
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

MODEL = MLP(3, (6, 5), 2, "tanh")


def make_problem(weights):
    x = draw_inputs(7, MODEL, 1)
    return Problem(MODEL, Measure(x, np.random.default_rng(2).standard_normal((7, 2)), weights))


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 8.0)], ids=["uniform", "weighted"])
def test_tangent_kernel_is_the_gram_matrix_in_orthonormal_coordinates(weights, monkeypatch):
    monkeypatch.setattr(tangent, "ROWS", 4)  # several blocks, the last one smaller
    problem, params = make_problem(weights), draw_params(MODEL)
    roots = np.repeat(np.sqrt(problem.measure.weights), 2)
    jacobian = roots[:, None] * dense_jacobian(MODEL, params, problem.measure.x)
    kernel = tangent_kernel(problem, params)
    np.testing.assert_allclose(kernel, jacobian @ jacobian.T, rtol=1e-11, atol=1e-13)
    assert np.array_equal(kernel, kernel.T)


def test_float32_parameters_are_taken_as_exact_numbers():
    problem, params = make_problem(None), draw_params(MODEL, np.float32)
    exact = tangent_kernel(problem, jax.tree.map(np.float64, params))
    assert np.array_equal(tangent_kernel(problem, params), exact)


def test_coordinates_preserve_the_norm_of_l2_mu():
    problem = make_problem(np.arange(1.0, 8.0))
    values = np.random.default_rng(3).standard_normal((7, 2))
    squared = problem.measure.weights @ np.sum(values**2, axis=1)
    assert np.sum(to_coordinates(problem, values) ** 2) == pytest.approx(squared, rel=1e-14)
    assert coordinate_weights(problem) == pytest.approx(
        np.sqrt(problem.measure.weights).repeat(2), rel=1e-15
    )
