"""Losses in balls against the classes of the package: two programs, the same statements."""

import jax
import numpy as np
import pytest
from flint import arb, ctx

from altered import altered
from overparam import MLP, Measure, Problem, anchor, certify, gauss_newton
from overparam.problem.integrands import get_integrand
from overparam.verification import verify
from overparam.verification.losses import loss_of
from overparam.verification.refusal import RefusedError

SPELLINGS = [
    *("squared", "squared_hinge", "huber:0.5", "pseudo_huber:2.0", "log_cosh", "expectile:0.9"),
    *("weighted_quadratic:1,0,4", "smoothed_cross_entropy:0.1", "smoothed_cross_entropy:0.7"),
]
EVERY = pytest.mark.parametrize("spelling", SPELLINGS)


def outputs_of(spelling):
    return (3,) if "weighted" in spelling else (1, 2, 3, 10)


def labels(rng, n, k):
    if k == 1:
        return rng.choice([-1.0, 1.0], size=(n, 1))
    return np.where(np.arange(k) == rng.integers(k, size=(n, 1)), 1.0, -1.0)


@EVERY
def test_constants_agree_and_the_stored_ones_give_way(spelling):
    with ctx.workprec(128):
        for k in outputs_of(spelling):
            ours, loss = loss_of(spelling, k), get_integrand(spelling).for_outputs(k)
            assert ours.smoothness() <= arb(loss.smoothness) <= ours.smoothness() * (1 + 1e-15)
            for level in (0.0, 1e-30, 1e-15, 1e-5, 0.1, 3.0, 500.0):
                exact, stored = ours.pl_constant(arb(level)), arb(loss.pl_constant(level))
                assert exact * (1 - 2e-12) <= stored <= exact


@EVERY
def test_excess_and_way_to_the_minimiser_agree(spelling):
    rng = np.random.default_rng(0)
    with ctx.workprec(128):
        for k in outputs_of(spelling):
            ours, loss = loss_of(spelling, k), get_integrand(spelling).for_outputs(k)
            y = labels(rng, 6, k)
            z = 3 * rng.normal(size=y.shape)
            way = loss.nearest_minimiser(z, y) - z
            for row, excess in enumerate(loss.excess(z, y)):
                values, targets = [arb(v) for v in z[row].tolist()], y[row].tolist()
                assert float(ours.excess(values, targets)) == pytest.approx(excess, rel=1e-13)
                found = [float(r) for r in ours.to_minimiser(values, targets)]
                np.testing.assert_allclose(found, way[row], rtol=1e-13, atol=1e-15)


UNUSABLE = [
    *("hubr", "huber:x", "huber:-1", "huber:1,2", "expectile:1", "squared:1"),
    *(
        "weighted_quadratic:1,2",
        "weighted_quadratic:0,0,0",
        "weighted_quadratic (weights by point)",
    ),
    *("smoothed_cross_entropy:0", "smoothed_cross_entropy:nan"),
]


@pytest.mark.parametrize("spelling", UNUSABLE)
def test_other_spellings_are_refused(spelling):
    with pytest.raises(RefusedError):
        loss_of(spelling, 3)


def small_problem(spelling):
    rng = np.random.default_rng(1)
    k = 3 if "weighted" in spelling or "entropy" in spelling else 2
    measure = Measure(rng.normal(size=(5, 3)), labels(rng, 5, k), rng.uniform(0.5, 1.5, 5))
    model = MLP(3, (32,), k, "tanh", output_scale=20.0)
    start = model.init(jax.random.key(0))
    return Problem(model, measure, spelling, centered_at=start), start


@EVERY
@pytest.mark.parametrize("rigor", ["computed", "proved"])
@pytest.mark.sample(1)
def test_certificates_verify(spelling, rigor):
    problem, start = small_problem(spelling)
    initial = certify(problem, start, rigor=rigor, theorem="1")
    assert verify(initial, problem, start).reasons == ()
    trained = gauss_newton(problem, start, tolerance=1e-7).params
    anchored = anchor(problem, trained, rigor=rigor)
    assert anchored.certified
    assert anchored.rigor == rigor
    assert anchored.constants["pl_constant"].kind == "proved"
    assert anchored.constants["pl_constant"].source == "docs/integrands.md"
    assert verify(anchored, problem, trained).reasons == ()


@EVERY
@pytest.mark.parametrize("name", ["pl_constant", "smoothness"])
@pytest.mark.sample(1)
def test_a_better_constant_of_the_loss_is_found_out(spelling, name):
    problem, start = small_problem(spelling)
    honest = certify(problem, start, theorem="1")
    factor = 1 + 1e-9 if name == "pl_constant" else 1 - 1e-6
    forged = altered(honest, **{name: honest.numbers[name] * factor})
    assert any(name in reason for reason in verify(forged, problem, start).reasons)


def test_the_constants_of_cross_entropy_depend_on_the_level():
    """A certificate far from the minimiser may not use alpha at it."""
    problem, start = small_problem("smoothed_cross_entropy:0.1")
    alpha = certify(problem, start, theorem="1").constants["pl_constant"].value
    level = problem.excess(start) / problem.measure.weights.min()
    assert alpha == pytest.approx(problem.loss.pl_constant(level), rel=1e-9)
    assert alpha < 0.1 * problem.loss.pl_constant(0.0)
