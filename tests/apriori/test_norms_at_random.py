"""The norms at theta_0 of drawn networks are below the bounds, as often as promised."""

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem
from overparam.apriori import Moments, Norms
from overparam.apriori.at_points import event_families
from overparam.apriori.from_moments import lifted_moment_norm, required_order
from overparam.apriori.inputs import lifted_norms
from overparam.apriori.setting import build_setting, jacobian_norm
from overparam.apriori.wide_limits import gaussian_means, growth_lines
from overparam.jacobian.layer_norms import measure_layer_norms
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.kernels import tangent_kernel

POINTWISE = ("input_norms", "backward_norms", "upstream_norms", "upstream_columns")
GIVEN = {"residual": 1.0, "min_eigenvalue": 1e-9}


def data(outputs=1, n=5, dim=3):
    rng = np.random.default_rng(0)
    return Measure(
        1.5 * rng.standard_normal((n, dim)), rng.standard_normal((n, outputs)), rng.uniform(1, 3, n)
    )


def networks(model, measure, draws):
    problem = Problem(model, measure)
    for seed in range(draws):
        with jax.enable_x64(True):
            params = model.init(jax.random.key(seed), dtype=np.float64)
        yield problem, params, measure_layer_norms(problem, params)


def at(knowledge, widths, activation, delta, **given):
    model = MLP(knowledge.dim, widths, given.pop("outputs", 1), activation)
    setting = build_setting(knowledge, model, failure_probability=delta, **given)
    model = setting.at(widths)
    return model, setting.base_point(model, binned=False)


def below(measured, bounds, transform=lambda rows: rows):
    """Whether every bound is at least what was measured."""
    pairs = [(transform(getattr(measured, name)), getattr(bounds, name)) for name in POINTWISE]
    apart = ("collective_input_norms", "weight_norms")
    pairs += [(getattr(measured, name), getattr(bounds, name)) for name in apart]
    return all(
        np.all(np.asarray(m) <= np.asarray(b) * (1 + 1e-9))
        for measured_rows, bound_rows in pairs
        for m, b in zip(measured_rows, bound_rows, strict=True)
    )


@pytest.mark.parametrize(
    ("widths", "activation", "outputs"),
    [
        ((20,), "tanh", 1),
        ((20,), "gelu", 3),
        ((16, 24), "gelu", 1),
        ((24, 16, 20), "cos", 1),
        ((16, 16, 16, 16), "tanh", 3),
    ],
)
@pytest.mark.sample(1)
def test_no_norm_exceeds_its_bound_more_often_than_allowed(widths, activation, outputs):
    measure, delta, draws = data(outputs), 0.5, 40
    model, bounds = at(measure, widths, activation, delta)
    fits = [below(base, bounds) for _, _, base in networks(model, measure, draws)]
    assert np.mean(fits) >= 1 - delta


@pytest.mark.parametrize(
    ("widths", "activation", "outputs"),
    [((20,), "softplus", 1), ((16, 24), "gelu", 3), ((16, 16, 16), "tanh", 1)],
)
@pytest.mark.sample(1)
def test_moments_alone_bound_norms_in_lq(widths, activation, outputs):
    measure, delta, draws = data(outputs), 0.5, 40
    model, bounds = at(Moments.of(measure), widths, activation, delta, outputs=outputs, **GIVEN)
    q = required_order(len(widths))

    def in_lq(rows):
        return [(measure.weights @ row**q) ** (1 / q) for row in rows]

    fits = [below(base, bounds, in_lq) for _, _, base in networks(model, measure, draws)]
    assert np.mean(fits) >= 1 - delta


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.sample(1)
def test_the_modulus_before_the_draw_is_above_that_after_it(depth):
    """The one-point surrogate of the moments included: Theorem 2, not only its ingredients."""
    measure, widths = data(), (32,) * depth
    known = [at(how(measure), widths, "tanh", 0.1, **GIVEN) for how in (same, Norms.of, Moments.of)]
    for problem, params, base in networks(known[0][0], measure, 6):
        after = [MLPBounds(base).on_ball(radius) for radius in (0.1, 1.0, 5.0)]
        norm = np.sqrt(np.linalg.eigvalsh(tangent_kernel(problem, params))[-1])
        for _, bounds in known:
            before = [MLPBounds(bounds).on_ball(radius) for radius in (0.1, 1.0, 5.0)]
            assert np.all(np.array(after) <= np.array(before))
            assert norm <= jacobian_norm(bounds)


def same(measure):
    return measure


@pytest.mark.slow
def test_bounds_are_tight_in_the_limit_of_wide_layers():
    """Norms of one hidden layer tend to their limits, and a network of some width is near them."""
    measure = data()
    _, bounds = at(measure, (10**9,), "gelu", 0.05)
    _, _, base = next(networks(MLP(3, (4096,), activation="gelu"), measure, 1))
    assert bounds.input_norms[1] == pytest.approx(base.input_norms[1], rel=0.05)
    assert bounds.backward_norms[0] == pytest.approx(base.backward_norms[0], rel=0.05)
    assert bounds.collective_input_norms[1] == pytest.approx(
        base.collective_input_norms[1], rel=0.05
    )


def test_norms_without_points_give_the_bounds_of_the_points_but_for_the_collective_ones():
    measure = data()
    _, points = at(measure, (64, 64), "tanh", 0.05, **GIVEN)
    _, norms = at(Norms.of(measure), (64, 64), "tanh", 0.05, **GIVEN)
    for name in POINTWISE:
        for a, b in zip(getattr(points, name), getattr(norms, name), strict=True):
            assert a == pytest.approx(b, rel=1e-12)
    assert points.collective_input_norms[0] < norms.collective_input_norms[0]


def test_events_by_hand():
    # W^1 and W^2; kappa_2 twice; columns of W^2; slopes; |G^1|; calK_2.
    assert event_families(2) == 8
    # One more layer: a matrix, kappa_3 twice, slopes, |G|; |U^1|, its columns, two of gamma.
    assert event_families(3) == 8 + 5 + 4


def test_the_first_layers_moment_norm_is_exact():
    measure = data()
    kappa = lifted_norms(np.linalg.norm(measure.x, axis=1), 3, 1.3, 0.4)
    for q in (4, 6, 8):
        expected = (measure.weights @ kappa**q) ** (1 / q)
        found = lifted_moment_norm(Moments.of(measure), q, 1.3, 0.4)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "tanh",
        "erf",
        "gelu",
        "silu",
        "softplus",
        "sin",
        "cos",
        "gaussian",
        "identity",
        "sigmoid",
        "gelu_tanh",
    ],
)
@pytest.mark.sample(3)
def test_growth_lines_are_above_the_second_moment_everywhere(name):
    act = MLP(1, activation=name).act
    for variance in (0.05, 1.0, 40.0):
        check_growth(act, variance)


def check_growth(act, variance):
    v = np.concatenate([np.geomspace(1e-6, 1e4, 400), variance * np.linspace(0.5, 2, 50)])
    second = gaussian_means(act, np.sqrt(v))[0] ** 2
    lines = growth_lines(act, variance)
    for a, b in lines:
        assert np.all(second <= (a + b * v) * (1 + 1e-9))
    exact = gaussian_means(act, np.sqrt(np.array([variance])))[0][0] ** 2
    if act.name in ("tanh", "erf"):  # concave: the tangent touches
        assert min(a + b * variance for a, b in lines) <= 1.02 * exact
