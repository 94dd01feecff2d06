"""Theorem G8: hypotheses for all points, replaced rows, and the stated confidence."""

from functools import cache

import jax
import numpy as np
import pytest

from overparam import MLP, InputError, Measure, Problem
from overparam.certificate.trajectory_points import steepness_by_layers
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.kernel.empirical.jacobian_change import jacobian_change_gram
from overparam.kernels import empirical_ntk
from overparam.model.function import parameter_distance
from overparam.risk.bounded_loss import ClippedCrossEntropy, ClippedSquared, Ramp, ZeroOne
from overparam.risk.stability import (
    Stability,
    leave_one_out_bound,
    norms_of_all_points,
    uniform_stability,
)
from overparam.train.decayed_minimum import decayed_minimum

RNG = np.random.default_rng(4)


def on_sphere(n, dim, radius):
    x = RNG.standard_normal((n, dim))
    return radius * x / np.linalg.norm(x, axis=1, keepdims=True)


@cache
def network(hidden=(40,)):
    model = MLP(3, hidden, 1, "tanh")
    return model, jax.tree.map(lambda a: np.asarray(a, float), model.init(jax.random.key(1)))


@pytest.mark.parametrize("hidden", [(40,), (12, 9)], ids=str)
def test_norms_hold_for_every_point_of_the_ball(hidden):
    model, start = network(hidden)
    base = norms_of_all_points(model, start, 2.0)
    x = on_sphere(20, 3, 2.0) * np.linspace(0.1, 1.0, 20)[:, None]
    for radius in (0.0, 0.3, 3.0):
        way = jax.tree.map(lambda a: RNG.standard_normal(a.shape), start)
        length = parameter_distance(way, jax.tree.map(np.zeros_like, way))
        there = jax.tree.map(lambda a, w, s=radius / length: a + s * w, start, way)
        omega, lipschitz = MLPBounds(base).on_ball(radius)
        exact = np.sqrt(np.diag(np.asarray(empirical_ntk(model, there, x)))).max()
        assert exact <= steepness_by_layers(base) + omega
        squares = np.diag(jacobian_change_gram(model, start, there, x))
        assert np.sqrt(squares.max()) <= min(omega, lipschitz * radius) * (1 + 1e-9)


def test_no_replaced_row_changes_a_loss_by_more():
    model, start = network()
    x, y = on_sphere(12, 3, 1.5), np.sign(RNG.standard_normal((12, 1)))
    problem = Problem(model, Measure(x, y), "cross_entropy", start, 2.0)
    stability = uniform_stability(problem)
    assert stability.holds
    loss, fresh = ClippedCrossEntropy(5.0), on_sphere(30, 3, 1.5)
    beta, seen = stability.change(13, 1.0), []
    for row in range(2):
        params = []
        for sign in (1.0, -1.0):
            points, targets = np.array(x), np.array(y)
            points[row], targets[row] = on_sphere(1, 3, 1.5)[0], sign
            other = Problem(model, Measure(points, targets), "cross_entropy", start, 2.0)
            params.append(decayed_minimum(other, start).params)
            assert parameter_distance(params[-1], start) <= stability.radius
        one, two = (loss(np.asarray(problem.predict(p, fresh)), np.ones((30, 1))) for p in params)
        seen.append(np.abs(one - two).max())
    assert 0 < max(seen) <= beta
    assert beta < 100 * max(seen)


def test_a_narrow_network_with_little_decay_is_not_stable():
    model, start = network()
    data = Measure(on_sphere(5, 3, 1.5), np.ones((5, 1)))
    weak = uniform_stability(Problem(model, data, "squared", start, 0.01))
    assert not weak.holds
    bound = leave_one_out_bound(weak, np.ones((5, 1)), np.ones((5, 1)), Ramp())
    assert bound.vacuous
    with pytest.raises(InputError, match="centred at what it decays to: centered_at"):
        uniform_stability(Problem(model, data, "squared", weight_decay=1.0))


def test_the_terms_add_up():
    stable = Stability(1.0, slope=1.0, jacobian_norm=2.0, curvature=0.5, strong_convexity=1.0)
    y = np.ones((401, 1))
    bound = leave_one_out_bound(stable, 0.5 * y, y, Ramp(), errors=0.01)
    beta = 2 * 4 / 400
    assert stable.change(401, 1.0) == pytest.approx(beta)
    expected = 0.5 + 0.01 + beta + np.sqrt(19 * (1 / 1604 + beta**2))
    assert bound.value == pytest.approx(expected)
    assert bound.kind == "computed"
    with pytest.raises(InputError, match="no Lipschitz constant"):
        leave_one_out_bound(stable, y, y, ZeroOne())


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_it_fails_no_more_often_than_it_says(confidence):
    """Shrunk means: the minimiser of mean (t - z)^2 / 2 + t^2 / 2, of which all is known."""
    n, draws, failed = 20, 1000, 0
    stable = Stability(1.0, slope=2.0, jacobian_norm=1.0, curvature=-1.0, strong_convexity=2.0)
    loss, p = ClippedSquared(2.0), 0.9
    z = np.where(RNG.uniform(size=(draws, n)) < p, 1.0, -1.0)
    left = (z.sum(axis=1, keepdims=True) - z) / (n - 1) / 2
    whole = z.mean(axis=1) / 2
    risk = p * (whole - 1) ** 2 / 2 + (1 - p) * (whole + 1) ** 2 / 2
    for i in range(draws):
        bound = leave_one_out_bound(
            stable, left[i][:, None], z[i][:, None], loss, confidence=confidence
        )
        failed += risk[i] > bound.value
    assert failed <= (1 - confidence) * draws
