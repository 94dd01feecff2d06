"""G1: its terms by hand, its lemmas by enumeration, and what it asks."""

import itertools
import math

import numpy as np
import pytest

from overparam import Measure
from overparam.errors import InputError
from overparam.risk.bounded_loss import ClippedSquared, Ramp
from overparam.risk.kernel_regime import arora_value, kernel_regime_value
from overparam.risk.rademacher import (
    rademacher_terms,
    radius_from_grid,
    radius_grid,
)
from overparam.risk.requirements import require_iid
from overparam.risk.risk_bound import RiskBound

HYPOTHESES = {
    "empirical_risk": 0.1,
    "sample_size": 400,
    "loss_bound": 1.0,
    "lipschitz": 2.0,
    "outputs": 1,
    "radius": 3.0,
    "trace": 200.0,
    "remainder": 0.01,
    "confidence": 0.95,
}


def terms(**changes) -> dict[str, float]:
    return rademacher_terms(**{**HYPOTHESES, **changes})


def test_the_terms_by_hand():
    found = terms()
    assert found["empirical risk"] == 0.1
    assert found["complexity"] == pytest.approx(2 * 2.0 * 3.0 * math.sqrt(200) / 400)
    assert found["remainder"] == pytest.approx(2 * 2.0 * 0.01)
    assert found["confidence"] == pytest.approx(2 * math.sqrt(math.log(20) / 800))
    several = terms(outputs=3)
    assert several["complexity"] == pytest.approx(math.sqrt(2) * found["complexity"])
    assert several["remainder"] == found["remainder"]
    chosen = terms(choices=256)
    assert chosen["confidence"] == pytest.approx(2 * math.sqrt(math.log(20 * 256) / 800))


def rademacher(values: np.ndarray) -> float:
    """E_sigma max over rows of (1/n) sum_i sigma_i v_i, by enumerating all signs."""
    n = values.shape[1]
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    return float(np.mean(np.max(signs @ values.T, axis=1))) / n


def test_one_point_moves_the_empirical_complexity_by_at_most_b_over_2n():
    """Lemma G2 of docs/generalisation.md, which saves a third of the textbook's confidence term."""
    rng = np.random.default_rng(0)
    largest = 0.0
    for _ in range(300):
        n = int(rng.integers(2, 7))
        losses = rng.uniform(size=(rng.integers(1, 9), n)).round(int(rng.integers(0, 2)))
        changed = losses.copy()
        changed[:, 0] = rng.uniform(size=len(losses)).round(int(rng.integers(0, 2)))
        move = n * abs(rademacher(losses) - rademacher(changed))
        largest = max(largest, move)
        assert move <= 0.5 + 1e-12
    assert largest > 0.45


@pytest.mark.parametrize("k", [1, 2])
def test_contraction_on_classes_small_enough_to_enumerate(k):
    """E sup sum sigma_i l_i(h_i) <= (sqrt 2) G E sup sum sigma_ia h_ia (Maurer 2016)."""
    rng = np.random.default_rng(k)
    for _ in range(100):
        n, size = 4, 5
        outputs = rng.standard_normal((size, n, k))
        centres = rng.standard_normal((n, k))
        losses = np.minimum(np.linalg.norm(outputs - centres, axis=2), 1.0)  # 1-Lipschitz
        factor = 1.0 if k == 1 else math.sqrt(2)
        linear = k * rademacher(outputs.reshape(size, n * k))
        assert rademacher(losses) <= factor * linear + 1e-12


def test_the_ball_of_a_linear_class_by_enumeration():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((8, 3))
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=8)))
    exact = np.mean(np.linalg.norm(signs @ features, axis=1)) / 8
    assert 0.8 * math.sqrt(np.sum(features**2)) / 8 < exact <= math.sqrt(np.sum(features**2)) / 8


