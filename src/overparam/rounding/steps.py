"""How far a computed step of gradient descent can be off: bounds, for a whole ball of parameters.

The errors of docs/proved.md, section 2, with one number for all points and for all parameters of a
ball: what multiplies them is a step and a run's amplification, so that being crude costs little.
Statement and proof, with these symbols: docs/trajectory.md, Lemma C8.
"""

from dataclasses import dataclass

from overparam.jacobian.layer_norms import SUM_OF_WEIGHTS, LayerNorms
from overparam.model.mlp import MLP
from overparam.numbers import Interval, larger, safe_upper, sqrt
from overparam.numbers.sums import UNIT_ROUNDOFF, sum_error
from overparam.rounding.passes import MARGIN, TINY, WeightNorms, require_known_rounding
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

    factors: tuple[Interval, ...]  # c_l
    gains: tuple[Interval, ...]  # |A^l|
    frobenius: tuple[Interval, ...]  # |W^l|_F
    biases: tuple[Interval, ...]  # s_b |b^l|
    inputs: tuple[Interval, ...]  # |a^{l-1}|


@dataclass(frozen=True)
class _Errors:
    """Bounds for every evaluation, entry l - 1 for layer l; backward, over |zeta|."""

    h: list[Interval]  # e(h^{l-1})
    z: list[Interval]  # e(z^l)
    upsilon: list[Interval]
    xi: list[Interval]
    sizes: list[tuple[Interval, Interval]]  # |upsilon^l| and |xi^l| themselves


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
    e_h, e_z = _forward(model, ball)
    off = _Errors(e_h, e_z, *_backward(model, ball, e_z))
    squares = Interval.exact(0.0)
    for layer in range(model.layers):
        of_input, x = ball.factors[layer] * off.h[layer], off.sizes[layer][1]
        a = ball.inputs[layer] + 2 * of_input
        summed = sum_error(points) * (x + 2 * off.xi[layer]) * a
        block = off.xi[layer] * a + x * of_input + summed
        squares = squares + block * block
    return StepErrors(
        output=(model.output_scale * off.z[-1] + TINY).upper,
        backward=(SUM_OF_WEIGHTS * sqrt(squares) + TINY).upper,
        off=_off(model, ball, off),
    )


def _ball(model: MLP, base: LayerNorms, weights: WeightNorms, radius: float) -> _Ball:
    exact = Interval.exact
    factors = tuple(map(exact, weights.factors))
    inputs, gains, moved = [], [], exact(0.0)
    for layer, c in enumerate(factors):
        norm = weights.spectral[layer] * c
        inputs.append(float(base.input_norms[layer].max()) + c * moved)
        gains.append(norm + c * radius)
        moved = model.act.slope_bound * (norm * moved + radius * inputs[-1])
    return _Ball(
        factors=factors,
        gains=tuple(gains),
        frobenius=tuple(exact(f) + radius for f in weights.frobenius),
        biases=tuple(exact(model.bias_scale) * radius + b for b in weights.biases),
        inputs=tuple(inputs),
    )


def _forward(model: MLP, ball: _Ball) -> tuple[list[Interval], list[Interval]]:
    """e(h^{l-1}) and e(z^l), l = 1..D."""
    e_h, e_z = [Interval.exact(0.0)], list[Interval]()
    for layer, m in enumerate(model.widths[:-1]):
        a = ball.inputs[layer] + 2 * ball.factors[layer] * e_h[-1]
        terms = ball.frobenius[layer] * a + ball.biases[layer]
        e_z.append(ball.gains[layer] * e_h[-1] + sum_error(m) * terms + TINY)
        if layer + 1 < model.layers:
            largest = ball.gains[layer] / ball.factors[layer] * a + ball.biases[layer] + e_z[-1]
            require_known_rounding(float(largest.upper), f"layer {layer + 1}")
            moved = model.act.slope_bound * e_z[-1]
            units = sqrt(Interval.exact(model.widths[layer + 1]))
            size = units + ball.inputs[layer + 1] / ball.factors[layer + 1]
            e_h.append(moved + 2 * MARGIN * (size + moved) + TINY)
    return e_h, e_z


def _backward(
    model: MLP, ball: _Ball, e_z: list[Interval]
) -> tuple[list[Interval], list[Interval], list[tuple[Interval, Interval]]]:
    """Errors of upsilon^l and xi^l over |zeta|, and bounds on these; l = 1..D, in order."""
    act, c = model.act, Interval.exact(model.output_scale)
    beta_1, curvature = Interval.exact(act.slope_bound), act.curvature_bound or 0.0
    margin = MARGIN * max(1.0, act.slope_bound)
    sizes, e_u, e_x = [(c, c)], [Interval.exact(0.0)], [sum_error(0) * c + TINY]
    for layer in range(model.layers - 2, -1, -1):
        m, above = model.widths[layer + 2], sizes[0][1]
        gain, factor = ball.gains[layer + 1], ball.factors[layer + 1]
        sums = sum_error(m) * factor * ball.frobenius[layer + 1] * (above + 2 * e_x[0])
        of_u = gain * e_x[0] + sums + TINY
        u = gain * above
        x = beta_1 * u
        moved = (beta_1 + margin) * of_u + (u + 2 * of_u) * (curvature * e_z[layer] + margin)
        e_x.insert(0, moved + UNIT_ROUNDOFF * (x + moved) + TINY)
        e_u.insert(0, of_u)
        sizes.insert(0, (u, x))
    return e_u, e_x, sizes


def _off(model: MLP, ball: _Ball, off: _Errors) -> Off:
    act, hidden = model.act, model.layers - 1
    beta_1, beta_2, beta_3 = act.slope_bound, act.curvature_bound or 0.0, act.third_bound or 0.0
    relative = _over(off.xi[-1], off.sizes[-1][1])
    for layer in range(hidden):
        u, x = off.sizes[layer]
        of_input = _over(ball.factors[layer] * off.h[layer], ball.inputs[layer])
        for found in (
            beta_2 * off.z[layer] + MARGIN * max(1.0, beta_1),
            beta_3 * off.z[layer] + BEND * max(1.0, beta_2),
            of_input + sum_error(0),  # a is c_l times h, rounded again
            _over(off.upsilon[layer], u),
            _over(off.xi[layer], x),
        ):
            relative = larger(relative, found)
    return Off(
        relative=safe_upper(relative),
        steepest=max(1.0, beta_1, beta_2),
        inputs=tuple(map(safe_upper, ball.inputs[:hidden])),
        upstream=tuple(safe_upper(u) for u, _ in off.sizes[:hidden]),
        turned=tuple(safe_upper(x) for _, x in off.sizes[1:]),
    )


def _over(error: Interval, size: Interval) -> Interval:
    """An error relative to a bound; 0 where there is nothing to be off."""
    return error / size if size > 0 else Interval.exact(0.0)
