"""What the tests of applications share: small data, and training to an anchor."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from overparam.certificate.certify import anchor
from overparam.train.gauss_newton import gauss_newton
from overparam.train.gradient_descent import gradient_descent


@pytest.fixture(scope="session")
def digits():
    """Images with grey values 0 to 8, and their classes."""
    data = load_digits()
    return data.data / 2, data.target


@pytest.fixture(scope="session")
def small_digits():
    """The same images averaged over blocks of four pixels: shape (n, 16)."""
    data = load_digits()
    blocks = data.images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
    return blocks.reshape(-1, 16) / 2, data.target


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def train_to_anchor():
    """Gauss-Newton, an anchored certificate, and gradient descent held to it."""

    def run(app, steps=5, tolerance=1e-10):
        found = gauss_newton(app.problem, app.params, tolerance=tolerance, max_steps=60)
        certificate = anchor(app.problem, found.params)
        assert certificate.holds, certificate.reason
        descent = gradient_descent(
            app.problem,
            found.params,
            certificate.step_size,
            steps,
            certificate=certificate,
            dtype="float64",
        )
        assert descent.certificate_held
        return found.params, certificate

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)
