"""What rounding can do to a step in float64, near given parameters: the re-check's own bounds.

With u = 2^-53 and gamma_k = k u / (1 - k u), one number for all points and for all parameters of a
ball. A sum of k products is off by at most gamma_k times the product of norms; an activation by its
margin; all else is Lipschitz. docs/trajectory.md, Lemma C8.
"""

import math
from dataclasses import dataclass

import numpy as np
from flint import arb

from overparam.jacobian.starting_norms import StartingNorms
from overparam.numbers.upper import Upper
from overparam.theorems.trajectory_curvature import Off
from overparam.verification.balls import UNIT, bound_of
from overparam.verification.float_pass import FLOAT_ACTIVATIONS
from overparam.verification.measured_kernel import Measured
from overparam.verification.refusal import RefusedError
from overparam.verification.subject import Subject

_MARGIN, _BEND_MARGIN = 64 * UNIT, 2.0**-40
_MORE = 40
"""Roundings of a term beyond those of its sum."""
_SAFE = 1 + 2.0**-20
_TWO_OVER_ROOT_3 = 1.1547005383792518  # a hair above
_FARTHEST = 1e5
"""Arguments of activations beyond which the margin has not been measured."""
_BEYOND = 2.0**200


@dataclass(frozen=True)
class Rounding:
    """Bounds on a ball.

    Attributes:
        output: |N as computed - N| at every point.
        backward: |J* ghat as computed - J* ghat| / |ghat|.
        third: N, a Lipschitz constant of D^2 F.
        off: Relative errors of what the curvature is computed from.
    """

    output: float
    backward: float
    third: float
    off: Off


def rounding_near(subject: Subject, measured: Measured, radius: float) -> Rounding:
    """Bound the errors of float64 steps on a ball around the subject's parameters.

    Args:
        subject: The problem, with the ball's centre as its parameters.
        measured: What was measured there.
        radius: The ball's.

    Raises:
        RefusedError: Parameters are too large, or pre-activations may be.
    """
    weights, biases, norms = subject.params.weights, subject.params.biases, measured.whole
    c = [_up(f) for f in norms.factors]
    at_rest = [_up(norm) for norm in norms.weight_norms]
    gains = [_SAFE * (norm + f * radius) for norm, f in zip(at_rest, c, strict=True)]
    entries = [_SAFE * (_frobenius(w) + radius) for w in weights]
    shifts = [_SAFE * subject.architecture.bias_scale * (_frobenius(b) + radius) for b in biases]
    if not max(*entries, *shifts, subject.architecture.output_scale) < _BEYOND:
        raise RefusedError("parameters beyond 2^200 leave the range in which a run is followed")
    slope, bend = _up(norms.slope), 0.0 if norms.curvature is None else _up(norms.curvature)
    third = FLOAT_ACTIVATIONS[subject.architecture.activation].third
    sizes, last = _sizes_on_ball(norms, at_rest, (slope, bend, third), radius)
    if subject.architecture.trainable is not None:  # N is about what moves, rounding about all
        _, last = _sizes_on_ball(measured.norms, at_rest, (slope, bend, third), radius)
    e_h, e_z = _forward(subject, c, gains, entries, shifts, sizes, slope)
    scale = subject.architecture.output_scale
    up, xi = [(scale, 0.0)], [(scale, _gamma(_MORE) * scale)]
    for layer in range(len(weights) - 2, -1, -1):
        above, e_above = xi[0]
        sums = _gamma(len(weights[layer + 1])) * c[layer + 1] * entries[layer + 1]
        size = gains[layer + 1] * above
        e_size = _SAFE * (gains[layer + 1] * e_above + sums * (above + 2 * e_above))
        of_slope = bend * e_z[layer] + _MARGIN * max(1.0, slope)
        e_xi = slope * e_size + (size + 2 * e_size) * (of_slope + 4 * UNIT * max(1.0, slope))
        up.insert(0, (_SAFE * size, e_size))
        xi.insert(0, (_SAFE * slope * size, _SAFE * e_xi))
    blocks = []
    for layer, (x, e_x) in enumerate(xi):
        a, e_a = sizes[layer], c[layer] * e_h[layer]
        summed = _gamma(len(subject.x)) * (x + 2 * e_x) * (a + 2 * e_a)
        blocks.append(e_x * (a + e_a) + x * e_a + summed)
    relative = [8 * UNIT]
    for layer in range(len(weights) - 1):
        relative += [
            bend * e_z[layer] + _MARGIN * max(1.0, slope),
            third * e_z[layer] + _BEND_MARGIN * max(1.0, bend),
            *(c[layer] * e_h[layer] / sizes[layer], up[layer][1] / max(up[layer][0], 1e-300)),
            xi[layer][1] / max(xi[layer][0], 1e-300),
        ]
    return Rounding(
        output=_SAFE * scale * e_z[-1],
        backward=_SAFE * math.hypot(*blocks),
        third=min(
            _SAFE * scale * math.sqrt(float(subject.weights @ last**2)),
            _third_of_neurons(subject, measured, (bend, third), radius),
        ),
        off=Off(
            relative=_SAFE * max(relative),
            steepest=max(1.0, slope, bend),
            inputs=tuple(sizes[:-1]),
            upstream=tuple(size for size, _ in up[:-1]),
            turned=tuple(size for size, _ in xi[1:]),
        ),
    )


