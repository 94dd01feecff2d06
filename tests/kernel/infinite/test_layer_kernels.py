"""The limits layer by layer add up to the kernels, and are those of a slow quadrature."""

import numpy as np
import pytest

from overparam import MLP, infinite_ntk
from overparam.kernel.infinite.layer_kernels import layer_kernels


@pytest.mark.parametrize("activation", ["tanh", "erf", "gelu"])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.sample(3)
def test_the_layers_add_up_to_the_kernel(activation, depth):
    x = np.random.default_rng(0).standard_normal((5, 3))
    x[1] = x[0] * (1 + 1e-9)
    model = MLP(3, (1,) * depth, activation=activation, weight_scale=1.2, bias_scale=0.3)
    layers = layer_kernels(model, x)
    kernel = layers.inputs[0]
    for sigma, slope in zip(layers.inputs[1:], layers.slopes, strict=True):
        kernel = sigma + 1.2**2 * kernel * slope
    whole = infinite_ntk(model, x)
    np.testing.assert_allclose(kernel, whole.ntk, rtol=1e-12)
    np.testing.assert_allclose(layers.inputs[-1], whole.nngp, rtol=1e-12)
    assert all(np.array_equal(gram, gram.T) for gram in (*layers.inputs, *layers.slopes))


def test_one_layer_by_hand():
    """E[act'(u) act'(v)] of tanh at two points, on a product grid."""
    x = np.array([[1.0, 0.0], [0.6, 0.8]])
    model = MLP(2, (1,), activation="tanh", bias_scale=0.0)
    layers = layer_kernels(model, x)
    np.testing.assert_allclose(layers.inputs[0], x @ x.T / 2, rtol=1e-12)
    z, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    first, second = np.meshgrid(z, z, indexing="ij")
    u = np.sqrt(0.5) * first
    v = np.sqrt(0.5) * (0.6 * first + 0.8 * second)
    expected = w @ (np.cosh(u) ** -2.0 * np.cosh(v) ** -2.0) @ w
    assert layers.slopes[0][0, 1] == pytest.approx(expected, rel=1e-8)
