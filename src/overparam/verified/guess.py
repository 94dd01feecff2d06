"""Approximate extreme eigenvectors: guesses that the rigorous bounds start from.

Nothing here is proved, and nothing proved depends on it: a bad guess gives a wide enclosure.
"""

import numpy as np
from jaxtyping import Float
from scipy.linalg import lapack
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from overparam.verified.cholesky import Buffer, Vector, factor_shifted, restore
from overparam.verified.rounding import UNIT_ROUNDOFF

DENSE_LIMIT = 256
"""Up to this order all eigenvectors are computed; beyond, Lanczos iterations are cheaper."""


def smallest_eigenvector(W: Buffer, diagonal: Vector) -> Vector:
    """Approximate the unit eigenvector of the smallest eigenvalue.

    Args:
        W: Fortran-ordered buffer holding A; on return it holds A again.
        diagonal: The diagonal of A.

    Returns:
        A vector of norm about 1: dense, or by Lanczos iterations on ``(A - s I)^-1`` with a shift
        s just below zero, or as far below as it takes to be positive definite.
    """
    n = len(W)
    if n <= DENSE_LIMIT:
        return _dense(W, 0)
    norm = float(np.linalg.norm(W)) or 1.0
    shift = -8.0 * UNIT_ROUNDOFF * np.sqrt(n) * norm
    while not factor_shifted(W, diagonal, shift):
        restore(W, diagonal)
        shift *= 256.0
    inverse = LinearOperator((n, n), matvec=lambda v: lapack.dpotrs(W, v, lower=1)[0], dtype=float)
    x = _lanczos(inverse, vectors=20, tolerance=1e-7)
    restore(W, diagonal)
    return x


def largest_eigenvector(W: Buffer) -> Vector:
    """Approximate the unit eigenvector of the largest eigenvalue of the symmetric matrix W."""
    n = len(W)
    if n <= DENSE_LIMIT:
        return _dense(W, -1)
    forward = LinearOperator((n, n), matvec=lambda v: W @ v.ravel(), dtype=float)
    return _lanczos(forward, vectors=40, tolerance=1e-5)


def top_subspace(
    W: Buffer, vectors: int, sweeps: int
) -> tuple[Float[np.ndarray, "n j"], Float[np.ndarray, " j"]]:
    """Approximate the leading eigenvectors of a symmetric matrix by subspace iteration.

    Unlike Lanczos iterations it finds every member of a cluster, and works at the speed of matrix
    products.

    Args:
        W: The matrix; only read.
        vectors: Dimension j of the subspace.
        sweeps: Number of products with W.

    Returns:
        Ritz vectors, shape (n, j), orthonormal up to rounding, and Ritz values, largest first.
    """
    V = np.linalg.qr(np.random.default_rng(0).standard_normal((len(W), vectors)))[0]
    for _ in range(sweeps - 1):
        V = np.linalg.qr(W @ V)[0]
    small = V.T @ (W @ V)
    values, rotation = np.linalg.eigh((small + small.T) / 2)
    return np.ascontiguousarray(V @ rotation[:, ::-1]), values[::-1].copy()


def _dense(W: Buffer, index: int) -> Vector:
    try:
        return np.linalg.eigh(W)[1][:, index].copy()
    except np.linalg.LinAlgError:  # no convergence
        return np.eye(len(W))[:, np.argsort(W.diagonal())[index]]


def _lanczos(operator: LinearOperator, vectors: int, tolerance: float) -> Vector:
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    try:
        _, found = eigsh(
            operator, k=1, which="LA", v0=start, ncv=vectors, tol=tolerance, maxiter=60
        )
    except ArpackNoConvergence as stopped:
        found = stopped.eigenvectors
    except ArpackError:
        found = np.empty((len(start), 0))
    best = found[:, 0] if found.shape[1] else start
    return best / np.linalg.norm(best)
