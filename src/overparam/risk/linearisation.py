"""How far a network is from its linearisation, point by point, on a ball of parameters.

Theorem G5 of docs/generalisation.md: for |theta - theta_0| <= R, with blocks of norm r_l,

    |F(theta)(x) - F(theta_0)(x) - DF(theta_0)(x) (theta - theta_0)|
        <= sum_l |G_0^l| c_l r_l |dh^{l-1}|
         + sum_{l<D} min(beta_2 / 2 max_j |U_{0,j}^l| |dz^l|^2, 2 beta_1 |U_0^l| |dz^l|)   at x.

Everything backward is measured at theta_0, where a bound by half the largest second derivative
would multiply what can change layer by layer.
"""

import numpy as np
from jaxtyping import Float

from overparam.jacobian.branch_and_bound import largest_over_splits
from overparam.jacobian.layer_norms import LayerNorms


def linearisation_remainder(base: LayerNorms, radius: float) -> Float[np.ndarray, " n"]:
    """The largest distance to the linearisation on the ball, at each point.

    Args:
        base: Norms at theta_0.
        radius: R >= 0.

    Returns:
        Upper bounds in the Euclidean norm of R^k, shape (n,), float64.

    References:
        docs/generalisation.md, Theorem G5; dz and dh are those of docs/modulus.md, Lemma J2.
    """
    layers, n = len(base.weight_norms), len(base.weights)
    bound = lambda squares, _: _remainders(base, radius * np.sqrt(squares))  # noqa: E731
    return largest_over_splits(bound, layers, n)[0]


def layered_remainder(
    base: LayerNorms, radii: Float[np.ndarray, " layers"]
) -> Float[np.ndarray, " n"]:
    """The same for perturbations (dW^l | db^l) of spectral norm at most r_l each, which is given.

    Args:
        base: Norms at theta_0.
        radii: r_l >= 0, shape (layers,).

    Returns:
        Upper bounds in the Euclidean norm of R^k, shape (n,), float64.
    """
    return _remainders(base, radii[None, :])[0]


def _remainders(
    base: LayerNorms, shares: Float[np.ndarray, "rows layers"]
) -> Float[np.ndarray, "rows n"]:
    """The same for perturbations whose layers have at most the given norms."""
    layers, n = len(base.weight_norms), len(base.weights)
    total = np.zeros((len(shares), n))
    dh = np.zeros_like(total)
    for layer in range(layers):
        r, c = shares[:, layer, None], base.weight_factors[layer]
        last = layer == layers - 1
        above = np.full(n, base.output_scale) if last else base.backward_norms[layer]
        total += above[None, :] * (c * r) * dh
        if last:
            break
        dz = (base.weight_norms[layer] + c * r) * dh + r * base.input_norms[layer][None, :]
        total += _bending(base, layer, dz)
        dh = base.slope_bound * dz
    return total


def _bending(
    base: LayerNorms, layer: int, dz: Float[np.ndarray, "corners n"]
) -> Float[np.ndarray, "corners n"]:
    """Bound on |U_0^l (act(z_0 + dz) - act(z_0) - act'(z_0) dz)|."""
    straight = 2 * base.slope_bound * base.upstream_norms[layer][None, :] * dz
    if base.curvature_bound is None:
        return straight
    half = base.curvature_bound / 2
    return np.minimum(half * base.upstream_columns[layer][None, :] * dz**2, straight)
