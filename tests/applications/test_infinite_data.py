"""Measures on a continuum: nodes, and the error of replacing the measure by them."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from overparam.applications.infinite_data import (
    function_approximation,
    gauss_legendre_remainder,
    monte_carlo_objective,
    quadrature_measure,
    sampled_measure,
)
from overparam.applications.physics import Box
from overparam.errors import InputError
from overparam.model.mlp import MLP


def wave(x):
    return np.sin(4 * x[:, 0])


def uniform(generator, n):
    return generator.uniform(-1, 1, size=(n, 1))


@pytest.fixture
def app(key):
    return function_approximation(
        *(wave, Box(-1, 1), key),
        nodes=14,
        model=MLP(1, (64,), 1, "sin", weight_scale=8.0, bias_scale=8.0),
    )


def test_nodes_integrate_polynomials_exactly():
    box = Box((0, 1), (2, 4))
    measure = quadrature_measure(lambda x: x[:, :1] ** 5 * x[:, 1:] ** 4, box, 3)
    exact = (2**6 / 6 / 2) * ((4**5 - 1) / 5 / 3)
    assert measure.weights @ measure.y[:, 0] == pytest.approx(exact, rel=1e-13)
    assert measure.n == 9


def test_certified_on_the_nodes_and_bounded_on_the_continuum(app, train_to_anchor):
    params, _ = train_to_anchor(app)
    on_nodes = app.problem.objective(params)
    bound = app.quadrature_error(params, size=1.0, frequency=4.0)

    def loss(t):
        value = np.asarray(app.problem.predict(params, np.array([[t]])))[0, 0]
        return 0.5 * (value - np.sin(4 * t)) ** 2

    truth = quad(loss, -1, 1, limit=200, epsabs=1e-13)[0] / 2
    assert app.remainder(params, 1.0, 4.0, 200) < 1e-20
    assert abs(truth - on_nodes) <= bound * (1 + 1e-9)
    assert bound == pytest.approx(truth, rel=1e-6)  # there is next to nothing on the nodes
    assert app.refined(params, 100) == pytest.approx(truth, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize("nodes", [2, 4, 7, 12])
def test_the_remainder_bound_under_attack(nodes):
    """Sums of waves with known integrals of half their squares: never above the bound."""
    rng, side = np.random.default_rng(nodes), 1.7
    places, masses = np.polynomial.legendre.leggauss(nodes)
    x, weights = side * (places + 1) / 2, masses / 2
    fine_places, fine_masses = np.polynomial.legendre.leggauss(200)
    fine, fine_weights = side * (fine_places + 1) / 2, fine_masses / 2
    closest = 0.0
    for _ in range(300):
        amplitudes, frequencies = rng.exponential(size=(2, rng.integers(1, 4)))
        frequencies *= nodes
        phases = rng.uniform(0, 2 * np.pi, size=len(amplitudes))
        half = lambda t: 0.5 * (np.sin(np.outer(t, frequencies) + phases) @ amplitudes) ** 2  # noqa: B023, E731
        error = abs(weights @ half(x) - fine_weights @ half(fine))
        bound = gauss_legendre_remainder(amplitudes, frequencies, nodes, side)
        assert error <= bound * (1 + 1e-9) + 1e-13
        closest = max(closest, error / bound if bound > 1e-6 else 0.0)
    assert closest > 0.1


def test_the_remainder_of_a_polynomial_within_reach_is_attained():
    """h = 1/2 e^2 with e = x^n has the constant derivative h^(2n) = (2n)! / 2."""
    from math import factorial

    n, side = 3, 1.0
    constant = factorial(n) ** 4 / ((2 * n + 1) * factorial(2 * n) ** 3)
    places, masses = np.polynomial.legendre.leggauss(n)
    error = 0.5 / (2 * n + 1) - masses / 2 @ (0.5 * ((places + 1) / 2) ** (2 * n))
    assert error == pytest.approx(constant * factorial(2 * n) / 2, rel=1e-10)
    assert gauss_legendre_remainder(np.ones(1), np.ones(1), n, side) == pytest.approx(
        constant * 2 ** (2 * n) / 2, rel=1e-12
    )


def test_every_output_counts(key):
    """The waves of a second output are all there is to integrate, and all there is to bound."""
    app = function_approximation(
        *(lambda x: np.zeros((len(x), 2)), Box(-1, 1), key), nodes=4, model=MLP(1, (16,), 2, "sin")
    )
    (inner, outer), biases = app.params
    loud = np.array(outer)
    loud[1] += 1e6 * np.random.default_rng(1).standard_normal(16)
    params = ((inner, jnp.asarray(loud)), biases)

    def loss(t):
        values = np.asarray(app.problem.predict(params, np.array([[t]])))[0]
        return 0.5 * float(values @ values)

    truth = quad(loss, -1, 1, limit=200)[0] / 2
    for nodes in (8, 12, 16):
        wrong_by = abs(app.refined(params, nodes) - truth)
        assert wrong_by <= app.remainder(params, 1e-12, 1e-3, nodes) * (1 + 1e-6) + 1e-6 * truth


def test_a_bound_beyond_the_floats_is_infinite():
    assert gauss_legendre_remainder(np.ones(1), np.array([1e200]), 4, 1.0) == np.inf


def test_monte_carlo_covers_the_truth_as_often_as_it_says(app):
    """400 intervals of confidence 0.9 at fixed parameters: a count within 4 standard errors."""
    truth = app.refined(app.params, 200)
    covered = 0
    for seed in range(400):
        found = monte_carlo_objective(
            *(app.problem, app.params, uniform, wave), draws=400, seed=seed, confidence=0.9
        )
        covered += found.lower <= truth <= found.upper
    assert abs(covered - 360) <= 4 * np.sqrt(400 * 0.9 * 0.1)
    assert found.standard_error < 0.2 * found.mean


def test_a_sampled_measure_is_reproducible():
    first, again = (sampled_measure(uniform, wave, 9, seed=3) for _ in range(2))
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint() != sampled_measure(uniform, wave, 9, seed=4).fingerprint()
    np.testing.assert_array_equal(first.y[:, 0], wave(first.x))


def test_bad_input_is_refused(app):
    with pytest.raises(InputError, match="nodes must be a whole number, 1 or more"):
        quadrature_measure(wave, Box(0, 1), 0)
    with pytest.raises(InputError, match=r"shape \(5, 1\) for n=4"):
        sampled_measure(lambda g, n: np.zeros((n + 1, 1)), wave, 4, 0)
    with pytest.raises(InputError, match="draws must be a whole number, 2 or more"):
        monte_carlo_objective(app.problem, app.params, uniform, wave, draws=1)
    with pytest.raises(InputError, match="between 0 and 1"):
        monte_carlo_objective(app.problem, app.params, uniform, wave, confidence=95.0)
