"""From a file to measures: drawing, splitting, merging, and errors in the user's own units."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error, r2_score

from overparam.data import load
from overparam.errors import InputError


def write(folder, text):
    (folder / "a.csv").write_text(text)
    return folder / "a.csv"


def test_digits_by_parity():
    data = load("digits", target="parity", samples=100, test_fraction=0.3)
    assert data.test is not None
    assert (data.train.n, data.test.n, data.train.dim, data.train.outputs) == (70, 30, 65, 1)
    np.testing.assert_allclose(np.linalg.norm(data.train.x, axis=1), np.sqrt(65), rtol=1e-14)
    labels = load_digits().target
    np.testing.assert_array_equal(data.train.y[:, 0], 1 - 2.0 * (labels[data.train_rows] % 2))
    np.testing.assert_array_equal(data.test.y[:, 0], 1 - 2.0 * (labels[data.test_rows] % 2))
    assert not set(data.train_rows) & set(data.test_rows)
    assert any("constant" in note for note in data.notes)
    assert data.source == "digits: 1797 rows, 64 features, target 'parity' (2 classes)"


def test_ten_digits_are_ten_outputs():
    data = load("digits", samples=300)
    assert data.train.outputs == 10
    assert np.all(data.train.y.sum(axis=1) == -8.0)


def test_the_same_seed_gives_the_same_measures_and_nested_draws():
    first, again = load("wine", seed=1), load("wine", seed=1)
    assert first.train.fingerprint() == again.train.fingerprint()
    assert first.train.fingerprint() != load("wine", seed=2).train.fingerprint()
    small = load("wine", samples=60, seed=1, test_fraction=0)
    large = load("wine", samples=90, seed=1, test_fraction=0)
    assert small.test is None
    assert set(small.train_rows) < set(large.train_rows)


def test_preprocessing_and_coding_know_the_training_part_only():
    data = load("diabetes", standardize="center", seed=4)
    bunch = load_diabetes(scaled=False)
    part = bunch.data[data.train_rows]
    np.testing.assert_allclose(data.preprocessing.mean, part.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.preprocessing.scale, part.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.coding.mean, bunch.target[data.train_rows].mean())
    expected = (bunch.data[data.test_rows] - part.mean(axis=0)) / part.std(axis=0)
    np.testing.assert_allclose(data.test.x, expected, rtol=1e-9, atol=1e-12)


def test_regression_error_is_in_original_units():
    data = load("diabetes", standardize="center")
    model = LinearRegression().fit(data.train.x, data.train.y)
    error = data.test_error(model.predict(data.test.x))
    # The same regression on the raw table, judged by scikit-learn.
    bunch = load_diabetes(scaled=False)
    plain = LinearRegression().fit(bunch.data[data.train_rows], bunch.target[data.train_rows])
    actual, predicted = bunch.target[data.test_rows], plain.predict(bunch.data[data.test_rows])
    assert error["rows"] == len(actual)
    assert error["rmse"] == pytest.approx(np.sqrt(mean_squared_error(actual, predicted)))
    assert error["r2"] == pytest.approx(r2_score(actual, predicted))


def test_classification_error_counts_wrong_rows():
    data = load("iris", test_fraction=0.4)
    wrong = data.test.y.copy()
    wrong[:6] = -wrong[:6]  # the true class becomes the smallest output
    assert data.test_error(data.test.y) == {"rows": 60, "error": 0.0}
    assert data.test_error(wrong) == {"rows": 60, "error": 0.1}


def test_predictions_must_fit_the_test_part():
    data = load("iris")
    with pytest.raises(InputError, match=r"shape \(30,\); pass outputs .* \(30, 3\)"):
        data.test_error(np.zeros(30))
    with pytest.raises(InputError, match="predictions is nan in row 1"):
        data.test_error(np.full((30, 3), np.nan))
    with pytest.raises(InputError, match="no test part"):
        load("iris", test_fraction=0).test_error(np.zeros((0, 3)))


def test_r2_of_a_constant_test_target_is_undefined(tmp_path):
    path = write(tmp_path, "x,y\n1,2.5\n2,4.5\n3,2.5\n4,4.5\n5,2.5\n6,4.5\n")
    data = load(path, standardize="center", test_fraction=1 / 6)
    error = data.test_error(data.test.y)
    assert error["r2"] is None
    assert error["rmse"] == pytest.approx(0.0, abs=1e-12)


def test_equal_rows_are_merged_with_their_weights(tmp_path):
    path = write(tmp_path, "a,b,y\n0,1,u\n2,5,v\n0,1,u\n3,-1,v\n0,1,u\n")
    data = load(path, test_fraction=0)
    assert data.train_rows.tolist() == [0, 1, 3]
    np.testing.assert_allclose(data.train.weights, [0.6, 0.2, 0.2], rtol=1e-15)
    assert data.notes[-1].startswith("2 training rows repeat another and were merged")


def test_contradicting_rows_are_named_as_in_the_file(tmp_path):
    path = write(tmp_path, "a,b,y\n0,1,u\n2,5,v\n\n0,1,v\n3,-1,v\n")
    with pytest.raises(InputError, match=r"lines 2 and 5 of .* different targets"):
        load(path, test_fraction=0)


def test_contradicting_rows_are_refused_with_the_way_out_and_kept_where_it_is_taken(tmp_path):
    path = write(tmp_path, "a,b,y\n0,1,1.0\n2,5,2.0\n0,1,3.0\n2,5,2.0\n3,-1,4.0\n")
    with pytest.raises(InputError, match=r"--weight-decay 0\.003"):
        load(path, test_fraction=0, task="regression")
    data = load(path, test_fraction=0, task="regression", contradictory=True)
    assert data.train_rows.tolist() == [0, 1, 2, 4]
    assert data.multiplicities.tolist() == [1, 2, 1, 1]
    np.testing.assert_allclose(data.train.weights, [0.2, 0.4, 0.2, 0.2], rtol=1e-15)
    assert data.notes[0].startswith("lines 2 and 4 have the same features and different targets")
    assert data.sample.n == 5


@pytest.mark.parametrize(
    ("rows", "fraction", "message"),
    [
        ("0,1,0\n2,5,1\n", 0.2, "test_fraction 0.2 of 2 rows leaves no row to test on; raise it"),
        ("0,1,0\n2,5,1\n3,4,1\n", 0.5, "leaves 1 for training; lower it"),
        ("0,1,u\n2,5,v\n3,4,w\n4,4,w\n", 0.5, "leaves a class without a training row; lower it"),
    ],
)
def test_a_test_fraction_that_empties_a_split_or_a_class_is_refused(
    tmp_path, rows, fraction, message
):
    with pytest.raises(InputError, match=message) as caught:
        load(write(tmp_path, "a,b,y\n" + rows), test_fraction=fraction, task="classification")
    assert "\n" not in str(caught.value)


def test_a_class_drawn_for_the_test_part_only_is_kept_for_training_and_noted(tmp_path):
    path = write(tmp_path, "a,b,y\n" + "".join(f"{i},{i * i},{int(i == 7)}\n" for i in range(10)))
    noted = {seed: load(path, seed=seed, test_fraction=0.3).notes for seed in range(8)}
    draws = {seed: np.random.default_rng(seed).permutation(10)[:3] for seed in range(8)}
    assert {s for s, notes in noted.items() if notes} == {s for s, d in draws.items() if 7 in d}
    assert all("not a uniform draw" in note for notes in noted.values() for note in notes)


def test_what_was_fitted_to_which_rows_is_on_record():
    sphere, plain = load("iris"), load("iris", standardize="norm")
    assert sphere.fitted_to(sphere.train_rows) == ("the features' mean and scale",)
    assert sphere.fitted_to(sphere.test_rows) == ()
    assert plain.fitted_to(plain.train_rows) == ()
    regression = load("diabetes", standardize="none")
    assert regression.fitted_to(regression.train_rows[:1]) == ("the target's mean and scale",)


def test_the_sample_holds_merged_rows_as_often_as_they_were_drawn(tmp_path):
    data = load(write(tmp_path, "a,b,y\n0,1,u\n2,5,v\n0,1,u\n3,-1,v\n0,1,u\n"), test_fraction=0)
    assert data.multiplicities.tolist() == [3, 1, 1]
    assert data.sample.n == 5
    assert data.sample.is_uniform
    assert data.sample.merged().fingerprint() == data.train.fingerprint()
    assert load("iris", test_fraction=0.1).sample.n == 135


def test_few_samples_keep_a_training_row_of_every_class_that_was_drawn():
    data = load("digits", samples=10, seed=0, test_fraction=0.3)
    classes = data.coding.classes
    assert 2 <= len(classes) < 10
    assert data.train.outputs == len(classes)
    assert (data.train.y == 1).any(axis=0).all()
    assert data.notes[0].startswith(f"{len(classes)} of 10 classes were drawn: {classes[0]}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 151}, "samples is 151; choose between 2 and 150"),
        ({"samples": 1}, "samples is 1; choose between 2"),
        ({"seed": -1}, "seed is -1"),
        ({"test_fraction": 1.0}, "test_fraction is 1.0; choose"),
        ({"test_fraction": -0.1}, "test_fraction is -0.1"),
        ({"test_fraction": float("nan")}, "test_fraction is nan"),
        ({"samples": 4, "test_fraction": 0.8}, "leaves 1 for training"),
        ({"standardize": "cube"}, "unknown standardize 'cube'"),
    ],
)
def test_bad_requests_are_refused_in_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        load("iris", **options)
    assert "\n" not in str(caught.value)


def test_a_row_at_the_mean_is_named(tmp_path):
    path = write(tmp_path, "a,b,y\n-1,-1,0\n1,1,1\n0,0,1\n")
    with pytest.raises(InputError, match="line 4 lies at the mean"):
        load(path, test_fraction=0, standardize="sphere")
