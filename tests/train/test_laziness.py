"""Laziness against dense Jacobians, its symmetry, and the certificate of a very wide network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.certificate.certify import certify
from overparam.errors import InputError
from overparam.kernel.empirical.jacobian_change import jacobian_change_gram
from overparam.kernel.empirical.tangent import (
    pull_back,
    push_forward,
    tangent_kernel,
    to_coordinates,
)
from overparam.linearised.descent import linearised_descent
from overparam.linearised.training_curve import training_curve
from overparam.model.mlp import MLP
from overparam.precision import as_float64, in_float64
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.train.gradient_descent import gradient_descent
from overparam.train.laziness import measure_laziness

MODEL = MLP(3, (8, 6), 2, "tanh", bias_scale=0.3)
WEIGHTS = np.arange(1.0, 6.0)
TEST = draw_inputs(4, MODEL, 7)


def make_problem(model=MODEL, weights=WEIGHTS):
    y = np.sign(draw_inputs(5, MLP(model.out_dim), 2))
    return Problem(model, Measure(draw_inputs(5, model, 1), y, weights)), draw_params(model)


def moved(params, size, seed=5):
    draw = np.random.default_rng(seed).standard_normal
    return jax.tree.map(lambda a: a + size * draw(a.shape), params)


def flat(params):
    return np.concatenate([np.ravel(a) for a in jax.tree.leaves(params)])


def norm(matrix):
    return np.linalg.norm(matrix, 2)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["uniform", "weighted"])
@pytest.mark.sample(1)
def test_every_measure_is_that_of_the_dense_jacobians(weights):
    problem, start = make_problem(weights=weights)
    end = moved(start, 0.2)
    found = measure_laziness(problem, start, end, test_x=TEST)
    roots = np.sqrt(np.repeat(problem.measure.weights, 2))[:, None]
    before, after = (roots * dense_jacobian(MODEL, p, problem.measure.x) for p in (start, end))
    k0, k1 = before @ before.T, after @ after.T
    assert found.jacobian_drift == pytest.approx(norm(after - before) / norm(before), rel=1e-9)
    assert found.kernel_drift == pytest.approx(norm(k1 - k0) / norm(k0), rel=1e-9)
    cosine = np.sum(k0 * k1) / np.linalg.norm(k0) / np.linalg.norm(k1)
    assert found.kernel_alignment == pytest.approx(cosine, rel=1e-12)
    assert found.points == 5
    way = flat(end) - flat(start)
    assert found.movement == pytest.approx(norm(way[:, None]) / norm(flat(start)[:, None]))
    for layer in range(3):
        for kind, measure in enumerate((found.weight_movement, found.bias_movement)):
            a, b = end[kind][layer], start[kind][layer]
            assert measure[layer] == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b))
    for x, w, error in (
        (problem.measure.x, roots, found.linearisation_error),
        (TEST, np.ones((8, 1)), found.linearisation_error_test),
    ):
        change = in_float64(MODEL.apply, end, x) - in_float64(MODEL.apply, start, x)
        missed = change.ravel() - dense_jacobian(MODEL, start, x) @ way
        expected = norm(w * missed[:, None]) / norm(w * change.reshape(-1, 1))
        assert error == pytest.approx(expected, rel=1e-9)
    assert found.trajectory_error is None
    assert found.trajectory_error_test is None


@pytest.mark.parametrize("size", [1e-1, 1e-6])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 6, 5)])
@pytest.mark.sample(2)
def test_the_change_of_the_jacobian_however_small(monkeypatch, size, hidden):
    monkeypatch.setattr(
        "overparam.kernel.empirical.jacobian_change.WORKING_MEMORY", 20_000
    )  # several blocks
    model = MLP(3, hidden, 2, "softplus", bias_scale=0.3, output_scale=2.0)
    start, x = draw_params(model), draw_inputs(6, model, 1)
    end = moved(start, size)
    change = dense_jacobian(model, end, x) - dense_jacobian(model, start, x)
    found = jacobian_change_gram(model, start, end, x)
    # The difference of dense Jacobians carries rounding of about 1e-16 / size.
    np.testing.assert_allclose(
        found, change @ change.T, rtol=1e-8, atol=1e-8 * np.abs(found).max() + 1e-300
    )
    np.testing.assert_array_equal(found, found.T)


def test_a_linear_model_is_perfectly_lazy():
    problem, start = make_problem(MLP(6, (), 2))
    found = measure_laziness(problem, start, moved(start, 3.0), test_x=draw_inputs(2, MLP(6), 3))
    assert found.kernel_drift == 0
    assert found.jacobian_drift == 0
    assert found.kernel_alignment == pytest.approx(1.0)
    assert found.linearisation_error < 1e-14
    assert found.verdict == "lazy"


def test_a_run_that_did_not_move_is_lazy():
    problem, start = make_problem()
    found = measure_laziness(problem, start, start, linearised=start)
    numbers = (found.movement, found.kernel_drift, found.linearisation_error)
    assert numbers == (0, 0, 0)
    assert found.trajectory_error == 0
    assert found.verdict == "lazy"


@pytest.mark.parametrize(
    ("scale", "verdict", "reason"),
    [
        (30.0, "lazy", "and at most 0.1"),
        (0.7, "partly lazy", "between 0.1 and 0.5"),
        (0.1, "not lazy", "above 0.5"),
    ],
)
@pytest.mark.sample(1)
def test_the_output_scale_decides_how_lazy_training_is(scale, verdict, reason):
    model = MLP(3, (40,), 1, "tanh", output_scale=scale)
    start = draw_params(model)
    y = np.sign(draw_inputs(5, MLP(1), 2))
    problem = Problem(model, Measure(draw_inputs(5, model, 1), y), centered_at=start)
    step = 1.0 / norm(tangent_kernel(problem, start))
    run = gradient_descent(problem, start, step, 200, dtype="float64")
    found = measure_laziness(problem, start, run.params, test_x=TEST)
    worst = max(found.kernel_drift, found.linearisation_error, found.linearisation_error_test)
    assert found.verdict == verdict
    assert reason in found.reason
    assert f"{worst:.3g}" in found.reason


@pytest.mark.slow
def test_the_trajectory_error_compares_with_the_trained_linearised_model():
    model = MLP(3, (50,), 2, "tanh", output_scale=5.0)
    problem, start = make_problem(model)
    kernel = tangent_kernel(problem, start)
    step, steps = float(0.5 / norm(kernel)), 40
    run = gradient_descent(problem, start, step, steps, dtype="float64")
    linear = linearised_descent(problem, start, kernel, step, steps)
    theta = linear.params(problem, start)
    found = measure_laziness(problem, start, run.params, linearised=theta, test_x=TEST)
    gap = to_coordinates(problem, problem.predict(run.params) - linear.values)
    change = to_coordinates(problem, problem.predict(run.params) - problem.predict(start))
    expected = np.linalg.norm(gap) / np.linalg.norm(change)
    assert found.trajectory_error == pytest.approx(expected, rel=1e-8)
    assert found.trajectory_error_test is not None
    assert 0 < found.trajectory_error_test < 1


def test_large_kernels_are_compared_on_a_seeded_part():
    problem, start = make_problem()
    end = moved(start, 0.2)
    found = measure_laziness(problem, start, end, rows=7, key=jax.random.key(3))
    assert found.points == 3
    part = problem.measure.subsample(3, 3)
    alone = measure_laziness(Problem(MODEL, part), start, end)
    assert found.kernel_drift == alone.kernel_drift
    assert found.linearisation_error != alone.linearisation_error


@pytest.mark.parametrize("hidden", [(9,), (9, 7)])
@pytest.mark.sample(1)
def test_to_first_order_the_kernel_moves_oppositely_for_opposite_output_weights(hidden):
    """Why measured drift falls like 1 / width and not its root: the first order is odd."""
    model = MLP(3, hidden, 1, "tanh", bias_scale=0.3)
    start = draw_params(model)
    mirrored = ((*start[0][:-1], -start[0][-1]), (*start[1][:-1], -start[1][-1]))
    measure = Measure(draw_inputs(5, model, 1), np.ones(5), WEIGHTS)

    def kernel_of(p):
        blocks = jax.jacobian(model.apply)(p, measure.x)
        rows = jnp.concatenate([b.reshape(5, -1) for b in jax.tree.leaves(blocks)], axis=1)
        return rows @ rows.T

    derivative = jax.jit(lambda p, v: jax.jvp(kernel_of, (p,), (v,)))
    results = []
    for params in (start, mirrored):
        problem = Problem(model, measure, centered_at=params)
        kernel = tangent_kernel(problem, params)
        dual = np.linalg.solve(kernel, to_coordinates(problem, problem.residual(params)))
        way = pull_back(problem, params, dual)
        np.testing.assert_allclose(push_forward(problem, params, way), kernel @ dual, rtol=1e-9)
        results.append(in_float64(derivative, params, way))
    (k, dk), (k_mirrored, dk_mirrored) = results
    np.testing.assert_allclose(k, k_mirrored, rtol=1e-13)
    np.testing.assert_allclose(dk, -dk_mirrored, rtol=1e-9, atol=1e-10)
    assert norm(dk) > 1e-3


@pytest.mark.slow
def test_a_very_wide_network_stays_within_the_certified_distance_of_the_linearised_one():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10, 64)), np.sign(rng.standard_normal(10))
    model = MLP(64, (65536,), 1, "softplus")
    start = as_float64(model.init(jax.random.key(0)))
    problem = Problem(model, Measure(x, y), centered_at=start)
    certificate = certify(problem, start)
    assert certificate.certified
    step, steps = certificate.step_size, 20
    constants = certificate.constants
    curve = training_curve(problem, start, step_size=step)

    @jax.jit
    def run(params, x, y, offset):
        def advance(p, _):
            values, back = jax.vjp(lambda q: model.apply(q, x) - offset, p)
            (gradient,) = back((values - y) / 10)
            return jax.tree.map(lambda a, g: a - step * g, p, gradient), values

        return jax.lax.scan(advance, params, length=steps)

    end, values = in_float64(run, start, x, y[:, None], problem.offset)
    gaps = [norm(np.asarray(v) - curve.train(t)) / np.sqrt(10) for t, v in enumerate(values)]
    assert gaps[0] < 1e-12
    assert 0 < max(gaps) <= constants["linearisation_distance"].value
    found = measure_laziness(problem, start, end, test_x=rng.standard_normal((20, 64)))
    assert found.verdict == "lazy"
    assert found.kernel_drift <= constants["relative_kernel_drift"].value


def test_unfit_input_is_refused():
    problem, start = make_problem()
    other = draw_params(MLP(3, (4,), 2))
    with pytest.raises(InputError, match="use params from this model's init"):
        measure_laziness(problem, start, other)
    with pytest.raises(InputError, match="use params from this model's init"):
        measure_laziness(problem, start, start, linearised=other)
    with pytest.raises(InputError, match="rows must be a whole number, 1 or more, not 0"):
        measure_laziness(problem, start, start, rows=0)
