"""Gauss-Newton steps against the least-squares solution on the dense Jacobian."""

import jax
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gauss_newton import gauss_newton

MODEL = MLP(3, (20,), 2, "tanh")


def make_problem(weights=None, loss="squared", model=MODEL):
    y = np.where(draw_inputs(5, MLP(model.out_dim), 2) > 0, 1.0, -1.0)
    problem = Problem(model, Measure(draw_inputs(5, model, 1), y, weights), loss)
    return problem, draw_params(model)


def flat(params):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(params)])


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 6.0)], ids=["uniform", "weighted"])
def test_the_step_is_the_least_norm_solution_of_the_linearised_problem(weights):
    problem, params = make_problem(weights)
    dampings = []
    result = gauss_newton(problem, params, max_steps=1, progress=lambda *s: dampings.append(s[2]))
    jacobian = dense_jacobian(MODEL, params, problem.measure.x)
    residual = problem.residual(params).ravel()
    # With full row rank the weights do not matter: the linearised problem is interpolated.
    expected = dampings[0] * np.linalg.lstsq(jacobian, residual)[0]
    np.testing.assert_allclose(flat(result.params) - flat(params), expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 6.0)], ids=["uniform", "weighted"])
@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
@pytest.mark.sample(2)
def test_it_interpolates(weights, loss):
    problem, params = make_problem(weights, loss)
    result = gauss_newton(problem, params, tolerance=1e-11)
    assert result.converged
    assert np.abs(problem.residual(result.params)).max() < 1e-10
    norms = [np.sqrt(2 * problem.excess(params)), np.sqrt(2 * problem.excess(result.params))]
    assert result.residuals[0] == pytest.approx(norms[0], rel=1e-12)
    assert result.residuals[-1] == pytest.approx(norms[1], abs=1e-14)
    assert list(result.residuals) == sorted(result.residuals, reverse=True)


def test_float32_parameters_are_refined_in_float64():
    problem, params = make_problem()
    result = gauss_newton(problem, jax.tree.map(np.float32, params), tolerance=1e-11)
    assert result.converged
    assert {a.dtype for a in jax.tree.leaves(result.params)} == {np.dtype(np.float64)}


def test_a_kernel_at_hand_is_used():
    from overparam.kernel.empirical.tangent import tangent_kernel

    problem, params = make_problem()
    given = gauss_newton(problem, params, kernel=tangent_kernel(problem, params), max_steps=1)
    own = gauss_newton(problem, params, max_steps=1)
    np.testing.assert_allclose(flat(given.params), flat(own.params), rtol=1e-12)


def test_interpolated_start_needs_no_step():
    problem, params = make_problem()
    there = gauss_newton(problem, params).params
    again = gauss_newton(problem, there)
    assert again.converged
    assert len(again.residuals) == 1


def test_conflicting_duplicates_end_without_convergence():
    x = np.vstack([draw_inputs(2, MODEL, 1)[:1]] * 2)
    y = np.array([[1.0, 1.0], [-1.0, 1.0]])
    result = gauss_newton(Problem(MODEL, Measure(x, y)), draw_params(MODEL))
    assert not result.converged
    assert np.all(np.isfinite(flat(result.params)))
    assert result.residuals[-1] <= result.residuals[0]


def test_too_few_parameters_end_without_convergence():
    model = MLP(3, (), 2)
    problem, params = make_problem(model=model)
    result = gauss_newton(problem, params)
    assert not result.converged
    assert result.residuals[-1] > 1e-3


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(
    "loss",
    ["huber:0.3", "log_cosh", "pseudo_huber", "expectile:0.9", "smoothed_cross_entropy:0.01"],
)
@pytest.mark.sample(4)
def test_it_reaches_a_minimiser_of_other_losses_from_a_random_start(loss, outputs):
    """Labels smoothed by 1/100 ask for logits 5 apart."""
    model = MLP(3, (30,), outputs, "tanh")
    y = np.where(np.arange(outputs) == np.arange(6)[:, None] % max(outputs, 2), 1.0, -1.0)
    problem = Problem(model, Measure(draw_inputs(6, model, 1), y), loss)
    params = draw_params(model)
    result = gauss_newton(problem, params)
    assert result.converged
    assert problem.excess(params) > 0.1
    assert problem.excess(result.params) < 1e-17
