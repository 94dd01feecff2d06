"""Steps so small that a run takes more of them than an integer counts."""

import math

import numpy as np
import pytest

from overparam.apriori.along_run import descent_follows_linear_run
from overparam.apriori.linear_run import LinearRun
from overparam.apriori.one_layer import Motion


@pytest.mark.parametrize("step_size", [1e-3, 1e-20, 1e-300])
def test_a_step_of_nothing_is_answered(step_size):
    run = LinearRun(np.ones(1), np.ones(1), 0.25, step_size, 2.0)
    change = Motion(turn=1e-3, bend=1e-3, typical=2.0, largest=4.0)
    found = descent_follows_linear_run(run, change, sigma=0.5, jacobian_norm=math.sqrt(2))
    assert found.converges.certified == (step_size == 1e-3)  # a rate that rounds to 1 is none
