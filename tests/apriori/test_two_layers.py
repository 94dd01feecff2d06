"""Proposition W17: the kernels of drawn networks of two hidden layers are above the bound."""

import math

import numpy as np
import pytest

from overparam import MLP, Measure, infinite_ntk
from overparam.apriori.setting import build_setting
from overparam.apriori.two_layers import EVENTS, TwoLayers, deviation


def points(outputs=1):
    x = 3 * np.array([[1.0, 0.1, 0, 0], [0, 1.0, 0.2, 0]])
    return Measure(x, np.ones((2, outputs)), [1.0, 1.2])


def at(widths, outputs=1, delta=0.9):
    measure = points(outputs)
    setting = build_setting(measure, MLP(4, (1, 1), outputs, "tanh"))
    model = setting.at(widths)
    return setting, TwoLayers(model, setting.spectra, measure.weights, setting.limits, delta)


def limit(setting):
    measure, roots = setting.data, np.sqrt(setting.data.weights)
    whole = infinite_ntk(setting.model, measure.x).ntk * np.outer(roots, roots)
    return np.kron(whole, np.eye(setting.model.out_dim))


def drawn(setting, widths, rng):
    """The weighted tangent kernel of a tanh network, drawn and computed in NumPy."""
    measure, k, (m_1, m_2) = setting.data, setting.model.out_dim, widths
    a = [np.hstack([measure.x / 2, np.full((2, 1), 0.1)])]
    h = np.tanh(a[0] @ rng.standard_normal((m_1, 5)).T)
    a.append(np.hstack([h / math.sqrt(m_1), np.full((2, 1), 0.1)]))
    W, b = rng.standard_normal((m_2, m_1), dtype=np.float32), rng.standard_normal(m_2)
    h_2 = np.tanh(a[1][:, :-1] @ W.T + 0.1 * b)
    a.append(np.hstack([h_2 / math.sqrt(m_2), np.full((2, 1), 0.1)]))
    V = rng.standard_normal((k, m_2))
    upper = V[None] * (1 - h_2**2)[:, None] / math.sqrt(m_2)
    lower = upper @ W / math.sqrt(m_1) * (1 - h**2)[:, None]
    kernel = np.einsum("ij,ab->iajb", a[2] @ a[2].T, np.eye(k))
    for G, inputs in ((upper, a[1]), (lower, a[0])):
        kernel += np.einsum("iam,jbm,ij->iajb", G, G, inputs @ inputs.T, optimize=True)
    roots = np.repeat(np.sqrt(measure.weights), k)
    return kernel.reshape(2 * k, 2 * k) * np.outer(roots, roots)


def test_all_blocks_of_drawn_networks_are_above_the_bound():
    setting, bounds = at((6000, 3000))
    top, share = bounds.bounds()
    assert top > 0.6 * setting.spectra.top
    assert share > 0.04
    for seed in range(2):
        kernel = drawn(setting, (6000, 3000), np.random.default_rng(seed))
        assert np.linalg.eigvalsh(kernel)[0] >= top
        assert np.linalg.eigvalsh(kernel - share * limit(setting))[0] >= 0


def test_the_bound_tends_to_the_whole_limit_and_improves_with_the_widths():
    setting, _ = at((1, 1))
    found = [at((m, 2 * m), delta=0.05)[1].bounds() for m in (10**k for k in (2, 4, 5, 6, 8, 12))]
    tops, shares = np.array(found).T
    assert tops[0] == shares[0] == 0
    assert np.all(np.diff(tops) >= 0)
    assert np.all(np.diff(shares) >= 0)
    assert shares[-1] == pytest.approx(1, abs=1e-3)
    assert tops[-1] == pytest.approx(setting.spectra.top, rel=1e-4)
    exact = np.linalg.eigvalsh(limit(setting))[0]
    assert setting.spectra.kernel == pytest.approx(exact, rel=1e-6)
    assert setting.limiting_min_eigenvalue == setting.spectra.kernel > 1.5 * setting.spectra.top
    wide = setting.kernel_bound(setting.at((10**12, 10**12)))
    assert wide.min_eigenvalue == pytest.approx(exact, rel=1e-3)
    assert wide.modes is setting.spectra.whole


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_the_parts_hold_of_a_drawn_first_layer(activation):
    """tau and the coupling against a hundred Gram matrices drawn in NumPy."""
    measure, m = points(), 10_000
    setting = build_setting(measure, MLP(4, (1, 1), 1, activation))
    model = setting.at((m, m))
    bounds = TwoLayers(model, setting.spectra, measure.weights, setting.limits, 0.9)
    tau = bounds.gram_deviation()
    roots = np.sqrt(measure.weights)
    a = np.hstack([measure.x / 2, np.full((2, 1), 0.1)])
    act = {"tanh": np.tanh, "softplus": lambda z: np.logaddexp(z, 0)}[activation]
    rng = np.random.default_rng(0)
    big = act(rng.standard_normal((400_000, 5)) @ a.T)
    sigma = (big.T @ big / len(big) + 0.01) * np.outer(roots, roots)
    values, vectors = np.linalg.eigh(sigma)
    root, inverse = (vectors * values**power @ vectors.T for power in (0.5, -0.5))
    worst = []
    for _ in range(100):
        h = act(rng.standard_normal((m, 5)) @ a.T)
        hat = (h.T @ h / m + 0.01) * np.outer(roots, roots)
        relative, turn = np.linalg.eigh(inverse @ hat @ inverse)
        off = (turn * np.sqrt(relative) @ turn.T - np.eye(2)) @ root
        apart = np.max(np.linalg.norm(off, axis=0) / roots)
        worst.append([np.max(np.abs(relative - 1)), apart])
    gram, coupled = np.array(worst).T
    assert np.mean(gram > tau) <= 2 * bounds.each
    assert np.mean(coupled > bounds.coupling(tau)) <= bounds.each
    if activation == "tanh":  # of a bounded activation more is known
        assert bounds.coupling(tau) < 30 * np.median(coupled)


def test_the_deviation_solves_the_matrix_bernstein_inequality():
    t = deviation(0.02, 100.0, 0.3)
    assert 100 * math.exp(-(t**2) / 2 / (0.3 + 0.02 * t / 3)) == pytest.approx(1, rel=1e-12)
    assert EVENTS * at((5, 5))[1].each == pytest.approx(0.9)


@pytest.mark.slow
def test_the_bound_fails_no_more_often_than_it_says():
    delta = 0.3
    setting, bounds = at((1000, 1000), outputs=2, delta=delta)
    top, _ = bounds.bounds()
    assert top > 0.2 * setting.spectra.top
    rng = np.random.default_rng(0)
    low = [np.linalg.eigvalsh(drawn(setting, (1000, 1000), rng))[0] for _ in range(1000)]
    assert np.sum(np.array(low) < top) <= delta * 1000
