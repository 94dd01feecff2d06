"""The re-check of certificates for mini-batches: honest ones pass, and no number may be changed."""

import json
from itertools import product
from unittest.mock import patch

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, anchor, certify, gauss_newton
from overparam.certificate import hypotheses
from overparam.certificate.constants import ABOUT
from overparam.verification import verify
from overparam.verification.claim import Claim
from overparam.verification.measured_kernel import measure

RNG = np.random.default_rng(0)
KEPT = {}
SAMPLINGS = ("subsets", "replacement", "epochs")


def problem_of(outputs):
    x, y = RNG.standard_normal((4, 3)), 0.3 * RNG.standard_normal((4, outputs))
    model = MLP(3, (12,), outputs, "tanh")
    start = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    problem = Problem(model, Measure(x, y, np.arange(3.0, 7.0)), "squared", start)
    fitted = gauss_newton(problem, start).params
    rng = np.random.default_rng(1)
    return problem, jax.tree.map(lambda a: a + 1e-7 * rng.standard_normal(a.shape), fitted), start


@pytest.fixture(autouse=True, scope="module")
def few_nodes():
    with patch.object(hypotheses, "NODES", 24):
        yield


@pytest.fixture(scope="module")
def one():
    return problem_of(1)


@pytest.mark.parametrize(
    ("outputs", "sampling"), [(1, "replacement"), (2, "subsets"), (1, "epochs")]
)
def test_honest_certificates_pass(outputs, sampling):
    problem, params, _ = problem_of(outputs)
    certificate = anchor(problem, params, batch_size=2, sampling=sampling)
    assert certificate.certified
    assert verify(certificate, problem, params).reasons == ()


def forged(certificate, **changes):
    """The same with other contents, read as a file is."""
    content = json.loads(certificate.to_json())
    for name, value in changes.items():
        part = content["numbers"] if name in ABOUT else content
        if value is None:
            part.pop(name, None)
        else:
            part[name] = value
    return Claim(content)


STRONGER = {
    **dict.fromkeys(("margin", "sigma_end", "step_fraction", "distance_lower_bound"), 1.2),
    **dict.fromkeys(("radius", "displacement", "limit_distance", "level", "point_norm"), 0.8),
    **dict.fromkeys(("batch_smoothness", "exit_probability", "overshoot"), 0.8),
    **dict.fromkeys(("minimum_distance", "existence_radius", "excess", "residual"), 0.8),
    **dict.fromkeys(("modulus_at_ball", "lipschitz_on_ball", "objective_smoothness"), 0.8),
    **dict.fromkeys(("step_size", "ball", "min_eigenvalue"), 1.3),
}


@pytest.mark.parametrize("sampling", ["subsets", pytest.param("epochs", marks=pytest.mark.slow)])
def test_no_number_may_be_stronger(one, sampling, tmp_path):
    problem, params, _ = one
    certificate = anchor(problem, params, batch_size=2, sampling=sampling)
    passed = []
    for name, factor in STRONGER.items():
        number = certificate.numbers[name]
        claim = forged(certificate, **{name: number * factor})
        if number and accepted(claim, problem, params, tmp_path):
            passed.append(name)
    slower = 1 - 1.1 * (1 - certificate.rate)
    assert not accepted(forged(certificate, rate=slower), problem, params, tmp_path)
    assert passed == []


def accepted(claim, problem, params, folder):
    """Whether the re-check passes; what it measures does not depend on the claim, and is kept."""

    def measured(*given, points):
        if id(problem) not in KEPT:
            KEPT[id(problem)] = measure(*given, points=points)
        return KEPT[id(problem)]

    with (
        patch("overparam.verification.verify.read_claim", lambda _: claim),
        patch("overparam.verification.verify.measure", measured),
    ):
        (folder / "certificate.json").write_text("{}")
        return verify(folder / "certificate.json", problem, params).ok


def test_no_other_way_of_drawing_and_no_other_number(one, tmp_path):
    problem, params, _ = one
    certificate = anchor(problem, params, batch_size=2)
    others = [{"size": s, "sampling": how} for s, how in product((1, 3, 5), SAMPLINGS)]
    for batches in others:
        claim = forged(certificate, batches=batches)
        stronger = batches != {"size": 3, "sampling": "subsets"}  # less noise, so weaker than true
        assert not accepted(claim, problem, params, tmp_path) or not stronger, batches
    for name in ("contraction", "deviation", "newton_kantorovich", "tube_radius"):
        assert not accepted(forged(certificate, **{name: 1.0}), problem, params, tmp_path), name
    for name in ("point_norm", "exit_probability", "batches"):
        assert not accepted(forged(certificate, **{name: None}), problem, params, tmp_path), name
    assert not accepted(forged(certificate, theorem="1"), problem, params, tmp_path)
    forecast = {"code": "would_take", "step_size": 0.1, "seconds": 9.0, "at_least": False}
    assert not accepted(forged(certificate, forecast=forecast), problem, params, tmp_path)


def test_what_is_not_known_is_said(one):
    problem, _, start = one
    [reason] = verify(certify(problem, start, batch_size=2, budget=0), problem, start).reasons
    assert reason.startswith("nothing can be checked again")
    assert "claims nothing (Theorem S, not certified)" in reason
