"""Theorems W8 and W9 and their parts, held against drawn networks in plain NumPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from test_along_run import BIAS, SCALE, Drawn, conditions, network, points

from overparam import MLP, Measure
from overparam.apriori import a_priori_coefficients, required_width
from overparam.apriori.conditions import Step, conditions_at
from overparam.apriori.one_layer import linear_run_drift
from overparam.apriori.setting import build_setting
from overparam.theorems.distance import distance_to_minimisers


def norm(symmetric):
    return float(np.abs(np.linalg.eigvalsh(symmetric)).max())


def linear_run(drawn, eta, steps):
    """alpha_t of thetabar_t = theta_0 + J_0* alpha_t, by modes of the network's own kernel."""
    values, vectors = np.linalg.eigh(drawn.kernel())
    parts = vectors.T @ (drawn.root * drawn.measure.y).ravel()
    gone = 1 - (1 - eta * values) ** np.asarray(steps)[:, None]
    return gone * (parts / values) @ vectors.T


def largest_drift(drawn, eta, steps=(1, 3, 10, 30, 100, 1000, 10**5)):
    kernel, worst = drawn.kernel(), 0.0
    for alpha in linear_run(drawn, eta, steps):
        dw, dV, _ = drawn.moved(alpha)
        worst = max(worst, norm(drawn.at(dw, dV).kernel() - kernel))
    return worst


def first_change(drawn, dw, dV, h=1e-4):
    """The kernel's derivative in a direction, by central differences."""
    return (drawn.at(h * dw, h * dV).kernel() - drawn.at(-h * dw, -h * dV).kernel()) / (2 * h)


@pytest.mark.parametrize(("activation", "outputs"), [("sin", 1), ("tanh", 2)])
def test_the_kernels_first_change_is_odd_in_the_signs_that_the_kernel_does_not_see(
    activation, outputs
):
    measure = points(4, 5, outputs, weighted=True)
    rng = np.random.default_rng(0)
    drawn = Drawn.of(measure, activation, 30, rng)
    turned = Drawn(measure, activation, drawn.w, -drawn.V)
    assert norm(turned.kernel() - drawn.kernel()) < 1e-12
    (alpha,) = linear_run(drawn, 0.1, [5])
    change = first_change(drawn, *drawn.moved(alpha)[:2])
    opposite = first_change(turned, *turned.moved(alpha)[:2])
    assert norm(change + opposite) < 1e-6 * norm(change)


@pytest.mark.parametrize("activation", ["sin", "tanh"])
def test_what_is_beyond_the_first_change_is_within_its_share(activation):
    """The terms of second order for measured norms: no probability in them."""
    measure = points(4, 6)
    _, _, layer = conditions(measure, activation, 60)
    rng = np.random.default_rng(2)
    act, third = layer.model.act, layer.model.act.third_bound
    for _ in range(3):
        drawn = Drawn.of(measure, activation, 60, rng)
        kernel, lengths = drawn.kernel(), np.linalg.norm(drawn.V, axis=0)
        features = drawn.c * math.sqrt(np.max(np.sum((drawn.root * drawn.h) ** 2, axis=0)))
        for alpha in rng.standard_normal((3, 4)):
            dw, dV, db = drawn.moved(alpha)
            distance = math.sqrt(np.sum(dw**2) + np.sum(dV**2) + np.sum(db**2))
            dw, dV = 2 * dw / distance, 2 * dV / distance
            typical = math.sqrt(np.sum(lengths**2 * np.sum(dw**2, axis=1))) / 2
            beyond = drawn.at(dw, dV).kernel() - kernel - first_change(drawn, dw, dV)
            bound = linear_run_drift(
                turn=layer.turn,
                bend=layer.bend,
                third=layer.bend * third / act.curvature_bound * layer.longest,
                features=features,
                typical=typical,
                largest=0.0,
                distance=2.0,
                spread=0.0,
            )
            assert norm(beyond) <= bound
            assert norm(beyond) > bound / 300


def test_the_kernel_drifts_along_the_linearised_run_by_no_more_than_the_bound():
    measure, eta, slack = points(), 0.05, {}
    for m in (2000, 32_000):
        _, found, layer = conditions(measure, "sin", m)
        bound = layer.kernel_drift(found.run)
        drawn = Drawn.of(measure, "sin", m, np.random.default_rng(m))
        slack[m] = bound / largest_drift(drawn, eta)
        assert slack[m] > 1
    assert slack[32_000] < 3 * slack[2000]  # the same rate as the truth, 1 / m
    assert slack[32_000] < 400


def test_the_drift_and_the_ratio_fall_like_one_over_the_width():
    measure = points()
    learnable = Measure(measure.x, np.sign(measure.x[:, :1]))
    widths = 4 ** np.arange(10, 13)
    found = [
        a_priori_coefficients(learnable, replace(network(learnable), hidden_widths=(m,)))
        for m in widths.tolist()
    ]
    drifts = np.array([c["kernel_drift"] for c in found])
    ratios = np.array([c["distance_ratio"] - 1 for c in found])
    for values in (drifts, ratios):
        exponents = np.diff(np.log(values)) / np.log(4)
        assert np.all(exponents < -0.9), exponents  # -1/2 for the worst case's drift
    assert ratios[-1] < 1e-3


