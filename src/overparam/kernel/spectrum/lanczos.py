r"""The top of a spectrum from products with the matrix alone, by restarted Lanczos iterations.

A Ritz value is a lower bound on the eigenvalue of the same rank, so what Lanczos gives is
*estimated*. Because the start is random, the largest eigenvalue of a positive semidefinite operator
also has an upper bound that holds with a probability known beforehand (docs/spectrum.md, theorem 2,
after Kuczynski and Wozniakowski): the start would have to be nearly orthogonal to an eigenvector
for the iteration to miss it.

The Krylov space of one start holds one vector of each eigenspace, so one run sees an eigenvalue
once however often it occurs, and tangent kernels have multiple ones: that of the last layer alone
has each k times. Runs from new starts in the orthogonal complement of what was found bring the
other copies, until one finds nothing more.
"""

from dataclasses import dataclass, replace
from math import exp, inf, log, log1p, pi, sqrt
from typing import Any

import numpy as np
from jaxtyping import Array, Float
from scipy.sparse.linalg import (
    ArpackError,
    ArpackNoConvergence,
    LinearOperator,
    aslinearoperator,
    eigsh,
)

from overparam.errors import InputError
from overparam.numbers.eigenvectors import eigh
from overparam.precision import on_host
from overparam.randomness import seed_of
from overparam.results import pytree

KRYLOV_VECTORS = 40
"""The least number of vectors kept; a multiple of the number of eigenvalues where that is more."""


@pytree("values", "vectors", "residuals")
@dataclass(frozen=True)
class TopEigenvalues:
    """Ritz values at the top of a symmetric operator's spectrum.

    Attributes:
        values: Ritz values in decreasing order, each at most the eigenvalue of the same rank.
        vectors: Their Ritz vectors, shape (n, count).
        residuals: |A v - theta v| of each pair: an eigenvalue lies within it of theta.
        converged: Whether every residual met the tolerance and, of more than one eigenvalue, a run
            from another start, orthogonal to the vectors, met it and found nothing above the last.
        krylov: q, the dimension of the Krylov space of the random start that the first Ritz value
            is at least as good as; None if the eigenvalues are those of the dense matrix.
        order: n.
    """

    values: Float[np.ndarray, " count"]
    vectors: Float[np.ndarray, "n count"]
    residuals: Float[np.ndarray, " count"]
    converged: bool
    krylov: int | None
    order: int

    def upper(self, failure_probability: float = 1e-6) -> float:
        """A bound on the largest eigenvalue of a positive semidefinite operator.

        Args:
            failure_probability: delta, over the random start, of the bound being wrong.

        Returns:
            theta / (1 - epsilon); *estimated*, since it may fail with probability delta, and in
            exact arithmetic.

        Raises:
            InputError: The probability is not in (0, 1), or a Ritz value is negative.
        """
        if self.values[0] < 0:
            raise InputError("the operator has a negative top: the bound is for semidefinite ones")
        if self.krylov is None:  # up to the rounding of a dense solver
            return float(self.values[0]) * (1.0 + 2.0**-50 * self.order)
        return float(self.values[0]) / (
            1.0 - lanczos_error(self.order, self.krylov, failure_probability)
        )


@on_host
def top_eigenvalues(
    operator: LinearOperator | np.ndarray,
    count: int = 1,
    *,
    tolerance: float = 1e-6,
    restarts: int = 100,
    key: Array | None = None,
) -> TopEigenvalues:
    """The largest eigenvalues of a symmetric operator, multiple ones with all their copies.

    Args:
        operator: Symmetric, of shape (n, n): an array or anything with products, such as
            `ntk_operator`, the tangent kernel without its matrix. Iterations are in float64;
            products in float32 limit what they can resolve.
        count: How many eigenvalues, each counted as often as it occurs.
        tolerance: Residual, relative to the eigenvalue, at which an iteration stops.
        restarts: The most restarts of a run; unconverged Ritz values are returned all the same.
        key: A JAX key for the random start; None stands for ``jax.random.key(0)``.

    Returns:
        The :class:`TopEigenvalues`, *estimated*.

    Raises:
        InputError: The operator is not square, ``count`` is not in 1 to n, or a product is not
            finite.
    """
    if len(operator.shape) != 2 or operator.shape[0] != operator.shape[1]:
        raise InputError(f"the operator has shape {operator.shape}: give a square one")
    n = operator.shape[0]
    if not 1 <= count <= n:
        raise InputError(f"count = {count}: give a number from 1 to {n}, the operator's order")
    linear = _wide(aslinearoperator(operator))
    draw = np.random.default_rng(seed_of(key))
    start = draw.standard_normal(n)
    size = max(KRYLOV_VECTORS, 2 * count + 1)
    krylov = size if size < n else None
    complete = True
    if krylov is None:
        values, vectors = _largest(_dense(linear), count)
    else:
        _require_finite(linear.matvec(start))
        run = _Run(krylov, tolerance, restarts, draw)
        values, vectors = _largest(run.top(linear, start, count), count)
        if count > 1:  # the first one is the first one, however often it occurs
            # In the complement a value is about a third of what the iteration sees.
            stricter = replace(run, tolerance=tolerance / 3)
            values, vectors, complete = _with_copies(linear, values, vectors, stricter)
    residuals = np.linalg.norm(_require_finite(linear.matmat(vectors)) - vectors * values, axis=0)
    reached = residuals <= _allowed(tolerance, np.abs(values), float(np.abs(values).max()))
    return TopEigenvalues(values, vectors, residuals, complete and bool(reached.all()), krylov, n)


