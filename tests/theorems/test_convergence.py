"""Theorems 1 and 1' against closed forms: the linear model, a Lipschitz Jacobian, failing cases."""

import itertools
import math

import numpy as np
import pytest

from overparam.numbers.on_demand import OnDemand
from overparam.theorems.convergence import (
    STEP_FRACTIONS,
    choose_step,
    gradient_descent_converges,
    interpolation_exists,
)
from overparam.theorems.majorant import Majorant


def linear_modulus(sigma: float, slope: float, outer: float, nodes: int = 3000) -> Majorant:
    radii = np.linspace(0, outer, nodes + 1)[1:]
    return Majorant(sigma, radii, slope * radii)


def theorem_1(majorant: Majorant, slope: float = 0.0, **changes):
    """Theorem 1 with a Lipschitz constant of J equal to ``slope`` on every ball."""
    settings = {
        "majorant": majorant,
        "lipschitz": np.full(len(majorant.radii), slope),
        "jacobian_norm": 2.0,
        "smoothness": 1.0,
        "pl_constant": 1.0,
        "excess": 0.02,
    }
    return gradient_descent_converges(**(settings | changes))


def test_the_step_is_chosen_from_few_values_of_the_smoothness():
    """The same as from all of them, and as by trying one fraction after the other."""
    majorant = linear_modulus(0.5, 0.3, outer=1.5)
    steep = 4.0 + np.arange(len(majorant.radii)) / 1e5
    asked: list[int] = []

    def compute(at):
        asked.extend(at.tolist())
        return steep[at]

    for level in (0.01, 0.1, 0.2):
        asked.clear()
        chosen = choose_step(majorant, OnDemand(compute, len(steep)), level)
        assert chosen == choose_step(majorant, OnDemand.known(steep), level)
        assert chosen[1] in asked
        assert len(asked) < 20
        least, best = level / majorant.maximum, 0.0
        for q in least + (1 - least) * STEP_FRACTIONS:
            crossing = majorant.crossing(level / q)
            ball = np.flatnonzero(majorant.radii > crossing.radius)[0]
            best = max(best, 2 * (1 - q) / steep[ball] * q * crossing.sigma**2)
        q = 1 - chosen[0] * steep[chosen[1]] / 2
        sigma = majorant.crossing(level / q).sigma
        assert chosen[0] * q * sigma**2 == pytest.approx(best, rel=1e-12)


# --- omega = 0: the classical theory of smooth PL functions ---------------------------------------


def test_a_linear_model_gives_the_classical_rate():
    """L_phi = M lambda_max, rate 1 - 2 eta q alpha lambda_min, for any step below 2 / L_phi."""
    majorant = linear_modulus(0.5, 0.0, outer=100.0)
    for eta in (0.05, 0.25, 0.4, 0.49):
        result = theorem_1(majorant, step_size=eta)
        q = 1 - eta * 4.0 / 2
        assert result.certified
        assert result.smoothness == 4.0
        assert result.step_fraction == pytest.approx(q)
        assert result.rate == pytest.approx(1 - 2 * eta * q * 0.25)
        assert result.radius == pytest.approx(0.2 / q / 0.5)
        assert result.sigma_end == 0.5


def test_the_step_that_is_chosen_for_a_linear_model_is_the_inverse_smoothness():
    result = theorem_1(linear_modulus(0.5, 0.0, outer=10.0))
    assert result.step_size == pytest.approx(1 / 4, rel=1e-2)
    assert result.rate == pytest.approx(1 - 0.25 / 4, rel=1e-4)


def test_constants_of_the_loss_enter_where_they_should():
    majorant = linear_modulus(0.5, 0.0, outer=10.0)
    result = theorem_1(majorant, smoothness=3.0, pl_constant=0.5, step_size=0.1)
    q = 1 - 0.1 * 3 * 4 / 2
    assert result.smoothness == 12.0
    assert result.level == pytest.approx(math.sqrt(2 * 0.02 / 0.5) / q)
    assert result.rate == pytest.approx(1 - 2 * 0.1 * q * 0.5 * 0.25)


# --- omega = L s: Newton-Kantorovich --------------------------------------------------------------