def test_radii_are_rounded_up_to_a_grid_fixed_in_advance():
    grid = radius_grid(output_scale=1.0)
    assert grid[-1] > 240
    for distance in (0.0, 1e-3, 0.77, 44.0):
        radius = radius_from_grid(distance, grid)
        assert radius is not None
        assert distance <= radius <= max(1.051 * distance, 1e-3)
    assert radius_from_grid(1e4, grid) is None
    np.testing.assert_allclose(radius_grid(100.0), grid / 100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confidence": 0.0}, "confidence is 0.0"),
        ({"confidence": 2.0}, "confidence is 2.0: choose it between 0 and 1"),
        ({"sample_size": 0}, "the sample has 0 points"),
        ({"lipschitz": math.inf}, r"bound the 0-1 error by a ramp, Ramp\(margin\)"),
        ({"radius": -1.0}, "radius is -1.0"),
        ({"remainder": math.nan}, "remainder is nan"),
        ({"choices": 0}, "choices must be a whole number, 1 or more, not 0"),
    ],
)
def test_hypotheses_that_fail_are_refused_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as caught:
        terms(**change)
    assert "\n" not in str(caught.value)


def test_weights_that_differ_are_refused():
    measure = Measure(np.eye(3), np.ones(3), [1.0, 1.0, 2.0])
    with pytest.raises(InputError, match=r"the sample has weights that differ.*Dataset.sample"):
        require_iid(measure, "the sample")
    with pytest.raises(InputError, match="no targets"):
        require_iid(Measure(np.eye(3)), "the sample")


def test_the_reference_value_does_not_see_the_output_scale_and_agrees_with_the_printed_one():
    value = kernel_regime_value(target_norm=10.0, trace=50.0, sample_size=100)
    assert value == pytest.approx(arora_value(target_norm=10.0, sample_size=100))
    scaled = kernel_regime_value(target_norm=10.0 / 7, trace=50.0 * 49, sample_size=100)
    assert scaled == pytest.approx(value)
    ball = terms(radius=10.0, trace=50.0, sample_size=100, lipschitz=1.0)["complexity"]
    assert value == pytest.approx(ball)


def test_a_bound_says_what_it_is():
    bound = RiskBound("G1", "a network", "ramp", 1.0, 0.95, terms(), 400, ("iid",))
    assert bound.value == pytest.approx(sum(terms().values()))
    assert bound.dominant == "complexity"
    assert (bound.vacuous, bound.kind) == (False, "computed")
    worse = RiskBound(
        "G1", "a network", "ramp", 1.0, 0.95, terms(remainder=5.0), 400, ("iid",), ("fitted",)
    )
    assert (worse.vacuous, worse.kind, worse.dominant) == (True, "assumed", "remainder")


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_radius_of_theorem_1_is_never_worth_a_bound(outputs):
    """Proposition W12 of docs/apriori.md: the untrained network has the better one."""
    rng = np.random.default_rng(outputs)
    for _ in range(200):
        n = int(rng.integers(2, 30))
        labels = np.eye(outputs)[rng.integers(0, outputs, n)] * 2 - 1
        y = labels if outputs > 1 else rng.choice([-1.0, 1.0], (n, 1))
        start = rng.choice([0.0, 0.5]) * rng.standard_normal((n, outputs))
        residual = np.linalg.norm(y - start) / math.sqrt(n)
        # The kernel's best case: all n k eigenvalues equal, and a step so small that q = 1.
        least = float(rng.uniform(0.01, 10)) ** 2
        shared = {"outputs": outputs, "sample_size": n, "trace": n * n * outputs * least}
        radius = residual / math.sqrt(least)
        # Any network that fits no worse than the start, in the worst direction the better of it.
        away = rng.standard_normal((n, outputs))
        end = y + rng.uniform(0, 1) * residual * away / np.linalg.norm(away) * math.sqrt(n)
        for loss in (Ramp(0.3), Ramp(8.0), ClippedSquared(0.01), ClippedSquared(5.0)):
            found = terms(
                empirical_risk=float(loss(end, y).mean()),
                loss_bound=loss.bound,
                lipschitz=loss.lipschitz(outputs),
                radius=radius,
                remainder=0.0,
                **shared,
            )
            untrained = float(loss(start, y).mean())
            assert found["empirical risk"] + found["complexity"] >= untrained
            if isinstance(loss, ClippedSquared):
                assert found["complexity"] >= 4 * untrained
