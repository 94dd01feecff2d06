"""Theorem 4 of networks, far beyond the ball of Theorem 1: bounds, minimisers, the re-check."""

from functools import cache

import numpy as np
import pytest

from altered import altered
from overparam import certify, gauss_newton, verify
from overparam.certificate.hypotheses import Rigor
from tiny import Tiny

TINY = Tiny((12,), "tanh", 1, points=4)


@cache
def certificate(rigor: Rigor = "computed", loss: str = "squared"):
    return certify(TINY.problem(0, loss, centred=True), TINY.start(0), rigor=rigor, theorem="1")


def closest(loss: str = "squared") -> float:
    return certificate(loss=loss).numbers.distance_lower_bound


def test_it_reaches_beyond_the_ball_and_excludes_no_minimiser():
    found = certificate()
    assert not found.certified
    problem, start = TINY.problem(0, centred=True), TINY.start(0)
    end = gauss_newton(problem, start, tolerance=1e-12).params
    pairs = zip((*end[0], *end[1]), (*start[0], *start[1]), strict=True)
    distance = float(np.sqrt(sum(np.sum((a - b) ** 2) for a, b in pairs)))
    assert distance / 5 < closest() <= distance
    assert closest() > 3 * found.numbers.ball


@pytest.mark.parametrize("rigor", ["computed", "proved"])
def test_the_re_check_finds_the_same(rigor):
    problem, start, found = TINY.problem(0, centred=True), TINY.start(0), certificate(rigor)
    assert found.rigor == rigor
    assert verify(found, problem, start).ok
    too_far = altered(found, distance_lower_bound=found.numbers.distance_lower_bound * 1.001)
    (reason,) = verify(too_far, problem, start).reasons
    assert "distance_lower_bound" in reason


def test_losses_with_the_same_single_minimiser_have_the_same_bound():
    for loss in ("log_cosh", "pseudo_huber:2"):
        assert closest(loss) == pytest.approx(closest(), rel=0.02)  # other nodes
    assert closest("squared_hinge") < 0.5 * closest()
