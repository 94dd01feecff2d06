"""Theorem P against runs: the tube around the linearised run, and what is claimed behind it.

Quadratic maps have a known second derivative, so that nothing hides in the slack of a network's
bounds; networks are what the theorem is for.
"""

import dataclasses
import itertools
import math
from functools import cache

import numpy as np
import pytest

from dense_network import DenseNetwork
from descent import descend, hold, rounding
from overparam import InputError, certify, gradient_descent, load_certificate, verify
from overparam.jacobian.by_radius import JacobianBounds, Radii
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.kernel.modes import KernelModes
from overparam.linearised.path import (
    KernelLooks,
    LinearisedPath,
    MeasuredPoint,
    follow,
    look_along,
)
from overparam.theorems.path import PathConvergence
from quadratic_map import QuadraticMap, random_map
from tiny import Tiny

SLACK = 1e-9


@dataclasses.dataclass(frozen=True)
class Bent(JacobianBounds):
    """omega(r) = L r, the bounds of a quadratic map around any point."""

    curvature: float
    kind: str = "computed"
    source: str = "the second derivative"

    def on_balls(self, radii: Radii) -> np.ndarray:
        return np.stack(
            [self.curvature * np.asarray(radii), np.full(len(radii), self.curvature)], 1
        )


def path_of(bent: QuadraticMap, share: float = 0.7) -> LinearisedPath:
    """The linearised run with a step of ``share`` / |K_0|."""
    kernel = bent.slope @ bent.slope.T
    modes = KernelModes.of(kernel, bent.target)
    return LinearisedPath(modes, float(share / modes.eigenvalues[-1]))


def points_of(bent: QuadraticMap, path: LinearisedPath):
    """Measured on dense Jacobians."""
    for step in path.steps():
        theta = bent.slope.T @ path.dual(step)
        change = bent.jacobian(theta) - bent.slope
        spectrum = np.linalg.svd(bent.jacobian(theta), compute_uv=False)
        yield MeasuredPoint(
            step=step,
            sigma=float(spectrum[-1]),
            jacobian_norm=float(spectrum[0]),
            change_gram=change @ change.T,
            kernel_drift=float(np.linalg.norm(kernel_there(bent, theta) - kernel_there(bent), 2)),
            mismatch=float(np.linalg.norm(bent.value(theta) - bent.slope @ theta)),
            bounds=Bent(bent.curvature),
        )


def kernel_there(bent: QuadraticMap, theta: np.ndarray | float = 0.0) -> np.ndarray:
    jacobian = bent.slope + bent.bend @ theta if np.ndim(theta) else bent.slope
    return jacobian @ jacobian.T


def followed(bent: QuadraticMap, share: float = 0.7) -> PathConvergence:
    path = path_of(bent, share)
    return follow(path, points_of(bent, path))


def scaled(bent: QuadraticMap, factor: float) -> QuadraticMap:
    return dataclasses.replace(bent, target=factor * bent.target)


def barely(bent: QuadraticMap, share: float = 0.7) -> QuadraticMap:
    """The same map with the largest target, to 3 percent, that Theorem P certifies."""
    low, high = 0.1, 6.4
    assert followed(scaled(bent, low), share).converges.certified
    while high > 1.03 * low:
        middle = math.sqrt(low * high)
        if followed(scaled(bent, middle), share).converges.certified:
            low = middle
        else:
            high = middle
    return scaled(bent, low)


