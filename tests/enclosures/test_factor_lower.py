"""Cholesky factors in place, in one piece and by panels."""

import numpy as np
import pytest

from overparam.enclosures import factor
from overparam.enclosures.factor import factor_lower


@pytest.fixture(params=["one piece", "panels"])
def way(request, monkeypatch):
    """Panels of 16 columns beyond order 20, as panels of 1,024 beyond 8,192."""
    if request.param == "panels":
        monkeypatch.setattr(factor, "ONE_PIECE", 20)
        monkeypatch.setattr(factor, "PANEL", 16)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("n", [1, 16, 21, 32, 33, 100])
def test_factor_is_numpys_and_leaves_the_upper_triangle_alone(n):
    a = np.random.default_rng(n).standard_normal((n, 2 * n))
    matrix = a @ a.T
    W = matrix.copy(order="F")
    W[np.triu_indices(n, 1)] = 7.0
    assert factor_lower(W)
    np.testing.assert_allclose(np.tril(W), np.linalg.cholesky(matrix), rtol=1e-12, atol=1e-12)
    assert (W[np.triu_indices(n, 1)] == 7.0).all()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("pivot", [0, 15, 16, 40, 69])
def test_a_negative_pivot_is_found_wherever_it_is(pivot):
    matrix = np.eye(70, order="F")
    matrix[pivot, pivot] = -1e-9
    assert not factor_lower(matrix)


@pytest.mark.usefixtures("way")
def test_a_matrix_that_is_not_finite_has_no_finite_factor():
    matrix = np.eye(40, order="F")
    matrix[30, 25] = np.nan
    assert not factor_lower(matrix) or not np.isfinite(matrix.diagonal()).all()


def test_only_fortran_order_can_be_overwritten():
    with pytest.raises(ValueError, match="Fortran-ordered"):
        factor_lower(np.ones((3, 4))[:, :3])


@pytest.mark.slow
def test_order_20000_where_one_piece_crashes():
    """L of (I + 1 1^T) / 2: the rows' norms and products are known."""
    n = 20_000
    W = np.full((n, n), 0.5, order="F")
    np.fill_diagonal(W, 1.0)
    assert factor_lower(W)
    for i in (n - 1, n // 2):
        row, other = W[i, : i + 1], W[i - 9, : i - 8]
        assert row @ row == pytest.approx(1.0, rel=1e-12)
        assert row[: i - 8] @ other == pytest.approx(0.5, rel=1e-12)
