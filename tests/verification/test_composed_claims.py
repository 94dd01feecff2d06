"""Certificates about networks composed of layers: the re-check's own pass, and forgeries."""

from functools import cache

import jax
import numpy as np
import pytest
from msgspec import structs

from altered import altered
from overparam import Measure, Problem, anchor, certify, gauss_newton
from overparam.jacobian.composed_bounds import measure_composed
from overparam.model import Composed, Conv, Dense, Flatten, LayerNorm, MeanPool, Residual
from overparam.numbers.balls import balls
from overparam.verification import verify
from overparam.verification.composed_pass import PointPass, measured_layers, places
from overparam.verification.verify import UNCHECKED

SLOW = pytest.mark.slow
CONVNET = (Conv(3), "gelu", MeanPool(2), Conv(2, 2, 2, 1), "tanh", Flatten(), Dense(2))
RESIDUAL = (Dense(4), Residual((*LayerNorm(), Dense(4), "silu")), "gelu", Dense(1))
NORMED = (Conv(3), LayerNorm(), "sin", Flatten(), LayerNorm(1e-3, affine=False), Dense(2))


@cache
def problem_of(parts, in_shape, scale=1.0):
    network = Composed(parts, in_shape, output_scale=scale)
    start = jax.tree.map(np.float64, network.init(jax.random.key(0)))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, network.in_dim)), rng.standard_normal((4, network.out_dim))
    return Problem(network, Measure(x, y, np.arange(4.0, 8.0)), "squared", start), start


@cache
def anchored():
    problem, start = problem_of((Conv(6), "gelu", MeanPool(2), Flatten(), Dense(1)), (4, 4, 1))
    fitted = gauss_newton(problem, start).params
    return problem, fitted, anchor(problem, fitted)


@pytest.mark.parametrize(
    ("parts", "shape"),
    [
        (CONVNET, (4, 5, 2)),
        pytest.param(NORMED, (3, 3, 1), marks=SLOW),
        pytest.param(RESIDUAL, (3,), marks=SLOW),
    ],
    ids=["convolutions", "layer norms", "residual sums"],
)
def test_the_pass_in_balls_has_the_values_jacobian_and_norms_of_the_network(parts, shape):
    problem, start = problem_of(parts, shape)
    network, x = problem.model, problem.measure.x
    with jax.enable_x64(True):
        values = np.asarray(network.apply(start, x))
        dense = jax.jit(jax.jacobian(lambda p: network.apply(p, x)))(start)
    rows = [np.asarray(leaf).reshape(*values.shape, -1) for leaf in jax.tree.leaves(dense)]
    kernel = np.einsum("iap,jbp->iajb", *2 * [np.concatenate(rows, axis=2)])
    with balls(128):
        at, _ = places(network.parts, start, network.shape)
        passes = [PointPass(network, at, point) for point in x]
        found = np.array([[float(v) for v in each.output] for each in passes])
        both = [each.jacobian() for each in passes]
        J = np.array([[list(map(float, row)) for row in rows] for rows, _ in both])
        own = measured_layers(network, at, [seen for _, seen in both])
        assert all(v.rad() < 1e-30 for each in passes for v in each.output)
    np.testing.assert_allclose(found, values, rtol=1e-12)
    np.testing.assert_allclose(np.einsum("iap,jbp->iajb", J, J), kernel, rtol=1e-11, atol=1e-13)
    for mine, theirs in zip(own, measure_composed(problem, network, start).measured, strict=True):
        for name in ("weight", "own", "size", "spread", "least", "width"):
            a, b = (np.asarray(getattr(layer, name)) for layer in (mine, theirs))
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-290)


def test_an_honest_one_passes_and_stronger_ones_do_not():
    problem, params, found = anchored()
    assert found.certified, found.reason
    assert verify(found, problem, params).reasons == ()
    n = found.numbers
    for name, factor in (("radius", 0.9), ("margin", 1.2), ("lipschitz_on_ball", 0.9)):
        assert not verify(altered(found, **{name: factor * n[name]}), problem, params).ok, name


@SLOW
def test_nor_does_anything_that_is_stronger():
    problem, params, found = anchored()
    larger = ("margin", "sigma_end", "min_eigenvalue", "distance_lower_bound", "step_fraction")
    for name, value in found.numbers.items():
        if not (np.isfinite(value) and value):
            continue
        lie = altered(found, **{name: value * (1.1 if name in larger else 0.9)})
        assert not verify(lie, problem, params).ok, name
    moved = jax.tree.map(lambda a: a + 1e-3, params)
    described = anchor(problem, moved).problem
    assert not verify(structs.replace(found, problem=described), problem, moved).ok
    assert "params_sha256" in verify(found, problem, moved).reasons[0]


@SLOW
def test_a_residual_perceptron_passes_and_so_does_what_certifies_nothing():
    problem, start = problem_of(RESIDUAL, (3,))
    fitted = gauss_newton(problem, start).params
    found = anchor(problem, fitted)
    assert found.certified
    assert verify(found, problem, fitted).reasons == ()
    assert verify(certify(problem, start, theorem="1"), problem, start).reasons == ()


def test_what_it_has_no_pass_of_is_said():
    problem, start = problem_of((Dense(4), "gelu", Dense(1)), (3,))
    decayed = Problem(problem.model, problem.measure, weight_decay=1.0)
    told = verify(anchor(decayed, start), decayed, start)
    assert told.reasons[0].startswith(UNCHECKED)
    assert "Theorems 1 and S" in told.reasons[0]


@SLOW
@pytest.mark.parametrize("sampling", ["subsets", "epochs"])
def test_mini_batches_at_trained_parameters(sampling):
    problem, params, _ = anchored()
    found = anchor(problem, params, batch_size=2, sampling=sampling)
    assert found.certified, found.reason
    assert verify(found, problem, params).reasons == ()
    for name in ("point_norm", "level", "radius"):
        lie = altered(found, **{name: 0.9 * found.numbers[name]})
        assert not verify(lie, problem, params).ok, name
