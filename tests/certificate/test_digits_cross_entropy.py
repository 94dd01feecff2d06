"""Ten classes of real digits with smoothed cross-entropy, certified at trained parameters."""

import jax
import numpy as np
import pytest

from overparam import MLP, Problem, anchor, gauss_newton, gradient_descent
from overparam.data import load


@pytest.mark.slow
@pytest.mark.parametrize(
    ("points", "width", "smoothing"), [(40, 128, 0.1), (400, 512, 0.1), (100, 512, 0.01)]
)
def test_ten_digits_are_certified_by_anchoring(points, width, smoothing):
    data = load("digits", samples=points, test_fraction=0)
    model = MLP(data.train.dim, (width, width), data.coding.outputs)
    start = model.init(jax.random.key(0))
    loss = f"smoothed_cross_entropy:{smoothing}"
    problem = Problem(model, data.train, loss, centered_at=start)
    assert model.out_dim == 10
    trained = gauss_newton(problem, start)
    assert trained.converged
    certificate = anchor(problem, trained.params)
    assert certificate.certified
    assert certificate.constants["pl_constant"].value == pytest.approx(smoothing / 10, rel=1e-4)
    run = gradient_descent(
        *(problem, trained.params, certificate.step_size, 30),
        certificate=certificate,
        dtype="float64",
    )
    assert run.certificate_held  # at every step, down to an excess of 1e-20
    # The minimum is no zero loss: the network answers with the smoothed labels.
    assert problem.infimum > 0.01
    z = np.asarray(problem.predict(trained.params))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = np.where(problem.targets > 0, 1 - 0.9 * smoothing, smoothing / 10)
    np.testing.assert_allclose(p, labels, atol=1e-6)
