"""Theorem O1 under attack: what is observed of one hidden layer changes no faster than bounded."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.linalg import eigh

from ascent import largest_change, largest_curvature
from overparam import (
    MLP,
    Activation,
    Jet,
    Laplacian,
    Measure,
    Problem,
    anchor,
    gauss_newton,
    gradient_descent,
)
from overparam.jacobian.bounds import FixedJacobian, jacobian_bounds
from overparam.jacobian.estimated import EstimatedBounds
from overparam.jacobian.jet_modulus import JetBounds
from overparam.model import ACTIVATIONS
from overparam.model.observation import observed
from tiny import Tiny

RADII = (1e-3, 0.1, 1.0, 4.0)
ROUNDING = 1e-11
SMOOTH = [name for name, act in ACTIVATIONS.items() if act.fourth_bound is not None]

CASES = (
    Tiny((32,), "tanh", outputs=1),
    Tiny((16,), "gelu", outputs=3, bias_scale=1.0),
    Tiny((24,), "sin", outputs=2, in_dim=1, output_scale=2.5),
    Tiny((10,), "softplus", outputs=1, in_dim=5, points=3, weight_scale=1.7, bias_scale=0.0),
)


def jet_problem(tiny: Tiny, observation, seed: int = 0) -> Problem:
    measure = tiny.measure(seed)
    columns = observation.outputs(tiny.outputs, tiny.in_dim)
    y = np.random.default_rng(seed).standard_normal((measure.n, columns))
    return Problem(tiny.model, Measure(measure.x, y, measure.weights), observe=observation)


def attack(tiny: Tiny, observation, seed: int = 0, *, curvature: bool = True, **strength) -> None:
    problem, params = jet_problem(tiny, observation, seed), tiny.start(seed)
    bounds = jacobian_bounds(problem, params)
    assert isinstance(bounds, JetBounds)
    for radius in RADII:
        omega, lipschitz = bounds.on_ball(radius)
        found = largest_change(problem.observed, problem.measure, params, radius, **strength)
        assert 0 < found <= omega * (1 + ROUNDING)
        if not curvature:
            continue
        found = largest_curvature(problem.observed, problem.measure, params, radius, **strength)
        assert 0 < found <= lipschitz * (1 + ROUNDING)


@pytest.mark.parametrize(
    ("tiny", "observation", "curvature"),
    [
        (CASES[1], Jet(), False),
        pytest.param(CASES[1], Jet(), True, marks=pytest.mark.slow),  # long to compile
        pytest.param(CASES[0], Laplacian(), True, marks=pytest.mark.slow),
    ],
    ids=["modulus of a jet", "jet", "Laplacian"],
)
def test_gradient_ascent_does_not_exceed_the_bounds(tiny, observation, curvature):
    attack(tiny, observation, curvature=curvature)


@pytest.mark.slow
@pytest.mark.parametrize("observation", [Jet(), Laplacian()], ids=lambda o: o.name)
@pytest.mark.parametrize("tiny", CASES, ids=str)
def test_gradient_ascent_exceeds_the_bounds_of_no_case(tiny, observation):
    attack(tiny, observation, starts=10, steps=150)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_ascent_exceeds_the_bounds_of_no_activation(name):
    for seed, outputs, in_dim in ((1, 1, 3), (2, 2, 1), (3, 3, 4)):
        tiny = Tiny((20,), name, outputs, in_dim=in_dim, bias_scale=0.4)
        for observation in (Jet(), Laplacian()):
            attack(tiny, observation, seed, starts=10, steps=150)


def test_a_product_of_two_parameters_is_nearly_attained():
    """N = v w x has the jet v w (x, 1): J changes by r sqrt(x^2 + 1), and |D^2 F| is that, too."""
    tiny = Tiny((1,), "identity", outputs=1, points=1, in_dim=1, bias_scale=0.0)
    problem = jet_problem(tiny, Jet())
    size = float(np.hypot(problem.measure.x[0, 0], 1))
    bounds = jacobian_bounds(problem, tiny.start(0))
    for radius in RADII:
        assert size * radius <= bounds.modulus(radius) <= 1.05 * size * radius
        assert size <= bounds.lipschitz(radius) <= size * (1 + 1e-12)
    found = largest_change(problem.observed, problem.measure, tiny.start(0), 1.0)
    assert found == pytest.approx(size, rel=1e-6)


def test_norms_at_the_base_point_against_dense_operators():
    """calK, calB and the pairs from the matrices that they are norms of."""
    tiny = CASES[1]
    problem, params = jet_problem(tiny, Jet()), tiny.start(0)
    point = jacobian_bounds(problem, params).point
    x, w = problem.measure.x, problem.measure.weights
    inner, n, d = 1 / np.sqrt(3), len(x), 3
    jets = [np.column_stack([np.append(inner * row, 1.0), np.eye(4)[:, :3] * inner]) for row in x]
    stack = np.concatenate([np.sqrt(w_i) * b.T for w_i, b in zip(w, jets, strict=True)])
    assert point.jet_norm == pytest.approx(np.linalg.norm(stack, 2), rel=1e-12)
    first = stack.reshape(n, 1 + d, d + 1)[:, 0]
    assert point.input_norm == pytest.approx(np.linalg.norm(first, 2), rel=1e-12)
    sizes = np.array([np.linalg.norm(b[:, 0]) for b in jets])
    norms = np.array([np.linalg.norm(b, 2) for b in jets])
    ways = (
        np.sqrt(w @ (sizes * norms) ** 2),
        sizes.max() * point.jet_norm,
        norms.max() * point.input_norm,
    )
    assert point.jet_pair == pytest.approx(min(ways), rel=1e-12)
    rows = np.linalg.norm(inner * params[0][0], axis=1)
    columns = np.linalg.norm(params[0][1] / 4, axis=0)
    assert point.products == pytest.approx((max(columns * rows), max(columns * rows**2)))
    gram = sum(w_i * b @ b.T for w_i, b in zip(w, jets, strict=True))
    assert point.jet_norm**2 == pytest.approx(eigh(gram, eigvals_only=True)[-1], rel=1e-12)


@pytest.mark.parametrize("observation", [Jet(), Laplacian()], ids=lambda o: o.name)
def test_bounds_are_monotone_and_the_modulus_vanishes_at_zero(observation):
    bounds = jacobian_bounds(jet_problem(CASES[0], observation), CASES[0].start(0))
    values = np.array([bounds.on_ball(r) for r in (0.0, *np.geomspace(1e-6, 1e3, 40))])
    assert values[0, 0] == 0.0
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=0) >= 0).all()


@pytest.mark.slow
def test_the_bounds_fall_like_the_root_of_the_width():
    """A hundred times the width divides them by ten, but for the growth of the largest unit."""
    omegas = []
    for width in (100, 10_000):
        tiny = Tiny((width,), "tanh", outputs=1)
        omegas.append(jacobian_bounds(jet_problem(tiny, Jet()), tiny.start(0)).modulus(0.1))
    assert 5 < omegas[0] / omegas[1] < 12


def test_where_the_theorem_says_nothing_the_modulus_is_estimated(monkeypatch):
    one = np.ones(1)
    found = EstimatedBounds(one, one, one)
    monkeypatch.setattr("overparam.jacobian.bounds.estimate_bounds", lambda *_, **__: found)
    deep = Tiny((6, 5), "tanh", outputs=1)
    laplacian = jet_problem(deep, Laplacian())
    assert jacobian_bounds(laplacian, deep.start(0)) is found
    mine = Activation("mine", jax.nn.tanh, slope_bound=1.0, curvature_bound=0.77)
    model = MLP(3, (6,), activation=mine)
    problem = jet_problem(Tiny((6,), "tanh", outputs=1), Jet())
    theirs = Problem(model, problem.measure, observe="jet")
    params = model.init(jax.random.key(0))
    assert jacobian_bounds(theirs, params) is found
    better = dataclasses.replace(mine, third_bound=2.0)
    ours = Problem(dataclasses.replace(model, activation=better), problem.measure, observe="jet")
    assert isinstance(jacobian_bounds(ours, params), JetBounds)


def test_a_linear_model_has_a_fixed_jacobian():
    tiny = Tiny((), "relu", outputs=2)
    bounds = jacobian_bounds(jet_problem(tiny, Jet()), tiny.start(0))
    assert isinstance(bounds, FixedJacobian)
    assert (bounds.modulus(1e6), bounds.lipschitz(1e6)) == (0.0, 0.0)


@pytest.mark.parametrize(
    "observation",
    [Jet(), pytest.param(Laplacian(), marks=pytest.mark.slow)],
    ids=lambda o: o.name,
)
@pytest.mark.slow
def test_a_network_fitted_to_values_and_derivatives_is_anchored(observation):
    """Sobolev training on a sine wave: certified, and descent keeps to its certificate."""
    x = np.linspace(-1, 1, 4)[:, None]
    parts = (np.sin(2 * x), 2 * np.cos(2 * x)[:, :, None], -4 * np.sin(2 * x))
    y = observation.pack(*parts[: 1 + observation.order])
    model = MLP(1, (512,), activation="tanh", weight_scale=2.0, bias_scale=1.0)
    problem = Problem(model, Measure(x, y), observe=observation)
    found = gauss_newton(problem, model.init(jax.random.key(0)))
    assert found.converged
    certificate = anchor(problem, found.params)
    assert certificate.certified
    assert certificate.rigor == "computed"
    assert "Theorem O1" in certificate.constants["modulus_at_ball"].source
    assert certificate.problem["observe"] == observation.name
    run = gradient_descent(
        *(problem, found.params, certificate.step_size, 50),
        certificate=certificate,
        dtype="float64",
    )
    assert run.certificate_held


@pytest.mark.slow
def test_the_estimate_stays_below_the_safety_factor_times_the_bound():
    tiny = CASES[0]
    problem, params = jet_problem(tiny, Jet()), tiny.start(0)
    proved = jacobian_bounds(problem, params)
    estimate = jacobian_bounds(problem, params, estimated=True, radius=0.5)
    for radius, change in zip(estimate.radii, estimate.change, strict=True):
        assert change <= proved.modulus(radius)
    assert observed(tiny.model, Jet()) == problem.observed
