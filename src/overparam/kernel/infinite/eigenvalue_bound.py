r"""Lower bounds on the smallest eigenvalue of the infinite-width kernels, from the inputs.

A dual function applied to a Gram matrix is a sum of Hadamard powers of its correlation matrix R,
weighted by Hermite coefficients of the activation, and lambda_min of these powers cannot decrease
with the power (Schur). docs/infinite.md, Theorems I1 and I2, has the statements and the proofs. The
numbers are computed in float64, without a bound on rounding.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.kernel.infinite.infinite_ntk import check_inputs
from overparam.kernel.infinite.quadrature import HermiteDual, nodes
from overparam.kernel.infinite.recursion import lifted
from overparam.limits import require_whole
from overparam.model.mlp import MLP


@dataclass(frozen=True)
class EigenvalueBounds:
    """Lower bounds that follow from the inputs' Gram matrix; ``computed``, not ``proved``.

    Attributes:
        ntk: At most the smallest eigenvalue of the limiting NTK.
        nngp: At most the smallest eigenvalue of the limiting covariance.
    """

    ntk: float
    nngp: float


def hadamard_eigenvalues(
    correlation: Float[np.ndarray, "n n"], powers: int
) -> Float[np.ndarray, " powers_and_one"]:
    """Lower bounds on lambda_min of the Hadamard powers 0, ..., ``powers`` of a correlation matrix.

    They are the computed eigenvalues, made nondecreasing as Schur's theorem says they are, and
    nonnegative.
    """
    power, found = np.ones_like(correlation), np.zeros(powers + 1)
    for k in range(1, powers + 1):
        power = power * correlation
        found[k] = np.linalg.eigvalsh(power)[0]
    return np.maximum.accumulate(np.maximum(found, 0.0))


def dual_eigenvalue_bound(
    *,
    squares: Float[np.ndarray, "n terms"],
    second_moments: Float[np.ndarray, " n"],
    eigenvalues: Float[np.ndarray, " terms_and_one"],
) -> Float[np.ndarray, " n"]:
    """Theorem I1: numbers t_i with [sum_k a_k(q_i) a_k(q_j) R_ij^k] >= diag(t).

    Args:
        squares: a_k(q_i)^2 for k < K, shape (n, K).
        second_moments: E[f(sqrt(q_i) z)^2] = sum_k a_k(q_i)^2 over all k, shape (n,).
        eigenvalues: Nondecreasing lower bounds on lambda_min(R^{o k}) for k = 0, ..., K.

    Returns:
        t, shape (n,); their minimum bounds the smallest eigenvalue from below.
    """
    tail = np.maximum(second_moments - squares.sum(axis=1), 0.0)
    return squares @ eigenvalues[:-1] + eigenvalues[-1] * tail


def infinite_eigenvalue_bound(
    model: MLP, x: Float[Array | np.ndarray, "n d"], *, powers: int = 12
) -> EigenvalueBounds:
    """Theorem I2: bounds on lambda_min of ``infinite_ntk(model, x)``, from the inputs' Gram matrix.

    Costs ``powers`` eigenvalue problems of size n, whatever the depth. Inputs may have any norms;
    the bound is zero where two are parallel and there is no bias.

    Args:
        model: The network; its widths are ignored.
        x: Inputs, shape (n, d), none of them mapped to variance zero.
        powers: K >= 1, Hadamard powers looked at; the rest of the series counts with the last.

    Returns:
        The bounds.

    Raises:
        InputError: Inputs do not fit the model, a row is zero and there is no bias, or ``powers``
            is not positive.
    """
    require_whole("powers", powers, 1)
    r, u = lifted(model, check_inputs(model, "x", x).astype(np.float64))
    if not (r > 0).all():
        raise InputError(
            f"x is zero in row {int(np.argmin(r > 0)) + 1} (counted from 1) and bias_scale is 0: "
            "the kernel is singular; leave the row out"
        )
    return bound_from_powers(model, r, hadamard_eigenvalues(u @ u.T, powers))


def bound_from_powers(
    model: MLP, r: Float[np.ndarray, " n"], eigenvalues: Float[np.ndarray, " powers_and_one"]
) -> EigenvalueBounds:
    """Theorem I2 from what it knows of the inputs.

    Args:
        model: The network; its widths are ignored.
        r: The norms of the lifted inputs, positive, (n,).
        eigenvalues: Nondecreasing lower bounds on lambda_min of the Hadamard powers 0, ..., K of
            their correlation matrix.
    """
    powers = len(eigenvalues) - 1
    weight, bias = model.weight_scale**2, model.bias_scale**2
    nngp = ntk = float(np.min(r) ** 2 * eigenvalues[1])
    ntk_diagonal = r * r
    for _ in model.hidden_widths:
        (values, moments), (slopes, slope_moments) = _coefficients(model, r, powers)
        of_act = dual_eigenvalue_bound(
            squares=values, second_moments=moments, eigenvalues=eigenvalues
        )
        of_slope = dual_eigenvalue_bound(
            squares=slopes, second_moments=slope_moments, eigenvalues=eigenvalues
        )
        nngp = weight * float(of_act.min())
        ntk = nngp + weight * max(
            ntk * float(slope_moments.min()), float((ntk_diagonal * of_slope).min())
        )
        q = weight * moments + bias
        ntk_diagonal = q + weight * ntk_diagonal * slope_moments
        r = np.sqrt(q)
        # Of the next correlation matrix only lambda_min >= min t_i / q_i is known, and so are its
        # powers.
        eigenvalues = np.full(powers + 1, weight * float((of_act / q).min()))
        eigenvalues[0] = 0.0
    scale = model.output_scale**2
    return EigenvalueBounds(scale * ntk, scale * nngp)


def _coefficients(
    model: MLP, r: np.ndarray, terms: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(squared Hermite coefficients, second moments) of act and of act'."""
    with jax.enable_x64(True):
        e, (act, slope) = HermiteDual(model.act, terms).features(r)
        z, weights = nodes()
        slopes = np.asarray(model.act.slope(r[:, None] * z[None, :]))
    return ((e[:, None] * act) ** 2, e * e), (slope**2, (slopes * slopes) @ weights)
