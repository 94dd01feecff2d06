"""Ridge regression with the tangent kernel, against refits and formulas of other libraries."""

import pickle

import jax
import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.datasets import load_wine, make_friedman1
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from overparam.errors import InputError
from overparam.linearised.ridge import fit_ridge
from overparam.sklearn.kernel import NTKKernel
from overparam.sklearn.ridge import NTKClassifier, NTKRegressor

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def friedman():
    x, y = make_friedman1(60, 6, noise=1.0, random_state=0)
    return x, y


def test_the_regressor_is_kernel_ridge_regression(friedman):
    x, y = friedman
    scaled = StandardScaler().fit(x)
    found = NTKRegressor(alpha=0.3).fit(x, y)
    other = KernelRidge(alpha=0.3, kernel=NTKKernel()).fit(
        scaled.transform(x), (y - y.mean()) / y.std()
    )
    new = RNG.random((7, 6))
    wanted = y.mean() + y.std() * other.predict(scaled.transform(new))
    np.testing.assert_allclose(found.predict(new), wanted, rtol=1e-9)


@pytest.mark.parametrize("columns", [1, 2])
def test_leave_one_out_errors_are_those_of_refits(columns):
    """With weights: of refits with one observation less of those that a row stands for."""
    x = RNG.standard_normal((7, 3))
    y = RNG.standard_normal((7, columns))
    weights = np.array([1.0, 3, 0.5, 1, 2, 0.25, 1])
    kernel = NTKKernel()(x)
    fit = fit_ridge(kernel, y, weights, 0.2)
    for row in range(7):
        less = weights.copy()
        less[row] = max(less[row] - 1, 0)
        kept = less > 0
        matrix = kernel[np.ix_(kept, kept)] + 0.2 * np.diag(1 / less[kept])
        left = y[row] - kernel[row, kept] @ np.linalg.solve(matrix, y[kept])
        np.testing.assert_allclose(fit.residuals[row], left, rtol=1e-9)
    total = np.sum(weights[:, None] * fit.residuals**2) / weights.sum()
    assert fit.errors[0] == pytest.approx(total)


def test_the_price_has_the_least_leave_one_out_error(friedman):
    x, y = friedman
    found = NTKRegressor().fit(x, y)
    errors = {
        factor: NTKRegressor(alpha=factor * found.alpha_).fit(x, y).loo_error_
        for factor in (1 / 16, 1 / 2, 1, 2, 16)
    }
    assert min(errors, key=errors.get) == 1
    assert errors[1] == pytest.approx(found.loo_error_)


def test_standard_deviations_are_those_of_a_gaussian_process(friedman):
    x, y = friedman
    found = NTKRegressor().fit(x, y)
    scale = float(found._ridge_fit.scales[0])
    process = GaussianProcessRegressor(
        ConstantKernel(scale) * NTKKernel() + WhiteKernel(scale * found.alpha_),
        alpha=0.0,
        optimizer=None,
    ).fit(found._shift.forward(x), found._targets.forward(y[:, None])[:, 0])
    new = RNG.random((5, 6))
    mean, std = found.predict(new, return_std=True)
    wanted, deviation = process.predict(found._shift.forward(new), return_std=True)
    np.testing.assert_allclose(mean, y.mean() + y.std() * wanted, rtol=1e-8)
    np.testing.assert_allclose(std, y.std() * deviation, rtol=1e-8)
    assert found.noise_ == pytest.approx(y.std() * np.sqrt(scale * found.alpha_))


def test_held_out_targets_lie_within_the_standard_deviations():
    x, y = make_friedman1(500, 8, noise=1.0, random_state=1)
    mean, std = NTKRegressor().fit(x[:200], y[:200]).predict(x[200:], return_std=True)
    errors = (y[200:] - mean) / std
    assert 0.9 < np.mean(np.abs(errors) < 1.96) < 0.99
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(1, abs=0.2)
    _, far = NTKRegressor().fit(x[:200], y[:200]).predict(x[200:] + 5, return_std=True)
    assert far.min() > std.mean()


@pytest.mark.slow
def test_a_wide_network_comes_close_to_the_limit(friedman):
    x, y = friedman
    new = RNG.random((20, 6))
    limit = NTKRegressor(alpha=1.0).fit(x, y).predict(new)
    gaps = {}
    for width in (32, 2048):
        finite = NTKRegressor(width=width, alpha=1.0, random_state=0).fit(x, y)
        gaps[width] = np.abs(finite.predict(new) - limit).max()
        again = NTKRegressor(width=width, alpha=1.0, random_state=0).fit(x, y)
        np.testing.assert_array_equal(again.predict(new), finite.predict(new))
        mean, std = finite.predict(new, return_std=True)
        assert std.shape == mean.shape == (20,)
        assert np.all(std > 0)
    assert gaps[2048] < 0.1 * y.std()
    assert gaps[2048] < gaps[32] / 2


