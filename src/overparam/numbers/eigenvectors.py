"""Approximate eigenvectors of symmetric matrices, where NumPy's own may not be found."""

import numpy as np
from jaxtyping import Float


def eigh(
    matrix: Float[np.ndarray, "*m n n"],
) -> tuple[Float[np.ndarray, "*m n"], Float[np.ndarray, "*m n n"]]:
    """As `numpy.linalg.eigh`, tried a second time with the rows in the opposite order.

    On some processors LAPACK's divide and conquer does not converge on a rare matrix with crowded
    eigenvalues, although the same matrix with its rows and columns reversed is none to it.

    Raises:
        numpy.linalg.LinAlgError: It does not converge either way.
    """
    try:
        values, vectors = np.linalg.eigh(matrix)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix[..., ::-1, ::-1])
        vectors = vectors[..., ::-1, :]
    return values, vectors
