"""The data as a probability measure: validation, moments, duplicates, identity."""

import copy
import pickle
from fractions import Fraction

import jax.numpy as jnp
import mpmath
import numpy as np
import polars as pl
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from overparam.errors import InputError
from overparam.problem.measure import Measure

TRIANGLE = [[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]


def test_weights_are_uniform_unless_given():
    measure = Measure(TRIANGLE, [1, -1, 1])
    assert (measure.n, measure.dim, measure.outputs, measure.is_uniform) == (3, 2, 1, True)
    assert measure.weights.tolist() == [1 / 3] * 3
    assert measure.y is not None
    assert measure.y.tolist() == [[1.0], [-1.0], [1.0]]


def test_weights_are_divided_by_their_sum():
    measure = Measure(TRIANGLE, weights=[1, 2, 5])
    assert measure.weights.tolist() == [1 / 8, 2 / 8, 5 / 8]
    assert not measure.is_uniform
    assert measure.outputs == 0


def test_weights_may_be_huge_or_tiny():
    for unit in (1e308, 1e-308):
        weights = Measure(TRIANGLE, weights=[unit, unit / 2, unit / 2]).weights
        np.testing.assert_allclose(weights, [0.5, 0.25, 0.25], rtol=1e-15)


@pytest.mark.parametrize(
    "x",
    [
        jnp.array(TRIANGLE),
        jnp.array(TRIANGLE, dtype=jnp.bfloat16),
        np.array(TRIANGLE, dtype=np.float16),
        np.array(TRIANGLE, dtype=np.int8),
        pl.DataFrame(TRIANGLE, orient="row"),
        tuple(map(tuple, TRIANGLE)),
    ],
    ids=["jax", "bfloat16", "float16", "int8", "polars", "tuples"],
)
def test_anything_array_like_becomes_float64(x):
    assert Measure(x).x.dtype == np.float64
    assert Measure(x).x.tolist() == TRIANGLE


def test_arrays_are_copied_and_read_only():
    x = np.array(TRIANGLE)
    measure = Measure(x, [1, 2, 3])
    x[0, 0] = 7.0
    assert measure.x[0, 0] == 0.0
    for same in (measure, copy.deepcopy(measure), pickle.loads(pickle.dumps(measure))):
        for array in (same.x, same.y, same.weights):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1.0
    with pytest.raises(AttributeError):
        measure.x = x  # type: ignore[misc]


def test_moments_of_a_small_measure_are_exact_rationals():
    # |x| is 0, 5, 10 with weights 1/2, 1/4, 1/4.
    norms, weights = [0, 5, 10], [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    exact = [sum(w * r**p for w, r in zip(weights, norms, strict=True)) for p in (2, 4, 6, 8)]
    moments = Measure(TRIANGLE, weights=[2, 1, 1]).moments(8)
    np.testing.assert_allclose(moments, [float(m) for m in exact], rtol=1e-14)


def test_moments_survive_where_squares_leave_the_range_of_float64():
    assert Measure([[3e-170, 4e-170]]).moments(2)[0] == 0.0  # 2.5e-339 itself is out of range
    np.testing.assert_allclose(Measure([[3e-150, 4e-150]]).moments(2), [2.5e-299], rtol=1e-14)
    with mpmath.workdps(30):
        exact = float((mpmath.mpf(10) ** 150 * 5) ** 2 / 2)
    np.testing.assert_allclose(Measure([[3e150, 4e150], [0, 0]]).moments(2), [exact], rtol=1e-14)
    # The largest point alone has |x|^4 = 1e312, but its weight brings the moment back into range.
    rare = Measure([[1e78], [0.0]], weights=[1e-10, 1])
    np.testing.assert_allclose(rare.moments(4)[-1], 1e302, rtol=1e-9)


def test_a_moment_out_of_range_is_named():
    with pytest.raises(InputError, match=r"E\|x\|\^4 is too large .* rescale"):
        Measure([[1e100]]).moments(6)


@pytest.mark.parametrize("order", [0, -2, 3])
def test_moments_take_even_positive_orders(order):
    with pytest.raises(InputError, match="even order"):
        Measure(TRIANGLE).moments(order)


def test_duplicates_are_exactly_equal_points():
    measure = Measure([[0.0], [1.0], [-0.0], [1.0 + 2**-52], [1.0], [0.0]])
    assert measure.duplicates() == ((0, 2, 5), (1, 4))
    assert measure.conflicts() == ()  # without targets nothing disagrees


def test_merging_keeps_every_integral():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 5, size=40)
    points, targets = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    measure = Measure(points[rows], targets[rows], rng.uniform(0.1, 1, size=40))
    merged = measure.merged()
    assert merged.n == 5
    assert merged.duplicates() == ()
    assert merged.y is not None
    assert measure.y is not None
    for f in (np.sin, np.exp):
        before = measure.weights @ (f(measure.x) * measure.y[:, :1])
        np.testing.assert_allclose(merged.weights @ (f(merged.x) * merged.y[:, :1]), before)


def test_merging_without_duplicates_changes_nothing():
    measure = Measure(TRIANGLE, [1, 2, 3])
    assert measure.merged() is measure


def test_conflicting_targets_cannot_be_merged():
    measure = Measure([[0.0], [1.0], [1.0], [0.0]], [5, 1, 2, 5])
    assert measure.conflicts() == ((1, 2),)
    with pytest.raises(InputError, match=r"rows 2 and 3 .* different targets"):
        measure.merged()


def test_a_subsample_is_seeded_and_reweighted():
    measure = Measure(np.arange(10.0)[:, None], np.arange(10.0), weights=np.arange(1, 11))
    sample = measure.subsample(4, seed=3)
    kept = sample.x[:, 0]
    assert sample.y is not None
    np.testing.assert_array_equal(kept, sample.y[:, 0])
    assert np.all(np.diff(kept) > 0)
    np.testing.assert_allclose(sample.weights, (kept + 1) / np.sum(kept + 1), rtol=1e-15)
    assert sample.fingerprint() == measure.subsample(4, seed=3).fingerprint()
    assert sample.fingerprint() != measure.subsample(4, seed=4).fingerprint()
    assert measure.subsample(10, seed=0).fingerprint() == measure.fingerprint()


@pytest.mark.parametrize(("m", "seed"), [(0, 0), (4, 0), (2, -1)])
def test_a_subsample_out_of_range_is_refused(m, seed):
    with pytest.raises(InputError, match=r"draw between 1 and 3|at least 0"):
        Measure(TRIANGLE).subsample(m, seed)


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=20))
def test_normalising_is_idempotent(weights):
    if max(weights) / min(weights) > 1e300:
        weights = [1.0] * len(weights)
    x = np.arange(float(len(weights)))[:, None]
    once = Measure(x, weights=weights)
    assert abs(sum(map(Fraction, once.weights.tolist())) - 1) < Fraction(1, 2**50)
    assert Measure(x, weights=once.weights).fingerprint() == once.fingerprint()


