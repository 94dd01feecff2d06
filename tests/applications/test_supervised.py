"""Regression, classification and plain autoencoders on bundled data."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

from overparam.applications.plain_autoencoder import autoencoder
from overparam.applications.supervised import classification, regression
from overparam.errors import InputError


def test_regression_on_diabetes_with_two_outputs(key, train_to_anchor):
    data = load_diabetes()
    y = np.stack([data.target, data.target**0.5], axis=1)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    app = regression(20 * data.data[:15], y[:15], key, hidden_widths=(128,))
    params, certificate = train_to_anchor(app)
    assert certificate.rigor == "computed"
    np.testing.assert_allclose(app.problem.predict(params), y[:15], atol=1e-8)


@pytest.mark.slow
def test_classes_of_iris(key, train_to_anchor):
    data = load_iris()
    rows = np.r_[:5, 50:55, 100:105]
    x = data.data[rows] - data.data.mean(axis=0)
    app = classification(x, data.target_names[data.target[rows]], key, hidden_widths=(256,))
    params, _ = train_to_anchor(app)
    predicted = np.argmax(app.problem.predict(params), axis=1)
    np.testing.assert_array_equal(predicted, data.target[rows])


def test_two_classes_are_one_output(digits, key):
    app = classification(digits[0][:6], ["b", "a", "b", "a", "b", "b"], key)
    np.testing.assert_array_equal(app.problem.targets[:, 0], [1, -1, 1, -1, 1, 1])
    with pytest.raises(InputError, match="name 1 class"):
        classification(digits[0][:2], [0, 0], key)


@pytest.mark.slow
def test_an_autoencoder_with_a_narrow_layer(small_digits, key, train_to_anchor):
    app = autoencoder(small_digits[0][:6], 2, key, width=96)
    assert app.problem.model.hidden_widths == (96, 2, 96)
    params, certificate = train_to_anchor(app)
    assert certificate.rigor == "computed"
    np.testing.assert_allclose(app.problem.predict(params), small_digits[0][:6], atol=1e-7)


def test_a_denoising_one_sees_noise_and_answers_without(digits, key):
    measure = autoencoder(digits[0][:6], 2, key, width=8, noise=0.5).problem.measure
    np.testing.assert_array_equal(measure.y, digits[0][:6])
    assert 0.4 < (measure.x - measure.y).std() < 0.6
