"""Layers of composed networks: what each makes of its input, and what its parameters start from."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_positive, require_whole
from overparam.model.activation import Activation, get_activation

Shape = tuple[int, ...]
"""Of what belongs to one point."""

Starts = dict[str, tuple[Shape, float | None]]
"""By name the shape of an array of parameters and the number it starts from; None is N(0, 1)."""

Tap = Callable[["Layer", Any, Array, Array], Array]
"""Sees a layer, its parameters, its input and its output, and may put another in its place."""


@dataclass(frozen=True)
class Factors:
    """s_w and s_b."""

    weight: float
    bias: float


class Layer(ABC):
    """A map of arrays (n, *shape), row by row, with parameters of its own or none."""

    def starts(self, shape: Shape) -> Any:
        """The parameters for inputs of a shape, as :data:`Starts`; a tuple of these for a block."""
        return {}

    def out_shape(self, shape: Shape) -> Shape:
        """The shape of the output, by default the same.

        Raises:
            InputError: The layer does not take such inputs.
        """
        return shape

    def products(self, shape: Shape) -> int:
        """Multiplications at one point, about."""
        return 0

    @abstractmethod
    def __call__(self, params: Any, h: Array, factors: Factors) -> Array:
        """The output."""


class Affine(Layer):
    """z = c W patch + s_b b for each patch of the input: what dense layers and convolutions are."""

    features: int

    @abstractmethod
    def patches(self, h: Array) -> Float[Array, "n ... inputs"]:
        """What each output is a sum over, along the last axis."""

    @abstractmethod
    def window(self, shape: Shape) -> Shape:
        """The shape of a patch."""

    def starts(self, shape: Shape) -> Starts:
        """Weights (features, *window) and biases (features,)."""
        weight = self.features, *self.window(shape)
        return {"weight": (weight, None), "bias": ((self.features,), None)}

    def products(self, shape: Shape) -> int:
        """One for each entry of a patch and each output."""
        return math.prod(self.out_shape(shape)) * math.prod(self.window(shape))

    def __call__(self, params: Any, h: Array, factors: Factors) -> Array:
        """Z of every patch."""
        weights = params["weight"].reshape(self.features, -1)
        z = self.factor(weights.shape[1], factors) * (self.patches(h) @ weights.T)
        return z + factors.bias * _along(params["bias"], z) if factors.bias else z

    def factor(self, inputs: int, factors: Factors) -> float:
        """c for sums over so many inputs."""
        return factors.weight / math.sqrt(inputs)


@dataclass(frozen=True)
class Dense(Affine):
    """A dense layer on the last axis.

    Args:
        features: Outputs.
    """

    features: int

    def __post_init__(self) -> None:
        require_whole("features", self.features, 1)

    def out_shape(self, shape: Shape) -> Shape:
        """The last axis becomes ``features``."""
        return (*shape[:-1], self.features)

    def patches(self, h: Array) -> Float[Array, "n ... inputs"]:
        """The input itself."""
        return h

    def window(self, shape: Shape) -> Shape:
        """(inputs,)."""
        return shape[-1:]


@dataclass(frozen=True)
class Conv(Affine):
    """A convolution over images (height, width, channels).

    Args:
        features: Channels of the output.
        kernel: Height and width of a patch, or one number for both.
        stride: From one patch to the next.
        padding: ``SAME`` (zeros around, so that stride 1 keeps the size; as in Flax), ``VALID``
            (none), or how many zeros on every side.
    """

    features: int
    kernel: int | tuple[int, ...] = 3
    stride: int = 1
    padding: str | int = "SAME"

    def __post_init__(self) -> None:
        require_whole("features", self.features, 1)
        require_whole("stride", self.stride, 1)
        sides = self.kernel if isinstance(self.kernel, tuple) else (self.kernel, self.kernel)
        if len(sides) != 2:
            raise InputError(f"kernel must be a whole number or two of them, not {self.kernel!r}")
        object.__setattr__(self, "kernel", tuple(require_whole("kernel", k, 1) for k in sides))
        if self.padding not in ("SAME", "VALID"):
            require_whole('padding, if not "SAME" or "VALID",', self.padding, 0)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of a patch."""
        assert isinstance(self.kernel, tuple)
        height, width = self.kernel
        return height, width

    @property
    def overlap(self) -> int:
        """How many patches an entry of the input is in, at most."""
        return math.prod(-(-side // self.stride) for side in self.sides)

    def out_shape(self, shape: Shape) -> Shape:
        """One position for each patch."""
        _require_image("Conv", shape)
        sizes = [self._positions(size, axis)[0] for axis, size in enumerate(shape[:2])]
        if min(sizes) < 1:
            raise InputError(f"Conv takes patches of {self.sides}, larger than its input {shape}")
        return (*sizes, self.features)

    def window(self, shape: Shape) -> Shape:
        """(height, width, channels) of a patch."""
        return (*self.sides, shape[-1])

    def patches(self, h: Array) -> Float[Array, "n height width inputs"]:
        """Every patch as a row, cut out entry by entry: a product then does the rest."""
        (rows, above), (columns, left) = (self._positions(h.shape[1 + a], a) for a in (0, 1))
        h = jnp.pad(h, ((0, 0), above, left, (0, 0)))
        step, (height, width) = self.stride, self.sides
        parts = [
            h[:, i : i + step * (rows - 1) + 1 : step, j : j + step * (columns - 1) + 1 : step]
            for i in range(height)
            for j in range(width)
        ]
        return jnp.concatenate(parts, axis=-1)

    def _positions(self, size: int, axis: int) -> tuple[int, tuple[int, int]]:
        """How many patches there are along an axis, and the zeros before and behind."""
        side, step = self.sides[axis], self.stride
        if self.padding == "SAME":
            count = -(-size // step)
            zeros = max((count - 1) * step + side - size, 0)
            return count, (zeros // 2, zeros - zeros // 2)
        zeros = 0 if self.padding == "VALID" else int(self.padding)
        return (size + 2 * zeros - side) // step + 1, (zeros, zeros)


@dataclass(frozen=True)
class Pointwise(Layer):
    """An activation, entry by entry; its name or an ``Activation`` stands for it among layers."""

    activation: Activation

    def __call__(self, params: Any, h: Array, factors: Factors) -> Array:
        """act(h)."""
        return self.activation.fn(h)

    def __repr__(self) -> str:
        return repr(self.activation.name)


@dataclass(frozen=True)
class MeanPool(Layer):
    """The mean over windows of an image that do not overlap; what does not fill one is left out.

    Args:
        window: Height and width of a window, or one number for both; None for the whole image.
    """

    window: int | tuple[int, int] | None = 2

    def __post_init__(self) -> None:
        for side in self.window if isinstance(self.window, tuple) else (self.window,):
            if side is not None:
                require_whole("window", side, 1)

    def sides(self, shape: Shape) -> tuple[int, int]:
        """Height and width of a window."""
        if self.window is None:
            return shape[0], shape[1]
        return self.window if isinstance(self.window, tuple) else (self.window, self.window)

    def out_shape(self, shape: Shape) -> Shape:
        """One position for each window."""
        _require_image("MeanPool", shape)
        height, width = self.sides(shape)
        found = shape[0] // height, shape[1] // width, shape[2]
        if min(found) < 1:
            raise InputError(f"MeanPool has a window {(height, width)} larger than {shape}")
        return found

    def __call__(self, params: Any, h: Array, factors: Factors) -> Array:
        """The means."""
        height, width = self.sides(h.shape[1:])
        rows, columns, channels = self.out_shape(h.shape[1:])
        h = h[:, : rows * height, : columns * width]
        return h.reshape(len(h), rows, height, columns, width, channels).mean(axis=(2, 4))


@dataclass(frozen=True)
class Flatten(Layer):
    """All entries of a point in a row; channels go fastest."""

    def out_shape(self, shape: Shape) -> Shape:
        """Their number."""
        return (math.prod(shape),)

    def __call__(self, params: Any, h: Array, factors: Factors) -> Array:
        """The same entries."""
        return h.reshape(len(h), -1)


@dataclass(frozen=True)
class Normalise(Layer):
    """Layer norm without parameters, over the last axis.

    Args:
        epsilon: Added to the variance; positive.
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        require_positive("epsilon", self.epsilon)

    def __call__(self, params: Any, h: Array, factors: Factors) -> Array:
        """(h - mean) / sqrt(variance + epsilon)."""
        y = h - h.mean(axis=-1, keepdims=True)
        return y / jnp.sqrt((y**2).mean(axis=-1, keepdims=True) + self.epsilon)


@dataclass(frozen=True)
class Scale(Layer):
    """g h + b along the last axis; g starts as 1, b as 0."""

    def starts(self, shape: Shape) -> Starts:
        """A gain and a bias for each channel."""
        return {"gain": (shape[-1:], 1.0), "bias": (shape[-1:], 0.0)}

    def __call__(self, params: Any, h: Array, factors: Factors) -> Array:
        """G h + b."""
        return _along(params["gain"], h) * h + _along(params["bias"], h)


def LayerNorm(epsilon: float = 1e-6, affine: bool = True) -> tuple[Layer, ...]:  # noqa: N802
    """Layer norm over the last axis: :class:`Normalise`, and :class:`Scale` unless not ``affine``.

    Args:
        epsilon: Added to the variance; positive.
        affine: Whether a gain and a bias follow.
    """
    return (Normalise(epsilon), Scale()) if affine else (Normalise(epsilon),)


@dataclass(frozen=True)
class Residual(Layer):
    """h + block(h), a block that keeps the shape.

    Args:
        parts: The layers of the block.
    """

    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", as_layers(self.parts))

    def starts(self, shape: Shape) -> Any:
        """Those of the block."""
        return starts(self.parts, shape)

    def products(self, shape: Shape) -> int:
        """Those of the block."""
        return products(self.parts, shape)

    def out_shape(self, shape: Shape) -> Shape:
        """The same."""
        found = shapes(self.parts, shape)[-1]
        if found != shape:
            raise InputError(f"a Residual block makes {found} of {shape}: it must keep the shape")
        return shape

    def __call__(self, params: Any, h: Array, factors: Factors, tap: Tap | None = None) -> Array:
        """The sum."""
        return h + run_layers(self.parts, params, h, factors, tap)


def shapes(parts: Sequence[Layer], shape: Shape) -> list[Shape]:
    """The shape before each layer, and the one behind the last."""
    return list(itertools.accumulate(parts, lambda at, layer: layer.out_shape(at), initial=shape))


def starts(parts: Sequence[Layer], shape: Shape) -> tuple[Any, ...]:
    """What the parameters of layers start from."""
    return tuple(layer.starts(at) for layer, at in zip(parts, shapes(parts, shape), strict=False))


def products(parts: Sequence[Layer], shape: Shape) -> int:
    """Multiplications of layers at one point, about."""
    return sum(layer.products(at) for layer, at in zip(parts, shapes(parts, shape), strict=False))


def each_layer(parts: Iterable[Layer]) -> Iterator[Layer]:
    """The layers from the input to the output, those of residual blocks in their place."""
    for part in parts:
        yield from each_layer(part.parts) if isinstance(part, Residual) else (part,)


def activations(parts: Iterable[Layer]) -> tuple[Activation, ...]:
    """The activations among layers."""
    return tuple(part.activation for part in each_layer(parts) if isinstance(part, Pointwise))


def run_layers(layers: Any, params: Any, h: Array, factors: Factors, tap: Tap | None) -> Array:
    """The output of layers one after the other."""
    for layer, own in zip(layers, params, strict=True):
        if isinstance(layer, Residual):
            h = layer(own, h, factors, tap)
        else:
            out = layer(own, h, factors)
            h = out if tap is None else tap(layer, own, h, out)
    return h


def as_layers(given: Any) -> tuple[Layer, ...]:
    """Layers one after the other; names of activations become layers, tuples their entries."""
    if isinstance(given, str | Activation):
        return (Pointwise(get_activation(given)),)
    if isinstance(given, Layer):
        return (given,)
    if not isinstance(given, Sequence):
        raise InputError(
            f"{given!r} is no layer: give Dense, Conv, MeanPool, Flatten, LayerNorm, Residual, the "
            "name of an activation or an Activation"
        )
    return tuple(layer for each in given for layer in as_layers(each))


def _along(channels: Any, h: Array) -> Any:
    """Numbers for the last axis, in the rank of an array."""
    return jnp.reshape(channels, (1,) * (h.ndim - 1) + (-1,))


def _require_image(name: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise InputError(
            f"{name} takes images (height, width, channels), not {shape}: say "
            "in_shape=(8, 8, 1), for instance"
        )
