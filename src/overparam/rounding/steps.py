"""How far a computed step of gradient descent can be off: bounds, for a whole ball of parameters.

The errors of docs/proved.md, section 2, with one number for all points and for all parameters of a
ball: what multiplies them is a step and a run's amplification, so that being crude costs little.
Statement and proof, with these symbols: docs/trajectory.md, Lemma C8.
"""

import math
from dataclasses import dataclass

from overparam.enclosures.rounding import UNIT_ROUNDOFF, gamma
from overparam.jacobian.layer_norms import LayerNorms
from overparam.model.mlp import MLP
from overparam.rounding.passes import (
    EXTRA,
    MARGIN,
    SAFETY,
    TINY,
    WeightNorms,
    require_known_rounding,
)
from overparam.theorems.trajectory_curvature import Off

BEND = 2.0**-40
"""An activation's computed second derivative is off by at most this times max(1, beta_2)."""


@dataclass(frozen=True)
class StepErrors:
    """Bounds on the ball.

    Attributes:
        output: |N^ - N| at every point.
        backward: |J^* ghat as computed - J* ghat| / |ghat|.
        off: How far what the curvature is computed from may be off.
    """

    output: float
    backward: float
    off: Off


@dataclass(frozen=True)
class _Ball:
    """Norms on the ball, entry l - 1 for layer l; all points."""

    gains: tuple[float, ...]  # |A^l|
    frobenius: tuple[float, ...]  # |W^l|_F
    biases: tuple[float, ...]  # s_b |b^l|
    inputs: tuple[float, ...]  # |a^{l-1}|


def step_errors(
    model: MLP, base: LayerNorms, weights: WeightNorms, points: int, radius: float
) -> StepErrors:
    """Bound the errors of a float64 gradient at all parameters of a ball.

    Args:
        model: The network.
        base: Upper bounds on norms at the ball's centre.
        weights: Likewise.
        points: n.
        radius: The ball's.

    Raises:
        InputError: A pre-activation may be so large that the rounding of activations is not known.
    """
    ball = _ball(model, base, weights, radius)
    e_h, e_z = _forward(model, ball, weights)
    sizes, e_u, e_x = _backward(model, ball, weights, e_z)
    squares = 0.0
    for layer in range(model.layers):
        of_input = weights.factors[layer] * e_h[layer]
        a, x = ball.inputs[layer] + 2 * of_input, sizes[layer][1] + 2 * e_x[layer]
        summed = gamma(points + 2 * EXTRA) * x * a
        squares += (e_x[layer] * a + sizes[layer][1] * of_input + summed) ** 2
    return StepErrors(
        output=SAFETY * model.output_scale * e_z[-1] + TINY,
        backward=SAFETY * math.sqrt(squares) + TINY,
        off=_off(model, ball, weights, e_h, e_z, sizes, e_u, e_x),
    )


def _ball(model: MLP, base: LayerNorms, weights: WeightNorms, radius: float) -> _Ball:
    inputs, gains, moved = [], [], 0.0
    for layer, c in enumerate(weights.factors):
        norm = weights.spectral[layer] * c
        inputs.append(SAFETY * (float(base.input_norms[layer].max()) + c * moved))
        gains.append(SAFETY * (norm + c * radius))
        of_z = norm * moved + radius * inputs[-1]
        moved = SAFETY * model.act.slope_bound * of_z
    return _Ball(
        gains=tuple(gains),
        frobenius=tuple(SAFETY * (f + radius) for f in weights.frobenius),
        biases=tuple(SAFETY * (b + model.bias_scale * radius) for b in weights.biases),
        inputs=tuple(inputs),
    )


def _forward(model: MLP, ball: _Ball, weights: WeightNorms) -> tuple[list[float], list[float]]:
    """e(h^{l-1}) and e(z^l), l = 1..D."""
    e_h, e_z = [0.0], list[float]()
    for layer, m in enumerate(model.widths[:-1]):
        a = ball.inputs[layer] + 2 * weights.factors[layer] * e_h[-1]
        terms = ball.frobenius[layer] * a + ball.biases[layer]
        e_z.append(SAFETY * (ball.gains[layer] * e_h[-1] + gamma(m + EXTRA) * terms) + TINY)
        if layer + 1 < model.layers:
            c = weights.factors[layer]
            largest = ball.gains[layer] / c * ball.inputs[layer] + ball.biases[layer]
            require_known_rounding(largest, f"layer {layer + 1}")
            c_next, units = weights.factors[layer + 1], math.sqrt(model.widths[layer + 1])
            margin = 2 * MARGIN * (units + ball.inputs[layer + 1] / c_next)
            e_h.append(SAFETY * (model.act.slope_bound * e_z[-1] + margin) + TINY)
    return e_h, e_z


def _backward(
    model: MLP, ball: _Ball, weights: WeightNorms, e_z: list[float]
) -> tuple[list[tuple[float, float]], list[float], list[float]]:
    """Bounds on |upsilon^l| and |xi^l| over |zeta|, and their errors; l = 1..D, in order."""
    act, c = model.act, model.output_scale
    curvature = act.curvature_bound or 0.0
    sizes, e_u, e_x = [(c, c)], [0.0], [gamma(EXTRA) * c + TINY]
    for layer in range(model.layers - 2, -1, -1):
        m, above = model.widths[layer + 2], sizes[0][1]
        gain, factor = ball.gains[layer + 1], weights.factors[layer + 1]
        sums = gamma(m + EXTRA) * factor * ball.frobenius[layer + 1] * (above + 2 * e_x[0])
        of_u = SAFETY * (gain * e_x[0] + sums) + TINY
        u = SAFETY * gain * above
        of_slope = curvature * e_z[layer] + MARGIN * max(1.0, act.slope_bound)
        x = act.slope_bound * u
        turned = (u + 2 * of_u) * of_slope + 4 * UNIT_ROUNDOFF * x
        e_x.insert(0, SAFETY * ((act.slope_bound + MARGIN) * of_u + turned) + TINY)
        e_u.insert(0, of_u)
        sizes.insert(0, (u, x))
    return sizes, e_u, e_x


def _off(
    model: MLP,
    ball: _Ball,
    weights: WeightNorms,
    e_h: list[float],
    e_z: list[float],
    sizes: list[tuple[float, float]],
    e_u: list[float],
    e_x: list[float],
) -> Off:
    act = model.act
    beta_1, beta_2, beta_3 = act.slope_bound, act.curvature_bound or 0.0, act.third_bound or 0.0
    hidden = model.layers - 1
    relative = 8 * UNIT_ROUNDOFF
    for layer in range(hidden):
        u, x = sizes[layer]
        relative = max(
            relative,
            beta_2 * e_z[layer] + MARGIN * max(1.0, beta_1),
            beta_3 * e_z[layer] + BEND * max(1.0, beta_2),
            weights.factors[layer] * e_h[layer] / ball.inputs[layer],
            e_u[layer] / u if u else 0.0,
            e_x[layer] / x if x else 0.0,
        )
    return Off(
        relative=relative * SAFETY,
        steepest=max(1.0, beta_1, beta_2),
        inputs=ball.inputs[:hidden],
        upstream=tuple(u for u, _ in sizes[:hidden]),
        turned=tuple(x for _, x in sizes[1:]),
    )
