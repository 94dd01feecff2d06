"""The estimated modulus: against the proved one, an independent attack, and closed forms."""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ascent import largest_change, largest_curvature
from overparam import (
    InputError,
    Measure,
    Problem,
    anchor,
    certify,
    gauss_newton,
    gradient_descent,
    load_certificate,
    verify,
)
from overparam.certificate.certificate import ESTIMATED
from overparam.jacobian.estimated import SAFETY, EstimatedBounds, estimate_bounds
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.kernels import tangent_kernel
from overparam.linearised import infinite_training_curve, training_curve
from tiny import Tiny

CASES = (
    Tiny((24,), "tanh", outputs=2),
    Tiny((12, 10), "gelu", outputs=1, bias_scale=0.5),
)
FIRST_CASE = pytest.mark.parametrize(
    "tiny", [CASES[0], pytest.param(CASES[1], marks=pytest.mark.slow)], ids=str
)


@lru_cache  # so that JAX compiles once
def as_plain_function(tiny: Tiny) -> Problem:
    """The same problem, without anything known of the network."""
    problem, model = tiny.problem(0), tiny.model
    return Problem(lambda params, x: model.apply(params, x), problem.measure)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", CASES[:2], ids=str)
def test_the_estimate_lies_between_an_independent_attack_and_the_proved_bound(tiny):
    problem, params = as_plain_function(tiny), tiny.start(0)
    estimate = estimate_bounds(problem, params, radius=0.5)
    proved = MLPBounds(measure_layer_norms(tiny.problem(0), params))
    for radius in (*estimate.radii[::6], 0.77):
        omega, lipschitz = estimate.on_ball(radius)
        bound_omega, bound_lipschitz = proved.on_ball(4 * radius)
        assert omega <= SAFETY * bound_omega
        assert lipschitz <= SAFETY * bound_lipschitz
        assert largest_change(tiny.model, problem.measure, params, radius) <= omega
        assert largest_curvature(tiny.model, problem.measure, params, radius) <= lipschitz


@FIRST_CASE
@pytest.mark.slow
def test_at_its_radii_the_search_finds_no_more_than_the_proved_bound(tiny):
    estimate = estimate_bounds(as_plain_function(tiny), tiny.start(0), radius=0.5)
    proved = MLPBounds(measure_layer_norms(tiny.problem(0), tiny.start(0)))
    for radius, change in zip(estimate.radii, estimate.change, strict=True):
        assert change <= proved.modulus(radius)


def bilinear(params, x):
    """F = v w x: the Jacobian changes by exactly |x| r, and |D^2 F| = |x|."""
    return params["v"] * params["w"] * x


def test_a_bilinear_function_is_estimated_exactly_up_to_the_safety_factor():
    problem = Problem(bilinear, Measure([[2.0]], [[1.0]]))
    params = {"v": np.array(0.7), "w": np.array(-0.3)}
    estimate = estimate_bounds(problem, params, radius=1.0)
    for radius in (0.0, 1e-3, 0.1, 0.3, 1.0, 4.0):
        assert estimate.modulus(radius) == pytest.approx(2 * SAFETY * radius, rel=1e-6)
        assert estimate.lipschitz(radius) == pytest.approx(2 * SAFETY, rel=1e-6)
    assert estimate.on_ball(5.0) == (np.inf, np.inf)


def test_the_estimate_is_deterministic_nondecreasing_and_continuous_enough():
    tiny = CASES[0]
    problem, params = as_plain_function(tiny), tiny.start(0)
    first, again = (estimate_bounds(problem, params, radius=0.5) for _ in range(2))
    assert np.array_equal(first.change, again.change)
    assert np.array_equal(first.curvature, again.curvature)
    values = np.array([first.on_ball(r) for r in np.linspace(0, first.radii[-1], 300)])
    assert (np.diff(values, axis=0) >= 0).all()
    assert values[0, 0] == 0


def test_an_estimate_between_radii_uses_the_steeper_side():
    bounds = EstimatedBounds(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([3.5, 3.6]), 1.0)
    between = [bounds.modulus(r) for r in (0.5, 1.0, 1.2, 1.5, 2.0)]
    assert between == pytest.approx([1.75, 3.0, 3.6, 4.0, 4.0])
    assert [bounds.lipschitz(r) for r in (0.0, 1.0, 1.5)] == [3.5, 3.5, 3.6]


# --- certificates ---------------------------------------------------------------------------------


def two_layers(params, x):
    h = jnp.tanh(x @ params["inner"].T)
    return h @ params["outer"].T / np.sqrt(params["outer"].shape[1])