def closest_interpolant(drawn):
    """Its distance, by projections onto the linearised constraints; the network is centred."""
    missing = drawn.measure.y + drawn.outputs()
    now, dw, dV, db = drawn, 0 * drawn.w, 0 * drawn.V, np.zeros(len(drawn.V))
    for _ in range(12):
        linear = now.c * (now.h @ dV.T + (now.slope * (now.a @ dw.T)) @ now.V.T)
        alpha = np.linalg.solve(
            now.kernel(), (now.root * (missing - now.outputs() + linear)).ravel()
        )
        dw, dV, db = now.moved(alpha)
        now = drawn.at(dw, dV)
    reached = now.outputs() - drawn.outputs() + SCALE * BIAS * db
    assert reached == pytest.approx(drawn.measure.y, abs=1e-9)
    return math.sqrt(np.sum(dw**2) + np.sum(dV**2) + np.sum(db**2))


@pytest.mark.parametrize(("activation", "outputs"), [("sin", 1), ("tanh", 2)])
def test_no_minimiser_is_closer_than_the_dual_vectors_say(activation, outputs):
    measure, m = points(4, 6, outputs, weighted=True), 20_000
    model = replace(network(measure, activation), hidden_widths=(m,))
    setting = build_setting(measure, model, failure_probability=0.5)
    found = conditions_at(setting, model, Step())
    modes = found.kernel.modes
    energies = setting.energies(modes)
    limit = modes.vectors * (modes.values + modes.lowered) @ modes.vectors.T
    y = np.sqrt(measure.weights)[:, None] * measure.y
    majorant = replace(found.majorant, modulus=found.layer.modulus(found.majorant.radii))
    coefficients = a_priori_coefficients(measure, model, failure_probability=0.5)
    for seed in range(2):
        drawn = Drawn.of(measure, activation, m, np.random.default_rng(seed))
        kernel, bounds = drawn.kernel(), []
        for ridge in (0.0, modes.values[0], modes.values[-1]):
            dual = found.layer.dual(modes, energies, float(ridge))
            v = np.linalg.solve(modes.vectors * (modes.values + ridge) @ modes.vectors.T, y).ravel()
            assert dual.norm == pytest.approx(np.linalg.norm(v))
            assert dual.alignment == pytest.approx(v @ y.ravel())
            assert v @ kernel @ v <= dual.pull**2
            assert dual.pull**2 < 1.5 * v @ np.kron(limit, np.eye(outputs)) @ v
            bounds.append(
                distance_to_minimisers(
                    majorant=majorant, jacobian_norm=1.0, smoothness=1.0, excess=0.0, dual=dual
                )
            )
        near = closest_interpolant(drawn)
        assert 0.9 * near < max(bounds) <= near <= coefficients["limit_distance"]


def test_losses_with_one_minimiser_have_the_ratio_and_others_do_not():
    measure = points()
    learnable = Measure(measure.x, np.sign(measure.x[:, :1]))
    ratios = {
        (loss, m): a_priori_coefficients(
            learnable, MLP(measure.dim, (m,), 1, "sin", output_scale=6.0), loss
        )["distance_ratio"]
        for loss in ("log_cosh", "squared_hinge")
        for m in (4**11, 4**13)
    }
    assert ratios["log_cosh", 4**13] - 1 < (ratios["log_cosh", 4**11] - 1) / 14
    assert ratios["squared_hinge", 4**13] > 1.5


@pytest.mark.slow
def test_the_bounds_fail_no_more_often_than_they_may():
    """A thousand draws: the drift, and the pull of three dual vectors, at once."""
    measure, delta, width, eta = points(4, 6), 0.2, 500, 0.05
    _, found, layer = conditions(measure, "sin", width, delta)
    modes, bound = found.kernel.modes, layer.kernel_drift(found.run)
    y = np.sqrt(measure.weights)[:, None] * measure.y
    energies = np.sum((modes.vectors.T @ y) ** 2, axis=1)
    duals = []
    for ridge in (0.0, float(modes.values[0]), float(modes.values[-1])):
        v = modes.vectors @ ((modes.vectors.T @ y)[:, 0] / (modes.values + ridge))
        duals.append((v, layer.dual(modes, energies, ridge).pull ** 2))
    rng, fails, slack = np.random.default_rng(0), 0, []
    for _ in range(1000):
        drawn = Drawn.of(measure, "sin", width, rng)
        kernel, drift = drawn.kernel(), largest_drift(drawn, eta, (3, 30, 10**5))
        slack.append(bound / drift)
        fails += drift > bound or any(v @ kernel @ v > most for v, most in duals)
    assert fails <= delta * 1000
    assert 1 < np.median(slack) < 300  # 263: of the four events and the units, each at its worst


@pytest.mark.slow
def test_descent_itself_stays_within_the_drift_and_the_ratio():
    """Three runs to their end, at a width of four times the least that is certified."""
    measure = points()
    learnable = Measure(measure.x, np.sign(measure.x[:, :1]))
    answer = required_width(learnable, network(learnable), failure_probability=0.5)
    m = 4 * answer.width
    found = answer.at(m)
    eta, drifts, ratios = found["step_size"], [], []
    for seed in range(3):
        drawn = Drawn.of(learnable, "sin", m, np.random.default_rng(seed))
        kernel, now, bias = drawn.kernel(), drawn, np.zeros(1)
        drifts.append(0.0)
        for t in range(2000):
            values = now.outputs() - drawn.outputs() + SCALE * BIAS * bias
            missing = drawn.root * (learnable.y - values)
            if np.linalg.norm(missing) < 1e-5:
                break
            dw, dV, db = now.moved(missing)
            now, bias = now.at(eta * dw, eta * dV), bias + eta * db
            if t % 10 == 0:
                drifts[-1] = max(drifts[-1], norm(now.kernel() - kernel))
        end = np.sum((now.w - drawn.w) ** 2) + np.sum((now.V - drawn.V) ** 2) + bias @ bias
        ratios.append(math.sqrt(end) / closest_interpolant(drawn))
    assert 1 < found["kernel_drift"] / max(drifts) < 500
    assert max(ratios) <= found["distance_ratio"]