# --- the reference path ---------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 1.0], ids=["small step", "a mode learned in one step"])
def test_the_path_is_gradient_descent_on_the_linearised_model(share):
    bent = random_map(3, margin=1.0)
    path = path_of(bent, share)
    theta, visited = np.zeros(bent.slope.shape[1]), {}
    for t in range(60):
        visited[t] = theta
        residual = bent.target - bent.slope @ theta
        np.testing.assert_allclose(path.residual(t), residual, atol=1e-14)
        np.testing.assert_allclose(bent.slope.T @ path.dual(t), theta, atol=1e-13)
        theta = theta + path.step_size * bent.slope.T @ residual
    moved = np.linalg.norm(visited[40] - visited[7])
    assert path.movement(7, 40) == pytest.approx(moved, rel=1e-9)
    nearest = np.linalg.pinv(bent.slope) @ bent.target
    left = np.linalg.norm(nearest - visited[7])
    assert path.movement(7, math.inf) == pytest.approx(left, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_between_two_points_the_path_is_where_it_is_said_to_be(seed):
    """The chord of the residual, and the nearer of the two points within 1/sqrt 2 of their way."""
    path = path_of(random_map(seed, margin=1.0), share=1.0 if seed % 2 else 0.4)
    for a, b in ((0, 5), (3, 17), (20, 60)):
        first, last = path.residual(a), path.residual(b)
        for t in range(a, b + 1):
            share = (t - a) / (b - a)
            off = np.linalg.norm(path.residual(t) - (1 - share) * first - share * last)
            assert off <= path.chord_error(a, b) * (1 + SLACK) + 1e-15
            near = min(path.movement(a, t), path.movement(t, b))
            assert near <= path.movement(a, b) / math.sqrt(2) * (1 + SLACK)


def test_the_points_are_close_together_and_end_when_the_residual_has_faded():
    path = path_of(random_map(1, margin=1.0))
    steps = list(path.steps())
    assert steps[:3] == [0, 1, 2]
    assert all(b - a <= max(1, math.ceil(0.15 * a)) for a, b in itertools.pairwise(steps))
    assert path.residual_norm(steps[-1]) <= 1e-3 * path.residual_norm(0)


# --- maps whose second derivative is known --------------------------------------------------------


def hold_on_map(bent: QuadraticMap, found: PathConvergence, steps: int) -> None:
    """Every claim at every step."""
    path = path_of(bent)
    result, eta = found.converges, path.step_size
    theta = np.zeros(bent.slope.shape[1])
    start, tiny = bent.slope, 1e-13 * np.linalg.norm(bent.target)
    length, last = 0.0, None
    visited = []
    for t in range(steps):
        residual, jacobian = bent.target - bent.value(theta), bent.jacobian(theta)
        norm = np.linalg.norm(residual)
        allowed = np.linalg.norm(bent.target) * result.rate ** (t / 2)
        assert norm <= allowed * (1 + SLACK) + tiny
        if last is not None:
            assert norm <= math.sqrt(result.rate) * last * (1 + SLACK) + tiny
        linear = bent.slope.T @ path.dual(t)
        apart = np.linalg.norm(theta - linear)
        assert apart <= found.parameters * (1 + SLACK) + tiny
        if t <= found.handover:
            assert apart <= found.tube * (1 + SLACK) + tiny
        shift = np.linalg.norm(bent.value(theta) - bent.slope @ linear)
        assert shift <= found.predictions * (1 + SLACK) + tiny
        assert np.linalg.norm(theta) <= found.displacement * (1 + SLACK)
        assert np.linalg.norm(jacobian - start, 2) <= found.change * (1 + SLACK)
        assert np.linalg.svd(jacobian, compute_uv=False)[-1] >= result.sigma_end * (1 - SLACK)
        visited.append((theta, norm, length))
        move = eta * jacobian.T @ residual
        theta, length, last = theta + move, length + np.linalg.norm(move), norm
    assert length <= result.radius * (1 + SLACK)
    assert np.linalg.norm(theta) <= found.limit * (1 + SLACK)
    for early, norm, walked in visited:
        allowed = norm / (result.step_fraction * result.sigma_end) * (1 + SLACK) + 1e3 * tiny
        assert np.linalg.norm(theta - early) <= allowed
        assert length - walked <= allowed


@pytest.mark.parametrize("seed", range(4))
def test_runs_on_maps_that_are_barely_certified_follow_the_claims(seed):
    bent = barely(random_map(seed, margin=1.0))
    hold_on_map(bent, followed(bent), steps=300)


def test_where_the_residual_is_aligned_more_is_certified_than_by_theorem_1():
    """The residual along a strong mode, the weak one hardly asked for: not what Theorem 1 fears."""
    bend = np.zeros((2, 4, 4))
    bend[0, 2, 2], bend[1, 3, 3] = 0.02, -0.02
    slope = np.diag([1.0, 0.3]) @ np.eye(2, 4)
    aligned = QuadraticMap(slope, bend, np.array([1.0, 0.02]))
    reach = aligned.majorant().maximum / np.linalg.norm(aligned.target)
    beyond = scaled(aligned, 2 * reach)
    found = followed(beyond)
    assert found.converges.certified
    hold_on_map(beyond, found, steps=300)


@pytest.mark.parametrize("share", [0.2, 0.7, 1.0])
def test_no_target_beyond_the_maps_range_is_certified(share):
    """theta - theta^2 / 2 is at most 1/2: the largest certified target is below, and not far."""
    bent = QuadraticMap(np.array([[1.0]]), np.array([[[-1.0]]]), np.array([0.5]))
    assert not followed(bent, share).converges.certified
    assert not followed(scaled(bent, 1.0001), share).converges.certified
    largest = barely(bent, share).target[0]
    assert 0.1 < largest < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_random_maps_without_a_solution_are_not_certified(seed):
    """F = A theta - |theta|^2 / 2 along a ray has a highest value; beyond it nothing converges."""
    rng = np.random.default_rng(seed)
    slope = rng.standard_normal((1, 3))
    bent = QuadraticMap(slope, -np.eye(3)[None], np.array([1.0]))
    highest = float(np.sum(slope**2)) / 2  # of A theta - |theta|^2 / 2
    for factor in (1.0, 1.01, 2.0, 10.0):
        assert not followed(scaled(bent, factor * highest)).converges.certified


def test_without_the_bend_the_tube_is_a_line_and_the_rate_classical():
    bent = QuadraticMap(np.diag([1.0, 0.5]), np.zeros((2, 2, 2)), np.array([3.0, 4.0]))
    found = followed(bent)
    assert found.converges.certified
    assert found.tube < 1e-12
    eta = path_of(bent).step_size
    assert found.converges.rate == pytest.approx(1 - 2 * eta * (1 - eta / 2) * 0.25)


def test_a_step_that_overshoots_a_mode_is_refused():
    found = followed(random_map(0, margin=5.0), share=1.2)
    assert not found.converges.certified
    assert found.handover == 0


def test_a_tube_that_is_drawn_too_tight_would_be_left():
    """The test of the tube can fail: with a tenth of the true curvature it does."""
    bent = barely(random_map(2, margin=1.0))
    path = path_of(bent)

    def optimistic():
        for point in points_of(bent, path):
            small = Bent(0.02 * bent.curvature)
            yield dataclasses.replace(point, bounds=small, change_gram=0 * point.change_gram)

    found = follow(path, optimistic())
    assert found.converges.certified
    with pytest.raises(AssertionError):
        hold_on_map(bent, found, steps=300)


# --- networks -------------------------------------------------------------------------------------

WIDE = Tiny((600,), "gelu", outputs=1, points=4, in_dim=6)
CASES = (
    (WIDE, 0.5),
    (Tiny((400,), "tanh", outputs=2, points=3, in_dim=6, bias_scale=0.5), 1.0),
    (Tiny((96, 96), "tanh", outputs=1, points=3, in_dim=4, output_scale=8.0, bias_scale=0.5), 2.0),
)


@cache
def beyond_theorem_1(tiny: Tiny, target_scale: float):
    """A centred model with targets beyond what Theorem 1 allows, and its certificate."""
    start = tiny.start(0)
    problem = tiny.problem(0, centred=True, target_scale=target_scale)
    return problem, start, certify(problem, start, theorem="P")


@pytest.fixture(scope="module")
def wide():
    return beyond_theorem_1(*CASES[0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]))
