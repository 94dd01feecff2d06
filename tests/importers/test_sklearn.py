"""Networks fitted by scikit-learn, against its own predictions."""

import warnings

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import overparam as op
from overparam import importers


def fit(estimator, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(x, y)


@pytest.fixture(scope="module")
def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return x[:80] * 20, y[:80] / 100


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("hidden", [(12,), (9, 7)])
@pytest.mark.sample(4)
def test_regressor(diabetes, activation, hidden):
    x, y = diabetes
    estimator = fit(
        MLPRegressor(hidden_layer_sizes=hidden, activation=activation, max_iter=5, random_state=0),
        x,
        y,
    )
    network = importers.from_sklearn(estimator)
    assert network.model.widths == (10, *hidden, 1)
    assert network.check(x, estimator.predict(x)) <= 1e-12
    assert network.notes == ()


def test_regressor_of_several_outputs_and_single_precision(diabetes):
    x, y = diabetes
    targets = np.stack([y, -y, y**2], axis=1)
    estimator = fit(
        MLPRegressor(hidden_layer_sizes=(12,), activation="tanh", max_iter=5, random_state=0),
        x.astype(np.float32),
        targets.astype(np.float32),
    )
    assert estimator.coefs_[0].dtype == np.float32
    assert importers.from_sklearn(estimator).check(x, estimator.predict(x)) <= 1e-12


def test_binary_classifier_has_one_logit():
    x, y = load_iris(return_X_y=True)
    x, labels = x[:100], np.array(["a", "b"])[y[:100]]
    estimator = fit(
        MLPClassifier(hidden_layer_sizes=(8,), activation="tanh", max_iter=20, random_state=0),
        x,
        labels,
    )
    network = importers.from_sklearn(estimator)
    logit = network.apply(x)[:, 0]
    probability = estimator.predict_proba(x)[:, 1]
    np.testing.assert_allclose(logit, np.log(probability / (1 - probability)), rtol=1e-10)
    assert np.array_equal(estimator.classes_[(logit > 0).astype(int)], estimator.predict(x))
    assert "before scikit-learn's logistic" in network.notes[0]


def test_classifier_of_many_classes_has_their_logits():
    x, y = load_iris(return_X_y=True)
    estimator = fit(
        MLPClassifier(hidden_layer_sizes=(8,), activation="logistic", max_iter=20, random_state=0),
        x,
        y,
    )
    network = importers.from_sklearn(estimator)
    np.testing.assert_allclose(
        softmax(network.apply(x), axis=1), estimator.predict_proba(x), rtol=1e-11
    )


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (MLPRegressor(), "not fitted: call fit first"),
        (Ridge(), "a Ridge is not supported: give an MLPRegressor"),
        (make_pipeline(StandardScaler(), MLPRegressor()), r"import its last step, estimator\[-1\]"),
        (3, "a int is not supported"),
    ],
)
def test_what_is_no_fitted_network_is_refused(estimator, message):
    with pytest.raises(op.InputError, match=message):
        importers.from_sklearn(estimator)


def test_tampered_coefficients_are_noticed(diabetes):
    x, y = diabetes
    estimator = fit(
        MLPRegressor(hidden_layer_sizes=(6,), activation="tanh", max_iter=2, random_state=0), x, y
    )
    estimator.coefs_[0][0, 0] = np.nan
    with pytest.raises(op.InputError, match=r"coefs_\[0\]\) has a NaN"):
        importers.from_sklearn(estimator)
    estimator.coefs_[0] = np.ones((10, 5))
    with pytest.raises(op.InputError, match="do not belong together"):
        importers.from_sklearn(estimator)