def _sizes_on_ball(
    norms: StartingNorms, at_rest: list[float], betas: tuple[float, float, float], radius: float
) -> tuple[list[float], np.ndarray]:
    """Sizes of the layers' inputs on the ball, and |D^3 z^D| at each point (Lemma C5)."""
    b1, b2, b3 = betas
    sizes, nothing = [], np.zeros_like(_each(norms.inputs[0]))
    away = d1 = d2 = d3 = z3 = nothing
    for layer, factor in enumerate(map(_up, norms.factors)):
        gain = _SAFE * (at_rest[layer] + factor * radius)
        size = _each(norms.inputs[layer]) + factor * away
        sizes.append(_SAFE * float(size.max()))
        z1 = np.hypot(size, gain * d1)
        z2 = factor * d1 + gain * d2
        z3 = 3 * factor * d2 + gain * d3
        d3 = b3 * z1**3 + 3 * b2 * z1 * z2 + b1 * z3
        d2 = b2 * z1**2 + b1 * z2
        d1, away = b1 * z1, b1 * (at_rest[layer] * away + radius * size)
    return sizes, z3


def _third_of_neurons(
    subject: Subject, measured: Measured, betas: tuple[float, float], radius: float
) -> float:
    """N of one hidden layer (Lemma C13); infinite of other networks."""
    if len(subject.params.weights) != 2:
        return math.inf
    (b2, b3), moving, outer = betas, measured.norms, subject.params.weights[1]
    inputs, moved = _each(moving.inputs[0]), _up(moving.factors[1])
    chi_2, chi_3 = (math.sqrt(float(subject.weights @ inputs**p)) for p in (4, 6))
    largest = float(np.linalg.norm(outer, axis=0).max()) * (1 + 2.0**-30) + 2.0**-300
    column = _up(measured.whole.factors[1]) * largest + moved * radius
    scale = subject.architecture.output_scale
    return _SAFE * scale * (b3 * column * chi_3 + _TWO_OVER_ROOT_3 * b2 * moved * chi_2)


def _forward(
    subject: Subject,
    c: list[float],
    gains: list[float],
    entries: list[float],
    shifts: list[float],
    sizes: list[float],
    slope: float,
) -> tuple[list[float], list[float]]:
    """Errors of h^{l-1} and of z^l, l = 1..D."""
    e_h, e_z = [0.0], list[float]()
    for layer, w in enumerate(subject.params.weights):
        if layer + 1 < len(sizes):
            argument = gains[layer] / c[layer] * sizes[layer] + shifts[layer]
            if not argument < _FARTHEST:
                raise RefusedError("arguments of activations may be too large to follow a run")
        terms = entries[layer] * (sizes[layer] + 2 * c[layer] * e_h[-1]) + shifts[layer]
        e_z.append(_SAFE * (gains[layer] * e_h[-1] + _gamma(w.shape[1]) * terms))
        if layer + 1 < len(sizes):
            units = math.sqrt(len(w)) + sizes[layer + 1] / c[layer + 1]
            e_h.append(_SAFE * (slope * e_z[-1] + 2 * _MARGIN * units))
    return e_h, e_z


def _gamma(terms: int) -> float:
    count = (terms + _MORE) * UNIT
    return count / (1 - count)


def _frobenius(array: np.ndarray) -> float:
    return float(np.linalg.norm(array)) * (1 + 2.0**-30) + 2.0**-300


def _each(number: Upper) -> np.ndarray:
    """The entries as floats that are not below them."""
    ratio = _up(number) / max(float(number.values.max()), 1e-300)
    return np.asarray(number.values, dtype=np.float64) * (max(ratio, 1.0) + 4 * UNIT) + 1e-300


def _up(number: Upper) -> float:
    """The largest entry as a float that is not below it."""
    bound: arb = bound_of(number)
    return math.nextafter(float(bound), math.inf)
