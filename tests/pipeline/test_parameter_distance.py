"""What a job says of the way that training went."""

import math

import numpy as np
import pytest

from overparam.model.function import parameter_distance


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e200])
def test_the_distance_of_parameters_of_any_size(size):
    a = ((size * np.array([[3.0, 0.0]]),), (np.zeros(1),))
    b = ((size * np.zeros((1, 2)),), (size * np.array([-4.0]),))
    assert parameter_distance(a, b) == pytest.approx(5 * size, rel=1e-14)
    assert parameter_distance(a, a) == 0
    assert math.isfinite(parameter_distance(a, b))
