"""How much the Jacobian of value and input gradient can change, with several hidden layers.

The 1-jet of a perceptron is a perceptron whose units hold 1 + d numbers, zeta = (z, y) with y the
gradient of z in the input, and whose activation is psi(z, y) = (act(z), act'(z) y). Where |y| stays
bounded, psi and its derivative are Lipschitz, so the recursions of docs/modulus.md go through with
constants that depend on the unit's gradient; statement and proof are in docs/observations.md.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.jacobian.branch_and_bound import largest_over_splits
from overparam.jacobian.by_radius import JacobianBounds, ModulusSource, Radii
from overparam.jacobian.layer_norms import spectral_norm_of, top_eigenvalue
from overparam.kernel.tiles import blocks_within
from overparam.memory import WORKING_MEMORY
from overparam.model.function import ParamTree
from overparam.model.layers import observe_layers
from overparam.model.mlp import MLP
from overparam.precision import as_float64, to_host
from overparam.problem.measure import Measure

Vector = Float[np.ndarray, "n"]
Pointwise = Float[np.ndarray, "corners n"]
Corners = Float[np.ndarray, " corners"]


@dataclass(frozen=True)
class LayeredPoint:
    """Norms of the jet network at theta_0; entry l - 1 of a tuple belongs to layer l.

    Attributes:
        weights: w_i, (n,).
        bounds: (beta_1, beta_2, beta_3).
        weight_factors: c_l, l = 1..D.
        weight_norms: |A_0^l|, l = 1..D.
        output_scale: c = |G^D|.
        input_norms: K_l(x_i) = |(c_l H^{l-1}, s_b e)|, (n,) each, l = 1..D.
        collective_input_norms: calK_l, the same into L2(mu), l = 1..D.
        rows: max_j |y_j^l(x_i)|, (n,) each, l = 1..D-1.
        backward_norms: |G_0^l(x_i)|, (n,) each, l = 1..D-1.
        upstream_columns: max_j |U_{0,j}^l(x_i)|, (n,) each, l = 1..D-1.
    """

    weights: Vector
    bounds: tuple[float, float, float]
    weight_factors: tuple[float, ...]
    weight_norms: tuple[float, ...]
    output_scale: float
    input_norms: tuple[Vector, ...]
    collective_input_norms: tuple[float, ...]
    rows: tuple[Vector, ...]
    backward_norms: tuple[Vector, ...]
    upstream_columns: tuple[Vector, ...]


@dataclass(frozen=True)
class LayeredJetBounds(JacobianBounds):
    """The modulus omega and the Lipschitz constant L of the observed Jacobian, by radius."""

    point: LayeredPoint
    kind: ClassVar[Literal["computed"]] = "computed"
    source: ClassVar[ModulusSource] = "docs/observations.md, Theorem O2"

    def on_balls(self, radii: Radii) -> Float[np.ndarray, "radii 2"]:
        """(omega, L), the largest over all splits of each radius over the layers."""

        def both(squares: np.ndarray, owner: np.ndarray) -> Float[np.ndarray, "rows values"]:
            shares = np.asarray(radii)[owner, None] * np.sqrt(squares)
            ahead = _forward(self.point, shares)
            back = _backward(self.point, shares, ahead)
            omega = _jacobian_change(self.point, ahead, back)
            return np.stack([omega, _second_derivative(self.point, ahead, back)], axis=1)

        layers, points = len(self.point.weight_norms), len(self.point.weights)
        return largest_over_splits(both, layers, points, len(radii))


@dataclass(frozen=True)
class _Ahead:
    """Bounds at a point of the ball, by layer: what goes forward."""

    gain: list[Corners]  # |A^l|, l = 1..D
    change: list[Pointwise]  # |dH^{l-1}(x)|, l = 1..D
    collective: list[Corners]  # |dH^{l-1}| in L2(mu), l = 1..D
    jump: list[Pointwise]  # |dZ^l(x)|, l = 1..D-1
    nu: list[Pointwise]  # >= |D psi| at layer l, l = 1..D-1
    lam: list[Pointwise]  # lambda >= |D^2 psi| at layer l, l = 1..D-1


@dataclass(frozen=True)
class _Back:
    """What comes back."""

    upstream: list[Pointwise]  # |dU^l(x)|, l = 1..D-1
    backward: list[Pointwise]  # |dG^l(x)|, l = 1..D
    reach: list[Pointwise]  # g_l >= |G^l(x)|, l = 1..D


def _forward(point: LayeredPoint, shares: Float[np.ndarray, "corners layers"]) -> _Ahead:
    corners, layers = shares.shape
    ahead = _Ahead([], [], [], [], [], [])
    dh, collective = np.zeros((corners, len(point.weights))), np.zeros(corners)
    for layer in range(layers):
        r = shares[:, layer]
        gain = point.weight_norms[layer] + point.weight_factors[layer] * r
        ahead.gain.append(gain)
        ahead.change.append(dh)
        ahead.collective.append(collective)
        if layer == layers - 1:
            break
        dz = gain[:, None] * dh + np.outer(r, point.input_norms[layer])
        together = gain * collective + r * point.collective_input_norms[layer]
        rows = point.rows[layer][None, :] + dz
        nu = _steepness(point, rows)
        dh = nu * dz
        collective = np.minimum(nu.max(axis=1) * together, _l2(point, dh))
        ahead.jump.append(dz)
        ahead.nu.append(nu)
        ahead.lam.append(_bend(point, rows))
    return ahead


def _backward(
    point: LayeredPoint, shares: Float[np.ndarray, "corners layers"], ahead: _Ahead
) -> _Back:
    n = len(point.weights)
    above = np.full(n, point.output_scale)
    zeros = np.zeros((len(shares), n))
    back = _Back([], [zeros], [zeros + point.output_scale])
    for layer in range(shares.shape[1] - 2, -1, -1):
        step = point.weight_factors[layer + 1] * shares[:, layer + 1]
        du = np.outer(step, above) + ahead.gain[layer + 1][:, None] * back.backward[0]
        slope_change = ahead.lam[layer] * point.upstream_columns[layer][None, :] * ahead.jump[layer]
        above = point.backward_norms[layer]
        most = ahead.nu[layer] * ahead.gain[layer + 1][:, None] * back.reach[0]
        dg = np.minimum(ahead.nu[layer] * du + slope_change, most + above)
        back.upstream.insert(0, du)
        back.backward.insert(0, dg)
        back.reach.insert(0, np.minimum(most, above + dg))
    return back


def _jacobian_change(point: LayeredPoint, ahead: _Ahead, back: _Back) -> Corners:
    """omega at each split: docs/observations.md, Theorem O2."""
    total = np.zeros(len(ahead.gain[0]))
    for layer, (dg, g) in enumerate(zip(back.backward, back.reach, strict=True)):
        c = point.weight_factors[layer]
        backward, forward = dg * point.input_norms[layer], c * g * ahead.change[layer]
        apart = np.minimum(
            _l2(point, backward), dg.max(axis=1) * point.collective_input_norms[layer]
        ) + np.minimum(_l2(point, forward), c * g.max(axis=1) * ahead.collective[layer])
        total += np.minimum(_l2(point, backward + forward), apart) ** 2
    return np.sqrt(total)


def _second_derivative(point: LayeredPoint, ahead: _Ahead, back: _Back) -> Corners:
    """L at each split: docs/observations.md, Theorem O2."""
    mixed, curved = np.zeros(len(ahead.gain[0])), np.zeros(len(ahead.gain[0]))
    inner: np.ndarray = np.zeros_like(ahead.change[0])  # bound on |Hdot^{l-1}|, pointwise
    collective: np.ndarray = np.zeros(len(mixed))  # the same in L2(mu)
    for layer, g in enumerate(back.reach):
        c = point.weight_factors[layer]
        mixed += (c * np.minimum(_l2(point, g * inner), g.max(axis=1) * collective)) ** 2
        if layer == len(back.upstream):
            break
        gain = ahead.gain[layer]
        tangent = np.hypot(
            point.input_norms[layer] + c * ahead.change[layer], gain[:, None] * inner
        )
        together = np.hypot(
            point.collective_input_norms[layer] + c * ahead.collective[layer], gain * collective
        )
        together = np.minimum(together, _l2(point, tangent))
        columns = point.upstream_columns[layer] + back.upstream[layer]
        weight = ahead.lam[layer] * columns
        curved += np.minimum(
            (weight * tangent).max(axis=1) * together, _l2(point, weight * tangent**2)
        )
        inner = ahead.nu[layer] * tangent
        collective = np.minimum(ahead.nu[layer].max(axis=1) * together, _l2(point, inner))
    return 2 * np.sqrt(mixed) + curved


def _steepness(point: LayeredPoint, row: Pointwise) -> Pointwise:
    """nu(row) >= |D psi(z, y)| for |y| <= row: the norm of ((beta_1, 0), (beta_2 row, beta_1))."""
    beta_1, beta_2, _ = point.bounds
    return _triangle(beta_1, beta_2 * row)


def _bend(point: LayeredPoint, row: Pointwise) -> Pointwise:
    """lambda(row) >= |D^2 psi(z, y)| for |y| <= row."""
    _, beta_2, beta_3 = point.bounds
    return 2 / math.sqrt(3) * beta_2 + beta_3 * row


def _triangle(diagonal: Any, below: Any) -> Any:
    """The norm of the matrix ((a, 0), (b, a))."""
    return below / 2 + np.hypot(below / 2, diagonal)


def _l2(point: LayeredPoint, values: Pointwise) -> Corners:
    """Norms in L2(mu) of rows of pointwise norms."""
    return np.sqrt(values**2 @ point.weights)


# --- what is measured -----------------------------------------------------------------------------


def measure_layered_point(
    model: MLP,
    measure: Measure,
    params: ParamTree,
    bounds: tuple[float, float, float],
    working_memory: int = WORKING_MEMORY,
) -> LayeredPoint:
    """Measure the norms at ``params`` in float64, in blocks of points under a memory budget.

    Args:
        model: The network, with hidden layers.
        measure: The data.
        params: theta_0.
        bounds: (beta_1, beta_2, beta_3) of its activation.
        working_memory: Bytes for one block of points.
    """
    params = as_float64(params)
    parts: list[tuple[list[np.ndarray], ...]] = []
    grams = [np.zeros((m + 1, m + 1)) for m in model.widths[:-1]]
    with jax.enable_x64(True):
        per_point = 8 * 4 * (model.in_dim + 1) * (model.out_dim + 2) * sum(model.widths)
        for rows in blocks_within(working_memory, measure.n, per_point):
            part, inputs = to_host(_block(model, params, measure.x[rows]))
            parts.append(part)
            for gram, c, (h, slopes) in zip(grams, model.weight_factors, inputs, strict=True):
                _add(gram, c, model.bias_scale, measure.weights[rows], h, slopes)
    norms, rows_, backward, columns = (
        tuple(np.concatenate(blocks) for blocks in zip(*(part[i] for part in parts), strict=True))
        for i in range(4)
    )
    pairs = zip(model.weight_factors, params[0], strict=True)
    return LayeredPoint(
        weights=measure.weights,
        bounds=bounds,
        weight_factors=model.weight_factors,
        weight_norms=tuple(c * spectral_norm_of(np.asarray(w)) for c, w in pairs),
        output_scale=model.output_scale,
        input_norms=norms,
        collective_input_norms=tuple(math.sqrt(max(top_eigenvalue(g), 0.0)) for g in grams),
        rows=rows_,
        backward_norms=backward,
        upstream_columns=columns,
    )


@partial(jax.jit, static_argnums=0)
def _block(model: MLP, params: ParamTree, x: Float[Array, "n d"]) -> tuple[tuple, tuple]:
    """Norms of a block of points, and the jets of the layers' inputs."""

    def observe(points: Array) -> tuple:
        layers = observe_layers(model, params, points)
        hidden = range(model.layers - 1)
        before = tuple(model.preactivation(params, i, layers.inputs[i]) for i in hidden)
        return layers.inputs, before, layers.upstream, layers.backward

    basis = jnp.expand_dims(jnp.eye(x.shape[1], dtype=x.dtype), 1)
    values, slopes = jax.vmap(
        lambda e: jax.jvp(observe, (x,), (jnp.broadcast_to(e, x.shape),)), out_axes=(None, 0)
    )(basis)
    inputs, _, upstream, backward = values
    d_inputs, d_before, d_upstream, d_backward = slopes
    factors = model.weight_factors
    norms = [
        _input_norms(c, model.bias_scale, h, dh)
        for c, h, dh in zip(factors, inputs, d_inputs, strict=True)
    ]
    rows = [jnp.sqrt(jnp.max(jnp.sum(dz**2, axis=0), axis=1)) for dz in d_before]
    spectral = [
        _norm(_spectral(g), _spectral(_stack(dg)))
        for g, dg in zip(backward, d_backward, strict=True)
    ]
    columns = [
        jnp.max(_norm(jnp.linalg.norm(u, axis=1), jnp.linalg.norm(_stack(du), axis=1)), axis=1)
        for u, du in zip(upstream, d_upstream, strict=True)
    ]
    return (norms, rows, spectral, columns), tuple(zip(inputs, d_inputs, strict=True))


