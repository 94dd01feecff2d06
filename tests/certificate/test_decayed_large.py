"""Weight decay with more rows times outputs than a kernel is made for: the same, without it."""

import jax
import numpy as np
import pytest

from overparam import InputError, Problem, anchor, certify
from overparam.certificate import trajectory_points
from overparam.certificate.trajectory_points import steepness_by_layers
from overparam.jacobian.bounds import jacobian_bounds
from overparam.jacobian.mlp_bounds import base_of
from overparam.kernel.empirical import tangent
from overparam.train.choose_decay import choose_decay
from overparam.train.decayed_minimum import decayed_minimum
from tiny import Tiny

SMALL = Tiny((10,), "gelu", 2)


@pytest.fixture
def large(monkeypatch):
    """Every kernel counts as large, and making one is an error."""
    monkeypatch.setattr(trajectory_points, "LARGE", 0)

    def refuse(*_, **__):
        raise AssertionError("a kernel is made")

    for module in (trajectory_points, tangent):
        monkeypatch.setattr(module, "tangent_kernel", refuse)


@pytest.mark.parametrize(
    ("tiny", "trainable"),
    [(SMALL, "all"), (SMALL, "last layer"), (Tiny((6, 5), "tanh", 1), "biases")],
    ids=str,
)
def test_the_norm_by_layers_is_above_that_of_the_kernel(tiny, trainable):
    start = tiny.start(3)
    problem = Problem(tiny.model, tiny.measure(3), trainable=trainable)
    bound = steepness_by_layers(base_of(jacobian_bounds(problem, start)))
    exact = np.sqrt(np.linalg.eigvalsh(tangent.tangent_kernel(problem, start))[-1])
    assert exact <= bound <= 2.5 * exact


def test_anchors_and_runs_need_no_kernel(large):
    start = SMALL.start(0)
    problem = Problem(SMALL.model, SMALL.measure(0), "squared", start, 0.3)
    minimum = decayed_minimum(problem, start)
    assert minimum.converged
    with pytest.raises(InputError, match="choose the weight decay with fewer rows"):
        choose_decay(problem, start)
    found = anchor(problem, minimum.params)
    assert found.certified
    assert found.numbers.min_eigenvalue == 0.0
    from_start = certify(problem, start, budget=60)
    assert from_start.certified
    gaps = zip(jax.tree.leaves(minimum.params), jax.tree.leaves(start), strict=True)
    gone = np.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in gaps))
    numbers = from_start.numbers
    assert numbers.limit_distance_lower - 1e-9 <= gone <= numbers.limit_distance + 1e-9