@pytest.mark.slow
def test_networks_follow_their_certificates_where_theorem_1_has_none(case):
    problem, start, certificate = beyond_theorem_1(*case)
    assert certificate.theorem == "P"
    assert certificate.certified
    assert not certify(problem, start, certificate.step_size, theorem="1").certified
    steps = int(certificate.constants["handover"].value) + 50
    run = descend(problem, start, certificate.step_size, steps)
    hold(certificate, run, rounding(problem))
    values = {name: constant.value for name, constant in certificate.constants.items()}
    distance = np.linalg.norm(run.theta, axis=1)
    assert distance.max() <= values["displacement"] * (1 + SLACK)
    assert distance[-1] <= values["limit_distance"] * (1 + SLACK)
    assert certificate.existence_radius <= values["limit_distance"]


@pytest.mark.slow
def test_the_tube_holds_at_every_step(wide):
    problem, start, certificate = wide
    at_start = Expansion(problem, start, tangent_kernel(problem, start))
    path = LinearisedPath(at_start.modes, certificate.step_size)
    points = list(look_along(KernelLooks(at_start, path)))
    found = follow(path, points)
    assert found.tube == certificate.constants["tube_radius"].value
    run = descend(problem, start, certificate.step_size, found.handover)
    network = DenseNetwork(problem.model, problem.measure)
    jacobian = network.jacobian(network.flat(start))
    for t in range(0, found.handover + 1, 3):
        apart = np.linalg.norm(run.theta[t] - jacobian.T @ path.dual(t))
        assert apart <= found.tube
    assert apart > 0.02 * found.tube


