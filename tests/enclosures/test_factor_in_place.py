"""Cholesky factors in place."""

import numpy as np
import pytest

from overparam.enclosures.factor import factor_in_place


@pytest.mark.parametrize("order", ["C", "F"])
def test_factor_is_numpys_and_uses_the_matrix_memory(order):
    a = np.random.default_rng(0).standard_normal((9, 20))
    matrix = np.asarray(a @ a.T, order=order)
    expected = np.linalg.cholesky(matrix)
    factor = factor_in_place(matrix)
    np.testing.assert_allclose(np.tril(factor), expected, rtol=1e-13, atol=1e-13)
    assert np.shares_memory(factor, matrix)


def test_indefinite_matrix_has_no_factor():
    assert factor_in_place(np.diag([1.0, -1.0])) is None
