"""Centring, scaling, the sphere, and constants that are fitted once."""

import json

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler, normalize

from overparam.data import Preprocessing, RowNames, fit_preprocessing
from overparam.data.preprocess import LIFT, MODES
from overparam.errors import InputError

RNG = np.random.default_rng(0)
TRAIN, NEW = RNG.normal(3, 2, size=(30, 4)), RNG.normal(size=(7, 4))
NAMES = ("a", "b", "c", "d")


def test_centring_is_scikit_learns_standard_scaler():
    scaler = StandardScaler().fit(TRAIN)
    fitted = fit_preprocessing(TRAIN, "center", NAMES)
    for x in (TRAIN, NEW):
        np.testing.assert_allclose(fitted.apply(x), scaler.transform(x), rtol=1e-12, atol=1e-13)


def test_the_sphere_keeps_directions_and_has_radius_sqrt_d():
    scaler = StandardScaler().fit(TRAIN)
    fitted = fit_preprocessing(TRAIN, "sphere", NAMES)
    for x in (TRAIN, NEW):
        expected = 2.0 * normalize(scaler.transform(x))
        np.testing.assert_allclose(fitted.apply(x), expected, rtol=1e-12, atol=1e-13)


def test_the_lift_is_one_to_one_onto_a_sphere():
    """The centred point can be read off again; the mean and a single feature are no trouble."""
    centred = fit_preprocessing(TRAIN, "center", NAMES).apply(NEW)
    lifted = fit_preprocessing(TRAIN, "lift", NAMES).apply(NEW)
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=1), np.sqrt(5), rtol=1e-14)
    height = LIFT * np.sqrt(4)
    np.testing.assert_allclose(height * lifted[:, :4] / lifted[:, 4:], centred, rtol=1e-12)
    mean = fit_preprocessing(TRAIN, "lift", NAMES).apply(TRAIN.mean(axis=0)[None])
    np.testing.assert_allclose(mean, [[0, 0, 0, 0, np.sqrt(5)]], atol=1e-14)
    one = fit_preprocessing(TRAIN[:, :1], "lift", ("a",)).apply(TRAIN[:, :1])
    assert len(np.unique(one, axis=0)) == 30


def test_none_changes_no_bit():
    fitted = fit_preprocessing(TRAIN, "none", NAMES)
    np.testing.assert_array_equal(fitted.apply(NEW), NEW)


@pytest.mark.parametrize("unit", [1e-250, 1e-160, 1e150, 1e300])
def test_the_unit_of_a_feature_does_not_matter(unit):
    centred = fit_preprocessing(TRAIN, "center", NAMES).apply(TRAIN)
    scaled = fit_preprocessing(TRAIN * unit, "center", NAMES).apply(TRAIN * unit)
    np.testing.assert_allclose(scaled, centred, rtol=1e-11, atol=1e-13)


def test_constant_features_become_zero_and_are_noted():
    x = np.column_stack([TRAIN[:, :2], np.full(30, 0.1), TRAIN[:, 3]])
    fitted = fit_preprocessing(x, "sphere", NAMES)
    assert np.all(fitted.apply(x)[:, 2] == 0.0)
    assert fitted.scale[2] == 1.0
    assert fitted.notes == ("1 feature is constant in the training part and set to zero: c",)


def test_norm_scales_each_point_by_itself_and_fits_nothing():
    fitted, other = (fit_preprocessing(x, "norm", NAMES) for x in (TRAIN, TRAIN[:3] + 1))
    np.testing.assert_allclose(fitted.apply(NEW), 2.0 * normalize(NEW), rtol=1e-14)
    np.testing.assert_array_equal(fitted.apply(NEW), other.apply(NEW))
    assert {m: fit_preprocessing(TRAIN, m, NAMES).fits_sample for m in MODES} == {
        "none": False,
        "norm": False,
        "center": True,
        "sphere": True,
        "lift": True,
    }


def test_a_point_at_the_origin_has_no_direction():
    fitted = fit_preprocessing(TRAIN, "norm", NAMES)
    with pytest.raises(InputError, match="row 2 is zero and has no direction; drop the row"):
        fitted.apply(np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    with pytest.raises(InputError, match="use standardize='none'"):
        fit_preprocessing(TRAIN[:, :1], "norm", ("a",))


@pytest.mark.parametrize("mode", MODES)
def test_a_preprocessing_survives_json(mode):
    fitted = fit_preprocessing(TRAIN, mode, NAMES)
    stored = json.loads(json.dumps(fitted.to_dict()))
    restored = Preprocessing.from_dict(stored)
    np.testing.assert_array_equal(restored.apply(NEW), fitted.apply(NEW))
    assert restored.to_dict() == stored


@pytest.mark.parametrize(
    "damage",
    [
        {"mode": "cube"},
        {"mean": "x"},
        {"mean": [[1.0]]},
        {"mean": [float("nan")] * 4},
        {"scale": [1.0]},
        {"scale": [1.0, 1.0, 0.0, 1.0]},
        {"notes": None},
    ],
)
def test_a_damaged_preprocessing_is_refused(damage):
    stored = fit_preprocessing(TRAIN, "center", NAMES).to_dict()
    with pytest.raises(InputError):
        Preprocessing.from_dict({**stored, **damage})


def test_points_at_the_mean_have_no_direction():
    fitted = fit_preprocessing(TRAIN, "sphere", NAMES)
    at_mean = np.stack([TRAIN[0], TRAIN.mean(axis=0)])
    with pytest.raises(InputError, match=r"line 9 lies at the mean .* use standardize='lift'"):
        fitted.apply(at_mean, RowNames("line", np.array([4, 9])))


def test_what_cannot_be_standardised():
    with pytest.raises(InputError, match="every feature is constant"):
        fit_preprocessing(np.ones((3, 2)), "center", ("a", "b"))
    with pytest.raises(InputError, match="single feature"):
        fit_preprocessing(TRAIN[:, :1], "sphere", ("a",))
    with pytest.raises(InputError, match="feature 1 exceeds float64's range"):
        fit_preprocessing(np.array([[1.7e308], [1.6e308]]), "center", ("a",))
    with pytest.raises(InputError, match="unknown standardize 'cube'"):
        fit_preprocessing(TRAIN, "cube", NAMES)
    fitted = fit_preprocessing(TRAIN, "center", NAMES)
    with pytest.raises(InputError, match=r"points have 3 features .* fitted to 4"):
        fitted.apply(TRAIN[:, :3])
    tiny = fit_preprocessing(TRAIN * 1e-300, "center", NAMES)
    with pytest.raises(InputError, match="exceed float64's range when centred"):
        tiny.apply(np.full((1, 4), 1e300))
