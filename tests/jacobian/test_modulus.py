"""Theorems 2 and 3 under attack: no perturbation that gradient ascent finds exceeds them."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest
from second_modulus import modulus_and_lipschitz as second_text

from ascent import largest_change, largest_curvature
from dense_network import ACTIVATIONS, SMOOTH, DenseNetwork, operator_norm
from overparam import InputError, jacobian_modulus
from overparam.jacobian.layer_norms import (
    PLAIN,
    LayerNorms,
    measure_layer_norms,
    starting_norms,
)
from overparam.jacobian.measured_partials import ComposedNorms, RoundedProduct
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.jacobian.modulus import (
    comes_alone,
    modulus_alone,
    modulus_and_lipschitz,
    modulus_at,
)
from overparam.jacobian.partial_jacobians import partial_jacobian_norms
from overparam.numbers.upper import EXTENDED, Upper, strict
from overparam.rounding.layer_norms import UPWARDS
from tiny import Tiny

RADII = (1e-3, 0.1, 1.0, 4.0)
ROUNDING = 1e-11

CASES = (
    Tiny((), "tanh", outputs=2),
    Tiny((48,), "gelu", outputs=1),
    Tiny((16,), "sin", outputs=3, bias_scale=1.0),
    Tiny((24, 12), "tanh", outputs=2, bias_scale=0.0, output_scale=2.5),
    Tiny((12, 16, 12), "softplus", outputs=1, weight_scale=1.5),
    Tiny((10, 12, 8, 10), "silu", outputs=3),
    Tiny((8, 30), "erf", outputs=2, points=2, bias_scale=1.0),
    Tiny((2, 2), "identity", outputs=5),
)

ALL_CASES = tuple(
    Tiny(hidden, activation, outputs, bias_scale=0.3)
    for activation in SMOOTH
    for outputs, hidden in ((2, (48,)), (1, (16, 20)), (3, (7, 9, 11)), (2, (6, 9, 5, 7)))
)


@cache  # so that JAX compiles once
def bounds_at(tiny: Tiny, seed: int = 0) -> MLPBounds:
    return MLPBounds(measure_layer_norms(tiny.problem(seed), tiny.start(seed)))


def attack_modulus(tiny: Tiny, seed: int = 0, bounds: MLPBounds | None = None) -> None:
    bounds = bounds or bounds_at(tiny, seed)
    for radius in RADII:
        found = largest_change(tiny.model, tiny.measure(seed), tiny.start(seed), radius)
        assert found <= bounds.modulus(radius) * (1 + ROUNDING) + ROUNDING


def attack_lipschitz(tiny: Tiny, seed: int = 0) -> None:
    bounds = bounds_at(tiny, seed)
    for radius in RADII:
        found = largest_curvature(tiny.model, tiny.measure(seed), tiny.start(seed), radius)
        assert found <= bounds.lipschitz(radius) * (1 + ROUNDING)


MANY = (
    Tiny((16, 12), "gelu", outputs=2, points=150),
    Tiny((12, 16, 12), "softplus", outputs=1, points=130),
    Tiny((10, 12), "relu", outputs=1, points=140),
)


@pytest.mark.parametrize("tiny", MANY, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, EXTENDED])
def test_groups_of_points_leave_every_number_as_it_is(tiny, dtype, monkeypatch):
    """omega and L, to the last bit and with the same count of roundings, with or without them."""
    norms = starting_norms(bounds_at(tiny).base, dtype)
    assert comes_alone(norms)
    assert norms.coarse.points == 32

    def found():
        both = list(modulus_and_lipschitz(norms, RADII, dtype))
        numbers = [number for pair in both for number in pair if number is not None]
        alone = list(modulus_alone(norms, RADII, dtype))
        assert [(o.values, o.roundings) for o in alone] == [
            (o.values, o.roundings) for o, _ in both
        ]
        return [(number.values, number.roundings) for number in numbers]

    with_groups = found()
    monkeypatch.setitem(norms.__dict__, "coarse", norms)
    assert with_groups == found()


@pytest.mark.parametrize("tiny", MANY, ids=str)
def test_bounds_by_groups_are_not_below_those_by_points(tiny):
    norms = starting_norms(bounds_at(tiny).base)
    shares = [Upper(np.array([r, r / 2])) for r in np.linspace(0.1, 1, norms.layers)]
    for by_groups, exact in zip(
        modulus_at(norms.coarse, shares), modulus_at(norms, shares), strict=True
    ):
        assert (by_groups.values >= exact.values * (1 - ROUNDING)).all()


@pytest.mark.parametrize("kind", ["computed", "proved"])
@pytest.mark.parametrize("tiny", [MANY[0], CASES[3], CASES[7]], ids=str)
def test_the_modulus_alone_is_that_beside_its_lipschitz_constant(tiny, kind):
    bounds = dataclasses.replace(bounds_at(tiny), kind=kind)
    omega, lipschitz = bounds.on_nested_balls(RADII)
    both = bounds.on_balls(RADII)
    np.testing.assert_array_equal(omega, both[:, 0])
    np.testing.assert_array_equal(np.asarray(lipschitz), both[:, 1])
    assert [bounds.modulus(r) for r in RADII] == omega.tolist()


@pytest.mark.parametrize("tiny", CASES[:6], ids=str)
@pytest.mark.sample(1)
def test_gradient_ascent_does_not_exceed_the_modulus(tiny):
    attack_modulus(tiny)


@pytest.mark.parametrize("tiny", CASES[1:4], ids=str)
@pytest.mark.sample(1)
def test_gradient_ascent_does_not_exceed_the_lipschitz_constant(tiny):
    attack_lipschitz(tiny)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", ALL_CASES, ids=str)
def test_gradient_ascent_exceeds_the_bounds_of_no_activation(tiny):
    for seed in (1, 2):
        attack_modulus(tiny, seed)
        attack_lipschitz(tiny, seed)


def test_the_ascent_finds_what_a_dense_jacobian_has():
    """The adversary is no straw man: it finds at least what 300 dense Jacobians show."""
    tiny = Tiny((16,), "sin", outputs=3, bias_scale=1.0)
    network, theta = DenseNetwork(tiny.model, tiny.measure(0)), None
    theta = network.flat(tiny.start(0))
    base, rng = network.jacobian(theta), np.random.default_rng(0)
    worst = 0.0
    for _ in range(300):
        step = rng.standard_normal(theta.shape)
        moved = theta + step / np.linalg.norm(step)
        worst = max(worst, operator_norm(network.jacobian(moved) - base))
    assert largest_change(tiny.model, tiny.measure(0), tiny.start(0), 1.0) > 2 * worst


def test_the_bounds_are_nearly_attained_by_a_two_layer_linear_chain():
    """F = v w x: the Jacobian changes by exactly |x| r, and D^2 F by |x|. Constants are sharp."""
    tiny = Tiny((1,), "identity", outputs=1, points=1, in_dim=1, bias_scale=0.0)
    size = abs(float(tiny.measure(0).x[0, 0]))
    bounds = bounds_at(tiny)
    for radius in RADII:
        found = largest_change(tiny.model, tiny.measure(0), tiny.start(0), radius)
        assert found == pytest.approx(size * radius, rel=1e-6)
        assert size * radius <= bounds.modulus(radius) <= 1.05 * size * radius
        assert size <= bounds.lipschitz(radius) <= 2.1 * size


def test_a_model_that_is_linear_in_its_parameters_has_a_constant_jacobian():
    bounds = bounds_at(Tiny((), "relu", outputs=2))
    assert bounds.on_ball(1e6) == (0.0, 0.0)


@pytest.mark.parametrize("tiny", CASES[1:], ids=str)
@pytest.mark.sample(2)
def test_difference_quotients_of_dense_jacobians_stay_below_the_lipschitz_constant(tiny):
    rng = np.random.default_rng(5)
    network = DenseNetwork(tiny.model, tiny.measure(0))
    theta = network.flat(tiny.start(0))
    for radius in (0.1, 1.0, 4.0):
        lipschitz = bounds_at(tiny).lipschitz(radius)
        for _ in range(10):
            a, b = rng.standard_normal((2, len(theta)))
            a = theta + radius * a / np.linalg.norm(a)
            b = a + 1e-3 * radius * (theta - a + 0.1 * radius * b / np.linalg.norm(b))
            change = operator_norm(network.jacobian(b) - network.jacobian(a))
            assert change <= lipschitz * np.linalg.norm(b - a) * (1 + 1e-6)


@pytest.mark.parametrize("tiny", CASES, ids=str)
@pytest.mark.sample(3)
@pytest.mark.sample(1)
def test_bounds_are_monotone_and_the_modulus_vanishes_at_zero(tiny):
    bounds = bounds_at(tiny)
    values = np.array([bounds.on_ball(r) for r in (0.0, *np.geomspace(1e-6, 1e3, 40))])
    assert values[0, 0] == 0.0
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=0) >= 0).all()
    if tiny.hidden:
        assert values[1, 0] < 1e-4 * values[20, 0] + 1e-4


@pytest.mark.parametrize("tiny", CASES[1:], ids=str)
@pytest.mark.sample(1)
def test_theorem_3_bounds_theorem_2_for_small_radii(tiny):
    """|D^2 F| at theta_0 bounds the slope of the true modulus there."""
    radius = 1e-6
    found = largest_change(tiny.model, tiny.measure(0), tiny.start(0), radius)
    assert found <= bounds_at(tiny).lipschitz(radius) * radius * (1 + 1e-3)


# --- norms at theta_0 -----------------------------------------------------------------------------


@pytest.mark.parametrize("tiny", CASES, ids=str)
@pytest.mark.sample(2)
def test_norms_at_the_base_point_against_dense_matrices(tiny):
    network = DenseNetwork(tiny.model, tiny.measure(0))
    theta = network.flat(tiny.start(0))
    base = measure_layer_norms(tiny.problem(0), tiny.start(0), working_memory=4096)
    _, inputs, backward, upstream = network.observe(theta)
    roots = np.sqrt(tiny.measure(0).weights)
    for layer, (a, matrix) in enumerate(zip(inputs, network.matrices(theta), strict=True)):
        factor = tiny.weight_scale / np.sqrt(tiny.model.widths[layer])
        assert base.weight_factors[layer] == pytest.approx(factor)
        assert base.weight_norms[layer] == pytest.approx(factor * operator_norm(matrix[:, :-1]))
        np.testing.assert_allclose(base.input_norms[layer], np.linalg.norm(a, axis=1), rtol=1e-12)
        collective = operator_norm(roots[:, None] * a)
        assert base.collective_input_norms[layer] == pytest.approx(collective, rel=1e-9)
    assert base.output_scale == pytest.approx(operator_norm(backward[-1][0]))
    for layer in range(len(upstream)):
        g, u = backward[layer], upstream[layer]
        expected = np.linalg.norm(g, 2, axis=(1, 2))
        np.testing.assert_allclose(base.backward_norms[layer], expected, rtol=1e-7)
        expected = np.linalg.norm(u, 2, axis=(1, 2))
        np.testing.assert_allclose(base.upstream_norms[layer], expected, rtol=1e-7)
        expected = np.linalg.norm(u, axis=1).max(axis=1)
        np.testing.assert_allclose(base.upstream_columns[layer], expected, rtol=1e-12)


def test_the_dense_network_is_the_network():
    for tiny in (*CASES, Tiny((4, 4), "relu", outputs=2)):
        network = DenseNetwork(tiny.model, tiny.measure(0))
        params, measure = tiny.start(0), tiny.measure(0)
        theta = network.flat(params)
        np.testing.assert_allclose(
            network.values(theta), tiny.problem(0).predict(params), rtol=1e-12, atol=1e-13
        )
        numeric = np.empty((network.values(theta).size, len(theta)))
        for j in range(len(theta)):
            step = np.zeros_like(theta)
            step[j] = 1e-6
            change = network.values(theta + step) - network.values(theta - step)
            numeric[:, j] = change.ravel() / 2e-6
        roots = np.repeat(np.sqrt(measure.weights), tiny.outputs)
        dense = network.jacobian(theta)
        np.testing.assert_allclose(dense, roots[:, None] * numeric, atol=1e-8)


# --- composed norms -------------------------------------------------------------------------------


def slopes_near(rng, slopes, moves, tiny):
    """Slopes that pre-activations within the moves may have, in norm and one by one."""
    act, found = tiny.model.act, []
    for s, move in zip(slopes, moves, strict=True):
        step = rng.standard_normal(s.shape) * (rng.uniform(size=s.shape) < rng.uniform())
        step *= rng.uniform() * act.curvature_bound * move / max(np.linalg.norm(step), 1e-9)
        found.append(np.clip(s + step, act.lowest_slope, act.slope_bound))
    return found


@pytest.mark.parametrize("tiny", [CASES[3], CASES[4], CASES[5]], ids=str)
@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.sample(2)
def test_chains_bound_products_of_matrices_with_any_slopes_nearby(tiny, measured):
    """Lemma J4 against dense products; without moves the measured norms are attained."""
    base = measure_layer_norms(tiny.problem(0), tiny.start(0))
    if not measured:
        base = dataclasses.replace(base, composed=None)
    start = starting_norms(base)
    network = DenseNetwork(tiny.model, tiny.measure(0))
    theta = network.flat(tiny.start(0))
    _, _, backward, upstream = network.observe(theta)
    factors = base.weight_factors
    matrices = [c * w for c, w in zip(factors, tiny.start(0)[0], strict=True)]
    slopes = [
        np.take_along_axis(g / u, np.abs(u).argmax(1)[:, None], 1)[:, 0]
        for g, u in zip(backward, upstream, strict=False)
    ]
    heads = [np.sqrt(np.linalg.norm(u, axis=1)) for u in upstream]
    rng, hidden, i = np.random.default_rng(0), len(upstream), 2
    for size in (0.0, 0.03, 0.3, 3.0):
        moves = [size * rng.uniform(size=()) for _ in range(hidden)]
        allowed = start.slopes_within([Upper.exact(np.full(5, move)) for move in moves], 1.0)
        for _ in range(20):
            near = slopes_near(rng, [s[i] for s in slopes], moves, tiny)
            partials = [*start.transports, *([start.energy] if measured else [])]
            passed = start.transports_within(allowed)
            for partial in partials:
                reach = partial_jacobian_norms(partial, start.weight_norms, allowed, passed)
                weighted = partial is start.energy
                x = (
                    np.diag(heads[partial.top][i])
                    if weighted
                    else np.eye(len(matrices[partial.top]))
                )
                rest = x
                for layer in range(partial.top - 1, -1, -1):
                    x = x @ matrices[layer + 1] * near[layer]
                    rest = rest @ matrices[layer + 1] * slopes[layer][i]
                    if weighted:
                        x, rest = (np.concatenate([np.diag(heads[layer][i]), v]) for v in (x, rest))
                    bound, change = (
                        np.broadcast_to(values[layer].values, (5,))[i]
                        for values in (reach.norms, reach.changes)
                    )
                    assert operator_norm(x) <= bound * (1 + 1e-9)
                    assert operator_norm(x - rest) <= change * (1 + 1e-9) + 1e-12
                    if measured and size == 0:
                        assert operator_norm(x) == pytest.approx(bound, rel=1e-6)


def test_turning_slopes_between_two_matrices_is_bounded_by_a_product_of_gram_matrices():
    """Lemma J4's f_ql against a dense search, and exactly for orthogonal rows and columns."""
    rng = np.random.default_rng(0)
    y, p = rng.standard_normal((7, 5)), rng.standard_normal((5, 6))
    bound = RoundedProduct(y).slope_response(RoundedProduct(p), PLAIN)
    found, directions = 0.0, []
    for d in (*np.eye(5), *rng.standard_normal((20, 5))):
        for _ in range(100):  # the norm of Y diag(d) P is convex in d, so full steps only climb
            d = d / np.linalg.norm(d)
            left, sizes, right = np.linalg.svd(y @ (d[:, None] * p))
            found = max(found, sizes[0])
            directions.append(d)
            d = (left[:, 0] @ y) * (p @ right[0])
    assert found <= bound <= 1.5 * found
    # A known distance from the matrices that are meant is paid for.
    off_y, off_p = (1e-2 / operator_norm(v) * v for v in (y, p))
    farther = RoundedProduct(y, 1e-2).slope_response(RoundedProduct(p, 1e-2), UPWARDS)
    widest = max(operator_norm((y + off_y) @ (d[:, None] * (p + off_p))) for d in directions)
    assert max(bound, widest) < farther < 1.1 * bound
    orthogonal, _ = np.linalg.qr(y)
    scaled = orthogonal * [1, 2, 3, 4, 5]
    alone = RoundedProduct(scaled).slope_response(RoundedProduct(np.eye(5)), PLAIN)
    assert alone == pytest.approx(5, rel=1e-12)


