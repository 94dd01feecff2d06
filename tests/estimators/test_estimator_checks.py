"""scikit-learn's own battery of checks: what is passed, and what is not and why."""

import warnings
from collections import Counter

import pytest
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from overparam.sklearn.ridge import NTKClassifier, NTKRegressor
from overparam.sklearn.wide_network import OverparamClassifier, OverparamRegressor

KERNELS = [NTKRegressor(), NTKClassifier()]
NETWORKS = [OverparamRegressor((64,), max_iter=100), OverparamClassifier((64,), max_iter=100)]
FINITE = NTKRegressor(width=16, random_state=0)

EXPECTED_TO_FAIL: dict[str, str] = {}
"""Checks that an estimator is not meant to pass, with the reason: there are none."""

SKIPPED = {
    "check_array_api_input": "SCIPY_ARRAY_API is not set; arrays are NumPy's",
    "check_sample_weights_pandas_series": "pandas is not installed",
    "check_regressor_data_not_an_array": "pandas is not installed",
    "check_classifier_data_not_an_array": "pandas is not installed",
}
"""Checks that scikit-learn skips by itself, three of about sixty for each, with the reason."""


@parametrize_with_checks(KERNELS, expected_failed_checks=lambda _: EXPECTED_TO_FAIL)
@pytest.mark.sample(10)
def test_the_kernel_estimators_pass(estimator, check):
    check(estimator)


@parametrize_with_checks(NETWORKS, expected_failed_checks=lambda _: EXPECTED_TO_FAIL)
@pytest.mark.sample(4)
def test_the_trained_networks_pass(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [*KERNELS, FINITE, *NETWORKS], ids=str)
def test_nothing_fails_and_what_is_skipped_is_listed(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        results = check_estimator(
            estimator, expected_failed_checks=EXPECTED_TO_FAIL, on_fail=None, on_skip=None
        )
    count = Counter(result["status"] for result in results)
    skipped = {each["check_name"] for each in results if each["status"] == "skipped"}
    assert skipped <= set(SKIPPED)
    assert count["failed"] == count["xfail"] == 0
    assert count["passed"] >= 57
