"""The smallest eigenvalue of drawn kernels is above the bound, as often as promised."""

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, infinite_ntk
from overparam.apriori.eigenvalue import (
    bound_from_units,
    limit_spectra,
    min_eigenvalue_bound,
    root_deviation,
)
from overparam.apriori.inputs import lifted_norms
from overparam.apriori.wide_limits import limits
from overparam.kernel.infinite.layer_kernels import layer_kernels
from overparam.kernels import tangent_kernel


def points(n=4, dim=6):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, dim))
    return Measure(x, rng.standard_normal(n), rng.uniform(1, 2, n))


def known(model, measure):
    norms = np.linalg.norm(measure.x, axis=1)
    first = lifted_norms(norms, measure.dim, model.weight_scale, model.bias_scale)
    return limit_spectra(model, measure), measure.weights, limits(model, first)


def by_width(measure, widths, depth):
    """The bound at several widths; what the limits are is computed once."""
    what = known(MLP(6, (1,) * depth, activation="tanh"), measure)
    networks = [MLP(6, (m,) * depth, activation="tanh") for m in widths]
    return what[0], [min_eigenvalue_bound(network, *what, 0.05) for network in networks]


@pytest.mark.parametrize(("activation", "outputs"), [("tanh", 1), ("gelu", 2)])
@pytest.mark.sample(1)
def test_one_hidden_layer_fails_no_more_often_than_it_says(activation, outputs):
    measure, delta = points(), 0.5
    measure = Measure(measure.x, np.zeros((measure.n, outputs)), measure.weights)
    model = MLP(6, (3000,), outputs, activation)
    what = known(model, measure)
    lower = min_eigenvalue_bound(model, *what, delta)
    assert lower > 0.2 * what[0].kernel
    problem, found = Problem(model, measure), []
    for seed in range(20):
        with jax.enable_x64(True):
            params = model.init(jax.random.key(seed), dtype=np.float64)
        found.append(np.linalg.eigvalsh(tangent_kernel(problem, params))[0])
    assert np.mean(np.array(found) < lower) <= delta


@pytest.mark.slow
def test_it_tends_to_the_limit_and_never_falls_with_the_width():
    measure = points()
    limit, found = by_width(measure, [10**k for k in (1, 3, 4, 5, 6, 8, 12)], 1)
    weighted = infinite_ntk(MLP(6, (1,), activation="tanh"), measure.x).ntk
    weighted = weighted * np.sqrt(np.outer(measure.weights, measure.weights))
    assert limit.kernel == pytest.approx(np.linalg.eigvalsh(weighted)[0], rel=1e-6)
    assert limit.top == pytest.approx(limit.kernel, rel=1e-9)
    assert limit.diagonal == pytest.approx(np.diag(weighted).min(), rel=1e-12)
    assert found[0] == 0.0
    assert np.all(np.diff(found) >= 0)
    assert found[-1] == pytest.approx(limit.kernel, rel=1e-4)


def test_deeper_networks_tend_to_their_two_topmost_blocks():
    measure = points()
    for depth in (2, 3):
        spectra, found = by_width(measure, [10**k for k in (3, 6, 8, 10, 14)], depth)
        assert 0 < spectra.top < spectra.kernel
        assert np.all(np.diff(found) >= 0)
        assert found[-1] == pytest.approx(spectra.top, rel=1e-3)


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def draw_layer(gram, model, width, rng):
    """The Gram matrix of the next layer's inputs: units are independent given this layer's."""
    z = root(gram) @ rng.standard_normal((len(gram), width))
    h = np.tanh(z)
    return model.weight_scale**2 / width * h @ h.T + model.bias_scale**2


def test_gram_matrices_of_layers_deviate_no_more_than_the_bound():
    """Drawn in function space, where no weight matrix between wide layers is needed."""
    measure, delta, widths = points(), 0.5, (200_000, 200_000, 1)
    model = MLP(6, widths, activation="tanh")
    spectra, weights, found = known(model, measure)
    allowed = root_deviation(model, spectra, weights, found, delta / 2)
    assert np.isfinite(allowed)
    layers = layer_kernels(model, measure.x)
    roots = np.sqrt(np.outer(weights, weights))
    rng, apart = np.random.default_rng(0), []
    for _ in range(10):
        gram = layers.inputs[0]
        for width in widths[:2]:
            gram = draw_layer(gram, model, width, rng)
        apart.append(np.linalg.norm(root(gram * roots) - root(layers.inputs[2] * roots)))
    assert np.mean(np.array(apart) > allowed) <= delta
    assert allowed < 100 * np.median(apart)


def test_truncation_against_the_plain_mean_of_bounded_units():
    """A million units: the bound is near the eigenvalue, and scales like the output's square."""

    def bound(min_eigenvalue, width=10**6, output_scale=1.0):
        return bound_from_units(
            model=MLP(6, (width,), activation="tanh", output_scale=output_scale),
            min_eigenvalue=min_eigenvalue,
            **{"gram_norm": 1.0, "feature_norm": 0.5, "samples": 10},
            failure_probability=0.05,
        )

    once = bound(0.02)
    assert 0.8 * 0.02 < once < 0.02
    assert bound(0.08, output_scale=2.0) == pytest.approx(4 * once, rel=1e-9)
    assert bound(0.02, width=10) == 0.0
