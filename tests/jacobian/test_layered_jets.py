"""Theorem O2 under attack: the 1-jet of networks with several hidden layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_jet_modulus import jet_problem

from ascent import largest_change, largest_curvature
from overparam import Jet
from overparam.jacobian.bounds import jacobian_bounds
from overparam.jacobian.jet_modulus import JetBounds
from overparam.jacobian.layered_jets import LayeredJetBounds, measure_layered_point
from overparam.model import ACTIVATIONS
from tiny import Tiny

RADII = (1e-3, 0.3, 3.0)
ROUNDING = 1e-11
CASES = (
    Tiny((12, 16), "tanh", outputs=1),
    Tiny((10, 8), "gelu", outputs=2, in_dim=2, bias_scale=1.0, output_scale=2.5),
    Tiny((9, 7, 8), "softplus", outputs=1, points=3, weight_scale=1.6),
)


def attack(tiny: Tiny, seed: int = 0, *, curvature: bool = True, **strength) -> None:
    problem, params = jet_problem(tiny, Jet(), seed), tiny.start(seed)
    bounds = jacobian_bounds(problem, params)
    assert isinstance(bounds, LayeredJetBounds)
    for radius in RADII:
        omega, lipschitz = bounds.on_ball(radius)
        found = largest_change(problem.observed, problem.measure, params, radius, **strength)
        assert 0 < found <= omega * (1 + ROUNDING)
        if not curvature:
            continue
        found = largest_curvature(problem.observed, problem.measure, params, radius, **strength)
        assert 0 < found <= lipschitz * (1 + ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize(
    "curvature",
    [False, pytest.param(True, marks=pytest.mark.slow)],  # that of a jet is long to compile
    ids=["modulus", "both"],
)
def test_gradient_ascent_does_not_exceed_the_bounds(curvature):
    attack(CASES[1], starts=4, steps=40, curvature=curvature)


@pytest.mark.slow
@pytest.mark.parametrize("tiny", CASES, ids=str)
def test_gradient_ascent_exceeds_the_bounds_of_no_case(tiny):
    attack(tiny, starts=10, steps=150)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, a in ACTIVATIONS.items() if a.third_bound is not None])
def test_gradient_ascent_exceeds_the_bounds_of_no_activation(name):
    for seed, hidden, outputs, in_dim in ((1, (8, 9), 1, 3), (2, (5, 6, 7), 2, 1)):
        attack(Tiny(hidden, name, outputs, in_dim=in_dim, bias_scale=0.4), seed, starts=8)


@pytest.mark.parametrize("tiny", CASES[:2], ids=str)
@pytest.mark.sample(1)
def test_norms_at_the_base_point_against_derivatives_of_the_jet(tiny):
    """G is the derivative of the jet by the jet of a layer; its norm from dense matrices."""
    problem, params = jet_problem(tiny, Jet()), tiny.start(0)
    act, model, x = tiny.model.act, tiny.model, problem.measure.x
    d, k, m = tiny.in_dim, tiny.outputs, tiny.hidden[0]
    bounds = (act.slope_bound, act.curvature_bound, act.third_bound)
    point = measure_layered_point(model, problem.measure, params, bounds, working_memory=1)
    assert [len(norms) for norms in point.input_norms] == [len(x)] * 3

    def upper(z_jet):
        """The jet of the outputs from the jet (m, 1 + d) of the first preactivations."""
        z, y = z_jet[:, 0], z_jet[:, 1:]

        def rest(first):
            h = act.fn(first)[None]
            h = act.fn(model.preactivation(params, 1, h))
            return model.output_scale * model.preactivation(params, 2, h)[0]

        slope = jax.vmap(lambda e: jax.jvp(rest, (z,), (e,))[1], in_axes=1, out_axes=1)(y)
        return jnp.concatenate([rest(z)[:, None], slope], axis=1)

    derivative = jax.jit(jax.jacobian(upper))
    with jax.enable_x64(True):
        first = model.weight_factors[0] * np.asarray(params[0][0])
        for i, single in enumerate(x):
            z = np.asarray(model.preactivation(params, 0, jnp.asarray(single[None])))[0]
            jet = np.concatenate([z[:, None], first], axis=1)
            dense = np.asarray(derivative(jet)).reshape(k * (1 + d), m * (1 + d))
            exact = np.linalg.norm(dense, 2)
            assert exact <= point.backward_norms[0][i] * (1 + 1e-12)
            assert point.backward_norms[0][i] <= 1.6 * exact  # a norm of two by two norms
            largest = np.linalg.norm(first, axis=1).max()
            assert point.rows[0][i] == pytest.approx(largest, rel=1e-12)
            h = np.asarray(act(z))
            slopes = np.asarray(act.slope(z))[:, None] * first
            inputs = model.weight_factors[1] * np.column_stack([h, slopes])
            inputs = np.vstack([inputs, [model.bias_scale, *np.zeros(d)]])
            assert point.input_norms[1][i] == pytest.approx(np.linalg.norm(inputs, 2), rel=1e-12)


@pytest.mark.parametrize("tiny", CASES, ids=str)
@pytest.mark.sample(2)
def test_bounds_are_monotone_and_the_modulus_vanishes_at_zero(tiny):
    bounds = jacobian_bounds(jet_problem(tiny, Jet()), tiny.start(0))
    values = np.array([bounds.on_ball(r) for r in (0.0, *np.geomspace(1e-6, 10, 20))])
    assert values[0, 0] == 0.0
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=0) >= 0).all()


@pytest.mark.slow
def test_with_one_hidden_layer_the_direct_bound_is_the_smaller_one():
    """The recursions hold for one hidden layer, too; Theorem O1 makes more of its structure."""
    tiny = Tiny((32,), "tanh", outputs=1)
    problem, params = jet_problem(tiny, Jet()), tiny.start(0)
    act = tiny.model.act
    point = measure_layered_point(
        *(tiny.model, problem.measure, params),
        (act.slope_bound, act.curvature_bound, act.third_bound),
    )
    direct, recursive = jacobian_bounds(problem, params), LayeredJetBounds(point)
    assert isinstance(direct, JetBounds)
    for radius in RADII:
        found = largest_change(problem.observed, problem.measure, params, radius)
        assert found <= direct.modulus(radius) <= recursive.modulus(radius)
