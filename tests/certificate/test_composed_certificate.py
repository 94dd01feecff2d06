"""Composed networks are certified from initialisation, and a run that goes on keeps the claims."""

from functools import cache

import jax
import numpy as np
import pytest

from overparam import (
    InputError,
    Measure,
    Problem,
    anchor,
    certify,
    gradient_descent,
    load_certificate,
    verify,
)
from overparam.kernels import tangent_kernel
from overparam.model import Composed, Conv, Dense, Flatten, LayerNorm, MeanPool, Residual
from overparam.model.function import parameter_distance

CONVNET = Composed((Conv(8), "tanh", MeanPool(2), Flatten(), Dense(1)), (4, 4, 1), 1.5)
RESIDUAL = Composed(
    (Dense(16), Residual((LayerNorm(0.1), Dense(16), "tanh", Dense(16))), Dense(1)), 3
)
NETWORKS = {"convnet": CONVNET, "residual": RESIDUAL}


@cache
def start(name: str, points: int = 3):
    """Random points, a centred network, targets of plus and minus one."""
    network, rng = NETWORKS[name], np.random.default_rng(0)
    params = jax.tree.map(np.asarray, network.init(jax.random.key(0)))
    x = rng.standard_normal((points, network.in_dim))
    y = np.where(np.arange(points) % 2 == 0, 1.0, -1.0)
    return Problem(network, Measure(x, y), centered_at=params), params


@cache
def certified(name: str):
    problem, params = start(name)
    return certify(problem, params, theorem="C", budget=120)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_a_run_keeps_what_its_certificate_says(name):
    problem, params = start(name)
    found = certified(name)
    numbers = found.numbers
    assert found.certified
    assert found.rigor == "computed"
    assert found.modulus == "docs/composed.md, Theorem D1"
    assert numbers.failure_probability == 1e-12
    assert any("vectors" in each for each in found.assumptions)
    T = int(numbers.handover)
    run = gradient_descent(problem, params, found.step_size, T, dtype="float64")
    kernel = tangent_kernel(problem, run.params)
    assert np.linalg.eigvalsh(kernel)[0] >= numbers.handover_eigenvalue * (1 - 1e-9)
    assert problem.excess(run.params) <= numbers.handover_excess
    for steps in (1, T // 3, T, 3 * T):
        run = gradient_descent(problem, params, found.step_size, steps, dtype="float64")
        assert problem.excess(run.params) <= found.envelope(steps) * (1 + 1e-9) + 1e-25
        assert parameter_distance(run.params, params) <= numbers.radius
    gone = parameter_distance(run.params, params)
    assert numbers.limit_distance_lower * (1 - 1e-6) <= gone <= numbers.limit_distance * (1 + 1e-6)


@pytest.mark.slow
def test_the_recheck_says_that_it_checks_nothing(tmp_path):
    problem, params = start("convnet")
    certified("convnet").save(tmp_path / "certificate.json")
    again = load_certificate(tmp_path / "certificate.json")
    found = verify(again, problem, params)
    assert not found.ok
    assert any("is not part of the certificate" in reason for reason in found.reasons)


def test_theorem_1_is_computed_and_nothing_is_proved():
    problem, params = start("convnet")
    found = anchor(problem, params)
    assert (found.rigor, found.modulus) == ("computed", "docs/composed.md, Theorem D1")
    assert found.problem.model.startswith("Composed(parts=(Conv(features=8")
    with pytest.raises(InputError, match="not for the function Composed"):
        certify(problem, params, rigor="proved", theorem="1")
    with pytest.raises(InputError, match="of composed layers computed"):
        certify(problem, params, rigor="proved", theorem="C")


def test_a_last_layer_is_certified_by_theorem_1():
    plain, params = start("residual")
    problem = Problem(plain.model, plain.measure, centered_at=params, trainable="2")
    found = certify(problem, params)
    assert (found.theorem, found.certified, found.rigor) == ("1", True, "computed")


def test_mini_batches_are_heard_at_the_point_itself_alone():
    problem, params = start("residual")
    found = certify(problem, params, batch_size=2)
    assert (found.theorem, found.certified, found.rigor) == ("S", False, "computed")


@pytest.mark.slow
def test_with_weight_decay_there_is_one_minimum_and_descent_to_it():
    plain, params = start("convnet")
    problem = Problem(plain.model, plain.measure, centered_at=params, weight_decay=0.1)
    found = certify(problem, params, budget=120)
    numbers = found.numbers
    assert (found.theorem, found.certified, found.rigor) == ("R", True, "computed")
    steps = int(numbers.handover)
    for more in (steps, 3 * steps):
        run = gradient_descent(problem, params, found.step_size, more, dtype="float64")
        assert parameter_distance(run.params, params) <= numbers.radius
    gone = parameter_distance(run.params, params)
    assert numbers.limit_distance_lower * (1 - 1e-6) <= gone <= numbers.limit_distance * (1 + 1e-6)
    assert anchor(problem, run.params).certified


def test_a_kink_is_named():
    network = Composed((Dense(4), Residual(("relu", Dense(4))), Dense(1)), 3)
    params = network.init(jax.random.key(0))
    problem = Problem(network, Measure(np.eye(3), np.ones(3)))
    with pytest.raises(InputError, match="three derivatives of the activation, which relu"):
        certify(problem, params, theorem="C")
