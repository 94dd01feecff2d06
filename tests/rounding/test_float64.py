"""What float64 may hide is taken off; what leaves its range is refused in a line."""

import math
import operator
from fractions import Fraction

import jax
import numpy as np
import pytest

from overparam import MLP, InputError, Measure, Problem, anchor, certify
from overparam.certificate.hypotheses import measure_hypotheses
from overparam.enclosures import Enclosure
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.rounding.float64 import KernelErrors, kernel_errors, sum_rounding
from tiny import Tiny

TINY = Tiny((48,), "gelu", outputs=1)
START = TINY.start(0)


def scaled(targets=1.0, inputs=1.0, **scales):
    """A problem centred at its start, with data or model scaled."""
    model = MLP(3, (48,), 1, "gelu", **scales)
    params = model.init(jax.random.key(0))
    measure = TINY.measure(0)
    measure = Measure(inputs * measure.x, targets * measure.y, measure.weights)
    return Problem(model, measure, centered_at=params), params


# --- the kernel's rounding ------------------------------------------------------------------------


def test_a_linear_kernel_is_off_by_no_more_than_is_said():
    """Against the exact Gram matrix, in fractions."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        model = MLP(400, (), 1, "identity", bias_scale=0.0)
        params = model.init(jax.random.key(seed))
        x = rng.uniform(0.5, 1.5, (4, 400)) * 2.0 ** rng.integers(-9, 9, 400)
        problem = Problem(model, Measure(x, np.ones(4)))
        kernel = tangent_kernel(problem, params)
        points = [[Fraction(entry) for entry in row] for row in x.tolist()]
        error = 0.0
        for i, p in enumerate(points):
            for j, q in enumerate(points):
                exact = sum(map(operator.mul, p, q)) * Fraction(problem.measure.weights[0]) / 400
                error += float(Fraction(kernel[i, j]) - exact) ** 2
        found = kernel_errors(problem, params, kernel)
        assert math.sqrt(error) <= found.products
        assert found.products < 1e-12 * np.trace(kernel)


def test_errors_of_jacobian_and_products_move_the_eigenvalues_outward():
    errors = KernelErrors(products=0.25, jacobian=0.1)
    found = errors.smallest(Enclosure(1.25, 1.3))
    assert found.lower == pytest.approx(0.9**2)
    assert found.lower <= 0.81
    assert found.upper >= (math.sqrt(1.55) + 0.1) ** 2
    assert errors.largest(Enclosure(4.0, 4.0)).upper >= (math.sqrt(4.25) + 0.1) ** 2
    assert errors.smallest(Enclosure(0.2, 0.3)).lower <= 0
    assert KernelErrors(0.0, math.inf).smallest(Enclosure(1.0, 1.0)).lower <= 0


@pytest.mark.parametrize("seed", range(4))
def test_the_bounds_hold_for_random_jacobians_and_their_neighbours(seed):
    """J^ = J + E and K^ = J^ J^* + D with known norms of E and D."""
    rng = np.random.default_rng(seed)
    jacobian = rng.standard_normal((5, 12)) * np.geomspace(1, 1e-3, 5)[:, None]
    other = rng.standard_normal((5, 12)) * 3e-4
    skew = rng.standard_normal((5, 5)) * 1e-8
    seen = (jacobian + other) @ (jacobian + other).T + skew + skew.T
    errors = KernelErrors(np.linalg.norm(skew + skew.T, 2), np.linalg.norm(other, 2))
    values, exact = np.linalg.eigvalsh(seen), np.linalg.svd(jacobian, compute_uv=False) ** 2
    assert errors.smallest(Enclosure(values[0], values[0])).lower <= exact[-1]
    assert errors.largest(Enclosure(values[-1], values[-1])).upper >= exact[0]


def test_an_honest_certificate_loses_next_to_nothing():
    """A condition number of 10^10 at 100 points costs lambda_min less than a percent."""
    rng = np.random.default_rng(0)
    model = MLP(100, (512, 512), 1, "tanh")
    kernel = np.diag(np.geomspace(1, 1e-10, 100)) / 100
    problem = Problem(model, Measure(rng.standard_normal((100, 100)), np.ones(100)))
    errors = kernel_errors(problem, model.init(jax.random.key(0)), kernel)
    least = kernel[-1, -1]
    assert errors.smallest(Enclosure(least, least)).lower > 0.99 * least


def test_a_sum_in_blocks_stays_below_its_rounding():
    assert sum_rounding(100) == 100 * 2.0**-53
    assert sum_rounding(10**6) == 16_000 * 2.0**-53


def test_a_kernel_that_was_computed_in_float32_is_refused():
    problem, params = scaled()
    kernel = tangent_kernel(problem, params).astype(np.float32)
    with pytest.raises(InputError, match="give it in float64"):
        certify(problem, params, kernel=kernel)


# --- residuals near zero --------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1e-160, 1e-200, 1e-320])
@pytest.mark.parametrize("rigor", ["computed", "proved"])
@pytest.mark.sample(3)
def test_squares_that_vanish_do_not_make_a_residual_of_zero(targets, rigor):
    problem, params = scaled(targets)
    found = certify(problem, params, rigor=rigor)
    assert found.residual >= targets
    assert found.radius > 0
    assert found.margin < math.inf
    assert found.constants["excess"].value > 0


def test_a_teacher_is_not_known_to_be_reached_exactly():
    """The network that made the targets has a computed residual of zero, not a real one."""
    measure = TINY.measure(0)
    taught = Problem(TINY.model, Measure(measure.x, np.zeros(5))).predict(START)
    problem = Problem(TINY.model, Measure(measure.x, taught, measure.weights))
    assert problem.excess(START) == 0
    found = anchor(problem, START)
    assert found.certified
    assert 0 < found.residual < 1e-13
    assert 0 < found.radius < 1e-11
    assert found.margin < math.inf


def test_a_start_that_is_a_minimiser_exactly_stays_there():
    found = certify(*scaled(targets=0.0))
    assert found.certified
    assert (found.residual, found.radius, found.margin) == (0, 0, math.inf)


def test_the_shortest_way_is_computed_without_squares_that_leave_the_range():
    one = measure_hypotheses(Expansion(*scaled()))
    for targets in (1e-140, 1e120):
        other = measure_hypotheses(Expansion(*scaled(targets)))
        assert other.target_norm == pytest.approx(targets * one.target_norm)
        assert other.target_norm_lower <= other.target_norm <= other.target_norm_upper
        assert other.target_norm_upper == pytest.approx(other.target_norm_lower, rel=1e-6)


# --- extreme values -------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [1e12, 1e100])
@pytest.mark.parametrize("rigor", ["computed", "proved", "estimated"])
@pytest.mark.sample(2)
def test_huge_targets_are_out_of_reach_by_a_factor(targets, rigor):
    problem, params = scaled(targets)
    ordinary = certify(*scaled(), rigor=rigor, theorem="1")
    found = certify(problem, params, rigor=rigor, theorem="1")
    assert not found.certified
    assert found.margin == pytest.approx(ordinary.margin / targets, rel=0.02)
    assert f"short by a factor {1 / found.margin:.4g}" in found.reason
    found.to_json()


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({"targets": 1e155}, "rescale the targets"),
        ({"targets": 1e200}, "rescale the targets"),
        ({"inputs": 1e150}, "rescale the inputs"),
        ({"inputs": 1e-150, "bias_scale": 0.0}, "rescale the inputs"),
        ({"inputs": 1e300}, "rescale the inputs"),
        ({"output_scale": 1e-150}, "output_scale is 1e-150"),
        ({"output_scale": 1e300}, "output_scale is 1e[+]300"),
        ({"bias_scale": 1e200}, "bias_scale is 1e[+]200"),
        ({"weight_scale": 1e200}, "weight_scale is 1e[+]200"),
    ],
    ids=str,
)
def test_what_leaves_the_range_of_float64_is_refused_in_a_line(scales, message):
    problem, params = scaled(**scales)
    for call in (certify, anchor):
        with pytest.raises(InputError, match=message) as raised:
            call(problem, params)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("targets", [0.0, 1e-160, 1e-3, 1.0, 1e12])
@pytest.mark.sample(2)
def test_the_callers_floating_point_errors_do_not_matter(targets):
    problem, params = scaled(targets)
    plain = certify(problem, params)
    with np.errstate(all="raise"):
        assert certify(problem, params) == plain


def test_inside_transformations_certify_says_that_it_runs_on_the_host():
    problem, params = scaled()
    several = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), params)
    for call in (certify, anchor):
        for transformed, given in (
            (jax.jit(lambda p, call=call: call(problem, p).margin), params),
            (jax.grad(lambda p, call=call: call(problem, p).margin), params),
            (jax.vmap(lambda p, call=call: call(problem, p).margin), several),
        ):
            with pytest.raises(InputError, match="on the host"):
                transformed(given)


# --- claims that say nothing ----------------------------------------------------------------------


@pytest.mark.parametrize("rigor", ["computed", "proved"])
def test_a_rate_that_rounds_to_one_is_no_rate(rigor):
    problem, params = scaled(targets=1e-3)
    found = certify(problem, params, 1e-17, rigor=rigor)
    assert not found.certified
    assert found.rate == 1
    assert found.radius == math.inf
    assert "rounds to 1" in found.reason
    assert certify(problem, params, 1e-9, rigor=rigor).certified


def test_h_below_one_half_is_said_to_suffice_only_where_it_does():
    """A step close to 2 / L_phi fits small balls only, which end before the path does."""
    problem, params = scaled(targets=3e-5)
    free = certify(problem, params, theorem="1")
    assert free.certified
    found = certify(
        problem, params, 1.9 / free.constants["objective_smoothness"].value, theorem="1"
    )
    assert not found.certified
    h = found.constants["newton_kantorovich"]
    assert h.value < 0.5
    reach = 2 * found.constants["level"].value / math.sqrt(found.min_eigenvalue)
    assert found.constants["ball"].value < reach
    assert h.meaning.endswith("below 1/2 suffices if the ball reaches 2ρ / σ₀")
