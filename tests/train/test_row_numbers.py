"""Which rows: whole numbers, and no mask that would pass for the rows 0 and 1."""

import numpy as np
import pytest

from overparam import InputError, Measure
from overparam.train.changed_rows import row_numbers

DATA = Measure(np.eye(3), np.ones(3))


def test_rows_are_numbers_and_no_mask():
    assert row_numbers(DATA, range(2)) == [0, 1]
    with pytest.raises(InputError, match="not a mask"):
        row_numbers(DATA, [True, False])
