"""Sobolev training: a teacher distilled with its gradients."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from overparam.applications.sobolev_training import sobolev, values_and_gradients
from overparam.errors import InputError
from overparam.model.mlp import MLP


def teacher(params, x):
    """A plain JAX function: sin(<a, x>) and its square."""
    wave = x @ params["a"][:, None]
    return np.sin(1) * wave + wave**2


def test_values_and_gradients_of_a_known_function(rng):
    a, x = rng.normal(size=3), rng.normal(size=(5, 3))
    values, gradients = values_and_gradients(teacher, {"a": a}, x)
    inner = x @ a
    np.testing.assert_allclose(values[:, 0], np.sin(1) * inner + inner**2, rtol=1e-13)
    np.testing.assert_allclose(
        gradients[:, 0], (np.sin(1) + 2 * inner)[:, None] * a[None], rtol=1e-13
    )


@pytest.mark.slow
def test_a_network_on_diabetes_is_distilled_with_its_gradients(key, train_to_anchor):
    x = 20 * load_diabetes().data[:6]
    model = MLP(10, (24, 24), 2, "tanh")
    values, gradients = values_and_gradients(model, model.init(key), x)
    app = sobolev(x, values, gradients, key, model=MLP(10, (96,), 2, "tanh"), gradient_weight=0.5)
    params, certificate = train_to_anchor(app)
    assert certificate.constants["smoothness"].value == 1.0
    assert certificate.constants["pl_constant"].value == 0.5
    seen = np.asarray(app.problem.predict(params)).reshape(6, 2, 11)
    np.testing.assert_allclose(seen[:, :, 0], values, atol=1e-8)
    np.testing.assert_allclose(seen[:, :, 1:], gradients, atol=1e-8)


def test_bad_input_is_refused(rng, key):
    x = rng.normal(size=(4, 3))
    with pytest.raises(InputError, match="gradients have 2 components but x has 3 features"):
        sobolev(x, np.zeros(4), np.zeros((4, 2)), key)
    with pytest.raises(InputError, match="differ in points"):
        sobolev(x, np.zeros(4), np.zeros((3, 3)), key)
    with pytest.raises(InputError, match="'relu'"):
        sobolev(x, np.zeros(4), np.zeros((4, 3)), key, model=MLP(3, (8,), 1, "relu"))


def test_a_model_for_other_points_is_refused(key):
    with pytest.raises(InputError, match="takes 2 features to 1 outputs, this problem needs 3 and"):
        sobolev(np.eye(3), np.zeros(3), np.zeros((3, 3)), key, model=MLP(2, (8,)))
