"""From layers of other libraries to a ``Composed`` network in the NTK parametrisation.

The function is the same, W = c W' and b = s_b b' as for an ``MLP``. Libraries that put channels
first flatten them slowest, and we fastest: the columns of the dense layer behind are permuted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.importers.imported_network import (
    ImportedNetwork,
    Scales,
    TrainedLayer,
    check_untied,
    scales_for,
)
from overparam.importers.layer_steps import (
    ActivationStep,
    Block,
    Convolution,
    Flat,
    Means,
    Norm,
    Step,
)
from overparam.model import composed_layers
from overparam.model.composed import Composed
from overparam.model.composed_layers import Shape


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
        InputError: Shapes do not fit together, layers share their weights, or the scales do not
            suit the sums.
    """
    shape = _start(steps, in_shape, source)
    linear = list(_linear(steps))
    if not linear:
        raise InputError(f"{source} has no linear layer")
    check_untied(linear, source)
    without = [step.name for step in linear if step.bias is None]
    notes += _made_up(without if len(without) < len(linear) else [], steps)
    chosen = scales_for(scales, [*map(_inputs, linear), 1])
    if chosen.output != 1 and steps[-1] is not linear[-1]:
        raise InputError(f"output_scale must be 1 where {source} ends with no linear layer")
    bias_scale = 0.0 if len(without) == len(linear) else chosen.bias
    stack = _Stack(source, channels_first, (chosen.weight, bias_scale), chosen.output, linear[-1])
    parts, params, _ = stack.read(steps, shape)
    model = Composed(parts, shape, chosen.weight, bias_scale, chosen.output)
    model.validate(params)
    return ImportedNetwork(model, params, source, notes)


@dataclass(frozen=True, eq=False)
class _Stack:
    """How steps become layers.

    Attributes:
        source: For messages.
        channels_first: Whether it flattens (channels, height, width).
        scales: s_w and s_b.
        output: c, which the last linear layer has in its weights.
        last: That layer.
    """

    source: str
    channels_first: bool
    scales: tuple[float, float]
    output: float
    last: Step

    def read(self, steps: Sequence[Step], shape: Shape) -> tuple[tuple, tuple, Shape]:
        """Layers, their parameters, and the shape behind them."""
        parts, params = list[Any](), list[Any]()
        order: np.ndarray | None = None  # of what was flattened, as the source has it
        for step in steps:
            if isinstance(step, Block):
                inner, own, behind = self.read(step.steps, shape)
                if behind != shape:
                    raise InputError(
                        f"{step.name} in {self.source} makes {behind} of {shape}: it is no "
                        "residual block"
                    )
                parts.append(composed_layers.Residual(inner))
                params.append(own)
                continue
            if isinstance(step, Flat):
                order = np.arange(math.prod(shape)).reshape(shape)
                first = self.channels_first and len(shape) == 3
                order = (np.moveaxis(order, -1, 0) if first else order).ravel()
            output = self.output if step is self.last else 1.0
            for part, arrays in _layer(step, (output, *self.scales), order):
                shape = _fitting(part, arrays, shape, step.name, self.source)
                parts.append(part)
                params.append(arrays)
            if isinstance(step, TrainedLayer):
                order = None
        return tuple(parts), tuple(params), shape


def _all(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps, those of blocks in their place."""
    for step in steps:
        if isinstance(step, Block):
            yield from _all(step.steps)
        else:
            yield step


def _linear(steps: Sequence[Step]) -> Iterator[TrainedLayer | Convolution]:
    return (step for step in _all(steps) if isinstance(step, TrainedLayer | Convolution))


def _made_up(without: list[str], steps: Sequence[Step]) -> tuple[str, ...]:
    """Notes on arrays that the source does not have, of linear layers and of layer norms."""
    norms = [step for step in _all(steps) if isinstance(step, Norm)]
    plain = [norm.name for norm in norms if norm.gain is None and norm.bias is not None]
    without += [norm.name for norm in norms if norm.bias is None and norm.gain is not None]
    missing = (("bias", 0, without), ("gain", 1, plain))
    return tuple(
        f"{', '.join(names)} had no {kind}: it is {start} here, and gradient descent may move it"
        for kind, start, names in missing
        if names
    )


def _start(steps: Sequence[Step], given: Any, source: str) -> tuple[int, ...]:
    if given is not None:
        return tuple(given) if isinstance(given, Sequence) else (given,)
    first = next(_linear(steps), None)
    if isinstance(first, TrainedLayer):
        return (first.weight.shape[1],)
    raise InputError(
        f"{source} takes images: say in_shape=(height, width, channels), whatever its own order is"
    )


def _inputs(step: TrainedLayer | Convolution) -> int:
    return math.prod(step.weight.shape[1:])


def _layer(
    step: Step, scale: tuple[float, float, float], order: np.ndarray | None
) -> list[tuple[composed_layers.Layer, Any]]:
    """A step as layers with their parameters."""
    if isinstance(step, TrainedLayer | Convolution):
        output, weight, bias = scale
        weights = step.weight
        if order is not None:
            weights = _behind(weights, order)
        factor = output * weight / math.sqrt(_inputs(step))
        offset = np.zeros(len(weights)) if step.bias is None else step.bias
        own = {"weight": weights / factor, "bias": offset / ((output * bias) or 1.0)}
        if isinstance(step, TrainedLayer):
            return [(composed_layers.Dense(len(weights)), own)]
        kernel = step.weight.shape[1:3]
        return [(composed_layers.Conv(len(weights), kernel, step.stride, step.padding), own)]
    if isinstance(step, Norm):
        normalised = composed_layers.Normalise(step.epsilon), dict[str, Any]()
        if step.gain is None and step.bias is None:
            return [normalised]
        width = len(step.gain if step.gain is not None else step.bias)  # type: ignore[arg-type]
        gain = np.ones(width) if step.gain is None else step.gain
        offset = np.zeros(width) if step.bias is None else step.bias
        if order is not None:
            gain, offset = _behind(gain, order), _behind(offset, order)
        return [normalised, (composed_layers.Scale(), {"gain": gain, "bias": offset})]
    if isinstance(step, Means):
        return [(composed_layers.MeanPool(step.window), {})]
    if isinstance(step, Flat):
        return [(composed_layers.Flatten(), {})]
    assert isinstance(step, ActivationStep)
    return [(composed_layers.Pointwise(step.activation), {})]


def _behind(array: Float[np.ndarray, "..."], order: np.ndarray) -> Float[np.ndarray, "..."]:
    """The last axis, of entries that the source has in another order."""
    if array.shape[-1] != len(order):
        return array  # the shapes do not fit, which is said elsewhere
    found = np.empty_like(array)
    found[..., order] = array
    return found


def _fitting(
    part: composed_layers.Layer, own: Any, shape: tuple[int, ...], name: str, source: str
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
