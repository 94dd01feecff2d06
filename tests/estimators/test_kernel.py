"""The kernel for scikit-learn: its derivatives, and its use in what takes kernels."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.svm import SVC

from limiting_kernels import arc_cosine_limits
from overparam.errors import InputError
from overparam.sklearn.kernel import NTKKernel

X = np.random.default_rng(0).standard_normal((12, 3))


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_it_is_the_closed_form_of_one_relu_layer(kind):
    kernel = NTKKernel(1, "relu", weight_scale=1.3, bias_scale=0.4, kind=kind)
    limits = arc_cosine_limits(X[:5], X, weight_scale=1.3, bias_scale=0.4)
    wanted = limits[0] if kind == "ntk" else limits[1]
    np.testing.assert_allclose(kernel(X[:5], X), wanted, rtol=1e-8)
    np.testing.assert_allclose(kernel.diag(X[:5]), np.diag(wanted[:, :5]), rtol=1e-8)


@pytest.mark.parametrize(
    ("kernel", "free"),
    [
        (NTKKernel(2, "gelu", 1.2, 0.4), 2),
        (NTKKernel(1, "tanh", 0.8, 0.3, kind="nngp"), 2),
        (NTKKernel(2, "relu", 1.2, 0.4, weight_scale_bounds="fixed"), 1),
        (NTKKernel(1, "erf", 1.2, 0.0, bias_scale_bounds="fixed"), 1),
    ],
    ids=["gelu", "tanh", "relu", "erf"],
)
@pytest.mark.sample(1)
def test_derivatives_are_those_of_central_differences(kernel, free):
    value, slopes = kernel(X, eval_gradient=True)
    np.testing.assert_allclose(value, kernel(X), rtol=1e-9)
    assert slopes.shape == (12, 12, free)
    assert len(kernel.theta) == free
    for column, direction in enumerate(np.eye(free)):
        ahead, back = (
            kernel.clone_with_theta(kernel.theta + h * direction)(X) for h in (1e-4, -1e-4)
        )
        np.testing.assert_allclose(
            slopes[:, :, column], (ahead - back) / 2e-4, rtol=1e-5, atol=1e-7
        )


def test_a_gaussian_process_finds_scales_that_are_likelier():
    kernel = ConstantKernel(1.0, "fixed") * NTKKernel(1, "erf") + WhiteKernel(0.1, "fixed")
    y = np.sin(2 * X[:, 0]) + X[:, 1] + 1
    found = GaussianProcessRegressor(kernel, random_state=0).fit(X, y)
    before = found.log_marginal_likelihood(kernel.theta)
    assert found.log_marginal_likelihood_value_ > before + 1
    mean, std = found.predict(X, return_std=True)
    assert mean.shape == std.shape == (12,)


def test_kernel_ridge_and_support_vectors_take_it_as_it_is():
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    assert SVC(kernel=NTKKernel()).fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.9
    assert (
        KernelRidge(kernel=NTKKernel(), alpha=0.1).fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.8
    )


def test_it_clones_and_says_what_it_is():
    kernel = NTKKernel(3, "erf", 1.5, 0.2)
    assert clone(kernel) == kernel
    assert repr(kernel).startswith("NTKKernel(")
    assert not kernel.is_stationary()
    with pytest.raises(InputError, match="kind must be ntk or nngp"):
        NTKKernel(kind="nntk")(X)
    with pytest.raises(InputError, match="Y=None"):
        kernel(X, X, eval_gradient=True)
