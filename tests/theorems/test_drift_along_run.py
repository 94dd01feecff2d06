"""Proposition C9 between two looks: along bent paths, against the kernel at every point of them."""

from itertools import pairwise

import numpy as np
import pytest

from overparam.numbers import Interval
from overparam.theorems.drift_along_run import Beside

POINTS = 400
RATE = np.array([[0.3, -0.2, 0.4], [0.1, 0.5, -0.3]])


def jacobian(theta, bent):
    """Of F_i = |theta|^2 theta_i / 6 + <rates, theta^2> / 2: its derivative varies, if ``bent``."""
    cubic = bent * (np.outer(theta, theta) / 3 + np.eye(3) * (theta @ theta) / 6)
    return np.eye(2, 3) + RATE * theta + cubic[:2]


def path(turn, length):
    """An arc that turns by an angle, perhaps back to where it began, with a small zigzag on it."""
    angles = np.linspace(0, turn, POINTS)
    steps = np.stack([np.cos(angles), np.sin(angles), 0.02 * (-1.0) ** np.arange(POINTS)], axis=1)
    return np.cumsum(np.vstack([[0.1, -0.2, 0.3], steps * length / POINTS]), axis=0)


@pytest.mark.parametrize("bent", [0.0, 1.0])
@pytest.mark.parametrize("turn", [0.0, 0.4, 2.0, 6.28])
@pytest.mark.parametrize("length", [0.05, 0.4])
def test_between_two_looks_the_kernel_moves_by_no_more_than_is_said(bent, turn, length):
    points = path(turn, length)
    kernels = [jacobian(p, bent) @ jacobian(p, bent).T for p in points]
    drifts = [np.linalg.norm(K - kernels[0], 2) for K in kernels]
    reach = np.linalg.norm(points, axis=1).max() + 1e-9
    # On the ball of the path, of the cubic 2 (<t, u> v + <t, v> u + <u, v> t) / 6 and its like.
    lipschitz = np.linalg.norm(RATE) + bent * reach
    known = {
        "kernel_error": 0.0,
        "jacobian_norm": max(np.linalg.norm(jacobian(p, bent), 2) for p in points),
        "lipschitz": lipschitz,
        "third": bent,
    }
    both, one = Beside(None, 0.08), Beside(None, 0.08)
    for here in (both, one):
        for before, after in pairwise(points):
            here.step(float(np.linalg.norm(after - before)), 0.0, None)
    chord = Interval.exact(np.linalg.norm(points[-1] - points[0]))
    both.look(drifts[-1], 1.0, 0.0, chord)
    bounds = []
    for here in (both, one):
        here.settle(deviations=np.zeros(POINTS), residual_noise=np.zeros(POINTS), **known)
        bounds.append(here._drift)
    assert max(drifts) <= bounds[0] <= bounds[1]
    if turn == 0 and length < 0.1:  # of a nearly straight path the looks at its ends say it all
        assert bounds[0] <= drifts[-1] + 0.05 * (bounds[1] - drifts[-1])
