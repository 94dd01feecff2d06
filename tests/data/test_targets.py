"""Targets as outputs of a network, and back."""

import json

import numpy as np
import pytest

from overparam.data import TargetCoding, fit_coding
from overparam.errors import InputError


def test_two_classes_are_signs():
    coding = fit_coding(np.array([0, 1, 1]), "classification", "parity", ("odd", "even"))
    assert coding.outputs == 1
    assert coding.encode(np.array([0, 1, 1])).tolist() == [[-1.0], [1.0], [1.0]]
    # At a tie the first class is predicted, as argmax does for more classes.
    assert coding.decode(np.array([[-0.1], [2.0], [0.0]])).tolist() == [0, 1, 0]


def test_more_classes_are_one_against_the_rest():
    coding = fit_coding(np.array([2, 0, 1]), "classification", "kind", ("a", "b", "c"))
    assert coding.encode(np.array([2, 0])).tolist() == [[-1, -1, 1], [1, -1, -1]]
    assert coding.decode(np.array([[0.1, 0.3, 0.2], [-5, -6, -5]])).tolist() == [1, 0]


def test_regression_targets_are_standardised_and_restored():
    values = np.array([[10.0, 1e-200], [14.0, 3e-200]])
    coding = fit_coding(values, "regression", "y")
    np.testing.assert_allclose(coding.encode(values), [[-1, -1], [1, 1]], rtol=1e-15)
    np.testing.assert_allclose(coding.decode(coding.encode(values)), values, rtol=1e-15)


@pytest.mark.parametrize(
    "coding",
    [
        TargetCoding("classification", "kind", ("a", "b", "c")),
        fit_coding(np.array([[0.1], [0.7], [0.3]]), "regression", "price"),
    ],
)
def test_a_coding_survives_json(coding):
    assert TargetCoding.from_dict(json.loads(json.dumps(coding.to_dict()))) == coding


@pytest.mark.parametrize(
    "damage",
    [{"kind": "ranking"}, {"classes": []}, {"classes": 3}, {"mean": [1.0]}, {"scale": ["x"]}],
)
def test_a_damaged_coding_is_refused(damage):
    stored = TargetCoding("classification", "kind", ("a", "b")).to_dict()
    with pytest.raises(InputError, match="damaged"):
        TargetCoding.from_dict({**stored, **damage})
    del stored["name"]
    with pytest.raises(InputError, match="damaged"):
        TargetCoding.from_dict(stored)


def test_a_training_part_must_determine_its_coding():
    with pytest.raises(InputError, match="no example of class 'b', 'd' of target 't'"):
        fit_coding(np.array([0, 2]), "classification", "t", ("a", "b", "c", "d"))
    with pytest.raises(InputError, match="constant in the training part"):
        fit_coding(np.array([[1.0], [1.0]]), "regression", "t")
    with pytest.raises(InputError, match="unknown kind 'ranking'"):
        fit_coding(np.array([0, 1]), "ranking", "t")