def test_collective_norms_bound_what_perturbations_do_to_all_points_together():
    """Lemma J5 against random and alternating choices of V and Y; for one layer it is attained."""
    tiny = CASES[3]
    base = measure_layer_norms(tiny.problem(0), tiny.start(0))
    network = DenseNetwork(tiny.model, tiny.measure(0))
    _, inputs, _, _ = network.observe(network.flat(tiny.start(0)))
    roots, rng = np.sqrt(tiny.measure(0).weights), np.random.default_rng(0)
    for (low, high), family in base.composed.curved.items():
        a, b = (roots * family.profile)[:, None] * inputs[low], inputs[high]
        best, y = 0.0, rng.standard_normal(b.shape[1])
        for _ in range(200):
            v = np.linalg.svd((b @ y)[:, None] * a)[2][0]
            y = np.linalg.svd((a @ v)[:, None] * b)[2][0]
            best = max(best, np.linalg.norm((a @ v) * (b @ y)))
        assert 0.6 * family.norm < best <= family.norm * (1 + ROUNDING)
    for (_, low), family in base.composed.mixed.items():
        exact = operator_norm((roots * family.profile)[:, None] * inputs[low])
        assert family.norm == pytest.approx(exact, rel=1e-9)


def test_composed_norms_only_sharpen():
    """At every split; between the suprema lie the 3 percent that the search leaves."""
    rng = np.random.default_rng(0)
    for tiny in CASES[1:7]:
        base = measure_layer_norms(tiny.problem(0), tiny.start(0))
        layers = len(base.weight_norms)
        splits = np.sqrt(rng.dirichlet(np.full(layers, 0.5), 50))
        for radius in RADII:
            sharp = bounds_at_splits(base, radius * splits)
            plain = bounds_at_splits(dataclasses.replace(base, composed=None), radius * splits)
            assert (sharp <= plain * (1 + ROUNDING)).all()
            if layers > 2 and radius == min(RADII):
                assert sharp[0].max() < plain[0].max()