def lanczos_error(order: int, krylov: int, failure_probability: float) -> float:
    """The relative error that Lanczos exceeds with at most the probability given (theorem 2).

    For a positive semidefinite operator of order n >= 3 and a start uniform on the sphere, the
    largest Ritz value of the Krylov space of dimension q is below (1 - epsilon) lambda_max with
    probability at most 2 sqrt((n - 1) / (2 pi)) sqrt((1 - epsilon) / epsilon) / T_{q-1}(x),
    x = (1 + epsilon) / (1 - epsilon), T the Chebyshev polynomial.

    Args:
        order: n.
        krylov: q >= 1.
        failure_probability: delta in (0, 1).

    Returns:
        epsilon in (0, 1).

    Raises:
        InputError: The order is below 3, q below 1, or delta not in (0, 1).

    References:
        J. Kuczynski and H. Wozniakowski, *Estimating the largest eigenvalue by the power and
        Lanczos algorithms with a random start*, SIAM J. Matrix Anal. Appl. 13, 1992.
    """
    if not (0 < failure_probability < 1 and order >= 3 and krylov >= 1):
        raise InputError(
            f"order = {order}, krylov = {krylov}, failure_probability = {failure_probability}: "
            "give an order of 3 or more, a dimension of 1 or more, a probability between 0 and 1"
        )

    def excess(logit: float) -> float:
        epsilon = 1.0 / (1.0 + exp(-logit))
        root = sqrt(epsilon)
        # T_k(x) = cosh(k arcosh x), arcosh((1 + e) / (1 - e)) = 2 artanh sqrt(e)
        angle = (krylov - 1) * (2.0 * log1p(root) - log1p(-epsilon))
        chebyshev = angle + log1p(exp(-2.0 * angle)) - log(2.0)
        chance = log(2.0 * sqrt((order - 1) / (2.0 * pi))) - 0.5 * logit - chebyshev
        return chance - log(failure_probability)

    from scipy.optimize import brentq

    # Decreasing in epsilon; the logit keeps both ends of (0, 1) in reach.
    root = brentq(excess, -70.0, 36.0) if excess(36.0) < 0 else inf
    return 1.0 / (1.0 + exp(-root))


def _dense(linear: LinearOperator) -> tuple[np.ndarray, np.ndarray]:
    matrix = _require_finite(linear.matmat(np.eye(linear.shape[0])))
    return eigh((matrix + matrix.T) / 2)


def _largest(
    pairs: tuple[np.ndarray, np.ndarray], count: int
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, "n c"]]:
    values, vectors = pairs
    order = np.argsort(values)[::-1][:count]
    return values[order], vectors[:, order]


def _allowed(tolerance: float, values: Any, scale: float) -> Any:
    """A restart may stop at a tolerance of its own; rounding allows no better than u |A|."""
    return 2 * tolerance * values + 1e-13 * scale


