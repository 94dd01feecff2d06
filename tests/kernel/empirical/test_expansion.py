"""What is known at a point is computed once, and is what the dense Jacobian gives."""

import numpy as np

from dense_network import DenseNetwork
from one_run import TINY
from overparam import certify
from overparam.certificate.facts import ComputedFacts
from overparam.kernel import modes
from overparam.kernel.empirical import expansion
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


def test_the_modes_solve_where_they_are_known_and_a_factor_where_not(monkeypatch):
    problem, start = TINY.problem(0), TINY.start(0)
    factored, known = Expansion(problem, start), Expansion(problem, start)
    found = factored.solve(factored.residual)
    assert found is not None
    np.testing.assert_allclose(known.kernel @ found, known.residual, rtol=1e-9)
    assert known.modes.coefficients.shape == found.shape
    monkeypatch.setattr(expansion, "factor_in_place", None)  # nothing is decomposed twice
    solved = known.solve(known.residual)
    np.testing.assert_allclose(solved, found, rtol=1e-8)


def test_a_singular_kernel_is_not_solved_with():
    problem, start = TINY.problem(0), TINY.start(0)
    m = problem.measure.n
    for decompose in (False, True):
        point = Expansion(problem, start, np.zeros((m, m)))
        assert not decompose or point.modes is not None
        assert point.solve(point.residual) is None


def test_rho_is_the_same_by_the_modes_and_by_a_factor():
    problem, start = TINY.problem(0), TINY.start(0)
    factored, known = Expansion(problem, start), Expansion(problem, start)
    assert known.modes is not None
    by_factor, by_modes = (ComputedFacts(point).target_norm for point in (factored, known))
    np.testing.assert_allclose(by_modes, by_factor, rtol=1e-9)
    assert by_modes.lower < by_modes.value < by_modes.upper
    assert by_factor.lower < by_modes.value < by_factor.upper
