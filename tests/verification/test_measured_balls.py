"""What is measured in balls, against the dense Jacobian and the float64 path."""

import numpy as np
import pytest
from flint import arb, ctx
from small_run import small_run

from networks import dense_jacobian
from overparam.certificate.hypotheses import measure_hypotheses
from overparam.jacobian.modulus import modulus_and_lipschitz
from overparam.kernel.empirical.expansion import Expansion
from overparam.numbers.upper import EXTENDED
from overparam.progress import silent
from overparam.verification import verify
from overparam.verification.balls import above, below, bound_of, midpoints
from overparam.verification.measured_kernel import measure
from overparam.verification.network import Network, backward, forward
from overparam.verification.subject import subject_of


@pytest.fixture(scope="module")
def measured():
    run = small_run()
    with ctx.workprec(128):
        yield measure(subject_of(run.problem, run.params), silent)


def test_forward_and_backward_against_automatic_differentiation():
    run = small_run()
    subject = subject_of(run.problem, run.params)
    with ctx.workprec(128):
        network = Network.of(subject.architecture, subject.params)
        ahead = forward(network, subject.x)
        behind = backward(network, ahead.slopes, len(subject.x))
    jacobian = dense_jacobian(run.problem.model, run.params, subject.x)
    # Columns of the first layer's weights: G^1 a^0, a^0 = c_1 x.
    gradient = midpoints(behind.gradient[0]).reshape(6, 2, 24)
    block = np.einsum("nkm,nd->nkmd", gradient, subject.x / np.sqrt(3)).reshape(12, -1)
    assert np.allclose(block, jacobian[:, : 24 * 3], rtol=1e-11, atol=1e-12)
    values = run.problem.predict(run.params) + run.problem.offset
    assert np.allclose(midpoints(ahead.output), values, rtol=1e-12)


def test_spectrum_and_residual(measured):
    run = small_run()
    jacobian = dense_jacobian(run.problem.model, run.params, run.problem.measure.x)
    jacobian *= np.repeat(np.sqrt(run.problem.measure.weights), 2)[:, None]
    singular = np.linalg.svd(jacobian, compute_uv=False)
    assert float(measured.min_eigenvalue) == pytest.approx(singular[-1] ** 2, rel=1e-10)
    assert float(measured.max_eigenvalue) == pytest.approx(singular[0] ** 2, rel=1e-12)
    assert float(measured.excess) == pytest.approx(run.problem.excess(run.params), rel=1e-8)
    residual = np.repeat(np.sqrt(run.problem.measure.weights), 2)
    residual = residual * run.problem.residual(run.params).ravel()
    shortest = np.linalg.norm(np.linalg.lstsq(jacobian, residual, rcond=None)[0])
    assert float(measured.target_norm) == pytest.approx(shortest, rel=1e-8)


@pytest.mark.parametrize("radius", [1e-8, 1e-3, 0.3, 20.0])
def test_both_paths_give_the_same_modulus(measured, radius):
    with ctx.workprec(128):
        [found] = modulus_and_lipschitz(measured.norms, [radius], EXTENDED)
        balls = [bound_of(number) for number in found]
    pairs = zip(balls, small_run().hypotheses.bounds.on_ball(radius), strict=True)
    for bound, computed in pairs:
        # Norms of partial Jacobians are raised by about 1e-10 each (docs/verification.md).
        assert computed * (1 - 1e-12) <= float(bound) <= computed * (1 + 1e-8)


@pytest.mark.slow
def test_where_chains_are_too_much_work_both_paths_leave_them_out(monkeypatch):
    for limit in ("jacobian.layer_norms.COMPOSED_WORK", "verification.partial_jacobians.WORK"):
        monkeypatch.setattr(f"overparam.{limit}", 1.0)
    run = small_run()
    hypotheses = measure_hypotheses(Expansion(run.problem, run.params))
    assert hypotheses.bounds.base.composed.energy.layers_below[0].before is None
    assert verify(run.certificate(hypotheses), run.problem, run.params).reasons == ()


@pytest.mark.parametrize("ball", [arb(0, 0.1), arb(0), arb(1) / 3, arb(-1, 0.5)], ids=str)
def test_the_ends_of_a_ball_are_on_its_outer_sides(ball):
    assert arb(above(ball)) >= ball.upper()
    assert arb(below(ball)) <= max(ball.lower(), arb(0))
