"""What is known at a point is computed once, and is what the dense Jacobian gives."""

import numpy as np

from dense_network import DenseNetwork
from one_run import TINY
from overparam import certify
from overparam.kernel import modes
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel


def test_residual_and_modes_are_those_of_the_dense_jacobian():
    problem, start = TINY.problem(0), TINY.start(0)
    point = Expansion(problem, start, tangent_kernel(problem, start))
    network = DenseNetwork(TINY.model, problem.measure)
    jacobian = network.jacobian(network.flat(start))
    outward, singular, _ = np.linalg.svd(jacobian, full_matrices=False)
    np.testing.assert_allclose(point.modes.eigenvalues[::-1], singular**2, rtol=1e-9)
    roots = np.sqrt(problem.measure.weights)
    residual = roots * (problem.measure.y - problem.predict(start))[:, 0]
    np.testing.assert_allclose(point.residual, residual, rtol=1e-12)
    along = np.abs(outward.T @ residual)[::-1]
    np.testing.assert_allclose(np.abs(point.modes.coefficients), along, rtol=1e-6)


def test_a_certificate_decomposes_the_kernel_once(monkeypatch):
    """Whatever theorems are tried, and however often the step is halved."""
    calls, true = [], modes.eigh
    monkeypatch.setattr(modes, "eigh", lambda *a, **k: calls.append(0) or true(*a, **k))
    problem, start = TINY.problem(0, centred=True), TINY.start(0)
    certificate = certify(problem, start)
    assert certificate.theorem == "C"
    assert len(calls) == 1