@pytest.mark.parametrize("tiny", [*CASES, Tiny((9, 8), "relu", outputs=2)], ids=str)
@pytest.mark.sample(4)
def test_a_second_text_of_the_recursions_gives_the_same_numbers(tiny):
    """Written from the statements of docs/modulus.md by itself; in extended precision, in balls."""
    base = measure_layer_norms(tiny.problem(0), tiny.start(0))
    start, radii = starting_norms(base, EXTENDED), [1e-6, 0.1, 1.0, 20.0]
    with strict():
        first = [pair[:] for pair in modulus_and_lipschitz(start, radii, EXTENDED)]
    other = list(second_text(start, radii))
    for radius, pair, balls in zip(radii, first, other, strict=True):
        expected = [np.inf if ball is None else float(ball) for ball in balls]
        found = [np.inf if number is None else number.bound() for number in pair]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        np.testing.assert_allclose(MLPBounds(base).on_ball(radius), expected, rtol=1e-12)


def bounds_at_splits(base: LayerNorms, shares: np.ndarray) -> np.ndarray:
    """omega and L for perturbations whose layers have the given norms."""
    found = modulus_at(starting_norms(base), [Upper.exact(share) for share in shares.T])
    return np.stack([number.values for number in found])


@pytest.mark.slow
def test_too_much_work_leaves_chains_out_and_bounds_valid(monkeypatch):
    tiny = CASES[4]
    monkeypatch.setattr("overparam.jacobian.layer_norms.COMPOSED_WORK", 1.0)
    monkeypatch.setattr("overparam.jacobian.layer_norms.COLLECTIVE_POINTS", 1)
    base = measure_layer_norms(tiny.problem(0), tiny.start(0))
    assert base.composed.energy.layers_below[0].before is None
    assert base.composed.curved == {}
    attack_modulus(tiny, bounds=MLPBounds(base))