@pytest.mark.parametrize("h", [0.05, 0.3, 0.45])
def test_a_lipschitz_jacobian_gives_newton_kantorovich(h):
    """For small steps s* tends to (sigma - sqrt(sigma^2 - 2 L rho)) / L, from above."""
    sigma, slope = 0.5, 0.2
    rho = h * sigma**2 / slope
    majorant = linear_modulus(sigma, slope, outer=sigma / slope)
    result = theorem_1(majorant, slope, excess=rho**2 / 2, step_size=1e-6)
    exact = (sigma - math.sqrt(sigma**2 - 2 * slope * rho)) / slope
    assert result.certified
    assert exact <= result.radius <= exact * 1.005
    assert result.margin == pytest.approx(1 / (2 * h), rel=1e-3)


@pytest.mark.parametrize(("h", "certified"), [(0.499, True), (0.501, False)])
def test_the_newton_kantorovich_condition_is_h_below_one_half(h, certified):
    sigma, slope = 0.5, 0.2
    rho = h * sigma**2 / slope
    majorant = linear_modulus(sigma, slope, outer=sigma / slope, nodes=20_000)
    result = theorem_1(majorant, slope, excess=rho**2 / 2)
    assert result.certified is certified
    assert (result.margin > 1) is certified


def test_smoothness_of_the_objective_on_the_ball_that_was_used():
    sigma, slope, excess = 0.5, 0.2, 0.02
    result = theorem_1(linear_modulus(sigma, slope, outer=2.5), slope, excess=excess)
    expected = (2.0 + slope * result.ball) ** 2 + slope * math.sqrt(2 * excess)
    assert result.smoothness == pytest.approx(expected)
    assert result.ball > result.radius
    assert result.step_size == pytest.approx(2 * (1 - result.step_fraction) / expected)


# --- the step size --------------------------------------------------------------------------------


def test_the_step_that_is_chosen_is_the_best_of_all_steps():
    majorant = linear_modulus(0.5, 0.2, outer=2.5, nodes=500)
    chosen = theorem_1(majorant, 0.2, excess=0.03)
    steps = np.linspace(0.0, 2 / chosen.smoothness, 80)[1:-1]
    given = [theorem_1(majorant, 0.2, excess=0.03, step_size=float(eta)) for eta in steps]
    assert any(not result.certified for result in given)
    assert chosen.rate <= min(result.rate for result in given) + 1e-5


def test_a_chosen_step_is_certified_when_it_is_given():
    majorant = linear_modulus(0.5, 0.2, outer=2.5)
    for excess in (1e-6, 0.01, 0.03, 0.045):
        chosen = theorem_1(majorant, 0.2, excess=excess)
        given = theorem_1(majorant, 0.2, excess=excess, step_size=chosen.step_size)
        assert given.certified
        assert given.rate <= chosen.rate + 1e-12


def test_certified_and_a_margin_above_one_are_the_same_thing():
    """Also within a thousandth of the boundary, and for steps that fit small balls only."""
    majorant = linear_modulus(0.5, 0.2, outer=2.5)
    seen = set()
    for scale in (0.5, 0.99, 0.999, 0.9999, 1.0, 1.0001, 1.01, 3.0):
        level = scale * majorant.maximum
        for step in (None, 1e-4, 0.1, 0.3, 0.4, 0.45, 0.49, 0.6):
            result = theorem_1(majorant, 0.2, excess=level**2 / 2, step_size=step)
            assert result.certified is (result.margin > 1)
            seen.add((result.certified, step is None))
    assert len(seen) == 4


@pytest.mark.parametrize("step", [0.5, 1.0, 1e6])
def test_a_step_of_two_over_smoothness_or_more_is_refused(step):
    result = theorem_1(linear_modulus(0.5, 0.2, outer=2.5), 0.2, step_size=step)
    assert not result.certified
    assert result.step_fraction == 0
    assert result.margin == 0
    assert step >= 2 / result.smoothness


# --- monotonicity ---------------------------------------------------------------------------------


def test_a_smaller_residual_gives_a_shorter_path_and_a_better_rate():
    majorant = linear_modulus(0.5, 0.2, outer=2.5)
    results = [theorem_1(majorant, 0.2, excess=e) for e in (0.045, 0.03, 0.01, 1e-4, 1e-8)]
    assert all(result.certified for result in results)
    for worse, better in itertools.pairwise(results):
        assert better.radius < worse.radius
        assert better.rate < worse.rate
        assert better.margin > worse.margin


