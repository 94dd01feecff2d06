"""Approximate extreme eigenvectors: guesses that the rigorous bounds start from.

Nothing here is proved, and nothing proved depends on it: a bad guess gives a wide enclosure.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.linalg import lapack
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from overparam.enclosures.cholesky import Buffer, Vector, factor_shifted, restore
from overparam.numbers.eigenvectors import eigh
from overparam.numbers.sums import UNIT_ROUNDOFF

DENSE_LIMIT = 256
"""Up to this order all eigenvectors are computed; beyond, Lanczos iterations are cheaper."""

KRYLOV_BLOCK, KRYLOV_DEPTH, KRYLOV_ROUNDS = 8, 16, 4
"""Right-hand sides solved together, how many times, and how often the shift may move closer."""


def smallest_eigenvector(W: Buffer, diagonal: Vector, tolerance: float) -> Vector:
    """Approximate the unit eigenvector of the smallest eigenvalue.

    Args:
        W: Fortran-ordered buffer holding A; on return it holds A again.
        diagonal: The diagonal of A.
        tolerance: The relative error of the Rayleigh quotient that is aimed at.

    Returns:
        A vector of norm about 1: dense, or from block Krylov spaces of ``(A - s I)^-1``. The first
        shift s is just below zero, or as far below as it takes to be positive definite; where the
        bottom of the spectrum is crowded, closer shifts tell its members apart.
    """
    n = len(W)
    if n <= DENSE_LIMIT:
        return _dense(W, 0)
    rounding = UNIT_ROUNDOFF * np.sqrt(n) * (float(np.linalg.norm(W)) or 1.0)
    shift, safe = -8.0 * rounding, None
    X = np.random.default_rng(0).standard_normal((n, KRYLOV_BLOCK))
    for _ in range(KRYLOV_ROUNDS):
        while not factor_shifted(W, diagonal, shift):
            restore(W, diagonal)
            shift = 256.0 * shift if safe is None else safe + (shift - safe) / 8
        safe = shift
        X, top, error = _krylov_top(lambda V: lapack.dpotrs(W, V, lower=1)[0], X)
        restore(W, diagonal)
        # 1 / top is the distance from the shift, and shift + 1 / top the Ritz value.
        if not (top > 0 and np.isfinite(error)) or top * 16.0 * rounding >= 1:
            break  # nothing finite, or nothing left but rounding
        if error <= tolerance * abs(1 + shift * top):
            break
        shift += (1 - min(0.9, 4 * error)) / top
    return X[:, 0]


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
    values, rotation = eigh((small + small.T) / 2)
    return np.ascontiguousarray(V @ rotation[:, ::-1]), values[::-1].copy()


def _krylov_top(
    apply: Callable[[np.ndarray], np.ndarray], start: Float[np.ndarray, "n b"]
) -> tuple[Float[np.ndarray, "n b"], float, float]:
    """Top Ritz vectors of a symmetric operator in a block Krylov space.

    A triangular solve is bound by memory: eight right-hand sides cost little more than one.

    Returns:
        The vectors, best first; the top Ritz value; an estimate of its relative error.
    """
    X = np.linalg.qr(start)[0]
    basis, images = X, np.empty((len(X), 0))
    for step in range(1, KRYLOV_DEPTH + 1):
        Y = apply(X)
        if not np.isfinite(Y).all():
            return start, np.inf, np.inf
        images = np.concatenate([images, Y], axis=1)
        if step < KRYLOV_DEPTH:
            for _ in range(2):  # once is not enough: what is left may be small
                Y = np.linalg.qr(Y - basis @ (basis.T @ Y))[0]
            X, basis = Y, np.concatenate([basis, Y], axis=1)
    small = basis.T @ images
    try:
        values, rotation = eigh((small + small.T) / 2)
    except np.linalg.LinAlgError:  # no convergence
        return start, np.inf, np.inf
    best, top = rotation[:, ::-1][:, : start.shape[1]], float(values[-1])
    vectors = basis @ best
    residual = float(np.linalg.norm(images @ best[:, 0] - top * vectors[:, 0])) / (top or np.inf)
    gap = 1.0 - float(values[-2]) / (top or np.inf)
    return vectors, top, residual**2 / max(gap, residual, 1e-300)


def _dense(W: Buffer, index: int) -> Vector:
    try:
        return eigh(W)[1][:, index].copy()
    except np.linalg.LinAlgError:  # no convergence
        return np.eye(len(W))[:, np.argsort(W.diagonal())[index]]


def _lanczos(operator: LinearOperator, vectors: int, tolerance: float) -> Vector:
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    try:
        _, found = eigsh(
            *(operator, 1),
            which="LA",
            v0=start,
            ncv=vectors,
            tol=tolerance,
            maxiter=60,
            rng=np.random.default_rng(0),
        )
    except ArpackNoConvergence as stopped:
        found = stopped.eigenvectors
    except ArpackError:
        found = np.empty((len(start), 0))
    best = found[:, 0] if found.shape[1] else start
    return best / np.linalg.norm(best)
