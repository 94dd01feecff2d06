"""Nystrom approximations against the whole matrix: errors, eigenvalues, solves, predictions."""

import jax
import numpy as np
import pytest
import scipy.linalg
from scipy.sparse.linalg import cg

from networks import draw_inputs, draw_params
from overparam import memory
from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.ntk_operator import ntk_operator
from overparam.kernel.spectrum.lanczos import top_eigenvalues
from overparam.kernel.spectrum.low_rank_kernel import LowRankKernel
from overparam.kernel.spectrum.nystrom import nystrom, nystrom_ntk
from overparam.model.mlp import MLP

METHODS = ["rpcholesky", "greedy", "uniform"]


def decaying(n, outputs=1, power=2.0, seed=0):
    """A kernel with eigenvalues 1, 2^-power, 3^-power, ... and random eigenvectors."""
    m = n * outputs
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((m, m)))[0]
    K = (Q * np.arange(1.0, m + 1) ** -power) @ Q.T
    return (K + K.T) / 2


def columns_of(K, outputs):
    """The columns of samples, and how many were asked for."""

    def columns(samples):
        return K[:, (samples[:, None] * outputs + np.arange(outputs)).ravel()]

    return columns


def approximate(K, landmarks, outputs=1, **settings):
    return nystrom(columns_of(K, outputs), K.diagonal(), landmarks, outputs=outputs, **settings)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_the_nystrom_approximation_of_its_landmarks(method, outputs):
    K = decaying(60, outputs)
    found = approximate(K, 12, outputs, method=method, block=5)
    S = found.landmarks
    C = K[:, S]
    np.testing.assert_allclose(
        found.factor @ found.factor.T, C @ np.linalg.solve(K[np.ix_(S, S)], C.T), atol=1e-12
    )
    assert len(set(found.samples.tolist())) == 12
    assert sorted(S // outputs) == sorted(np.repeat(found.samples, outputs))
    assert np.allclose(np.triu(found.factor[S], 1), 0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outputs", [1, 2])
def test_the_trace_error_is_exact_and_bounds_the_norm(method, outputs):
    K = decaying(80, outputs)
    found = approximate(K, 10, outputs, method=method)
    rest = K - found.factor @ found.factor.T
    values = scipy.linalg.eigvalsh(rest)
    assert values[0] >= -1e-13  # semidefinite
    assert found.trace_error == pytest.approx(np.trace(rest), abs=1e-12)
    assert values[-1] <= found.trace_error * (1 + 1e-9)
    np.testing.assert_allclose(found.residual, rest.diagonal(), atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_eigenvalues_lie_between_their_bounds(method):
    K = decaying(120)
    exact = scipy.linalg.eigvalsh(K)[::-1]
    found = approximate(K, 15, method=method)
    lower, upper = found.eigenvalue_bounds()
    assert np.all(lower <= exact[:15] * (1 + 1e-9))
    assert np.all(exact[:15] <= upper * (1 + 1e-9))
    for rank in (16, 40, 120):
        assert exact[rank - 1] <= found.tail_bound(rank)
    for rank in (15, 121):
        with pytest.raises(InputError, match="give one from 16 to 120"):
            found.tail_bound(rank)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_kernel_of_low_rank_is_exact_after_that_many_landmarks(method, outputs):
    X = np.random.default_rng(0).standard_normal((50 * outputs, 7))
    K = X @ X.T
    found = approximate(K, 30, outputs, method=method)
    assert found.factor.shape[1] == 7
    np.testing.assert_allclose(found.factor @ found.factor.T, K, atol=1e-11)
    assert found.trace_error <= 1e-10


def test_all_landmarks_give_the_kernel_and_repeated_points_do_no_harm():
    x = np.random.default_rng(0).standard_normal((20, 2))
    x[10:] = x[:10]
    K = np.exp(-np.square(x[:, None] - x[None]).sum(axis=2))
    for method in METHODS:
        found = approximate(K, 20, method=method)
        assert found.factor.shape[1] == 10
        np.testing.assert_allclose(found.factor @ found.factor.T, K, atol=1e-12)


def test_random_pivots_beat_even_sampling_where_a_few_samples_are_far_away():
    rng = np.random.default_rng(0)
    x = 0.02 * rng.standard_normal((400, 2))
    x[:20] += 10 * rng.standard_normal((20, 2))
    K = np.exp(-np.square(x[:, None] - x[None]).sum(axis=2) / 2)
    errors = {
        method: np.mean(
            [approximate(K, 30, method=method, key=jax.random.key(s)).trace_error for s in range(5)]
        )
        for method in METHODS
    }
    assert errors["rpcholesky"] <= 1e-3 * errors["uniform"]


@pytest.mark.parametrize("power", [1.2, 2.0])
def test_the_mean_error_of_random_pivots_obeys_their_theorem(power):
    """Chen, Epperly, Tropp, Webber: E tr <= (1 + e) tail_q from q / e + q log(1 / (e n)) pivots."""
    K = decaying(150, power=power)
    values = np.arange(1.0, 151.0) ** -power
    for q, epsilon in [(3, 0.5), (8, 1.0)]:
        tail = values[q:].sum()
        pivots = q / epsilon + q * np.log(1 / (epsilon * tail / values.sum()))
        errors = [
            approximate(K, int(np.ceil(pivots)), block=4, key=jax.random.key(s)).trace_error
            for s in range(40)
        ]
        mean, error = np.mean(errors), np.std(errors, ddof=1) / np.sqrt(40)
        assert mean <= (1 + epsilon) * tail + 4 * error


@pytest.mark.parametrize("block", [3, 1])
@pytest.mark.sample(1)
@pytest.mark.slow
def test_blocks_with_rejection_have_the_law_of_one_at_a_time(block):
    """The first two landmarks of random pivoting on 4 samples: exact chances by hand."""
    X = np.array([[2.0, 0.0], [2.0, 0.3], [0.0, 1.0], [1.0, 1.0]])
    K = X @ X.T + 0.1 * np.eye(4)
    trials = 1500
    counts = np.zeros((4, 4))
    for seed in range(trials):
        first, second = approximate(K, 2, block=block, key=jax.random.key(seed)).samples
        counts[first, second] += 1
    expected = np.zeros((4, 4))
    for i in range(4):
        rest = K.diagonal() - K[:, i] ** 2 / K[i, i]
        expected[i] = K[i, i] / np.trace(K) * np.maximum(rest, 0) / np.maximum(rest, 0).sum()
    error = np.sqrt(expected * (1 - expected) / trials)
    assert np.all(np.abs(counts / trials - expected) <= 4 * error + 1e-12)


def test_it_stops_at_the_tolerance():
    K = decaying(100, power=3.0)
    found = approximate(K, 100, tolerance=1e-3, block=1)
    assert found.trace_error <= 1e-3 * np.trace(K)
    assert len(found.samples) < 60


# --- Use ----


def kernel_of_network(n=60, outputs=1):
    model = MLP(3, (64,), outputs, "gelu")
    params, x = draw_params(model), draw_inputs(n, model, 1)
    return model, params, x, empirical_ntk(model, params, x)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.sample(1)
def test_the_network_kernel_without_its_matrix(outputs):
    model, params, x, K = kernel_of_network(outputs=outputs)
    found = nystrom_ntk(model, params, x, 20)
    rest = K - found.factor @ found.factor.T
    assert found.trace == pytest.approx(np.trace(K))
    assert found.trace_error == pytest.approx(np.trace(rest), rel=1e-6)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("columns", [(), (3,)])
def test_solves_and_their_error(outputs, columns):
    K = decaying(70, outputs)
    found = approximate(K, 25, outputs)
    b = np.random.default_rng(1).standard_normal((70 * outputs, *columns))
    for ridge in (1e-6, 1e-2, 10.0):
        shifted = found.factor @ found.factor.T + ridge * np.eye(len(K))
        solution = found.solve(b, ridge)
        np.testing.assert_allclose(shifted @ solution, b, atol=1e-8)
        exact = np.linalg.solve(K + ridge * np.eye(len(K)), b)
        error = np.linalg.norm(exact - solution)
        assert error <= found.solution_error(solution, ridge)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.sample(1)
def test_predictions_are_those_of_regression_in_the_features(outputs, ridge):
    """Subset-of-regressors: K(x', S) (C^T C + ridge K_SS)^-1 C^T y, solved directly."""
    model, params, x, K = kernel_of_network(40, outputs)
    new = draw_inputs(9, model, 2)
    found = nystrom_ntk(model, params, x, 8)
    y = np.random.default_rng(3).standard_normal(40 * outputs)
    cross = empirical_ntk(model, params, new, x[found.samples])
    predicted = found.features(cross) @ found.fit(y, ridge)
    whole = empirical_ntk(model, params, new, x)
    S, C = found.landmarks, K[:, found.landmarks]
    weights = np.linalg.lstsq(C.T @ C + ridge * K[np.ix_(S, S)], C.T @ y, rcond=None)[0]
    np.testing.assert_allclose(predicted, whole[:, S] @ weights, rtol=1e-5, atol=1e-7)
    # The training points' own features are the factor.
    own = found.features(empirical_ntk(model, params, x, x[found.samples]))
    np.testing.assert_allclose(own, found.factor, atol=1e-9)


def test_the_factor_preconditions_conjugate_gradients():
    K, ridge = decaying(300, power=1.5), 1e-4
    found = approximate(K, 100)
    bound = 1 + found.trace_error / ridge
    P = found.preconditioner(ridge)
    A = K + ridge * np.eye(300)
    values = scipy.linalg.eigvals(P.matmat(A)).real
    assert values.min() >= 1 - 1e-8
    assert values.max() <= bound * (1 + 1e-8)
    b = np.ones(300)
    steps = {True: 0, False: 0}
    for with_factor in steps:

        def count(_, key=with_factor):
            steps[key] += 1

        solution, failed = cg(A, b, rtol=1e-10, M=P if with_factor else None, callback=count)
        assert failed == 0
        np.testing.assert_allclose(A @ solution, b, atol=1e-6)
    assert steps[True] < steps[False] / 2


@pytest.mark.slow
def test_the_norm_of_the_rest_from_products():
    model, params, x, K = kernel_of_network(100, 2)
    found = nystrom_ntk(model, params, x, 20)
    rest = found.residual_operator(ntk_operator(model, params, x))
    exact = np.linalg.norm(K - found.factor @ found.factor.T, 2)
    top = top_eigenvalues(rest)
    assert top.values[0] <= exact * (1 + 1e-9)
    assert exact <= top.upper() <= found.trace_error
    with pytest.raises(InputError, match=r"give one of \(200, 200\)"):
        found.residual_operator(ntk_operator(model, params, x[:5]))


def test_least_norm_weights_of_dependent_features():
    F = np.array([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(LowRankKernel(F).fit(np.array([1.0, 2.0, 5.0])), [0.5, 0.5])
    np.testing.assert_allclose(LowRankKernel(F).eigenvalues, [10.0, 0.0], atol=1e-14)


# --- Bad input ----


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"landmarks": 0}, "give a number from 1 to 6"),
        ({"landmarks": 7}, "give a number from 1 to 6"),
        ({"landmarks": 2, "outputs": 4}, "does not fit 4 outputs"),
        ({"landmarks": 2, "diagonal": np.array([1.0, -1.0])}, "negative or not finite"),
        ({"landmarks": 1, "diagonal": np.ones(3)}, r"columns of 1 samples have shape \(6, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(settings, complaint):
    K = np.eye(6)
    given = {"columns": columns_of(K, 1), "diagonal": K.diagonal()} | settings
    with pytest.raises(InputError, match=complaint):
        nystrom(**given)


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(InputError, match="a Nystrom factor of 30 x 10 needs"):
        approximate(np.eye(30), 10)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda f: f.solve(np.ones(3), 0.0), "give a positive number"),
        (lambda f: f.solve(np.ones(4), 1.0), "4 rows given, the kernel has 3"),
        (lambda f: f.fit(np.ones(3), -1.0), "give a nonnegative number"),
        (lambda f: f.preconditioner(np.nan), "give a positive number"),
        (lambda f: f.features(np.ones((2, 5))), r"give K\(x', x\[samples\]\) with 2 columns"),
    ],
)
def test_unusable_requests_to_a_factor(call, complaint):
    found = approximate(decaying(3), 2)
    with pytest.raises(InputError, match=complaint):
        call(found)
