"""Certificates of random networks pass: two arithmetics, two programs, the same numbers."""

import jax
import numpy as np
import pytest

from overparam import MLP, Measure, Problem, anchor, certify, gauss_newton
from overparam.model import ACTIVATIONS
from overparam.verification import verify

NAMES = sorted(ACTIVATIONS)

RESIDUALS = ("excess is 0:", "residual is 0:", "target_norm is 0:")


def random_problem(seed: int):
    rng = np.random.default_rng(seed)
    n, d, k = int(rng.integers(1, 10)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
    widths = tuple(int(m) for m in rng.integers(4, 40, rng.integers(0, 4)))
    loss = ["squared", "squared_hinge"][seed % 2]
    y = rng.standard_normal((n, k))
    model = MLP(
        *(d, widths, k, NAMES[seed % len(NAMES)]),
        weight_scale=float(rng.uniform(0.5, 2)),
        bias_scale=float(rng.choice([0, 0.1, 1])),
        output_scale=float(rng.choice([1, 30])),
    )
    weights = None if rng.integers(2) else rng.uniform(0.1, 1, n)
    measure = Measure(rng.standard_normal((n, d)), np.sign(y) if seed % 2 else y, weights)
    start = model.init(jax.random.key(seed))
    center = start if rng.integers(2) else None
    step_size = None if rng.integers(3) else float(10 ** rng.uniform(-3, 1))
    return Problem(model, measure, loss, centered_at=center), start, step_size


@pytest.mark.parametrize(
    "seed", [pytest.param(i, marks=[] if i < 3 else pytest.mark.slow) for i in range(160)]
)
@pytest.mark.sample(80)
def test_certificates_verify(seed):
    problem, start, step_size = random_problem(seed)
    initial = certify(problem, start, step_size, theorem="1")
    assert verify(initial, problem, start).reasons == ()
    trained = gauss_newton(problem, start).params
    anchored = anchor(problem, trained, step_size)
    # Rounding noise: float64 claims more than it knows, and may be refused.
    if 0 < anchored.residual < 1e-12:
        return
    noise = RESIDUALS if anchored.residual == 0 else ()
    faults = verify(anchored, problem, trained).reasons
    assert [fault for fault in faults if not fault.startswith(noise)] == []


@pytest.mark.parametrize(
    "seed", [pytest.param(i, marks=[] if i < 1 else pytest.mark.slow) for i in range(80)]
)
def test_proved_certificates_verify_without_tolerance(seed):
    problem, start, step_size = random_problem(seed)
    if problem.model.act.curvature_bound is None:
        pytest.skip("nothing is proved with a kink")
    initial = certify(problem, start, step_size, rigor="proved")
    assert initial.rigor == "proved"
    assert verify(initial, problem, start).reasons == ()


def test_a_network_that_is_flat_everywhere_has_the_eigenvalue_zero():
    model = MLP(3, (8,), 1, "gaussian", bias_scale=0.0)
    measure = Measure(np.eye(3) + 1, np.ones((3, 1)))
    dead = jax.tree.map(lambda w: 1e6 * w, model.init(jax.random.key(0)))
    problem = Problem(model, measure)
    flat = certify(problem, dead, theorem="1")
    assert not flat.certified
    assert flat.min_eigenvalue == flat.constants["max_eigenvalue"].value == 0
    assert verify(flat, problem, dead).reasons == ()


def test_another_network_does_not():
    problem, start, _ = random_problem(2)
    other = problem.model.init(jax.random.key(99))
    result = verify(certify(problem, start, theorem="1"), problem, other)
    assert not result.ok
    assert "parameters are not those" in result.reasons[0]


def test_more_precision_agrees():
    problem, start, _ = random_problem(2)
    certificate = certify(problem, start, theorem="1")
    for precision in (64, 256):
        assert verify(certificate, problem, start, precision=precision).ok
