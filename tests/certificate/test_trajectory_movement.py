"""Proposition C9: kernel drift, laziness and distance of a run, from both sides.

Against dense Jacobians at every step, and the linearised run by an eigendecomposition.
"""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from one_run import TINY
from overparam import certify
from tiny import Tiny

CASES = {
    "one hidden layer": (TINY, "computed"),
    "two outputs": (Tiny((14,), "tanh", 2, points=3), "computed"),
    "rounding included": (TINY, "proved"),
}
DEEPER = Tiny((12, 10), "gelu", 1, points=3, output_scale=3.0), "computed"


def followed(problem, start, step_size, steps):
    """Largest and last drift; largest gap of predictions; largest and last one of parameters."""
    flat, back = ravel_pytree(start)
    roots = np.repeat(np.sqrt(problem.measure.weights), problem.outputs)
    offset = np.asarray(problem.offset).reshape(-1)

    @jax.jit
    def seen(theta):
        def values(p):
            return problem.model.apply(back(p), problem.measure.x).reshape(-1)

        return values(theta), jax.jacobian(values)(theta)

    with jax.enable_x64(True):
        theta, rows = np.asarray(flat, np.float64), []
        J_0 = roots[:, None] * np.asarray(seen(theta)[1])
        eigenvalues, modes = np.linalg.eigh(J_0 @ J_0.T)
        targets = problem.targets.reshape(-1)
        r_0 = modes.T @ (roots * (targets - (np.asarray(seen(theta)[0]) - offset)))
        for t in range(steps + 1):
            values, jacobian = map(np.asarray, seen(theta))
            J, r = roots[:, None] * jacobian, roots * (targets - (values - offset))
            left = (1 - step_size * eigenvalues) ** t
            moved = J_0.T @ (modes @ ((1 - left) / eigenvalues * r_0))
            drift = np.linalg.norm(J @ J.T - J_0 @ J_0.T, 2)
            apart = np.linalg.norm(theta - flat - moved)
            rows.append((drift, np.linalg.norm(r - modes @ (left * r_0)), apart))
            theta = theta + step_size * (J.T @ r)
    drifts, gaps, aparts = np.array(rows).T
    return drifts.max(), drifts[-1], gaps.max(), aparts.max(), aparts[-1]


@pytest.mark.parametrize(
    ("tiny", "rigor"),
    [*CASES.values(), pytest.param(*DEEPER, marks=pytest.mark.slow)],
    ids=[*CASES, "two hidden layers"],
)
@pytest.mark.sample(1)
def test_what_moved_lies_between_its_bounds_and_these_are_close(tiny, rigor):
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    found = certify(problem, start, theorem="C", rigor=rigor, budget=3600)
    assert found.certified, found.reason
    value = {name: constant.value for name, constant in found.constants.items()}
    T = int(value["handover"])
    drift, last, gap, apart, final = followed(problem, start, found.step_size, T + 500)
    exact = 1 - 1e-9
    assert value["kernel_drift_lower"] * exact <= last
    assert drift * exact <= value["kernel_drift"]
    assert value["linearisation_distance_lower"] * exact <= gap
    assert gap * exact <= value["linearisation_distance"]
    assert value["linearisation_parameter_distance_lower"] * exact <= final
    assert apart * exact <= value["linearisation_parameter_distance"]
    assert value["kernel_drift"] <= 1.2 * drift
    assert value["kernel_drift_lower"] >= 0.8 * last
    assert value["linearisation_distance"] <= 1.001 * gap
    assert value["linearisation_parameter_distance"] <= 1.2 * apart
    relative = value["kernel_drift"] / value["max_eigenvalue"]
    assert value["relative_kernel_drift"] == pytest.approx(relative, rel=1e-6)


def test_the_kernel_of_a_linear_network_does_not_move():
    tiny = Tiny((), "identity", 1, points=3)
    problem, start = tiny.problem(0, centred=True), tiny.start(0)
    value = certify(problem, start, theorem="C", budget=3600).numbers
    assert value.kernel_drift < 1e-12
    assert value.kernel_drift_lower == 0
    assert value.linearisation_parameter_distance_lower == 0


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "factor"), [("log_cosh", 1.0), ("squared", 2.15)])
def test_without_a_linearised_run_that_converges_only_the_kernel_is_followed(loss, factor):
    """Other losses; and a step at which the linearised run diverges, and the network's does not."""
    tiny = Tiny((24,), "gelu", 1, points=3)
    problem, start = tiny.problem(1, loss, centred=True), tiny.start(1)
    largest = certify(problem, start, theorem="1").numbers.max_eigenvalue
    step = factor / (problem.loss.smoothness * largest)
    value = certify(problem, start, step, theorem="C", budget=3600).numbers
    assert 0 < value.kernel_drift_lower < value.kernel_drift < np.inf
    assert value.linearisation_distance == value.linearisation_parameter_distance == np.inf
    assert value.linearisation_distance_lower == 0
