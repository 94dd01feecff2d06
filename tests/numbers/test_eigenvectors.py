import numpy as np
import pytest

from overparam.numbers.eigenvectors import eigh

lapack = np.linalg.eigh


def failing(times: int):
    """NumPy's `eigh`, that does not converge the first few times it is called."""
    left = [times]

    def eigh(matrix: np.ndarray):
        left[0] -= 1
        if left[0] >= 0:
            raise np.linalg.LinAlgError("Eigenvalues did not converge")
        return lapack(matrix)

    return eigh


@pytest.mark.parametrize("shape", [(4, 4), (3, 5, 5)])
@pytest.mark.parametrize("times", [0, 1])
def test_eigenvectors_are_found_in_two_ways(shape, times, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.linalg, "eigh", failing(times))
    A = np.random.default_rng(0).standard_normal(shape)
    A = A + np.swapaxes(A, -1, -2)
    values, vectors = eigh(A)
    np.testing.assert_allclose(A @ vectors, vectors * values[..., None, :], atol=1e-13)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A), atol=1e-13)


def test_a_matrix_without_any_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.linalg, "eigh", failing(2))
    with pytest.raises(np.linalg.LinAlgError):
        eigh(np.eye(3))