@dataclass(frozen=True)
class _Run:
    """What a run of restarted Lanczos iterations may take."""

    krylov: int
    tolerance: float
    restarts: int
    draw: np.random.Generator

    def top(
        self, linear: LinearOperator, start: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ritz pairs; what did not converge in time comes from the subspace that was reached."""
        options: dict[str, Any] = {
            "ncv": self.krylov,
            "tol": self.tolerance,
            "maxiter": self.restarts,
            # Where an iteration breaks down, it starts anew: from vectors never used before, since
            # what is left of a multiple eigenvalue is orthogonal to those that were.
            "rng": self.draw,
        }
        try:
            return eigsh(linear, k=count, which="LA", v0=start, **options)
        except ArpackNoConvergence as stopped:
            found = stopped.eigenvectors
        except ArpackError:
            found = np.empty((len(start), 0))
        basis = np.concatenate([_krylov_basis(linear, start, self.krylov), found], axis=1)
        return _ritz(linear, np.linalg.qr(basis)[0])


def _ritz(linear: LinearOperator, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Ritz pairs of a space with an orthonormal basis, values increasing."""
    small = basis.T @ linear.matmat(basis)
    values, rotation = eigh((small + small.T) / 2)
    return values, basis @ rotation


def _with_copies(
    linear: LinearOperator,
    values: np.ndarray,
    vectors: np.ndarray,
    run: _Run,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Ritz pairs with the copies that their start did not see, and whether none is left.

    Each round looks for the top of the complement. One that finds something above the last value
    has brought every eigenvalue missing once more; so the next looks for as many again.
    """
    count, sought = len(values), 1
    for _ in range(count + 1):
        rest = _Complement(linear, values, vectors, run.draw.standard_normal(len(vectors)))
        tops, found = _largest(run.top(rest.operator, rest.start, sought), sought)
        residual = float(np.linalg.norm(rest.operator.matvec(found[:, 0]) - tops[0] * found[:, 0]))
        reached = residual <= _allowed(run.tolerance, abs(tops[0]), rest.scale)
        last = values[-1] + _allowed(run.tolerance, abs(values[-1]), rest.scale)
        above = int(np.sum(tops - rest.shift > last))
        if not above:
            return values, vectors, bool(reached)
        basis = np.linalg.qr(np.concatenate([vectors, rest.project(found)], axis=1))[0]
        values, vectors = _largest(_ritz(linear, basis), count)
        if not reached:
            break
        sought = min(2 * above if above == sought else above, count)
    return values, vectors, False


class _Complement:
    """The operator on the orthogonal complement of some vectors, plus a shift.

    An iteration stops at an error relative to the value it finds, and here it matters relative to
    the last value known, not to what may be 0 in the complement: hence the shift. The vectors
    themselves are put below everything else, where rounding does not lead an iteration back to.
    """

    def __init__(
        self, linear: LinearOperator, values: np.ndarray, vectors: np.ndarray, start: np.ndarray
    ) -> None:
        self.vectors = vectors
        self.scale = float(np.abs(values).max())
        self.shift = 2 * max(abs(float(values[-1])), 1e-6 * self.scale)
        self.start = self.project(start)
        # A random image is about as long as the Frobenius norm.
        bottom = -10 * (self.scale + float(np.linalg.norm(linear.matvec(start))))

        def multiply(x: np.ndarray) -> np.ndarray:
            inside = self.project(x)
            image = self.project(linear @ inside) + self.shift * inside
            return image + bottom * (x - inside)

        self.operator = LinearOperator(
            linear.shape, matvec=multiply, matmat=multiply, dtype=np.float64
        )

    def project(self, x: np.ndarray) -> np.ndarray:
        return x - self.vectors @ (self.vectors.T @ x)


def _krylov_basis(linear: LinearOperator, start: np.ndarray, size: int) -> np.ndarray:
    """An orthonormal basis of the span of b, A b, ..., A^(q-1) b, or of a larger space."""
    basis = np.empty((len(start), size), order="F")
    vector, draw = start, np.random.default_rng(1).standard_normal
    for step in range(size):
        done, length = basis[:, :step], float(np.linalg.norm(vector))
        for _ in range(2):  # once is not enough: what is left may be small
            vector = vector - done @ (done.T @ vector)
        if np.linalg.norm(vector) <= 1e-12 * length:  # an invariant subspace
            vector = draw(len(start))
            vector = vector - done @ (done.T @ vector)
        basis[:, step] = vector / np.linalg.norm(vector)
        vector = linear.matvec(basis[:, step])
    return basis


def _wide(linear: LinearOperator) -> LinearOperator:
    """The same operator with products handed over in float64, whatever it computes in."""
    return LinearOperator(
        linear.shape,
        matvec=lambda v: np.asarray(linear.matvec(v), dtype=np.float64),
        matmat=lambda V: np.asarray(linear.matmat(V), dtype=np.float64),
        dtype=np.float64,
    )


def _require_finite(image: np.ndarray) -> np.ndarray:
    if not np.isfinite(image).all():
        raise InputError(
            "a product with the operator is not finite: look for NaN or an overflow in it"
        )
    return image
