"""Closest interpolating networks against dense least squares, an optimiser and exact sets."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.certificate.certify import certify
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel, to_coordinates
from overparam.linearised.descent import linearised_params
from overparam.linearised.training_curve import training_curve
from overparam.model.mlp import MLP
from overparam.precision import in_float64
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.theorems.closest_interpolant import closest_interpolant_distance
from overparam.train.closest import closest_interpolant, minimum_norm_solution
from overparam.train.gauss_newton import gauss_newton
from overparam.train.gradient_descent import gradient_descent

MODEL = MLP(8, (60,), 2, "tanh", bias_scale=0.2)
WEIGHTS = np.arange(1.0, 6.0)
SHARP = {"tolerance": 1e-11, "optimality": 1e-7, "max_steps": 200}


def make_problem(model=MODEL, n=5, weights=WEIGHTS, loss="squared", centred=False):
    params = draw_params(model)
    y = np.sign(draw_inputs(n, MLP(model.out_dim), 2))
    if loss == "squared":  # near enough for a quick search, far enough to be nonlinear
        y = in_float64(model.apply, params, draw_inputs(n, model, 1)) + y / 2
    measure = Measure(draw_inputs(n, model, 1), y, weights)
    return Problem(model, measure, loss, params if centred else None), params


def flat(params):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(params)])


def distance(a, b):
    return np.linalg.norm(flat(a) - flat(b))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["uniform", "weighted"])
@pytest.mark.sample(1)
def test_the_minimum_norm_solution_is_that_of_dense_least_squares(weights):
    problem, params = make_problem(weights=weights)
    found = minimum_norm_solution(problem, params)
    jacobian = dense_jacobian(MODEL, params, problem.measure.x)
    residual = problem.residual(params).reshape(-1)
    way = np.linalg.lstsq(jacobian, residual)[0]
    np.testing.assert_allclose(flat(found.params) - flat(params), way, rtol=1e-7, atol=1e-10)
    assert found.distance == pytest.approx(np.linalg.norm(way), rel=1e-10)
    assert found.linearised_residual < 1e-12
    r = to_coordinates(problem, problem.residual(params))
    rho = np.sqrt(r @ np.linalg.solve(tangent_kernel(problem, params), r))
    assert found.distance == pytest.approx(rho, rel=1e-10)
    gap = to_coordinates(problem, problem.residual(found.params))
    assert found.residual == pytest.approx(np.linalg.norm(gap), rel=1e-9)


def test_it_is_where_the_linearised_flow_ends():
    problem, params = make_problem()
    found = minimum_norm_solution(problem, params, kernel=tangent_kernel(problem, params))
    limit = linearised_params(problem, params, training_curve(problem, params).dual(np.inf))
    np.testing.assert_allclose(flat(found.params), flat(limit), rtol=1e-9, atol=1e-10)


def test_for_a_model_that_is_linear_one_step_is_enough():
    problem, params = make_problem(MLP(6, (), 2), n=4, weights=None)
    found = closest_interpolant(problem, params, **SHARP)
    least = minimum_norm_solution(problem, params)
    assert found.converged
    assert found.steps == 1
    np.testing.assert_allclose(flat(found.params), flat(least.params), rtol=1e-10)
    assert found.lower_bound == pytest.approx(found.distance, rel=1e-9)


@pytest.mark.slow
def test_a_general_optimiser_finds_no_closer_network():
    model = MLP(3, (6,), 1, "tanh")
    problem, params = make_problem(model, n=3, weights=None)
    leaves, tree = jax.tree.flatten(params)
    sizes = np.cumsum([a.size for a in leaves])[:-1]

    def unflatten(v):
        parts = np.split(v, sizes)
        shaped = [p.reshape(a.shape) for p, a in zip(parts, leaves, strict=True)]
        return jax.tree.unflatten(tree, shaped)

    start = flat(params)
    jacobian = jax.jit(jax.jacobian(model.apply))

    def dense(v):
        blocks = in_float64(jacobian, unflatten(v), problem.measure.x)
        return np.concatenate([b.reshape(3, -1) for b in jax.tree.leaves(blocks)], axis=1)

    by_slsqp = minimize(
        lambda v: np.sum((v - start) ** 2),
        start,
        jac=lambda v: 2 * (v - start),
        constraints={
            "type": "eq",
            "fun": lambda v: -problem.residual(unflatten(v)).reshape(-1),
            "jac": dense,
        },
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 200},
    )
    assert by_slsqp.success
    found = closest_interpolant(problem, params, **SHARP)
    assert found.converged
    assert found.distance == pytest.approx(np.sqrt(by_slsqp.fun), rel=1e-6)


@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
@pytest.mark.sample(1)
def test_the_first_order_condition_holds_on_the_dense_jacobian(loss):
    problem, params = make_problem(loss=loss)
    seen = []
    found = closest_interpolant(problem, params, **SHARP, progress=lambda *s: seen.append(s))
    assert found.converged
    assert [done for _, done, _ in seen] == list(range(found.steps + 1))
    assert found.residual <= 1e-11
    np.testing.assert_allclose(problem.residual(found.params), 0, atol=1e-10)
    jacobian = dense_jacobian(MODEL, found.params, problem.measure.x)
    way = flat(found.params) - flat(params)
    roots = np.sqrt(np.repeat(problem.measure.weights, 2))
    multiplier, *_ = np.linalg.lstsq((roots[:, None] * jacobian).T, way)
    outside = way - jacobian.T @ (roots * multiplier)
    assert np.linalg.norm(outside) <= 2e-7 * np.linalg.norm(way)
    assert found.multiplier == pytest.approx(np.linalg.norm(multiplier), rel=1e-4)
    assert found.distance == pytest.approx(np.linalg.norm(way), rel=1e-12)


def test_the_search_can_start_at_a_trained_network():
    problem, params = make_problem()
    trained = gauss_newton(problem, params).params
    found = closest_interpolant(problem, params, start=trained, **SHARP)
    direct = closest_interpolant(problem, params, **SHARP)
    assert found.converged
    assert found.distance <= distance(trained, params)
    assert distance(found.params, direct.params) < 1e-5 * found.distance


def test_an_interpolating_network_is_its_own_projection():
    problem, params = make_problem()
    trained = gauss_newton(problem, params, tolerance=1e-12).params
    found = closest_interpolant(problem, trained)
    assert found.converged
    assert found.steps == 0
    assert found.distance == 0


def lazy_problem(model=None):
    model = model or MLP(8, (256,), 1, "softplus", output_scale=100.0)
    params = draw_params(model)
    y = np.array([1.0, -1.0, -1.0, 1.0])
    return Problem(model, Measure(draw_inputs(4, model, 1), y), centered_at=params), params


@pytest.mark.slow
def test_in_the_lazy_regime_the_closest_is_proved_closest_and_descent_ends_next_to_it():
    problem, params = lazy_problem()
    found = closest_interpolant(problem, params, **SHARP)
    assert found.lower_bound == pytest.approx(found.distance, rel=1e-9)
    certificate = certify(problem, params)
    assert certificate.certified
    steps = 300
    run = gradient_descent(problem, params, certificate.step_size, steps, dtype="float64")
    limit = closest_interpolant(problem, run.params, **SHARP)
    ratio = distance(limit.params, params) / found.distance
    assert 1 - 1e-9 < ratio < 1 + 1e-4
    assert ratio <= certificate.constants["distance_ratio"].value
    assert distance(limit.params, params) <= certificate.constants["limit_distance"].value


def test_no_interpolating_network_beats_the_lower_bound():
    problem, params = lazy_problem()
    found = closest_interpolant(problem, params, **SHARP)
    draw = np.random.default_rng(0).standard_normal
    for size in (1e-4, 1e-3, 1e-2):
        shifted = jax.tree.map(lambda a, s=size: a + s * draw(a.shape), found.params)
        other = gauss_newton(problem, shifted, tolerance=1e-12)
        assert other.converged
        assert distance(other.params, params) >= found.lower_bound


@pytest.mark.parametrize("curvature", [0.0, 0.3, 0.9, 0.999])
def test_the_bound_is_sharp_on_a_parabola(curvature):
    # F = theta_1 + c theta_2^2 / 2 = 1 from 0: J = (1, c theta_2) has Lipschitz constant c, and
    # (1, 0) = J* a with a = 1. It is the closest point if and only if c <= 1.
    exact = {"distance": 1.0, "multiplier": 1.0, "residual": 0.0, "tangential": 0.0}
    assert closest_interpolant_distance(lipschitz=curvature, **exact) == 1.0
    # At (1 - c t^2 / 2, t), on the parabola but off the closest point.
    t = 1e-2
    theta, a = np.array([1 - curvature * t**2 / 2, t]), 1.0
    way_in_range = a * np.array([1, curvature * t])
    bound = closest_interpolant_distance(
        distance=float(np.linalg.norm(theta)),
        multiplier=a,
        lipschitz=curvature,
        residual=0.0,
        tangential=float(np.linalg.norm(theta - way_in_range)),
    )
    assert 0.9 < bound <= 1.0
    # At (1 - r, 0), short of the data.
    short = closest_interpolant_distance(
        distance=0.99, multiplier=0.99, lipschitz=curvature, residual=0.01, tangential=0.0
    )
    assert 0.97 < short <= 1.0


@pytest.mark.parametrize("lipschitz", [1.0, 1.5, np.inf])
def test_beyond_its_curvature_the_bound_says_nothing(lipschitz):
    # With c > 1 the points with theta_1 = 1 / c are closer, at squared distance 2 / c - 1 / c^2.
    assert 2 / 1.5 - 1 / 1.5**2 < 1
    exact = {"distance": 1.0, "multiplier": 1.0, "residual": 0.0, "tangential": 0.0}
    assert closest_interpolant_distance(lipschitz=lipschitz, **exact) == 0.0


def test_a_singular_kernel_is_said_to_be_one():
    x = np.vstack([draw_inputs(2, MODEL, 1)[:1]] * 2)
    problem = Problem(MODEL, Measure(x, np.array([[1.0, 1.0], [-1.0, 1.0]])))
    params = draw_params(MODEL)
    problem_of_few = make_problem(MLP(3, (), 2))
    with pytest.raises(InputError, match="merge duplicate points, or take a wider network"):
        minimum_norm_solution(*problem_of_few)
    found = closest_interpolant(*problem_of_few)
    assert not found.converged
    assert "singular after 0 steps" in found.reason
    assert found.lower_bound == 0
    assert not closest_interpolant(problem, params).converged


def test_too_few_steps_are_reported():
    problem, params = make_problem()
    found = closest_interpolant(problem, params, **(SHARP | {"max_steps": 2}))
    assert not found.converged
    assert found.steps == 2
    assert found.reason == "not converged in 2 steps"


def test_unfit_input_is_refused():
    problem, params = make_problem()
    other = draw_params(MLP(3, (4,), 2))
    for call in (
        lambda: minimum_norm_solution(problem, other),
        lambda: closest_interpolant(problem, other),
        lambda: closest_interpolant(problem, params, start=other),
    ):
        with pytest.raises(InputError, match="use params from this model's init"):
            call()
