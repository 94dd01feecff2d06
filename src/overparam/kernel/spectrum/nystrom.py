r"""Nystrom approximations: a kernel of any size from a few of its columns, with an error bound.

From the columns C = K[:, S] of landmark rows S the approximation is K_S = C K[S, S]^-1 C^T = F F^T,
F from a partial Cholesky factorisation with the landmarks as pivots. The rest K - K_S is the Schur
complement, so positive semidefinite, and its diagonal is at hand:

    |K - K_S| <= tr(K - K_S) = sum_i (K_ii - |F_i|^2),

an error bound that needs the diagonal of K and nothing else (docs/spectrum.md, theorem 3). The
landmarks are drawn at random with probabilities proportional to what is left of the diagonal:
randomly pivoted Cholesky, in blocks with rejection, which costs as much as uniform sampling and is
nearly as good as the best approximation of the same rank.

References:
    Y. Chen, E. Epperly, J. Tropp, R. Webber, *Randomly pivoted Cholesky: practical approximation of
    a kernel matrix with few entry evaluations*, Comm. Pure Appl. Math. 78, 2025.
    E. Epperly, J. Tropp, R. Webber, *Embrace rejection: kernel matrix approximation by accelerated
    randomly pivoted Cholesky*, 2024.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.linalg import solve_triangular
from scipy.sparse.linalg import LinearOperator

from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.ntk_operator import ntk_diagonal
from overparam.kernel.spectrum.low_rank_kernel import LowRankKernel
from overparam.limits import require_choice
from overparam.memory import require_memory
from overparam.model.mlp import MLP
from overparam.precision import on_host
from overparam.randomness import seed_of
from overparam.results import pytree

Columns = Callable[[Int[np.ndarray, " s"]], Float[np.ndarray, "rows columns"]]
"""Gives K[:, S] for samples S: all k columns of each, in the order asked for."""

Method = Literal["rpcholesky", "greedy", "uniform"]

UNIT_ROUNDOFF = 2.0**-53


@pytree("factor", "landmarks", "samples", "residual")
@dataclass(frozen=True)
class Nystrom(LowRankKernel):
    """K_S = F F^T, with K - K_S positive semidefinite.

    Attributes:
        landmarks: Rows of K that became pivots, in order; F[landmarks] is lower triangular.
        samples: The landmark samples, in order.
        residual: Diagonal of K - K_S, shape (n k,), *computed*.
        trace: Of K.
        outputs: k.
    """

    landmarks: Int[np.ndarray, " r"]
    samples: Int[np.ndarray, " s"]
    residual: Float[np.ndarray, " rows"]
    trace: float
    outputs: int

    @property
    def trace_error(self) -> float:
        """tr(K - K_S): its trace norm, and a bound on its spectral norm; *computed*."""
        return float(self.residual.sum())

    def eigenvalue_bounds(self) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
        """Lower and upper bounds on the r largest eigenvalues of K; *computed*.

        lambda_j(K_S) <= lambda_j(K) <= lambda_j(K_S) + tr(K - K_S).
        """
        lower = self.eigenvalues
        return lower, lower + self.trace_error

    def tail_bound(self, rank: int) -> float:
        """An upper bound on the eigenvalue of K of a rank beyond r, counted from 1; *computed*.

        tr(K - K_S) / (rank - r): at rank n k a bound on lambda_min.

        Raises:
            InputError: The rank is not beyond r, or beyond n k.
        """
        rows, r = self.factor.shape
        if not r < rank <= rows:
            raise InputError(f"rank = {rank}: give one from {r + 1} to {rows}")
        return self.trace_error / (rank - r)

    def solution_error(self, solution: Float[np.ndarray, "rows *m"], ridge: float) -> float:
        """A bound on |x - x_S|, x = (K + ridge)^-1 b, for what ``solve`` gave; *computed*.

        |x - x_S| = |(K + ridge)^-1 (K - K_S) x_S| <= tr(K - K_S) / ridge |x_S|.
        """
        self._check(solution, ridge, positive=True)
        return self.trace_error / ridge * float(np.linalg.norm(solution))

    def residual_operator(self, kernel: LinearOperator) -> LinearOperator:
        """K - K_S from products with K, such as `ntk_operator`.

        It is positive semidefinite, so ``top_eigenvalues(...).upper()`` bounds |K - K_S| with a
        known chance of failure, *estimated*: often far below the trace error where the spectrum
        decays slowly.

        Raises:
            InputError: The operator is of another shape.
        """
        rows = len(self.factor)
        if kernel.shape != (rows, rows):
            raise InputError(f"the operator has shape {kernel.shape}: give one of {(rows, rows)}")

        def product(v: np.ndarray) -> np.ndarray:
            return np.asarray(kernel @ v, dtype=np.float64) - self.factor @ (self.factor.T @ v)

        return LinearOperator((rows, rows), matvec=product, matmat=product, dtype=np.float64)

    def features(
        self, cross: Float[np.ndarray, "rows_new columns"]
    ) -> Float[np.ndarray, "rows_new r"]:
        """Features of new points: K(x', S) F[S]^-T, so that ``features @ fit(y)`` predicts.

        Args:
            cross: K(x', x[samples]), all k columns of each landmark sample, in their order.

        Returns:
            Shape (n' k, r).

        Raises:
            InputError: The columns are not those of the landmark samples.
        """
        if cross.ndim != 2 or cross.shape[1] != len(self.samples) * self.outputs:
            raise InputError(
                f"cross has shape {cross.shape}: give K(x', x[samples]) with "
                f"{len(self.samples) * self.outputs} columns"
            )
        position = {int(sample): at for at, sample in enumerate(self.samples)}
        columns = [
            position[int(row) // self.outputs] * self.outputs + int(row) % self.outputs
            for row in self.landmarks
        ]
        triangle = self.factor[self.landmarks]
        return solve_triangular(triangle, cross[:, columns].T, lower=True).T


@on_host
def nystrom(
    columns: Columns,
    diagonal: Float[np.ndarray, " rows"],
    landmarks: int,
    *,
    outputs: int = 1,
    method: Method = "rpcholesky",
    tolerance: float = 0.0,
    block: int | None = None,
    key: Array | None = None,
) -> Nystrom:
    """Approximate a kernel from its diagonal and the columns of some landmark samples.

    Args:
        columns: Called with landmark samples S, gives K[:, S] in float64, shape (n k, len(S) k).
        diagonal: Of K, shape (n k,), sample-major.
        landmarks: The number of landmark samples; fewer are used where what is left of the diagonal
            falls to the tolerance or to rounding.
        outputs: k.
        method: ``"rpcholesky"`` draws landmarks with probability proportional to the residual
            diagonal; ``"greedy"`` takes the largest residual every time; ``"uniform"`` draws
            evenly.
        tolerance: Stop once tr(K - K_S) <= tolerance tr(K).
        block: Samples whose columns are asked for at once; None means a tenth of the landmarks for
            the random methods and one for the greedy one. It changes the draw, not its law.
        key: A JAX key for the draw; None stands for ``jax.random.key(0)``.

    Returns:
        The :class:`Nystrom`; it holds n k x (landmarks k) numbers of 8 bytes.

    Raises:
        InputError: The diagonal is negative or not finite, columns do not fit it, the number of
            landmarks is not in 1 to n, or memory does not suffice.
    """
    residual = _diagonal(diagonal, outputs)
    rows, n = len(residual), len(residual) // outputs
    if not 1 <= landmarks <= n:
        raise InputError(f"landmarks = {landmarks}: give a number from 1 to {n}, the samples")
    require_choice("method", method, get_args(Method))
    size = 1 if method == "greedy" else min(block or -(-landmarks // 10), landmarks)
    width = landmarks * outputs
    what = f"a Nystrom factor of {rows} x {width}"
    require_memory(8 * rows * (width + 3 * size * outputs), what)
    rng, trace = np.random.default_rng(seed_of(key)), float(residual.sum())
    pivots = _Pivots(columns, residual, np.empty((rows, width), order="F"), outputs)
    order = rng.permutation(n) if method == "uniform" else None
    done = 0
    while done < landmarks and residual.max() > pivots.floor and residual.sum() > tolerance * trace:
        shares = residual.reshape(n, outputs).sum(axis=1)
        if order is not None:
            proposed = order[done : done + min(size, landmarks - done)]
        elif method == "greedy":
            proposed = np.array([int(np.argmax(shares))])
        else:
            proposed = rng.choice(n, size, p=shares / shares.sum())
        draws = rng.random(len(proposed)) if method == "rpcholesky" else None
        done += pivots.add(proposed, draws, landmarks - done)
    return Nystrom(
        factor=pivots.factor[:, : pivots.rank],
        landmarks=np.array(pivots.landmarks, dtype=int),
        samples=np.array(pivots.samples, dtype=int),
        residual=residual,
        trace=trace,
        outputs=outputs,
    )


@on_host
def nystrom_ntk(
    model: MLP,
    params: Any,
    x: Float[np.ndarray, "n d"],
    landmarks: int,
    *,
    method: Method = "rpcholesky",
    tolerance: float = 0.0,
    block: int | None = None,
    key: Array | None = None,
) -> Nystrom:
    """`nystrom` of the empirical NTK, whose matrix is never formed.

    Args:
        model: The network.
        params: Its parameters.
        x: Inputs, shape (n, d).
        landmarks: As in `nystrom`.
        method: As in `nystrom`.
        tolerance: As in `nystrom`.
        block: As in `nystrom`.
        key: As in `nystrom`.

    Returns:
        The :class:`Nystrom`. For new points, ``features`` takes
        ``empirical_ntk(model, params, x_new, x[samples])``.

    Raises:
        InputError: As in `nystrom`, `empirical_ntk` and `ntk_diagonal`.
    """
    x = np.asarray(x, dtype=np.float64)
    diagonal = np.asarray(ntk_diagonal(model, params, x), dtype=np.float64).ravel()
    return nystrom(
        lambda samples: empirical_ntk(model, params, x, x[samples]),
        diagonal,
        landmarks,
        outputs=len(diagonal) // len(x),
        method=method,
        tolerance=tolerance,
        block=block,
        key=key,
    )


class _Pivots:
    """A partial Cholesky factorisation that grows by blocks of landmark samples."""

    def __init__(
        self, columns: Columns, residual: np.ndarray, factor: np.ndarray, outputs: int
    ) -> None:
        self.columns, self.residual, self.factor, self.outputs = columns, residual, factor, outputs
        self.rank = 0
        self.landmarks: list[int] = []
        self.samples: list[int] = []
        # Rounding of a residual: of a sum of as many squares as F has columns, with some room for
        # pivots that were small.
        self.floor = 64.0 * UNIT_ROUNDOFF * (factor.shape[1] + 1) * float(residual.max())

    def add(self, proposed: np.ndarray, draws: np.ndarray | None, most: int) -> int:
        """Accept proposed samples as landmarks: all, or some if they were drawn at random.

        Of those drawn, one is accepted with a probability equal to the fraction of its residual
        that the landmarks accepted before it in the same block left: then the draw has the law of
        one at a time.

        Returns:
            How many were accepted: the first one is.
        """
        k, F = self.outputs, self.factor[:, : self.rank]
        rows = (proposed[:, None] * k + np.arange(k)).ravel()
        G = np.array(self.columns(proposed), dtype=np.float64, order="F")
        if G.shape != (len(F), len(rows)) or not np.isfinite(G).all():
            raise InputError(
                f"columns of {len(proposed)} samples have shape {G.shape} or are not finite: "
                f"give finite ones of shape {(len(F), len(rows))}"
            )
        G -= F @ F[rows].T  # columns of K - F F^T
        H, pivots, triangle, accepted = G[rows].copy(), [], [], 0
        before = self.residual[rows].reshape(-1, k).sum(axis=1)
        for at, sample in enumerate(proposed):
            own = slice(at * k, (at + 1) * k)
            left = float(H.diagonal()[own].sum())
            drawn = at == 0 or draws is None or draws[at] * before[at] < left
            if accepted == most or int(sample) in self.samples or not drawn:
                continue
            accepted += 1
            self.samples.append(int(sample))
            for row in range(own.start, own.stop):
                if H[row, row] > self.floor:  # else the landmarks before it span its column
                    column = H[:, row] / np.sqrt(H[row, row])
                    H -= np.outer(column, column)
                    pivots.append(row)
                    triangle.append(column)
        self._append(G[:, pivots], np.array(triangle).T[pivots] if pivots else None)
        self.landmarks += [int(rows[pivot]) for pivot in pivots]
        for sample in self.samples[len(self.samples) - accepted :]:
            self.residual[sample * k : (sample + 1) * k] = 0.0
        return accepted

    def _append(self, new: np.ndarray, triangle: np.ndarray | None) -> None:
        if triangle is None:
            return
        columns = solve_triangular(triangle, new.T, lower=True).T
        self.factor[:, self.rank : self.rank + columns.shape[1]] = columns
        self.rank += columns.shape[1]
        self.residual -= np.square(columns).sum(axis=1)
        np.maximum(self.residual, 0.0, out=self.residual)


def _diagonal(diagonal: np.ndarray, outputs: int) -> Float[np.ndarray, " rows"]:
    residual = np.array(diagonal, dtype=np.float64)
    if residual.ndim != 1 or not len(residual) or outputs < 1 or len(residual) % outputs:
        raise InputError(
            f"a diagonal of shape {residual.shape} does not fit {outputs} outputs a sample"
        )
    if not (np.isfinite(residual).all() and (residual >= 0).all()):
        raise InputError("the diagonal has an entry that is negative or not finite: no kernel's")
    return residual