def test_a_fingerprint_distinguishes_arrays_and_nothing_else():
    base = Measure([[1.0, 2.0]], [3.0])
    same = Measure(np.array([[1, 2]], dtype=">i4"), jnp.array([[3]]), [7])
    assert same.fingerprint() == base.fingerprint()
    others = [
        Measure([[1.0, 2.0]]),
        Measure([[1.0], [2.0]], [3.0, 3.0]),
        Measure([[1.0, 2.0 + 2**-51]], [3.0]),
        Measure([[1.0, 2.0]], [[3.0, 3.0]]),
        Measure([[1.0, 2.0]], [4.0]),
    ]
    assert len({m.fingerprint() for m in [base, *others]}) == 1 + len(others)
    assert len(base.fingerprint()) == 64


NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": 1.0}, r"x has shape \(\)"),
        ({"x": [1.0, 2.0]}, r"shape \(2,\); .* x\[:, None\]"),
        ({"x": np.zeros((2, 3, 4))}, r"x.reshape\(len\(x\), -1\)"),
        ({"x": np.zeros((0, 3))}, "x is empty"),
        ({"x": np.zeros((3, 0))}, "x is empty"),
        ({"x": [[1, 2], [3]]}, "not a rectangular array"),
        ({"x": [[0, 1], [2, 3], [4, NAN]]}, r"x is nan in row 3, column 2 \(counted from 1\)"),
        ({"x": [[0, -np.inf]]}, "x is -inf in row 1, column 2"),
        ({"x": [[0, 1], [2, "tall"]]}, "text 'tall' in row 2, column 2"),
        ({"x": [["1", "2"]]}, "dtype <U1; pass real numbers"),
        ({"x": [[1 + 2j]]}, "x is complex"),
        ({"x": [[object()]]}, "dtype object"),
        ({"x": [[None, 1.0]]}, "dtype object"),
        ({"x": scipy.sparse.eye_array(3)}, "dtype object"),
        ({"x": np.zeros((1, 1), "datetime64[s]")}, "dtype datetime64"),
        ({"x": np.zeros((1, 1), "V8")}, "dtype |V8"),
        ({"x": np.ma.masked_equal([[1.0, 2.0]], 2.0)}, "masked"),
        ({"x": TRIANGLE, "y": [1, 2]}, "y has 2 rows but x has 3"),
        ({"x": TRIANGLE, "y": np.zeros((3, 1, 1))}, r"y has shape \(3, 1, 1\)"),
        ({"x": TRIANGLE, "y": np.zeros((3, 0))}, r"y has shape \(3, 0\)"),
        ({"x": TRIANGLE, "y": ["a", "b", "c"]}, "y holds the text 'a' in row 1"),
        ({"x": TRIANGLE, "y": [0, 1, NAN]}, "y is nan in row 3"),
        ({"x": TRIANGLE, "weights": [1, 0, 1]}, "weights is 0 in row 2"),
        ({"x": TRIANGLE, "weights": [1, 1, -2]}, "weights is -2 in row 3"),
        ({"x": TRIANGLE, "weights": [1, 1]}, r"weights has shape \(2,\)"),
        ({"x": TRIANGLE, "weights": [1, NAN, 1]}, "weights is nan in row 2"),
        ({"x": TRIANGLE, "weights": [1e300, 1e-300, 1]}, "float64's range"),
    ],
)
def test_bad_input_is_one_line_that_names_it(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        Measure(**arguments)
    assert "\n" not in str(caught.value)