def test_several_targets_and_their_shapes(friedman):
    x, y = friedman
    both = NTKRegressor(alpha=0.5).fit(x, np.column_stack([y, -2 * y]))
    mean, std = both.predict(x[:4], return_std=True)
    one, deviation = NTKRegressor(alpha=0.5).fit(x, y).predict(x[:4], return_std=True)
    np.testing.assert_allclose(mean, np.column_stack([one, -2 * one]), rtol=1e-9)
    np.testing.assert_allclose(std, np.column_stack([deviation, 2 * deviation]), rtol=1e-9)


@pytest.mark.parametrize("make", [NTKRegressor, NTKClassifier])
def test_a_weight_counts_rows(make):
    """Chosen price and scale included, which is leave-one-observation-out."""
    x = RNG.standard_normal((12, 3))
    y = RNG.standard_normal(12) if make is NTKRegressor else np.arange(12) % 3
    counts = np.array([1, 2, 0, 3, 1, 1, 2, 1, 0, 1, 4, 1])
    weighted = make().fit(x, y, sample_weight=counts)
    repeated = make().fit(np.repeat(x, counts, axis=0), np.repeat(y, counts))
    new = RNG.standard_normal((5, 3))
    assert weighted.alpha_ == pytest.approx(repeated.alpha_)
    if make is NTKRegressor:
        found, wanted = (each.predict(new, return_std=True) for each in (weighted, repeated))
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-6)
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    else:
        found, wanted = (each.predict_proba(new) for each in (weighted, repeated))
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_probabilities_are_the_likeliest_of_rows_left_out():
    x, y = load_wine(return_X_y=True)
    found = NTKClassifier().fit(x[::2], y[::2])
    outputs = np.where(y[::2, None] == np.arange(3), 1.0, -1.0)
    fit = fit_ridge(found._kernel(found._x, None), outputs, None, found.alpha_)

    def surprise(sharpness):
        logits = sharpness * (outputs - fit.residuals)
        return log_loss(y[::2], np.exp(logits) / np.exp(logits).sum(1, keepdims=True))

    best = minimize_scalar(surprise, bounds=(0.1, 100), method="bounded").x
    assert found.sharpness_ == pytest.approx(best, rel=1e-2)
    assert log_loss(y[1::2], found.predict_proba(x[1::2])) < 0.2
    assert found.score(x[1::2], y[1::2]) > 0.93


def test_pipelines_grid_searches_clones_pickles_and_frames(friedman):
    x, y = friedman
    frame = pl.DataFrame({f"feature {i}": x[:, i] for i in range(6)})
    search = GridSearchCV(
        make_pipeline(StandardScaler().set_output(transform="polars"), NTKRegressor()),
        {"ntkregressor__depth": [1, 3], "ntkregressor__alpha": ["loo", 1.0]},
        cv=3,
    ).fit(frame, y)
    best = search.best_estimator_
    assert best[-1].feature_names_in_[0] == "feature 0"
    again = pickle.loads(pickle.dumps(best))
    np.testing.assert_array_equal(again.predict(frame), best.predict(frame))
    copy = clone(best).fit(frame, y)
    np.testing.assert_array_equal(copy.predict(frame), best.predict(frame))
    assert search.best_score_ > 0.5


def test_a_frame_of_pandas(friedman):
    pd = pytest.importorskip("pandas")
    x, y = friedman
    frame = pd.DataFrame(x, columns=[f"feature {i}" for i in range(6)])
    found = NTKRegressor().fit(frame, pd.Series(y))
    np.testing.assert_array_equal(found.predict(frame), NTKRegressor().fit(x, y).predict(x))
    assert list(found.feature_names_in_) == list(frame.columns)


def test_random_state_may_be_a_generator(friedman):
    x, y = friedman
    state = np.random.RandomState(0)
    draws = [NTKRegressor(width=8, random_state=state).fit(x, y).predict(x[:3]) for _ in range(2)]
    assert np.any(draws[0] != draws[1])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"alpha": 0.0}, "alpha must be 'loo' or a positive number"),
        ({"alpha": "gcv"}, "alpha must be 'loo' or a positive number"),
        ({"depth": -1}, "depth must be a whole number"),
        ({"width": 0}, "width must be a whole number"),
        ({"activation": "rleu"}, "rleu"),
        ({"weight_scale": -1.0}, "weight_scale"),
    ],
)
def test_parameters_out_of_range_are_named(friedman, given, says):
    with pytest.raises(InputError, match=says):
        NTKRegressor(**given).fit(*friedman)


def test_weights_and_classes_that_leave_nothing_to_learn():
    x = np.eye(4)
    with pytest.raises(ValueError, match="zero"):
        NTKRegressor().fit(x, np.arange(4), sample_weight=np.zeros(4))
    with pytest.raises(InputError, match="only one class"):
        NTKClassifier().fit(x, ["a"] * 4)
    constant = NTKRegressor().fit(x, np.full(4, 3.0))
    np.testing.assert_allclose(constant.predict(x), 3.0)


def test_nothing_of_jax_is_left_in_a_fitted_estimator(friedman):
    """A pickle is read where JAX has another version, or other devices."""
    found = NTKRegressor(width=8, random_state=0).fit(*friedman)
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(vars(found)))
