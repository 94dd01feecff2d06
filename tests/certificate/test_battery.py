"""Theorems 1 and 1' against runs: every claim of a certificate, at every step, in float64.

Each problem is brought close to where its certificate begins to hold, since there the claims are
tightest.
"""

import math

import numpy as np
import pytest

from dense_network import SMOOTH, DenseNetwork
from descent import SLACK, descend, hold, rounding
from overparam import Problem, anchor, certify, gradient_descent
from tiny import Tiny

SHAPES = (
    Tiny((48,), "gelu", outputs=1),
    Tiny((16,), "sin", outputs=3, points=4, bias_scale=1.0),
    Tiny((24, 12), "tanh", outputs=2, points=4, output_scale=2.5),
    Tiny((12, 16, 12), "softplus", outputs=1, points=4, weight_scale=1.5),
)

ALL_SHAPES = tuple(
    Tiny(hidden, activation, outputs, points=3 if activation == "identity" else 4, bias_scale=0.5)
    for activation in SMOOTH
    for outputs, hidden in ((1, ()), (2, (32,)), (1, (16, 20)), (2, (12, 9, 11)))
    if hidden or activation == "identity"
)


def near_the_boundary(tiny: Tiny, seed: int, margin: float):
    """A centred model with targets scaled so that max Psi / rho is about ``margin``."""
    start = tiny.start(seed)
    unscaled = certify(tiny.problem(seed, centred=True), start, theorem="1")
    scale = unscaled.margin / margin
    return tiny.problem(seed, centred=True, target_scale=scale), start


def interpolate(problem: Problem, params) -> np.ndarray:
    """Damped Gauss-Newton on dense Jacobians until F = y."""
    network = DenseNetwork(problem.model, problem.measure)
    theta = network.flat(params)
    roots = np.sqrt(problem.measure.weights)[:, None]
    for step in range(60):
        residual = (roots * (problem.targets - network.values(theta))).ravel()
        damping = 0.3 if step < 20 else 1.0
        theta = theta + damping * np.linalg.pinv(network.jacobian(theta), rcond=1e-13) @ residual
    return theta


def near_an_anchor(tiny: Tiny, seed: int, loss: str):
    """The farthest start on a ray from an interpolating network that is still certified."""
    problem = tiny.problem(seed, loss)
    network = DenseNetwork(tiny.model, problem.measure)
    theta = interpolate(problem, tiny.start(seed))
    ray = np.random.default_rng(seed).standard_normal(theta.shape)
    ray /= np.linalg.norm(ray)
    roots = np.sqrt(problem.measure.weights)[:, None]
    if (roots * problem.targets).ravel() @ network.jacobian(theta) @ ray > 0:
        ray = -ray  # so that some y_i F(x_i) falls below 1, and the squared hinge is not zero
    for exponent in range(1, 12):
        params = network.params(theta + 4.0**-exponent * ray)
        if (certificate := anchor(problem, params)).certified and certificate.residual > 0:
            return problem, params
    pytest.fail("no start near an interpolating network is certified")


def starts(tiny: Tiny, seed: int):
    yield near_the_boundary(tiny, seed, margin=1.02)
    yield near_the_boundary(tiny, seed, margin=5.0)
    yield near_an_anchor(tiny, seed, "squared")
    yield near_an_anchor(tiny, seed, "squared_hinge")


def battery(tiny: Tiny, seed: int, steps: int) -> None:
    for problem, params in starts(tiny, seed):
        chosen = certify(problem, params, budget=0)
        assert chosen.certified
        for factor in (1.0, 0.5, 1.3):
            eta = factor * chosen.step_size
            certificate = chosen if factor == 1 else certify(problem, params, eta, budget=0)
            if certificate.certified:
                assert certificate.step_size == eta
                hold(certificate, descend(problem, params, eta, steps), rounding(problem))


@pytest.mark.parametrize("tiny", SHAPES, ids=str)
@pytest.mark.slow
def test_runs_follow_their_certificates(tiny):
    battery(tiny, seed=0, steps=100)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", ALL_SHAPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_runs_follow_their_certificates(tiny, seed):
    battery(tiny, seed, steps=400)


@pytest.mark.slow
def test_the_packages_own_run_follows_its_certificate_to_the_end():
    problem, start = near_the_boundary(SHAPES[2], seed=4, margin=2.0)
    certificate = certify(problem, start, budget=0)
    result = gradient_descent(
        problem, start, certificate.step_size, 400, certificate=certificate, dtype="float64"
    )
    assert result.certificate_held
    plain = descend(problem, start, certificate.step_size, 400)
    np.testing.assert_allclose(result.history.excess, plain.excess, rtol=1e-6, atol=1e-28)
    np.testing.assert_allclose(result.history.path_length, plain.path, rtol=1e-9)


def newton_flow(problem: Problem, params, until: float = 21.0, step: float = 0.25):
    """Theorem 1's path theta' = J^+ (h* - F) by Runge-Kutta: its length and last residual."""
    network = DenseNetwork(problem.model, problem.measure)
    offset = (
        0.0 if problem.centered_at is None else network.values(network.flat(problem.centered_at))
    )
    roots = np.sqrt(problem.measure.weights)[:, None]

    def residual(theta):
        return (roots * (problem.targets - network.values(theta) + offset)).ravel()

    def velocity(theta):
        return np.linalg.pinv(network.jacobian(theta), rcond=1e-14) @ residual(theta)

    theta, length = network.flat(params), 0.0
    for _ in range(int(until / step)):
        a = velocity(theta)
        b = velocity(theta + step / 2 * a)
        c = velocity(theta + step / 2 * b)
        d = velocity(theta + step * c)
        move = step / 6 * (a + 2 * b + 2 * c + d)
        theta, length = theta + move, length + float(np.linalg.norm(move))
    return length, float(np.linalg.norm(residual(theta)))


@pytest.mark.parametrize("tiny", SHAPES[:3], ids=str)
@pytest.mark.parametrize("stretches", [(1.2, 1.0), (4.0, 2.0, 1.5, 0.1)], ids=["near", "far"])
@pytest.mark.slow
def test_the_newton_flow_ends_at_a_minimiser_within_the_existence_radius(tiny, stretches):
    start = tiny.start(0)
    unscaled = certify(tiny.problem(0, centred=True), start, theorem="1")
    for stretch in stretches:  # beyond 1 gradient descent is not certified
        scale = unscaled.margin * stretch
        problem = tiny.problem(0, centred=True, target_scale=scale * (1 - 1e-6))
        certificate = certify(problem, start, budget=0)
        if certificate.exists:
            length, residual = newton_flow(problem, start)
            assert residual <= 1e-9 * certificate.residual
            # Chords of the path, each shorter than its arc.
            assert length <= certificate.existence_radius * (1 + SLACK)
            assert certificate.existence_radius <= certificate.radius
            closest = certificate.constants["distance_lower_bound"].value
            assert closest <= length * (1 + SLACK)
    assert certificate.certified


def test_existence_reaches_beyond_convergence():
    tiny = SHAPES[0]
    unscaled = certify(tiny.problem(0, centred=True), tiny.start(0), theorem="1")
    problem = tiny.problem(0, centred=True, target_scale=1.01 * unscaled.margin)
    certificate = certify(problem, tiny.start(0), theorem="1")
    assert certificate.exists
    assert not certificate.certified
    assert math.isinf(certificate.radius)
    assert math.isfinite(certificate.existence_radius)