# --- relu -----------------------------------------------------------------------------------------


def test_relu_has_a_modulus_that_does_not_vanish_and_no_lipschitz_constant():
    tiny = Tiny((24,), "relu", outputs=2)
    bounds = bounds_at(tiny)
    assert bounds.modulus(1e-9) > 0.1
    assert bounds.lipschitz(1e-9) == np.inf
    network = DenseNetwork(tiny.model, tiny.measure(0))
    theta, rng = network.flat(tiny.start(0)), np.random.default_rng(0)
    base = network.jacobian(theta)
    for radius in (0.01, 1.0, 10.0):
        for _ in range(20):
            step = rng.standard_normal(theta.shape)
            moved = theta + radius * step / np.linalg.norm(step)
            assert operator_norm(network.jacobian(moved) - base) <= bounds.modulus(radius)


# --- the public function --------------------------------------------------------------------------


def test_jacobian_modulus_is_the_bound_at_the_base_point():
    tiny = CASES[3]
    value = jacobian_modulus(tiny.problem(0), tiny.start(0), 0.7)
    assert value == bounds_at(tiny).modulus(0.7)
    single = jax.tree.map(lambda a: a.astype(np.float32), tiny.start(0))
    assert jacobian_modulus(tiny.problem(0), single, 0.7) == pytest.approx(value)


