r"""The spectrum of a kernel, with its extremes enclosed and its near-singularity explained.

Everything that convergence rests on is at the bottom of the spectrum, where plain eigensolvers know
least: `eigvalsh` errs by about u |K|, and a singular kernel comes out as a small number of either
sign. Here both ends are intervals with every rounding error included (`overparam.enclosures`), and
a kernel that is not proved positive definite says so, with the samples that are to blame
(`overparam.kernel.spectrum.diagnosis`).

Up to an order of a few thousand all eigenvalues are computed. Beyond, the top comes from Lanczos
iterations on K and the bottom from Lanczos iterations on the inverse of K - s I through a Cholesky
factor, s just below the proved lower bound. One array of the size of K is used beside it, or none.
"""

from dataclasses import dataclass
from math import exp, frexp, inf
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.linalg import eigvalsh, lapack
from scipy.sparse.linalg import LinearOperator

from overparam.enclosures.checks import as_symmetric
from overparam.enclosures.cholesky import factor_shifted, restore
from overparam.enclosures.eigenvalue import max_eigenvalue, min_eigenvalue
from overparam.enclosures.enclosure import Enclosure
from overparam.enclosures.rounding import div_down, div_up
from overparam.errors import InputError
from overparam.kernel.spectrum.diagnosis import Finding, diagnose
from overparam.kernel.spectrum.lanczos import top_eigenvalues
from overparam.memory import require_memory
from overparam.model.mlp import MLP
from overparam.numbers.eigenvectors import eigh
from overparam.numbers.sums import UNIT_ROUNDOFF
from overparam.precision import on_host
from overparam.results import brief

COMPLETE_ORDER = 4096
"""Largest order of which all eigenvalues are computed unless told otherwise."""

DENSE_ORDER = 256
"""Up to this order eigenvectors come from a dense solver."""

TOP, BOTTOM = 32, 8
"""Eigenvalues computed at either end of a spectrum that is not computed as a whole."""


@brief
@dataclass(frozen=True)
class KernelSpectrum:
    """Eigenvalues of a kernel, its extremes enclosed, and what makes it nearly singular.

    Attributes:
        order: Rows of the kernel, samples times outputs.
        outputs: k.
        eigenvalues: In decreasing order: all of them (*computed*), or the largest ones by Lanczos
            (*estimated*: lower bounds).
        smallest_eigenvalues: A few of the smallest, in increasing order, *computed*.
        min_eigenvalue: Encloses lambda_min, rounding included.
        max_eigenvalue: Encloses lambda_max, rounding included.
        trace: Sum of the diagonal, *computed*.
        sample_weights: Weight of each sample in the eigenvector of the smallest eigenvalue: squared
            components summed over outputs; they sum to 1. Shape (n,).
        findings: What explains the smallest eigenvalue.
    """

    order: int
    outputs: int
    eigenvalues: Float[np.ndarray, " m"]
    smallest_eigenvalues: Float[np.ndarray, " b"]
    min_eigenvalue: Enclosure
    max_eigenvalue: Enclosure
    trace: float
    sample_weights: Float[np.ndarray, " n"]
    findings: tuple[Finding, ...]

    @property
    def complete(self) -> bool:
        """Whether all eigenvalues were computed."""
        return len(self.eigenvalues) == self.order

    @property
    def kind(self) -> Literal["computed", "estimated"]:
        """What ``eigenvalues`` are; the enclosures are of the matrix given, rounding included."""
        return "computed" if self.complete else "estimated"

    @property
    def positive_definite(self) -> bool:
        """Whether lambda_min > 0 is proved for the matrix given."""
        return self.min_eigenvalue.lower > 0

    @property
    def condition_number(self) -> Enclosure:
        """lambda_max / lambda_min; not bounded unless the kernel is proved positive definite."""
        low, high = self.min_eigenvalue, self.max_eigenvalue
        if low.upper <= 0 or high.upper <= 0:
            return Enclosure(inf, inf)
        upper = div_up(high.upper, low.lower) if low.lower > 0 else inf
        return Enclosure(min(max(1.0, div_down(high.lower, low.upper)), upper), upper)

    @property
    def effective_rank(self) -> float:
        """trace / lambda_max, also called intrinsic dimension; from 1 to the rank; *computed*."""
        top = self.max_eigenvalue.upper
        return self.trace / top if top > 0 else 0.0

    @property
    def entropy_rank(self) -> float | None:
        """Exponential of the entropy of the eigenvalues' shares of the trace; *computed*.

        After Roy and Vetterli, *The effective rank*, EUSIPCO 2007. None unless all eigenvalues
        were computed.
        """
        if not self.complete:
            return None
        values = self.eigenvalues[self.eigenvalues > 0]
        shares = values / values.sum() if len(values) else values
        return exp(-float(np.sum(shares * np.log(shares)))) if len(values) else 0.0

    @property
    def diagnosis(self) -> tuple[str, ...]:
        """The whole of it in sentences."""
        low, high, condition = self.min_eigenvalue, self.max_eigenvalue, self.condition_number
        bounded = f"{condition.lower:.3g}"
        if condition.lower == inf:
            bounded = "infinite"
        elif condition.upper == inf:
            bounded = f"at least {bounded}, without a finite upper bound"
        elif f"{condition.upper:.3g}" != bounded:
            bounded = f"between {bounded} and {condition.upper:.3g}"
        return (
            f"lambda_min in [{low.lower:.4g}, {low.upper:.4g}], "
            f"lambda_max in [{high.lower:.4g}, {high.upper:.4g}], condition number {bounded}, "
            f"effective rank {self.effective_rank:.3g} of {self.order}",
            *(finding.sentence for finding in self.findings),
        )


