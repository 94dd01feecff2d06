"""Bounded losses: their bound, their Lipschitz constant under attack, and what they dominate."""

import numpy as np
import pytest

from overparam import SquaredHinge, SquaredLoss
from overparam.data import fit_coding
from overparam.errors import InputError
from overparam.risk.bounded_loss import (
    ClippedSquared,
    ClippedSquaredHinge,
    Ramp,
    ZeroOne,
    margins,
    require_bounded,
)

RNG = np.random.default_rng(0)
LOSSES = (Ramp(0.3), Ramp(2.0), ClippedSquared(0.7), ClippedSquaredHinge(0.5))


def targets(n: int, k: int) -> np.ndarray:
    if k == 1:
        return RNG.choice([-1.0, 1.0], (n, 1))
    return np.where(RNG.integers(k, size=(n, 1)) == np.arange(k), 1.0, -1.0)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_no_pair_of_outputs_breaks_bound_or_lipschitz_constant(loss, k):
    y = targets(40_000, k)
    z = 2 * RNG.standard_normal(y.shape)
    shift = 10.0 ** RNG.uniform(-3, 0.5, (len(y), 1)) * RNG.standard_normal(y.shape)
    if k > 1:  # for the ramp the worst direction is along two outputs
        rows = np.arange(len(y))
        shift[::2] = 0
        shift[rows[::2], y[::2].argmax(axis=1)] = 0.1
        shift[rows[::2], (y[::2].argmax(axis=1) + 1) % k] = -0.1
    a, b = loss(z, y), loss(z + shift, y)
    assert np.all((a >= 0) & (a <= loss.bound))
    steepest = np.max(np.abs(a - b) / np.linalg.norm(shift, axis=1))
    assert steepest <= loss.lipschitz(k) * (1 + 1e-9)
    if k <= 2:  # the constant is no larger than it must be
        assert steepest > 0.8 * loss.lipschitz(k)


@pytest.mark.parametrize("k", [1, 3])
def test_the_ramp_is_never_below_the_error_and_the_error_is_what_decoding_says(k):
    y = targets(5000, k)
    z = RNG.integers(-2, 3, y.shape).astype(float)  # many ties
    names = ("a", "b", "c")[: max(k, 2)]
    indices = (y[:, 0] > 0).astype(int) if k == 1 else y.argmax(axis=1)
    coding = fit_coding(indices, "classification", "y", names)
    error = ZeroOne()(z, y)
    np.testing.assert_array_equal(error, coding.decode(z) != coding.decode(y))
    for margin in (0.1, 1.0):
        assert np.all(Ramp(margin)(z, y) >= error)


def test_clipped_losses_are_the_training_losses_below_the_clip():
    y = targets(100, 3)
    z = y + 0.1 * RNG.standard_normal(y.shape)
    np.testing.assert_allclose(ClippedSquared(9.0)(z, y), SquaredLoss().value(z, y))
    np.testing.assert_allclose(ClippedSquaredHinge(9.0)(z, y), SquaredHinge().value(z, y))
    assert np.all(ClippedSquared(9.0)(100 * y, y) == 9.0)


def test_the_margin_of_several_classes():
    z = np.array([[3.0, 1.0, -2.0], [0.0, 2.0, 1.5]])
    y = np.array([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
    np.testing.assert_array_equal(margins(z, y), [2.0, -0.5])


@pytest.mark.parametrize("loss", [SquaredLoss(), SquaredHinge(), "squared"])
def test_an_unbounded_loss_is_refused_with_the_way_to_clip_it(loss):
    with pytest.raises(InputError, match=r"not bounded.*clip it, such as Clipped") as caught:
        require_bounded(loss)
    assert "\n" not in str(caught.value)


def test_parameters_and_targets_out_of_range():
    with pytest.raises(InputError, match="margin must be positive"):
        Ramp(0.0)
    with pytest.raises(InputError, match="clip must be positive and finite, not inf"):
        ClippedSquared(float("inf"))
    with pytest.raises(InputError, match="code targets as -1 and \\+1"):
        ZeroOne()(np.zeros((2, 1)), np.array([[0.0], [1.0]]))
    with pytest.raises(InputError, match="one right class"):
        ZeroOne()(np.zeros((1, 2)), np.ones((1, 2)))