def test_a_larger_modulus_never_helps():
    rng = np.random.default_rng(1)
    radii = np.geomspace(0.01, 3.0, 60)
    for _ in range(100):
        small = np.cumsum(rng.exponential(0.01, 60))
        large = small + np.cumsum(rng.exponential(0.002, 60))
        eta = float(rng.uniform(0.05, 0.4))
        a = theorem_1(Majorant(0.5, radii, small), 0.1, step_size=eta)
        b = theorem_1(Majorant(0.5, radii, large), 0.1, step_size=eta)
        assert a.certified or not b.certified
        assert a.radius <= b.radius
        assert a.rate <= b.rate
        assert a.margin >= b.margin or b.certified


def test_rates_are_never_negative():
    """alpha sigma^2 <= M |J|^2, so 4 q (1 - q) alpha sigma_*^2 / L_phi is at most 1."""
    result = theorem_1(linear_modulus(2.0, 0.0, outer=10.0), jacobian_norm=2.0)
    assert result.rate == pytest.approx(0, abs=1e-3)
    assert result.rate >= 0


# --- failing and degenerate cases -----------------------------------------------------------------


def test_a_failure_is_a_normal_result():
    majorant = linear_modulus(0.5, 0.2, outer=2.5)
    result = theorem_1(majorant, 0.2, excess=2.0)
    assert not result.certified
    assert result.margin == pytest.approx(majorant.maximum / 2.0)
    assert result.radius == math.inf
    assert result.rate == 1
    assert 0 < result.step_size < 2 / result.smoothness


def test_a_singular_kernel_certifies_nothing():
    for excess in (0.0, 0.02):
        result = theorem_1(linear_modulus(0.0, 0.2, outer=2.5), 0.2, excess=excess)
        assert not result.certified
        assert result.margin == 0


@pytest.mark.parametrize("step", [None, 0.1])
@pytest.mark.parametrize("excess", [0.0, 0.02])
def test_an_unbounded_lipschitz_constant_certifies_nothing(step, excess):
    """Without a bound on act'' there is no admissible step, however small omega is."""
    majorant = linear_modulus(0.5, 0.0, outer=2.5)
    result = theorem_1(majorant, math.inf, excess=excess, step_size=step)
    assert not result.certified
    assert result.margin == 0


def test_a_lipschitz_constant_known_on_small_balls_only_suffices():
    majorant = linear_modulus(0.5, 0.0, outer=10.0)
    lipschitz = np.where(majorant.radii < 3, 0.1, math.inf)
    result = theorem_1(majorant, lipschitz=lipschitz)
    assert result.certified
    assert result.radius < 3
    assert math.isfinite(result.smoothness)


def test_a_start_at_a_global_minimiser_stays_there():
    result = theorem_1(linear_modulus(0.5, 0.2, outer=2.5), 0.2, excess=0.0)
    assert result.certified
    assert result.radius == 0
    assert result.margin == math.inf


# --- Theorem 1' -----------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0.05, 0.3, 0.45])
def test_existence_gives_newton_kantorovich(h):
    """s_K -> (sigma - sqrt(sigma^2 - 2 L sigma rho_K)) / L; condition L rho_K / sigma < 1/2."""
    sigma, slope = 0.5, 0.2
    target_norm = h * sigma / slope
    result = interpolation_exists(
        majorant=linear_modulus(sigma, slope, outer=2.5), target_norm=target_norm
    )
    exact = (sigma - math.sqrt(sigma**2 - 2 * slope * sigma * target_norm)) / slope
    assert result.exists
    assert exact <= result.radius <= exact * 1.005
    assert result.radius >= target_norm
    assert result.margin == pytest.approx(1 / (2 * h), rel=1e-3)


def test_existence_fails_beyond_one_half():
    result = interpolation_exists(
        majorant=linear_modulus(0.5, 0.2, outer=2.5), target_norm=0.51 * 0.5 / 0.2
    )
    assert not result.exists
    assert result.radius == math.inf
    assert result.margin < 1


def test_existence_for_a_linear_model_is_the_pseudoinverse():
    result = interpolation_exists(majorant=linear_modulus(0.5, 0.0, outer=9.0), target_norm=1.7)
    assert result.exists
    assert result.radius == pytest.approx(1.7)


def test_existence_at_a_minimiser_and_with_a_singular_kernel():
    at_rest = interpolation_exists(majorant=linear_modulus(0.5, 0.2, outer=2.5), target_norm=0.0)
    assert (at_rest.exists, at_rest.radius, at_rest.margin) == (True, 0.0, math.inf)
    singular = interpolation_exists(majorant=linear_modulus(0.0, 0.2, outer=2.5), target_norm=0.0)
    assert (singular.exists, singular.radius, singular.margin) == (False, math.inf, 0.0)