@pytest.fixture(scope="module")
def anchored():
    """A function without an MLP, trained by Gauss-Newton, and its certificate."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 2))
    problem = Problem(two_layers, Measure(x, np.sin(x[:, 0]), rng.uniform(1, 2, 6)))
    start = {"inner": rng.standard_normal((64, 2)), "outer": rng.standard_normal((1, 64))}
    found = gauss_newton(problem, start)
    assert found.converged
    return problem, start, found.params, anchor(problem, found.params)


def test_a_function_is_anchored_and_its_certificate_says_that_it_is_estimated(anchored):
    problem, _, params, certificate = anchored
    assert certificate.holds
    assert not certificate.certified
    assert certificate.rigor == "estimated"
    assert certificate.reason.startswith(ESTIMATED)
    kinds = {name: constant.kind for name, constant in certificate.constants.items()}
    assert kinds["modulus_at_ball"] == kinds["radius"] == kinds["rate"] == "estimated"
    assert kinds["min_eigenvalue"] == kinds["excess"] == "computed"
    assert "slope_bound" not in kinds
    run = gradient_descent(
        problem, params, certificate.step_size, 30, certificate=certificate, dtype="float64"
    )
    assert run.certificate_held


def test_kernel_and_training_curve_of_a_function_are_those_of_its_dense_jacobian(anchored):
    problem, start, _, _ = anchored
    with jax.enable_x64(True):
        rows = jax.jit(jax.jacobian(lambda p: two_layers(p, problem.measure.x)[:, 0]))(start)
    dense = np.concatenate([np.asarray(a).reshape(6, -1) for a in jax.tree.leaves(rows)], axis=1)
    weighted = np.sqrt(problem.measure.weights)[:, None] * dense
    kernel = tangent_kernel(problem, start)
    np.testing.assert_allclose(kernel, weighted @ weighted.T, rtol=1e-11, atol=1e-13)
    curve = training_curve(problem, start, step_size=0.1)
    assert curve.excess(np.array([0]))[0] == pytest.approx(problem.excess(start))


def test_an_estimated_certificate_survives_its_file_and_is_not_rechecked(anchored, tmp_path):
    problem, _, params, certificate = anchored
    path = tmp_path / "certificate.json"
    certificate.save(path)
    assert load_certificate(path) == certificate
    outcome = verify(certificate, problem, params)
    assert not outcome
    assert outcome.reasons == (
        "nothing can be checked again: the code of the function 'two_layers' is not part of the "
        "certificate",
    )


def test_a_run_resumes_from_its_checkpoint(anchored, tmp_path):
    problem, start, _, _ = anchored
    path = tmp_path / "run.npz"
    whole = gradient_descent(problem, start, 0.1, 300, dtype="float64")
    gradient_descent(problem, start, 0.1, 200, dtype="float64", checkpoint=path)
    resumed = gradient_descent(problem, start, 0.1, 300, dtype="float64", checkpoint=path)
    jax.tree.map(np.testing.assert_array_equal, whole.params, resumed.params)


@pytest.mark.slow
def test_a_network_is_estimated_on_request_and_certified_alike():
    tiny = dataclasses.replace(CASES[1], points=3)
    problem, params = tiny.problem(0, target_scale=1e-4, centred=True), tiny.start(0)
    bounded, searched = certify(problem, params), certify(problem, params, rigor="estimated")
    assert (bounded.rigor, searched.rigor) == ("computed", "estimated")
    assert searched.margin > bounded.margin  # the proved modulus is several times larger
    assert searched.reason.startswith(ESTIMATED)
    assert verify(searched, problem, params).reasons == (
        "nothing can be checked again: the modulus of J is an estimate, not a bound",
    )


def test_what_is_not_known_of_a_function_is_refused_in_one_line(anchored):
    problem, start, _, _ = anchored
    with pytest.raises(InputError, match="a proved certificate is known for an MLP"):
        certify(problem, start, rigor="proved")
    with pytest.raises(InputError, match="the limiting kernel is known for an MLP"):
        infinite_training_curve(problem)


@pytest.mark.slow
def test_an_equinox_model_is_a_function_of_its_arrays(tmp_path):
    """Anything that comes down to f(params, x): here the module's arrays, recombined inside."""
    eqx = pytest.importorskip("equinox")
    with jax.enable_x64(True):
        module = eqx.nn.MLP(2, 1, 32, 1, activation=jnp.tanh, key=jax.random.key(0))
        params, static = eqx.partition(module, eqx.is_array)
        params = jax.tree.map(np.asarray, params)

    def network(arrays, x):
        return jax.vmap(eqx.combine(arrays, static))(x)

    x = np.random.default_rng(3).standard_normal((4, 2))
    problem = Problem(network, Measure(x, x[:, 0] * x[:, 1]))
    found = gauss_newton(problem, params)
    certificate = anchor(problem, found.params)
    assert certificate.holds
    assert not certificate.certified
    assert certificate.rigor == "estimated"
    assert certificate.problem["parameters"] == 32 * 3 + 33
    certificate.save(tmp_path / "certificate.json")


@pytest.mark.parametrize("targets", [1e-3, 1.0, 1e4])
@pytest.mark.sample(1)
def test_a_model_linear_in_its_parameters_is_certified_whatever_the_residual(targets):
    """Frozen features: J is constant, and any step below 2 / lambda_max converges."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((6, 4)), rng.standard_normal((30, 4))

    def head(params, points):
        return jnp.tanh(points @ weights.T) @ params["v"] + 0.1 * params["c"]

    params = {"v": rng.standard_normal((30, 1)), "c": rng.standard_normal(())}
    problem = Problem(head, Measure(x, targets * np.ones((6, 1))), centered_at=params)
    features = np.hstack([np.tanh(x @ weights.T), np.full((6, 1), 0.1)])
    largest = np.linalg.eigvalsh(features @ features.T / 6)[-1]
    for step in (None, 1.9 / largest):
        found = certify(problem, params, step)
        assert found.holds
        assert found.rigor == "estimated"
        assert found.constants["modulus_at_ball"].value == 0
    assert not certify(problem, params, 2.01 / largest).holds