@on_host
def spectrum(
    K: ArrayLike,
    points: Float[np.ndarray, "n d"] | None = None,
    *,
    outputs: int = 1,
    model: MLP | None = None,
    norm_error: float = 0.0,
    complete_order: int = COMPLETE_ORDER,
    top: int = TOP,
    in_place: bool = False,
    tolerance: float = 1e-3,
) -> KernelSpectrum:
    """Eigenvalues of a kernel matrix with a diagnosis.

    Args:
        K: Symmetric float64 matrix of shape (n k, n k), sample-major like `empirical_ntk`. float32
            is accepted only with ``norm_error``.
        points: The inputs, shape (n, d), to look for duplicates and collinear pairs among them.
        outputs: k, the number of outputs of the network.
        model: The network, to look for limits on the rank and symmetries.
        norm_error: If K stands for another matrix: a bound on the spectral norm of the difference,
            which the enclosures then include.
        complete_order: Largest order of which all eigenvalues are computed; 20 to 30 n^3 / 3
            operations and a second copy of K.
        top: How many of the largest eigenvalues are computed beyond that order.
        in_place: Work in K's own memory where it is a contiguous float64 array; K's content is the
            same again on return (not if it is interrupted). Otherwise one copy of K is made,
            8 (n k)^2 bytes.
        tolerance: The largest sine of the angle between two inputs that counts as collinear, and
            the largest relative distance of near duplicates.

    Returns:
        The :class:`KernelSpectrum`.

    Raises:
        InputError: K is empty, not square, not symmetric, not finite, of another dtype, or has
            entries beyond 2^100; shapes do not fit; memory does not suffice.
    """
    array = as_symmetric(K, float32_allowed=norm_error > 0)
    order = len(array)
    _check(array, points, outputs, model)
    W = _buffer(array, in_place)
    diagonal = W.diagonal().copy()
    complete = order <= complete_order
    high = max_eigenvalue(W, norm_error=norm_error, sharp=complete)
    if complete:
        require_memory(16 * order**2, f"the whole spectrum of a kernel of order {order}")
        eigenvalues = eigvalsh(W, check_finite=False)[::-1].copy()
    else:
        eigenvalues = top_eigenvalues(W, min(top, order)).values
    low = min_eigenvalue(W, norm_error=norm_error, overwrite=True)
    restore(W, diagonal)
    smallest, vectors = _bottom(W, diagonal, low.lower + norm_error, min(BOTTOM, order))
    weights = np.square(vectors[:, 0]).reshape(-1, outputs).sum(axis=1)
    weights /= weights.sum()
    findings = diagnose(
        *(W, low.lower, low.upper, weights),
        outputs=outputs,
        points=None if points is None else np.asarray(points, dtype=np.float64),
        model=model,
        tolerance=tolerance,
    )
    if complete:
        smallest = eigenvalues[::-1][: len(smallest)].copy()
    return KernelSpectrum(
        order, outputs, eigenvalues, smallest, low, high, float(diagonal.sum()), weights, findings
    )


def _check(array: np.ndarray, points: np.ndarray | None, outputs: int, model: MLP | None) -> None:
    order = len(array)
    if outputs < 1 or order % outputs:
        raise InputError(f"a kernel of order {order} is not one of {outputs} outputs a sample")
    if points is not None and (points.ndim != 2 or len(points) * outputs != order):
        raise InputError(
            f"points have shape {points.shape} but the kernel has {order // outputs} samples of "
            f"{outputs} outputs: give the points the kernel was computed from"
        )
    if model is not None and model.out_dim != outputs:
        raise InputError(f"the model has {model.out_dim} outputs: pass outputs={model.out_dim}")
    if abs(frexp(max(float(array.max()), -float(array.min())))[1]) > 100:
        raise InputError(
            f"K's largest entry is {np.abs(array).max():.3g}: scale the kernel to entries near 1, "
            "its eigenvalues scale along"
        )


def _buffer(array: np.ndarray, in_place: bool) -> Float[np.ndarray, "n n"]:
    """A Fortran-ordered float64 array holding the kernel: K's own memory, or a copy."""
    contiguous = array.flags.f_contiguous or array.flags.c_contiguous
    if in_place and array.dtype == np.float64 and contiguous and array.flags.writeable:
        return array if array.flags.f_contiguous else array.T  # symmetric: the same matrix
    require_memory(8 * array.size, f"a working copy of a kernel of order {len(array)}")
    return np.array(array, dtype=np.float64, order="C").T


def _bottom(
    W: Float[np.ndarray, "n n"], diagonal: Float[np.ndarray, " n"], lower: float, count: int
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "n b"]]:
    """The smallest eigenvalues, increasing, and their vectors.

    Lanczos iterations on (K - s I)^-1, s just below the lower bound: the inverse of the distance
    from there separates what is crowded near zero. Where the iterations do not settle, the vectors
    point at the culprits all the same. W holds K again on return.
    """
    n = len(W)
    if n <= DENSE_ORDER:
        values, vectors = eigh(W)
        return values[:count], vectors[:, :count]
    gap = 8.0 * UNIT_ROUNDOFF * np.sqrt(n) * (float(np.linalg.norm(W)) or 1.0)
    while not factor_shifted(W, diagonal, lower - gap):
        restore(W, diagonal)
        gap *= 16.0
    shift = lower - gap
    solve = lambda v: lapack.dpotrs(W, v, lower=1)[0]  # noqa: E731
    inverse = LinearOperator((n, n), matvec=solve, matmat=solve, dtype=np.float64)
    found = top_eigenvalues(inverse, count, restarts=10)
    restore(W, diagonal)
    return shift + 1.0 / found.values, found.vectors