def _norm(diagonal: Array, below: Array) -> Array:
    return below / 2 + jnp.sqrt(below**2 / 4 + diagonal**2)


def _stack(slopes: Float[Array, "d n k m"]) -> Float[Array, "n dk m"]:
    """The derivatives in all directions under each other."""
    d, n, k, m = slopes.shape
    return jnp.moveaxis(slopes, 0, 1).reshape(n, d * k, m)


def _spectral(blocks: Float[Array, "n a b"]) -> Float[Array, " n"]:
    if blocks.shape[1] > blocks.shape[2]:
        blocks = jnp.swapaxes(blocks, 1, 2)
    grams = jnp.einsum("nam,nbm->nab", blocks, blocks)
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(grams)[:, -1], 0.0))


def _input_norms(
    c: float, bias: float, h: Float[Array, "n m"], dh: Float[Array, "d n m"]
) -> Float[Array, " n"]:
    """|(c H, s_b e)|, H = (h, dh), from its Gram matrix of order 1 + d."""
    jets = c * jnp.concatenate([jnp.expand_dims(h, 0), dh])
    grams = jnp.einsum("anm,bnm->nab", jets, jets)
    grams = grams.at[:, 0, 0].add(bias**2)
    return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(grams)[:, -1], 0.0))


def _add(
    gram: Float[np.ndarray, "m m"],
    c: float,
    bias: float,
    weights: Vector,
    h: np.ndarray,
    slopes: np.ndarray,
) -> None:
    """Add sum_i w_i B_i B_i^T for B = (c H, s_b e), the bias last."""
    roots = np.sqrt(weights)[:, None]
    inputs = roots * np.concatenate([c * h, np.full((len(h), 1), bias)], axis=1)
    gram += inputs.T @ inputs
    for direction in slopes:
        weighted = c * roots * direction
        gram[:-1, :-1] += weighted.T @ weighted
