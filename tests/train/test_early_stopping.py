"""The price on the way: leave-one-out errors against fits without the row, and its use."""

import jax
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.kernel.empirical.tangent import coordinate_weights, tangent_kernel
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.early_stopping import fit_at_price, linear_fit

MODEL = MLP(2, (16,), 2, "tanh")


@pytest.fixture(scope="module", params=[None, np.arange(1.0, 7.0)], ids=["uniform", "weighted"])
def problem(request):
    y = draw_inputs(6, MODEL, 2)
    return Problem(MODEL, Measure(draw_inputs(6, MODEL, 1), y, request.param))


def test_leave_one_out_errors_are_those_of_fits_without_the_row(problem):
    params = draw_params(MODEL)
    fit = linear_fit(problem, params, tangent_kernel(problem, params))
    roots = coordinate_weights(problem)
    jacobian = roots[:, None] * dense_jacobian(MODEL, params, problem.measure.x)
    residual = roots * problem.residual(params).ravel()
    for index in (0, 7, 14):
        price, total = fit.prices[index], 0.0
        for row in range(6):
            out = np.isin(np.arange(12) // 2, row)
            # Ridge regression as least squares with rows for the price.
            rows = np.vstack([jacobian[~out], np.sqrt(price) * np.eye(jacobian.shape[1])])
            wanted = np.append(residual[~out], np.zeros(jacobian.shape[1]))
            way = np.linalg.lstsq(rows, wanted)[0]
            total += np.sum((residual[out] - jacobian[out] @ way) ** 2)
        assert fit.left_out[index] == pytest.approx(total, rel=1e-6)


def test_descent_steps_are_those_of_the_recursion(problem):
    params = draw_params(MODEL)
    kernel = tangent_kernel(problem, params)
    fit = linear_fit(problem, params, kernel)
    step = 1 / fit.eigenvalues[-1]
    residual = coordinate_weights(problem) * problem.residual(params).ravel()
    steps, moved = 0, residual
    while np.linalg.norm(moved) > 0.1 * np.linalg.norm(residual):
        moved, steps = moved - step * (kernel @ moved), steps + 1
    assert abs(fit.descent_steps(step, 0.1) - steps) <= 1


def test_the_network_is_a_critical_point_of_the_penalised_residual(problem):
    params = draw_params(MODEL)
    price = 0.05
    found = fit_at_price(problem, params, price, tolerance=1e-14, max_steps=60)
    roots = coordinate_weights(problem)
    jacobian = roots[:, None] * dense_jacobian(MODEL, found, problem.measure.x)
    way = np.concatenate(
        [np.ravel(b - a) for a, b in zip(*map(jax.tree.leaves, (params, found)), strict=True)]
    )
    gap = roots * problem.residual(found).ravel()
    slope = price * way - jacobian.T @ gap
    assert np.linalg.norm(slope) < 1e-5 * np.linalg.norm(price * way)
    start = np.linalg.norm(roots * problem.residual(params).ravel())
    assert gap @ gap + price * way @ way < start**2


def test_rows_that_disagree_are_not_fitted():
    """Noise on a line: the network stopped early is closer to the line than to its noise."""
    rng = np.random.default_rng(0)
    model = MLP(2, (64,), 1, "tanh")
    x = np.stack([np.linspace(-1, 1, 40), np.ones(40)], axis=1)
    clean = x[:, :1]
    problem = Problem(model, Measure(x, clean + 0.5 * rng.normal(size=(40, 1))))
    params = draw_params(model)
    fit = linear_fit(problem, params, tangent_kernel(problem, params))
    assert fit.price is not None
    values = np.asarray(problem.predict(fit_at_price(problem, params, fit.price)))
    assert np.sqrt(np.mean((values - clean) ** 2)) < 0.25
