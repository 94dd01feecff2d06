"""Closed-form training curves against explicit training, matrix exponentials and exact numbers."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from networks import dense_jacobian, draw_inputs, draw_params
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.linearised.predicted_descent import linearised_descent, linearised_params
from overparam.linearised.training_curve import (
    infinite_training_curve,
    kernel_curve,
    training_curve,
)
from overparam.model.linearize import linearize
from overparam.model.mlp import MLP
from overparam.precision import in_float64
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

MODEL = MLP(3, (20,), 2, "tanh", bias_scale=0.2)
WEIGHTS = np.arange(1.0, 6.0)
TEST = draw_inputs(4, MODEL, 7)


def make_problem(weights=WEIGHTS, loss="squared", centred=False):
    params = draw_params(MODEL)
    y = draw_inputs(5, MLP(2), 2)
    y = np.sign(y) if loss != "squared" else y
    measure = Measure(draw_inputs(5, MODEL, 1), y, weights)
    return Problem(MODEL, measure, loss, params if centred else None), params


def step_for(problem, params, share):
    return float(share / np.linalg.eigvalsh(tangent_kernel(problem, params))[-1])


def train_linearised(problem, params, step_size, steps):
    """Plain gradient descent on the linearised network, and its predictions, in float64."""
    start = jax.tree.map(np.asarray, params)
    offset = np.zeros((1, problem.model.out_dim)) if problem.offset is None else problem.offset
    measure = problem.measure
    data = (measure.x, measure.y, measure.weights, offset)
    end, train, test = in_float64(_train, problem.loss, start, data, step_size, steps)
    return end, train, test


@partial(jax.jit, static_argnums=0)
def _train(loss, params, data, step_size, steps):
    x, y, weights, offset = data
    linear = linearize(lambda p, x: MODEL.apply(p, x), params)

    def objective(p):
        return weights @ loss.value(linear.apply(p, x) - offset, y)

    def step(_, p):
        return jax.tree.map(lambda a, g: a - step_size * g, p, jax.grad(objective)(p))

    end = jax.lax.fori_loop(0, steps, step, params)
    return end, linear.apply(end, x) - offset, linear.apply(end, jnp.asarray(TEST))


@pytest.mark.parametrize("steps", [1, 300])
@pytest.mark.parametrize(
    ("weights", "share"), [(None, 1.9), (WEIGHTS, 0.4), (WEIGHTS, 1.0), (WEIGHTS, 1.9)]
)
@pytest.mark.sample(3)
def test_discrete_steps_match_the_trained_linearised_model(weights, share, steps):
    problem, params = make_problem(weights)
    step_size = step_for(problem, params, share)
    end, train, test = train_linearised(problem, params, step_size, steps)
    curve = training_curve(problem, params, step_size=step_size)
    cross = empirical_ntk(MODEL, params, TEST, problem.measure.x)
    found = curve.predict(steps, cross, problem.predict(params, TEST))
    np.testing.assert_allclose(curve.train(steps), train, rtol=1e-10)
    np.testing.assert_allclose(found, test, rtol=1e-10)
    theta = linearised_params(problem, params, curve.dual(steps))
    for mine, trained in zip(jax.tree.leaves(theta), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(mine, trained, rtol=1e-10, atol=1e-12)
    excess = problem.measure.weights @ np.sum((train - problem.targets) ** 2, axis=1) / 2
    assert curve.excess(steps) == pytest.approx(excess, rel=1e-9)


@pytest.mark.parametrize("time", [0.0, 0.7, 50.0])
def test_the_flow_is_the_matrix_exponential(time):
    problem, params = make_problem()
    n, k = problem.targets.shape
    jacobian = dense_jacobian(MODEL, params, problem.measure.x)
    weights = np.repeat(problem.measure.weights, k)
    # In plain coordinates: F' = -NTK W (F - y).
    ntk = jacobian @ jacobian.T
    left = expm(-time * ntk * weights)
    residual = (problem.targets - problem.predict(params)).reshape(-1)
    curve = training_curve(problem, params)
    expected = problem.targets - (left @ residual).reshape(n, k)
    np.testing.assert_allclose(curve.train(time), expected, rtol=1e-9, atol=1e-11)
    across = dense_jacobian(MODEL, params, TEST) @ jacobian.T
    gain = (across @ np.linalg.solve(ntk, (np.eye(n * k) - left) @ residual)).reshape(-1, k)
    cross = empirical_ntk(MODEL, params, TEST, problem.measure.x)
    np.testing.assert_allclose(curve.predict(time, cross), gain, rtol=1e-8, atol=1e-10)


def test_the_limit_is_the_least_norm_interpolant():
    problem, params = make_problem(centred=True)
    jacobian = dense_jacobian(MODEL, params, problem.measure.x)
    way = np.linalg.lstsq(jacobian, problem.targets.reshape(-1))[0]
    step_size = step_for(problem, params, 1.5)
    for curve in (
        training_curve(problem, params),
        training_curve(problem, params, step_size=step_size),
    ):
        assert curve.rank == 10
        np.testing.assert_allclose(curve.train(np.inf), problem.targets, rtol=1e-12)
        assert curve.excess(np.inf) == 0
        cross = empirical_ntk(MODEL, params, TEST, problem.measure.x)
        expected = (dense_jacobian(MODEL, params, TEST) @ way).reshape(-1, 2)
        np.testing.assert_allclose(curve.predict(np.inf, cross), expected, rtol=1e-8)
        theta = linearised_params(problem, params, curve.dual(np.inf))
        moved = [
            np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (theta, params)), strict=True)
        ]
        np.testing.assert_allclose(np.concatenate(moved), way, rtol=1e-7, atol=1e-10)


def test_a_duplicated_point_is_learned_as_far_as_it_can_be():
    x = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    model = MLP(3, (20,), 1, "tanh")
    params = draw_params(model)
    problem = Problem(model, Measure(x, np.array([1.0, -1.0, 2.0])), centered_at=params)
    curve = training_curve(problem, params)
    assert curve.rank == 2
    np.testing.assert_allclose(curve.train(np.inf).ravel(), [0, 0, 2], atol=1e-12)
    assert curve.excess(np.inf) == pytest.approx(1 / 3, rel=1e-12)  # half the mean of 1, 1, 0
    assert curve.excess(1e9) == pytest.approx(1 / 3, rel=1e-6)


def diagonal_curve(eigenvalues, step_size, targets=None):
    """A problem of len(eigenvalues) points whose kernel is diagonal."""
    n = len(eigenvalues)
    y = np.ones(n) if targets is None else np.asarray(targets)
    problem = Problem(MLP(1, (), 1), Measure(np.arange(float(n))[:, None], y))
    return kernel_curve(problem, np.diag(np.asarray(eigenvalues)), step_size=step_size)


@pytest.mark.parametrize("eigenvalue", [0.0, 1e-300, 1e-17, 1e-9, 0.3, 0.5, 0.7, 0.999999, 1.0])
@pytest.mark.parametrize("steps", [0, 1, 7, 10**6])
def test_every_mode_is_right_to_the_last_digits(eigenvalue, steps):
    step_size = 1.9
    curve = diagonal_curve([eigenvalue, 1.0], step_size)
    mode = 0 if eigenvalue <= 1.0 else 1
    with mpmath.workdps(400):
        lam, eta = mpmath.mpf(eigenvalue), mpmath.mpf(step_size)
        left = (1 - eta * lam) ** steps
        dual = (1 - left) / lam if eigenvalue else eta * steps
        root = mpmath.sqrt(mpmath.mpf(1) / 2)
        expected = float(dual * root), float(left)
    assert curve.dual(steps)[mode] == pytest.approx(expected[0], rel=1e-12)
    remaining = 1 - curve.train(steps)[mode, 0]
    assert remaining == pytest.approx(expected[1], rel=1e-9, abs=1e-15)


def test_a_step_of_one_over_lambda_learns_a_mode_at_once():
    curve = diagonal_curve([0.25, 1.0], 1.0)
    np.testing.assert_allclose(curve.train(1).ravel(), [0.25, 1.0], rtol=1e-15)
    np.testing.assert_allclose(curve.excess(np.arange(3)), [0.5, 0.5**3 * 9 / 8, 0.5**2 * 0.75**4])


def test_divergence_names_the_eigenvalue_and_the_largest_stable_step():
    curve = diagonal_curve([0.5, 1.0, 4.0, 5.0], 0.5)
    assert not curve.stable
    assert curve.largest_step == 0.4
    assert curve.diagnosis == (
        "diverges along 2 eigenvalues: eta lambda = 2.5 is not below 2 for lambda = 5; take a step "
        "below 0.4"
    )
    np.testing.assert_allclose(1 - curve.train(3).ravel(), [0.75**3, 0.5**3, -1, -(1.5**3)])
    with pytest.raises(InputError, match="has no limit: it diverges along 2 eigenvalues"):
        curve.train(np.inf)
    assert curve.excess(10**5) == np.inf
    stable = diagonal_curve([0.5, 1.0, 4.0, 5.0], 0.399)
    assert stable.stable
    assert stable.diagnosis.startswith("converges")
    assert diagonal_curve([0.5, 5.0], None).diagnosis == "gradient flow converges"


def test_a_mode_without_residual_stays_without_one_however_long_it_diverges():
    curve = diagonal_curve([0.5, 5.0], 1.0, [1.0, 0.0])
    np.testing.assert_allclose(curve.train(10**5).ravel(), [1.0, 0.0])
    assert curve.excess(10**5) == 0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 1.0), st.integers(1, 1000), st.integers(0, 2**31))
def test_the_flow_stays_within_four_over_e_squared_t_of_the_steps(share, steps, seed):
    draw = np.random.default_rng(seed)
    eigenvalues = np.sort(draw.uniform(0, 1, 6) ** 4)
    y = draw.standard_normal(6)
    step_size = share / eigenvalues[-1]
    discrete = diagonal_curve(eigenvalues, step_size, y).train(steps)
    flow = diagonal_curve(eigenvalues, None, y).train(step_size * steps)
    gap = np.sqrt(np.mean((discrete - flow) ** 2) / np.mean(y**2))
    assert gap <= 4 / (np.e**2 * steps)
    assert np.all(np.abs(y[:, None] - discrete) <= np.abs(y[:, None] - flow) * (1 + 1e-12) + 1e-13)


def test_each_mode_is_at_its_own_time_of_the_flow():
    eigenvalues, step_size, steps = np.array([0.1, 0.5, 0.9]), 1.0, 5
    discrete = diagonal_curve(eigenvalues, step_size).train(steps).ravel()
    times = -steps * np.log(1 - step_size * eigenvalues) / eigenvalues
    flow = [diagonal_curve(eigenvalues, None).train(time)[i, 0] for i, time in enumerate(times)]
    np.testing.assert_allclose(discrete, flow, rtol=1e-13)


def test_a_kernel_that_outputs_share_is_its_product_with_the_identity():
    problem, _ = make_problem()
    draw = np.random.default_rng(3).standard_normal((9, 6))
    theta = draw @ draw.T  # five training points, four others
    roots = np.sqrt(problem.measure.weights)
    kernel = theta[:5, :5] * np.outer(roots, roots)
    initial = np.random.default_rng(4).standard_normal((9, 2))
    shared = kernel_curve(problem, kernel, initial[:5], step_size=0.05)
    full = kernel_curve(problem, np.kron(kernel, np.eye(2)), initial[:5], step_size=0.05)
    for t in (3, np.inf):
        np.testing.assert_allclose(shared.train(t), full.train(t), rtol=1e-9, atol=1e-12)
        one = shared.predict(t, theta[5:, :5], initial[5:])
        other = full.predict(t, np.kron(theta[5:, :5], np.eye(2)), initial[5:])
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(shared.dual(t), full.dual(t), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(shared.excess(3), full.excess(3), rtol=1e-12)


def test_a_start_that_is_not_zero_adds_its_variance_to_the_mean_excess():
    """The excess is a square: larger in the mean over F_0 than at its mean, 0."""
    rng = np.random.default_rng(0)
    problem, _ = make_problem()
    n, step, steps = 5, 0.1, 7
    root = rng.standard_normal((n, n))
    kernel = root @ root.T / n
    spread = rng.standard_normal((n, n))  # F_0 = +- sqrt(n) times a column has covariance spread^2
    starts = [
        sign * np.sqrt(n) * np.stack([column, 0 * column], axis=1)
        for column in spread.T
        for sign in (1.0, -1.0)
    ]
    curves = [kernel_curve(problem, kernel, start, step_size=step) for start in starts]
    plain = kernel_curve(problem, kernel, step_size=step)
    roots = np.sqrt(problem.measure.weights)
    covariance = np.outer(roots, roots) * (spread @ spread.T)
    shrunk = np.linalg.matrix_power(np.eye(n) - step * kernel, 2 * steps)
    more = np.mean([curve.excess(steps) for curve in curves]) - plain.excess(steps)
    assert more == pytest.approx(0.5 * np.trace(shrunk @ covariance), rel=1e-12)


def test_what_noise_adds_to_a_prediction_grows_until_it_is_interpolated():
    """Proposition G8 of docs/generalisation.md, with a unit of noise at one point at a time."""
    rng = np.random.default_rng(4)
    n = 6
    root, cross = rng.standard_normal((n, n)), rng.standard_normal((3, n))
    kernel = root @ root.T
    step = float(1 / np.linalg.eigvalsh(kernel)[-1])
    x, model = rng.standard_normal((n, 3)), MLP(3, (4,))
    curves = [
        kernel_curve(Problem(model, Measure(x, noise)), kernel / n, step_size=n * step)
        for noise in np.eye(n)
    ]
    times = [0, 1, 3, 10, 100, np.inf]
    variance = np.array(
        [np.sum([curve.predict(t, cross) ** 2 for curve in curves], axis=0) for t in times]
    )
    assert np.all(np.diff(variance, axis=0) > 0)
    assert np.all(variance[0] == 0)
    limit = np.sum((cross @ np.linalg.inv(kernel)) ** 2, axis=1)
    np.testing.assert_allclose(variance[-1][:, 0], limit, rtol=1e-8)


@pytest.mark.slow
def test_a_wide_network_follows_the_curve_of_the_infinitely_wide_one():
    model = MLP(3, (20_000,), 2, "tanh", bias_scale=0.2)
    params = model.init(jax.random.key(0))
    measure = Measure(draw_inputs(5, model, 1), draw_inputs(5, MLP(2), 2), WEIGHTS)
    problem = Problem(model, measure, centered_at=params)
    limit = infinite_training_curve(problem, step_size=0.5)
    wide = training_curve(problem, params, step_size=0.5)
    for steps in (10, 100):
        gap = np.abs(limit.train(steps) - wide.train(steps)).max()
        assert 0 < gap < 0.03 * np.abs(wide.train(steps)).max()
        at_test = limit.predict(steps, infinite_ntk(model, TEST, measure.x).ntk)
        across = wide.predict(steps, empirical_ntk(model, params, TEST, measure.x))
        assert np.abs(at_test - across).max() < 0.05 * np.abs(across).max()


@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
def test_the_recursion_for_any_loss_matches_explicit_training(loss):
    problem, params = make_problem(loss=loss)
    step_size = step_for(problem, params, 0.9)
    kernel = tangent_kernel(problem, params)
    seen = []
    found = linearised_descent(
        problem, params, kernel, step_size, 60, lambda _, done, total: seen.append((done, total))
    )
    _, train, test = train_linearised(problem, params, step_size, 60)
    assert seen[-1] == (60, 60)
    np.testing.assert_allclose(found.values, train, rtol=1e-10)
    theta = found.params(problem, params)
    predicted = in_float64(jax.jit(linearize(MODEL, params).apply), theta, TEST)
    np.testing.assert_allclose(predicted, test, rtol=1e-10)
    pointwise = np.asarray(problem.loss.value(train, problem.targets))
    assert found.excess[-1] == pytest.approx(problem.measure.weights @ pointwise, rel=1e-9)
    assert len(found.excess) == 61


def test_a_recursion_that_diverges_says_so():
    problem, params = make_problem()
    kernel = tangent_kernel(problem, params)
    step_size = step_for(problem, params, 30.0)
    with np.errstate(over="ignore"):
        found = linearised_descent(problem, params, kernel, step_size, 300)
    assert np.isfinite(found.excess[:50]).all()
    assert np.isinf(found.excess[-1])


def test_unfit_input_is_refused():
    problem, params = make_problem()
    kernel = tangent_kernel(problem, params)
    with pytest.raises(InputError, match="step_size must be positive and finite, not 0"):
        training_curve(problem, params, step_size=0.0)
    with pytest.raises(InputError, match="step_size must be positive and finite, not nan"):
        linearised_descent(problem, params, kernel, float("nan"), 1)
    with pytest.raises(InputError, match=r"pass tangent_kernel\(problem, params\)"):
        linearised_descent(problem, params, kernel[:4, :4], 0.1, 1)
    with pytest.raises(
        InputError, match=r"kernel has shape \(4, 4\), the problem needs \(10, 10\)"
    ):
        training_curve(problem, params, kernel=kernel[:4, :4])
    with pytest.raises(InputError, match=r"needs \(5, 5\) or \(10, 10\)"):
        kernel_curve(problem, kernel[:4, :4])
    with pytest.raises(InputError, match="kernel is not symmetric"):
        kernel_curve(problem, kernel + np.triu(kernel))
    with pytest.raises(InputError, match="not finite"):
        kernel_curve(problem, np.full((5, 5), np.nan))
    with pytest.raises(InputError, match=r"initial has shape \(4, 2\)"):
        kernel_curve(problem, kernel, np.zeros((4, 2)))
    curve = training_curve(problem, params, step_size=0.1)
    with pytest.raises(InputError, match=r"a whole number of steps, not 1\.5"):
        curve.train(1.5)
    with pytest.raises(InputError, match="t must be 0 or more"):
        curve.excess(np.array([1.0, -1.0]))
    with pytest.raises(InputError, match="new points as rows"):
        curve.predict(1, np.zeros((10, 4)))
    with pytest.raises(InputError, match=r"the points need \(4, 2\)"):
        curve.predict(1, np.zeros((8, 10)), np.zeros((3, 2)))
    hinge, params = make_problem(loss="squared_hinge")
    with pytest.raises(InputError, match="for the squared loss, not 'squared_hinge'"):
        training_curve(hinge, params)
    with pytest.raises(InputError, match="has no targets"):
        Problem(MODEL, Measure(TEST))


def test_arguments_of_predict_in_the_wrong_order_are_named():
    curve = infinite_training_curve(make_problem()[0])
    cross = np.ones((2, len(curve.eigenvalues)))
    predict = inspect.unwrap(type(curve).predict)  # without the tests' own check of types
    for arguments in ((cross, 3), (cross, 3.0), (3, cross[0]), (cross[0], cross)):
        with pytest.raises(InputError, match=r"call predict\(t, cross_kernel\)") as caught:
            predict(curve, *arguments)
        assert "\n" not in str(caught.value)
    assert predict(curve, 3, cross).shape == (2, 2)
