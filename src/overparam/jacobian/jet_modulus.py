"""How much the Jacobian of input derivatives can change: networks with one hidden layer.

The 1-jet of a network (its value and input gradient), and the jet with the Laplacian, are again
sums over hidden units j of U_j psi(zeta_j), where zeta_j = (z_j, p_j) holds the unit's
preactivation and its gradient p_j in the input, is linear in the first layer's parameters, and

    psi(z, p) = (act(z), act'(z) p, act''(z) |p|^2).

Two derivatives of psi along zeta, bounded by beta_1, ..., beta_4, give omega and L; the statement
and its proof are in docs/observations.md, with the symbols used here.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from overparam.jacobian.branch_and_bound import largest_over_splits
from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.jacobian.layer_norms import spectral_norm_of, top_eigenvalue
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.precision import as_float64
from overparam.problem.measure import Measure

Corners = Float[np.ndarray, " corners"]


@dataclass(frozen=True)
class JetPoint:
    """What is measured at theta_0; rows are hidden units, inputs a = (c_1 x, s_b).

    Attributes:
        bounds: (beta_1, ..., beta_{q+2}), q = 1 without and 2 with the Laplacian.
        input_factor: c_1.
        output_factor: gamma = c c_2, c the output scale.
        upstream_norm: |U_0|, spectral.
        largest_column: u = max_j |U_{0,j}|.
        largest_row: rho = max_j |p_{0,j}|.
        products: (max_j |U_{0,j}| |p_{0,j}|, max_j |U_{0,j}| |p_{0,j}|^2).
        input_norm: calK, the norm of V -> V a into L2(mu).
        jet_norm: calB, the norm of V -> V B into L2(mu), B = (a, P).
        input_pair: Lambda_KK: |V a| |V' a| in L2(mu) is at most this for unit V, V'.
        jet_pair: Lambda_KB: the same for |V a| |V' B|.
    """

    bounds: tuple[float, ...]
    input_factor: float
    output_factor: float
    upstream_norm: float
    largest_column: float
    largest_row: float
    products: tuple[float, float]
    input_norm: float
    jet_norm: float
    input_pair: float
    jet_pair: float


@dataclass(frozen=True)
class JetBounds(JacobianBounds):
    """The modulus omega and the Lipschitz constant L of the observed Jacobian, by radius."""

    point: JetPoint
    kind: ClassVar[Literal["computed"]] = "computed"
    source: ClassVar[ModulusSource] = "docs/observations.md, Theorem O1"

    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """(omega, L), the largest over all splits of each radius over the layers."""

        def both(squares: np.ndarray, owner: np.ndarray) -> Float[np.ndarray, "rows values"]:
            shares = np.asarray(radii)[owner, None] * np.sqrt(squares)
            first, second = shares.T
            omega = _change(self.point, first, second)
            return np.stack([omega, _second_derivative(self.point, first, second)], axis=1)

        return largest_over_splits(both, layers=2, points=1, radii=len(radii))


def measure_jet_point(
    model: MLP, measure: Measure, params: ParamTree, bounds: tuple[float, ...]
) -> JetPoint:
    """Measure the norms at ``params``, in float64.

    Args:
        model: A network with one hidden layer.
        measure: The data.
        params: theta_0.
        bounds: (beta_1, ..., beta_{q+2}) of its activation.
    """
    inner, outer = model.weight_factors[0], model.output_scale * model.weight_factors[-1]
    weights = as_float64(params)[0]
    columns = outer * np.linalg.norm(weights[-1], axis=0)
    rows = inner * np.linalg.norm(weights[0], axis=1)
    inputs = np.column_stack([inner * measure.x, np.full(measure.n, model.bias_scale)])
    gram = (inputs.T * measure.weights) @ inputs
    spread = inner**2 * np.eye(len(gram))
    spread[-1, -1] = 0.0
    norms = np.linalg.norm(inputs, axis=1)
    jets = _jet_norms(inner * np.linalg.norm(measure.x, axis=1), inner, model.bias_scale)
    small, large = math.sqrt(top_eigenvalue(gram)), math.sqrt(top_eigenvalue(gram + spread))

    def together(product: Float[np.ndarray, " n"], *ways: float) -> float:
        return min(*ways, math.sqrt(measure.weights @ product**2))

    return JetPoint(
        bounds=bounds,
        input_factor=inner,
        output_factor=outer,
        upstream_norm=outer * spectral_norm_of(weights[-1]),
        largest_column=float(columns.max()),
        largest_row=float(rows.max()),
        products=(float(np.max(columns * rows)), float(np.max(columns * rows**2))),
        input_norm=small,
        jet_norm=large,
        input_pair=together(norms**2, norms.max() * small),
        jet_pair=together(norms * jets, norms.max() * large, jets.max() * small),
    )


def _jet_norms(
    sizes: Float[np.ndarray, " n"], inner: float, bias: float
) -> Float[np.ndarray, " n"]:
    """|B(x)|, from the 2 x 2 matrix that B B^T is on the plane of x and the bias."""
    corner, product = sizes**2 + inner**2, sizes * bias
    half = (corner + bias**2) / 2
    return np.sqrt(half + np.hypot((corner - bias**2) / 2, product))


def _change(point: JetPoint, first: Corners, second: Corners) -> Corners:
    """omega at shares (r_1, r_2) of the two layers."""
    shift, u = point.input_factor * first, point.largest_column
    one, two = point.products
    # Means over the segment from theta_0 of what grows along it.
    features = _first(point, point.largest_row + shift / 2, _mean_square(point.largest_row, shift))
    backward = _second(point, u, one + u * shift / 2, two + one * shift + u * shift**2 / 3)
    row = point.largest_row + shift
    steep = _first(point, row, row**2)
    rest = np.full_like(shift, point.largest_row)
    before = _first(point, rest, rest**2)
    backward = np.minimum(first * backward, point.upstream_norm * (before + steep))
    forward = point.output_factor * second * steep
    return np.hypot(backward + forward, point.output_factor * first * features)


def _second_derivative(point: JetPoint, first: Corners, second: Corners) -> Corners:
    """L at shares (r_1, r_2): the norm of the matrix ((Q, gamma tau), (gamma tau, 0))."""
    shift, step = point.input_factor * first, point.output_factor * second
    u, row = point.largest_column, point.largest_row + shift
    one, two = point.products
    curved = _second(
        point,
        u + step,
        one + u * shift + step * row,
        two + 2 * one * shift + u * shift**2 + step * row**2,
    )
    mixed = point.output_factor * _first(point, row, row**2)
    return curved / 2 + np.hypot(curved / 2, mixed)


def _mean_square(start: float, shift: Corners) -> Corners:
    """The mean of (start + t shift)^2 over 0 <= t <= 1."""
    return start**2 + start * shift + shift**2 / 3


def _first(point: JetPoint, row: Corners, square: Corners) -> Corners:
    """tau: a bound on D psi(zeta) V B in L2(mu) for |V| = 1, rows of p bounded by ``row``."""
    beta_1, beta_2, beta_3, *more = point.bounds
    jet = beta_1 * point.jet_norm + beta_2 * row * point.input_norm
    if not more:
        return jet
    last = beta_3 * square * point.input_norm + 2 * beta_2 * row * point.input_factor
    return np.hypot(jet, last)


def _second(point: JetPoint, column: Corners | float, product: Corners, square: Corners) -> Corners:
    """Q: a bound on sum_j U_j D^2 psi(zeta_j)[V_j B, V'_j B] in L2(mu) for |V| = |V'| = 1.

    Args:
        point: What was measured.
        column: max_j |U_j|.
        product: max_j |U_j| |p_j|.
        square: max_j |U_j| |p_j|^2.
    """
    _, beta_2, beta_3, *more = point.bounds
    c, norm = point.input_factor, point.input_norm
    jet = beta_2 * column * (point.jet_pair + c * norm) + beta_3 * product * point.input_pair
    if not more:
        return jet
    (beta_4,) = more
    last = beta_4 * square * point.input_pair + 4 * beta_3 * product * c * norm
    return np.hypot(jet, last + 2 * beta_2 * column * c**2)
