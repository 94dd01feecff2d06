"""Wide networks trained by gradient descent: what the theory picks, and what it says of them."""

import pickle

import jax
import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine, make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from overparam.certificate.certificate import Certificate
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.model.mlp import MLP
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.sklearn.ridge import NTKRegressor
from overparam.sklearn.wide_network import OverparamClassifier, OverparamRegressor
from overparam.steps.stable_step import stable_step
from overparam.train.gradient_descent import gradient_descent


@pytest.fixture(scope="module")
def friedman():
    return make_friedman1(40, 6, noise=1.0, random_state=0)


@pytest.fixture(scope="module")
def fitted(friedman):
    return OverparamRegressor((64,), max_iter=200, random_state=0).fit(*friedman)


def test_it_is_gradient_descent_with_half_the_stable_step(friedman, fitted):
    x, y = friedman
    x, y = StandardScaler().fit_transform(x), (y - y.mean()) / y.std()
    seed = np.random.RandomState(0).randint(2**32 - 1)
    model = MLP(6, (64,), 1, "gelu", bias_scale=0.5)
    start = model.init(jax.random.key(seed))
    problem = Problem(model, Measure(x, y), centered_at=start)
    assert fitted.step_size_ == pytest.approx(stable_step(problem).step_size / 2)
    run = gradient_descent(problem, start, fitted.step_size_, fitted.n_iter_, dtype="float64")
    np.testing.assert_allclose(fitted.history_.excess, run.history.excess, rtol=1e-6)
    wanted = friedman[1].mean() + friedman[1].std() * problem.predict(run.params)[:, 0]
    np.testing.assert_allclose(fitted.predict(friedman[0]), wanted, rtol=1e-6)


def test_it_stops_at_the_time_of_the_price_with_the_least_leave_one_out_error(friedman, fitted):
    limit = NTKRegressor(depth=1).fit(*friedman)
    assert 40 * fitted.price_ == pytest.approx(limit.alpha_)
    assert fitted.n_iter_ == min(round(1 / (fitted.step_size_ * fitted.price_)), 200)
    assert OverparamRegressor((16,), steps=7, random_state=0).fit(*friedman).n_iter_ == 7


def test_what_the_theory_says_is_computed_when_it_is_asked_for(friedman, fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert not {"certificate_", "risk_bounds_", "min_eigenvalue_"} & vars(again).keys()
    assert isinstance(again.certificate_, Certificate)
    assert again.certificate_.step_size == again.step_size_
    kernel = tangent_kernel(again._problem, again._start)
    assert again.min_eigenvalue_ == pytest.approx(np.linalg.eigvalsh(kernel)[0])
    assert 0 < again.min_eigenvalue_ <= np.linalg.eigvalsh(kernel)[0] * (1 + 1e-9)
    assert again.certificate_ is again.certificate_
    kept = pickle.loads(pickle.dumps(again))
    assert kept.certificate_.reason == again.certificate_.reason
    again.fit(*friedman)
    assert "certificate_" not in vars(again)


@pytest.mark.slow
def test_a_very_wide_network_is_certified_and_its_run_keeps_to_the_certificate():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 32)), rng.standard_normal(6)
    found = OverparamRegressor((32768,), activation="softplus", steps=20, random_state=0).fit(x, y)
    certificate = found.certificate_
    assert certificate.certified, certificate.reason
    envelope = certificate.envelope(np.arange(21))
    assert np.all(found.history_.excess <= envelope * (1 + 1e-9))


@pytest.fixture(scope="module")
def wine():
    x, y = load_wine(return_X_y=True)
    found = OverparamClassifier((32,), max_iter=100, random_state=0).fit(x[::2], y[::2])
    return found, x[1::2], y[1::2]


def test_classes_and_their_probabilities(wine):
    found, x, y = wine
    chances = found.predict_proba(x)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    np.testing.assert_array_equal(found.classes_[chances.argmax(axis=1)], found.predict(x))
    assert -np.mean(np.log(chances[np.arange(len(y)), y])) < 0.2
    assert found.score(x, y) > 0.9


@pytest.mark.slow
def test_bounds_on_the_risk_are_above_the_error_on_other_rows(wine, fitted):
    found, x, y = wine
    assert {bound.loss for bound in found.risk_bounds_} == {"0-1 error"}
    bounds = [bound.value for bound in found.risk_bounds_ if bound.is_bound]
    assert len(bounds) >= 2
    assert min(bounds) > 1 - found.score(x, y)
    assert "the targets' mean and scale" in " ".join(fitted.risk_bounds_[0].caveats)


def test_predictions_do_not_depend_on_the_rows_beside_them(friedman, fitted):
    x, _ = friedman
    each = [fitted.predict(x[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(each, fitted.predict(x)[:5], rtol=1e-10)


def test_a_weight_counts_rows(friedman):
    x, y = friedman
    counts = np.arange(40) % 3
    network = OverparamRegressor((16,), max_iter=50, random_state=0)
    weighted = clone(network).fit(x, y, sample_weight=counts).predict(x)
    repeated = clone(network).fit(np.repeat(x, counts, axis=0), np.repeat(y, counts)).predict(x)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-6)


def test_frames_of_polars_in_a_pipeline(friedman):
    x, y = friedman
    frame = pl.DataFrame({f"feature {i}": x[:, i] for i in range(6)})
    pipe = make_pipeline(StandardScaler(), OverparamRegressor((16,), max_iter=20, random_state=0))
    np.testing.assert_allclose(pipe.fit(frame, y).predict(frame), pipe.fit(x, y).predict(x))


def test_a_step_that_diverges_is_halved_if_the_theory_picked_it(friedman, monkeypatch):
    real = OverparamRegressor._step
    monkeypatch.setattr(OverparamRegressor, "_step", lambda self, top: 50 * real(self, top))
    found = OverparamRegressor((16,), steps=300, random_state=0).fit(*friedman)
    assert np.isfinite(found.predict(friedman[0])).all()
    monkeypatch.undo()
    with pytest.raises(InputError, match="training diverged"):
        OverparamRegressor((16,), steps=300, step_size=1e3, random_state=0).fit(*friedman)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"step_size": "large"}, "step_size must be 'stable' or positive"),
        ({"step_size": -1.0}, "step_size must be positive"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"max_iter": 0}, "max_iter must be a whole number"),
        ({"hidden_widths": (0,)}, "hidden_widths"),
        ({"dtype": "float16"}, "unknown dtype .float16.: .*choose one of"),
    ],
)
def test_parameters_out_of_range_are_named(friedman, given, says):
    with pytest.raises(InputError, match=says):
        OverparamRegressor(**{"hidden_widths": (8,)} | given).fit(*friedman)


def test_before_the_fit_there_is_nothing(friedman):
    network = OverparamRegressor()
    for name in ("certificate_", "history_", "min_eigenvalue_", "risk_bounds_"):
        assert not hasattr(network, name)
    with pytest.raises(NotFittedError):
        network.predict(friedman[0])