def test_a_monitored_run_holds_the_certificate(wide):
    problem, start, certificate = wide
    run = gradient_descent(
        problem, start, certificate.step_size, 60, certificate=certificate, dtype="float64"
    )
    assert run.certificate_held


@pytest.mark.slow
def test_theorem_p_is_tried_where_theorem_1_fails(wide):
    problem, start, _ = wide
    assert certify(problem, start).theorem == "P"
    too_large = certify(problem, start, 50.0, theorem="P")
    assert not too_large.certified
    assert "asks for a smaller step" in too_large.reason


@pytest.mark.slow
def test_a_smaller_step_that_is_given_is_taken(wide):
    problem, start, certificate = wide
    given = certify(problem, start, 0.5 * certificate.step_size)
    assert given.certified
    assert given.step_size == 0.5 * certificate.step_size


@pytest.mark.slow
def test_what_cannot_be_followed_says_how_far_it_came():
    narrow = Tiny((8,), "gelu", outputs=1)
    certificate = certify(narrow.problem(0, centred=True), narrow.start(0), theorem="P")
    assert not certificate.certified
    assert certificate.theorem == "P"
    assert "could be followed for" in certificate.reason
    assert certificate.rate == 1
    assert "newton_kantorovich" not in certificate.constants


def test_the_file_names_the_theorem_and_the_second_opinion_declines(wide, tmp_path):
    problem, start, certificate = wide
    certificate.save(tmp_path / "certificate.json")
    assert load_certificate(tmp_path / "certificate.json") == certificate
    checked = verify(certificate, problem, start)
    assert not checked
    assert len(checked.reasons) == 1
    assert "rests on Theorem P" in checked.reasons[0]


def test_where_theorem_p_does_not_apply_it_says_so(wide):
    problem, start, _ = wide
    with pytest.raises(InputError, match="knows no rigor='proved'"):
        certify(problem, start, theorem="P", rigor="proved")
    hinge = WIDE.problem(0, "squared_hinge", centred=True)
    with pytest.raises(InputError, match="about the squared loss, not squared_hinge"):
        certify(hinge, start, theorem="P")