@pytest.mark.parametrize("radius", [-1.0, float("nan"), float("inf")])
def test_an_unusable_radius_is_refused(radius):
    with pytest.raises(InputError, match="radius must be finite"):
        jacobian_modulus(CASES[1].problem(0), CASES[1].start(0), radius)


def test_blocks_of_points_change_nothing():
    tiny = CASES[3]
    whole = measure_layer_norms(tiny.problem(0), tiny.start(0))
    split = measure_layer_norms(tiny.problem(0), tiny.start(0), working_memory=1)
    assert whole.composed is not None
    assert split.composed is not None
    pairs = [(getattr(whole, f), getattr(split, f)) for f in LayerNorms.__dataclass_fields__]
    pairs = [pair for pair in pairs if not isinstance(pair[0], ComposedNorms)]
    pairs += [
        (dataclasses.astuple(whole.composed), dataclasses.astuple(split.composed)),
        (MLPBounds(whole).on_ball(1.0), MLPBounds(split).on_ball(1.0)),
    ]
    for a, b in pairs:
        jax.tree.map(lambda s, t: np.testing.assert_allclose(s, t, rtol=1e-9), a, b)


def test_every_activation_with_a_bound_is_attacked():
    from overparam.model.activation import ACTIVATIONS as REGISTERED

    assert set(SMOOTH) == {n for n, a in REGISTERED.items() if a.curvature_bound is not None}
    assert set(ACTIVATIONS) <= set(REGISTERED)
