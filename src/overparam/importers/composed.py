"""From layers of other libraries to a ``Composed`` network in the NTK parametrisation.

The function is the same, W = c W' and b = s_b b' as for an ``MLP``. Libraries that put channels
first flatten them slowest, and we fastest: the columns of the dense layer behind are permuted.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.importers.network import Affine, ImportedNetwork, Scales, scales_for
from overparam.importers.steps import Convolution, Flat, Means, Norm, Pointwise, Step
from overparam.model import composed


def composed_of(
    steps: Sequence[Step],
    in_shape: tuple[int, ...] | None,
    scales: Scales | str,
    source: str,
    notes: tuple[str, ...] = (),
    *,
    channels_first: bool,
) -> ImportedNetwork:
    """The network of layers of every kind, one after the other.

    Args:
        steps: What was read.
        in_shape: Of a point, (height, width, channels) or (d,); None where the first layer says it.
        scales: See :class:`Scales`; scales of layer norms stay as they are.
        source: What the layers were read from.
        notes: Passed on.
        channels_first: Whether ``source`` flattens (channels, height, width).

    Raises:
        InputError: Shapes do not fit together, or the scales do not suit the sums.
    """
    shape = _start(steps, in_shape, source)
    sums = [_inputs(step) for step in steps if isinstance(step, Affine | Convolution)]
    if not sums:
        raise InputError(f"{source} has no linear layer")
    without = [
        step.name for step in steps if isinstance(step, Affine | Convolution) and step.bias is None
    ]
    if without and len(without) < len(sums):
        notes += (
            f"{', '.join(without)} had no bias: it is 0 here, and gradient descent may move it",
        )
    chosen = scales_for(scales, [*sums, 1])
    bias_scale = 0.0 if len(without) == len(sums) else chosen.bias
    top = max(i for i, step in enumerate(steps) if isinstance(step, Affine | Convolution))
    if any(isinstance(step, Norm | Pointwise) for step in steps[top:]) and chosen.output != 1:
        raise InputError(f"output_scale must be 1 where {source} ends with no linear layer")
    parts, params = list[Any](), list[Any]()
    order: np.ndarray | None = None  # of what was flattened, as the source has it
    here = shape
    for i, step in enumerate(steps):
        scale = (chosen.output if i == top else 1.0, chosen.weight, bias_scale)
        if isinstance(step, Flat):
            order = np.arange(math.prod(here)).reshape(here)
            order = np.moveaxis(order, -1, 0) if channels_first and len(here) == 3 else order
            order = order.ravel()
        found = _layer(step, scale, order)
        if isinstance(step, Affine):
            order = None
        for part, own in found:
            here = _fitting(part, own, here, step.name, source)
            parts.append(part)
            params.append(own)
    model = composed.Composed(tuple(parts), shape, chosen.weight, bias_scale, chosen.output)
    model.validate(tuple(params))
    return ImportedNetwork(model, tuple(params), source, notes)


def _start(steps: Sequence[Step], given: Any, source: str) -> tuple[int, ...]:
    if given is not None:
        return tuple(given) if isinstance(given, Sequence) else (given,)
    first = next((step for step in steps if isinstance(step, Affine | Convolution)), None)
    if isinstance(first, Affine):
        return (first.weight.shape[1],)
    raise InputError(
        f"{source} takes images: say in_shape=(height, width, channels), whatever its own order is"
    )


def _inputs(step: Affine | Convolution) -> int:
    return math.prod(step.weight.shape[1:])


def _layer(
    step: Step, scale: tuple[float, float, float], order: np.ndarray | None
) -> list[tuple[composed.Layer, Any]]:
    """A step as layers with their parameters."""
    if isinstance(step, Affine | Convolution):
        output, weight, bias = scale
        weights = step.weight
        if order is not None:
            weights = _behind(weights, order)
        factor = output * weight / math.sqrt(_inputs(step))
        offset = np.zeros(len(weights)) if step.bias is None else step.bias
        own = {"weight": weights / factor, "bias": offset / ((output * bias) or 1.0)}
        if isinstance(step, Affine):
            return [(composed.Dense(len(weights)), own)]
        kernel = step.weight.shape[1:3]
        return [(composed.Conv(len(weights), kernel, step.stride, step.padding), own)]
    if isinstance(step, Norm):
        layers: list[tuple[composed.Layer, Any]] = [(composed.Normalise(step.epsilon), {})]
        if step.gain is None and step.bias is None:
            return layers
        width = len(step.gain if step.gain is not None else step.bias)  # type: ignore[arg-type]
        gain = np.ones(width) if step.gain is None else step.gain
        offset = np.zeros(width) if step.bias is None else step.bias
        if order is not None:
            gain, offset = _behind(gain, order), _behind(offset, order)
        return [*layers, (composed.Scale(), {"gain": gain, "bias": offset})]
    if isinstance(step, Means):
        return [(composed.MeanPool(step.window), {})]
    if isinstance(step, Flat):
        return [(composed.Flatten(), {})]
    return [(composed.Pointwise(step.activation), {})]


def _behind(array: Float[np.ndarray, "..."], order: np.ndarray) -> Float[np.ndarray, "..."]:
    """The last axis, of entries that the source has in another order."""
    if array.shape[-1] != len(order):
        return array  # the shapes do not fit, which is said elsewhere
    found = np.empty_like(array)
    found[..., order] = array
    return found


def _fitting(
    part: composed.Layer, own: Any, shape: tuple[int, ...], name: str, source: str
) -> tuple[int, ...]:
    """The shape behind a layer.

    Raises:
        InputError: The layer does not fit what comes before it.
    """
    expected = {key: array for key, (array, _) in part.starts(shape).items()}
    given = {key: np.shape(array) for key, array in own.items()}
    if given != expected:
        raise InputError(
            f"{name} in {source} has arrays {given}, and what comes before it, {shape}, needs "
            f"{expected}: is in_shape right, and Flatten where it belongs?"
        )
    return part.out_shape(shape)
