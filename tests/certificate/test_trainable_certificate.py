"""Certificates about a part of the parameters: last layers, frozen layers, every theorem."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from frozen import TINY, dense, moving_entries, on_features, partly
from overparam import (
    Measure,
    Problem,
    anchor,
    certify,
    gauss_newton,
    gradient_descent,
    load_certificate,
    verify,
)
from overparam.certificate.ball_steps import BallRun
from overparam.kernel.empirical.tangent import objective_gradient
from overparam.train.loop import Loop
from overparam.training import decayed_minimum
from tiny import Tiny


def frozen_and_moving(problem, before, after):
    """The largest change of what is frozen, and of what moves."""
    mask = moving_entries(problem, before)
    gone = np.abs(ravel_pytree(before)[0] - ravel_pytree(after)[0])
    return (gone * (1 - mask)).max(), (gone * mask).max()


@pytest.mark.parametrize("activation", [pytest.param("gelu", marks=pytest.mark.slow), "relu"])
def test_a_last_layer_is_certified_at_every_step_below_the_stable_one(activation):
    tiny = Tiny((16,), activation, outputs=1)
    problem, params = partly(tiny, "last layer", scale=1e4), tiny.start(0)
    stable = 2 / certify(problem, params).constants["max_eigenvalue"].value
    for share in (0.01, 0.999):
        certificate = certify(problem, params, share * stable)
        assert certificate.certified
        assert certificate.constants["modulus_at_ball"].value == 0
        assert certificate.constants["lipschitz_on_ball"].value == 0
    assert not certify(problem, params, 1.001 * stable, theorem="1").certified
    run = gradient_descent(
        problem, params, certificate.step_size, 300, certificate=certificate, dtype="float64"
    )
    assert run.certificate_held
    assert frozen_and_moving(problem, params, run.params)[0] == 0
    assert verify(certificate, problem, params)


def test_a_last_layer_is_the_linear_network_on_the_features():
    problem, params = partly(TINY, "last layer"), TINY.start(0)
    linear, rest = on_features(problem, params, 2)
    found, expected = (certify(*pair).numbers for pair in [(problem, params), (linear, rest)])
    for name in ("margin", "radius", "rate", "min_eigenvalue", "target_norm", "step_size"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)


@pytest.mark.parametrize("rigor", [pytest.param("computed", marks=pytest.mark.slow), "proved"])
def test_a_frozen_first_layer_is_certified_saved_and_checked_again(rigor, tmp_path):
    tiny = Tiny((16, 64), "gelu", outputs=1, points=4)
    params = tiny.start(0)
    problem = partly(tiny, "layers.1:", centered_at=params, scale=1e-3)
    certificate = certify(problem, params, rigor=rigor, theorem="1")
    assert certificate.certified
    assert certificate.rigor == rigor
    assert certificate.problem["trainable"] == ("weights.1", "biases.1", "weights.2", "biases.2")
    certificate.save(tmp_path / "certificate.json")
    again = load_certificate(tmp_path / "certificate.json")
    assert again == certificate
    assert verify(again, problem, params)
    whole = Problem(replace(problem.model, trainable="all"), problem.measure, centered_at=params)
    assert any("trainable" in reason for reason in verify(again, whole, params).reasons)


TINY_RUN = Tiny((24, 16), "tanh", outputs=1, points=3)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["weights", "layers.1:", "layers.0"])
def test_the_run_of_a_part_is_certified_step_by_step(trainable):
    params = TINY_RUN.start(0)
    problem = partly(TINY_RUN, trainable, centered_at=params, scale=0.3)
    certificate = certify(problem, params, theorem="C")
    assert certificate.certified
    run = gradient_descent(
        problem, params, certificate.step_size, 200, certificate=certificate, dtype="float64"
    )
    assert run.certificate_held
    gone = frozen_and_moving(problem, params, run.params)
    assert gone[0] == 0
    assert gone[1] > 0
    assert verify(certificate, problem, params)


@pytest.mark.sample(1)
@pytest.mark.parametrize("trainable", ["weights", "biases", "layers.1:"])
def test_steps_in_balls_leave_what_is_frozen_alone(trainable):
    problem, params, eta = partly(TINY, trainable), TINY.start(0), 0.125
    run = BallRun(problem, params, eta, 128)
    assert run.step() < 1e-30
    gradient = objective_gradient(problem, params)
    expected = jax.tree.map(lambda a, g: a - eta * g, params, gradient)
    np.testing.assert_allclose(
        ravel_pytree(run.nearest())[0], ravel_pytree(expected)[0], rtol=1e-13, atol=1e-15
    )
    assert frozen_and_moving(problem, params, run.nearest())[0] == 0


@pytest.mark.slow
def test_with_weight_decay_what_moves_goes_to_the_only_minimum_of_a_region():
    tiny = Tiny((8,), "tanh", outputs=1)
    away = tiny.start(5)  # also where it is frozen, which weight decay does not pull at
    problem = partly(tiny, "weights", weight_decay=0.1, decay_to=away)
    start = tiny.start(0)
    found = decayed_minimum(problem, start)
    assert found.converged
    assert frozen_and_moving(problem, start, found.params)[0] == 0
    certificate = anchor(problem, found.params)
    assert certificate.certified
    assert "nothing can be checked again" in verify(certificate, problem, found.params).reasons[0]
    mask, measure = moving_entries(problem, start), problem.measure
    with jax.enable_x64(True):
        theta = ravel_pytree(found.params)[0]
        ghat = measure.weights[:, None] * (problem.predict(found.params) - problem.targets)
        bend = np.asarray(dense(problem.model)[1](theta, measure.x, ghat))
    lowest = np.linalg.eigvalsh(bend * np.outer(mask, mask))[0]
    assert -lowest <= certificate.constants["residual_curvature"].value
    run = gradient_descent(problem, start, 0.5, 2000, dtype="float64")
    assert frozen_and_moving(problem, start, run.params)[0] == 0
    np.testing.assert_allclose(
        ravel_pytree(run.params)[0], ravel_pytree(found.params)[0], atol=1e-6
    )


@pytest.mark.slow
def test_without_a_positive_kernel_weight_decay_certifies_a_last_layer():
    tiny = Tiny((4,), "gelu", outputs=1, points=12)  # more points than features
    problem, params = partly(tiny, "last layer", weight_decay=1e-3), tiny.start(0)
    certificate = anchor(problem, decayed_minimum(problem, params).params)
    assert certificate.certified
    assert certificate.constants["residual_curvature"].value <= 1e-15


def test_optimisers_leave_what_is_frozen_alone():
    problem, params = partly(TINY, "layers.1:"), TINY.start(0)
    found = gauss_newton(problem, params)
    assert found.converged
    assert frozen_and_moving(problem, params, found.params)[0] == 0
    loop = Loop(problem, params, optax.adamw(1e-2, weight_decay=0.5), "float64")
    state, _, _ = loop.advance(loop.initial(), 5)
    gone = frozen_and_moving(problem, params, loop.params(state))
    assert gone[0] == 0
    assert gone[1] > 1e-3


@pytest.mark.slow
def test_a_function_linear_in_what_moves_is_within_the_condition_whatever_its_residual():
    model, params = TINY.model, TINY.start(0)
    x, y = np.random.default_rng(0).standard_normal((2, 4, 3))
    for trainable in ("1", ((False, False, True), (False, False, False))):
        problem = Problem(
            lambda p, x: model.apply(p, x), Measure(x, 100 * y[:, :2]), trainable=trainable
        )
        certificate = certify(problem, params)
        assert certificate.rigor == "estimated"
        assert (certificate.margin > 1e3) == (trainable != "1")
    assert certificate.problem["trainable"] == ("0.2",)
