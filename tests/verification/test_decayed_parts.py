"""Certificates of Theorem R about a part of the parameters: what moves is held against them."""

from functools import cache

import jax
import numpy as np
import pytest
from msgspec import structs

from altered import altered
from overparam import Problem, anchor, certify
from overparam.train.decayed_minimum import decayed_minimum
from overparam.verification import verify
from overparam.verification.float_pass import FloatNetwork
from overparam.verification.random_curvature import ResidualHessian
from overparam.verification.subject import subject_of
from tiny import Tiny

SLOW = pytest.mark.slow
WIDE, DEEP = Tiny((12,), "gelu", 1), Tiny((6, 5), "tanh", 2)


@cache
def anchored(tiny, trainable, decay=0.1):
    """A problem, the parameters that a certificate is about, the certificate."""
    start = tiny.start(0)
    # Decay to 0, so that what is frozen would count if it were not left out.
    problem = Problem(tiny.model, tiny.measure(0), weight_decay=decay, trainable=trainable)
    params = decayed_minimum(problem, start).params
    return problem, params, anchor(problem, params)


@pytest.mark.parametrize(
    ("tiny", "trainable", "decay"),
    [
        (WIDE, "weights.0", 0.3),
        pytest.param(WIDE, "last layer", 0.1, marks=SLOW),
        pytest.param(DEEP, "layers.1:", 0.3, marks=SLOW),
        pytest.param(DEEP, "weights.1, biases", 0.5, marks=SLOW),
    ],
    ids=str,
)
def test_honest_ones_pass_and_stronger_ones_do_not(tiny, trainable, decay):
    problem, params, found = anchored(tiny, trainable, decay)
    assert found.certified, found.reason
    assert verify(found, problem, params).reasons == ()
    for name in ("gradient_norm", "residual_curvature", "region_minimum", "excess"):
        if found.numbers[name]:
            forged = altered(found, **{name: 0.9 * found.numbers[name]})
            assert not verify(forged, problem, params).ok, name


@SLOW
def test_another_part_is_another_problem():
    """The gradient of the whole does not vanish where that of a part does."""
    _, params, found = anchored(WIDE, "weights.0", 0.3)
    other = Problem(WIDE.model, WIDE.measure(0), weight_decay=0.3, trainable="layers.0")
    assert "trainable" in " ".join(verify(found, other, params).reasons)
    forged = structs.replace(found, problem=anchor(other, params).problem)
    assert not verify(forged, other, params).ok


@SLOW
@pytest.mark.parametrize("trainable", ["layers.0", "last layer"])
def test_a_run_of_a_part_passes_and_no_other_part_does(trainable):
    start = WIDE.start(0)
    problem = Problem(WIDE.model, WIDE.measure(0), weight_decay=0.3, trainable=trainable)
    found = certify(problem, start, budget=3600)
    assert found.certified, found.reason
    assert found.start == "initialisation"
    assert verify(found, problem, start).reasons == ()
    n = found.numbers
    for name, value in (
        ("limit_distance", 0.99 * n.limit_distance),
        ("displacement", 0.99 * n.displacement),
        ("region_minimum", 0.99 * n.region_minimum),
    ):
        assert not verify(altered(found, **{name: value}), problem, start).ok, name
    whole = Problem(WIDE.model, WIDE.measure(0), weight_decay=0.3)
    described = anchor(whole, start).problem
    assert not verify(structs.replace(found, problem=described), whole, start).ok


@pytest.mark.parametrize("trainable", ["weights.1, biases.0", pytest.param("layers.2", marks=SLOW)])
def test_products_are_those_of_a_dense_hessian_between_projections(trainable):
    tiny = Tiny((4, 3), "tanh", 2)
    problem = Problem(tiny.model, tiny.measure(0), trainable=trainable)
    subject = subject_of(problem, tiny.start(1))
    arrays = subject.architecture, subject.x, subject.y, subject.weights, None
    passed = FloatNetwork(*arrays).passed(subject.params)
    hessian = ResidualHessian(subject, passed)
    weighted = subject.weights[:, None] * passed.ghat

    def against(v):
        weights, biases, start = [], [], 0
        for rows, columns in hessian.shapes:
            matrix = v[start : start + rows * columns].reshape(rows, columns)
            weights, biases = [*weights, matrix[:, :-1]], [*biases, matrix[:, -1]]
            start += rows * columns
        return (weighted * tiny.model.apply((tuple(weights), tuple(biases)), subject.x)).sum()

    names, mask = problem.model.trainable, []
    for layer, (rows, columns) in enumerate(hessian.shapes):
        weights, biases = (f"{kind}.{layer}" in names for kind in ("weights", "biases"))
        block = [np.full((rows, columns - 1), weights), np.full((rows, 1), biases)]
        mask.append(np.hstack(block).ravel())
    mask = np.concatenate(mask)
    pairs = zip(subject.params.weights, subject.params.biases, strict=True)
    with jax.enable_x64(True):
        flat = np.concatenate([np.hstack([w, b[:, None]]).ravel() for w, b in pairs])
        dense = np.asarray(jax.jit(jax.hessian(against))(flat)) * np.outer(mask, mask)
    assert np.abs(hessian.product(np.eye(hessian.size)) - dense).max() < 1e-14
