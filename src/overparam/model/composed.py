"""Networks composed of layers in the NTK parametrisation: convolutions, layer norm, residual sums.

With c_l = s_w / sqrt(K_l), K_l the numbers that one output of a layer is a sum over,

    dense          z = c_l W h + s_b b, on the last axis of h,
    convolution    the same of every patch of h,
    mean pooling   the mean over windows that do not overlap,
    normalisation  sqrt(m) y / sqrt(|y|^2 + m epsilon) with y = h - mean(h), over the last axis,
    scale          g h + b along the last axis, starting from 1 and 0,
    residual       h + block(h),

and activations entry by entry. Arrays of a point are (m,) or (height, width, channels); every entry
of W and b starts as an independent N(0, 1). What is proved of them: docs/composed.md.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_positive, require_whole
from overparam.model.activation import Activation, get_activation
from overparam.model.mlp import MLP
from overparam.precision import is_traced

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

    def starts(self, shape: Shape) -> Starts:
        """The parameters for inputs of a shape."""
        return {}

    @abstractmethod
    def out_shape(self, shape: Shape) -> Shape:
        """The shape of the output.

        Raises:
            InputError: The layer does not take such inputs.
        """

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

    def out_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape

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
        (height, width), (rows, columns, channels) = (
            self.sides(h.shape[1:]),
            self.out_shape(h.shape[1:]),
        )
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

    def out_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape

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

    def out_shape(self, shape: Shape) -> Shape:
        """The same."""
        return shape

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
        object.__setattr__(self, "parts", _layers(self.parts))

    def out_shape(self, shape: Shape) -> Shape:
        """The same."""
        found = shape
        for layer in self.parts:
            found = layer.out_shape(found)
        if found != shape:
            raise InputError(f"a Residual block makes {found} of {shape}: it must keep the shape")
        return shape

    def __call__(self, params: Any, h: Array, factors: Factors, tap: Tap | None = None) -> Array:
        """The sum."""
        return h + _run(self.parts, params, h, factors, tap)


@dataclass(frozen=True)
class Composed:
    """A network of layers in the NTK parametrisation; immutable and hashable.

    A function f(params, x) of flat points x (n, d), as ``Problem`` takes any, of which the bounds
    of docs/composed.md are known.

    Args:
        parts: The layers from the input to the output; "gelu" and the like, or an ``Activation``,
            stand for activations. The last one must leave (k,) for each point.
        in_shape: What a point is: d, or (height, width, channels) with d their product.
        weight_scale: s_w > 0.
        bias_scale: s_b >= 0; zero switches the biases of dense layers and convolutions off.
        output_scale: c > 0, the factor on the output.

    Raises:
        InputError: A layer does not fit the one before it, or an argument is of no use.
    """

    parts: tuple[Any, ...]
    in_shape: int | Shape
    weight_scale: float = 1.0
    bias_scale: float = 0.1
    output_scale: float = 1.0
    out_dim: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = self.in_shape if isinstance(self.in_shape, Sequence) else (self.in_shape,)
        shape = tuple(require_whole("every entry of in_shape", size, 1) for size in shape)
        object.__setattr__(self, "in_shape", shape)
        object.__setattr__(self, "parts", _layers(self.parts))
        for name in ("weight_scale", "output_scale"):
            object.__setattr__(self, name, float(require_positive(name, getattr(self, name))))
        if not (math.isfinite(self.bias_scale) and self.bias_scale >= 0):
            raise InputError(f"bias_scale must be 0 or more and finite, not {self.bias_scale!r}")
        for layer in self.parts:
            shape = layer.out_shape(shape)
        if len(shape) != 1:
            raise InputError(
                f"the last layer leaves {shape} for each point: end with Flatten() and Dense(k)"
            )
        object.__setattr__(self, "out_dim", shape[0])
        if not self.parameter_count:
            raise InputError("no layer has parameters: there is nothing to train")

    @property
    def shape(self) -> Shape:
        """What a point is."""
        assert isinstance(self.in_shape, tuple)
        return self.in_shape

    @property
    def in_dim(self) -> int:
        """d."""
        return math.prod(self.shape)

    @property
    def factors(self) -> Factors:
        """s_w and s_b."""
        return Factors(self.weight_scale, self.bias_scale)

    @property
    def starts(self) -> Any:
        """What parameters start from, in the structure of the parameters."""
        return _starts(self.parts, self.shape)[0]

    @property
    def layers(self) -> int:
        """D, the number of layers, those of residual blocks included."""
        return _count(self.parts)

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape, _ in _flat(self.starts)[0])

    @property
    def products(self) -> int:
        """Multiplications of one pass at one point, about."""
        return _products(self.parts, self.shape)

    def init(self, key: Array, dtype: jax.typing.DTypeLike = jnp.float32) -> Any:
        """Draw the initial parameters: N(0, 1) for weights and biases, 1 and 0 for scales.

        Args:
            key: A JAX PRNG key.
            dtype: float32, or float64 inside ``jax.enable_x64(True)``.

        Returns:
            A tuple with a dictionary for each layer, a tuple of such for a ``Residual``.
        """
        return _draw(self, np.dtype(dtype), key)

    def apply(
        self, params: Any, x: Float[Array | np.ndarray, "n d"], tap: Tap | None = None
    ) -> Float[Array, "n k"]:
        """Evaluate the network on a batch.

        Args:
            params: As from ``init``.
            x: Points, shape (n, d).
            tap: Sees every layer on the way, the layers of residual blocks in their place.

        Returns:
            Outputs, shape (n, k), in the precision JAX computes in.
        """
        h = jnp.asarray(x).reshape(len(x), *self.shape)
        return self.output_scale * _run(self.parts, params, h, self.factors, tap)

    def __call__(self, params: Any, x: Float[Array | np.ndarray, "n d"]) -> Float[Array, "n k"]:
        """The same."""
        return self.apply(params, x)

    def moving(self, params: Any) -> Any:
        """All parameters: of a part see ``trainable`` of the ``Problem``."""
        return params

    def validate(self, params: Any) -> None:
        """Check that ``params`` has this network's structure and only finite entries.

        Raises:
            InputError: It has another structure, or an entry is NaN or infinite.
        """
        leaves, structure = _flat(self.starts)
        same = str(jax.tree.structure(params)) == str(structure)
        given = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
        if not same or given != [shape for shape, _ in leaves]:
            raise InputError(
                f"params have arrays {given}, the model needs {[shape for shape, _ in leaves]}: "
                "use params from this model's init"
            )
        for leaf in jax.tree.leaves(params):
            if not is_traced(leaf) and not np.isfinite(np.asarray(leaf)).all():
                raise InputError("params have a NaN or infinite entry: did training diverge?")


@partial(jax.jit, static_argnums=(0, 1))
def _draw(network: Composed, dtype: np.dtype, key: Array) -> Any:
    """One vector, cut into arrays: a generator for each would take as long again to compile."""
    leaves, structure = _flat(network.starts)
    drawn = jax.random.normal(key, (network.parameter_count,), dtype)
    arrays, at = list[Array](), 0
    for shape, start in leaves:
        size = math.prod(shape)
        part = drawn[at : at + size].reshape(shape)
        arrays.append(part if start is None else jnp.full(shape, start, dtype))
        at += size
    return jax.tree.unflatten(structure, arrays)


def _along(channels: Any, h: Array) -> Any:
    """Numbers for the last axis, in the rank of an array."""
    return jnp.reshape(channels, (1,) * (h.ndim - 1) + (-1,))


def _run(layers: Any, params: Any, h: Array, factors: Factors, tap: Tap | None) -> Array:
    for layer, own in zip(layers, params, strict=True):
        if isinstance(layer, Residual):
            h = layer(own, h, factors, tap)
        else:
            out = layer(own, h, factors)
            h = out if tap is None else tap(layer, own, h, out)
    return h


def _layers(given: Any) -> tuple[Layer, ...]:
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
    return tuple(layer for each in given for layer in _layers(each))


def bending(network: MLP | Composed) -> tuple[Activation, ...]:
    """The activations whose derivatives bound how a network bends in what moves."""
    if isinstance(network, MLP):
        return (network.act,) if network.bends else ()
    return activations(network.parts)


def activations(parts: tuple[Layer, ...]) -> tuple[Activation, ...]:
    """The activations among layers, those in residual blocks included."""
    found: list[Activation] = []
    for part in parts:
        if isinstance(part, Residual):
            found += activations(part.parts)
        elif isinstance(part, Pointwise):
            found.append(part.activation)
    return tuple(found)


def _count(parts: tuple[Layer, ...]) -> int:
    return sum(_count(part.parts) if isinstance(part, Residual) else 1 for part in parts)


def _products(parts: tuple[Layer, ...], shape: Shape) -> int:
    total = 0
    for part in parts:
        if isinstance(part, Residual):
            total += _products(part.parts, shape)
        elif isinstance(part, Affine):
            total += math.prod(part.out_shape(shape)) * math.prod(part.window(shape))
        shape = part.out_shape(shape)
    return total


def _starts(layers: tuple[Layer, ...], shape: Shape) -> tuple[tuple, Shape]:
    found: list[Any] = []
    for layer in layers:
        if isinstance(layer, Residual):
            found.append(_starts(layer.parts, shape)[0])
        else:
            found.append(layer.starts(shape))
        shape = layer.out_shape(shape)
    return tuple(found), shape


def _flat(starts: Any) -> tuple[list[tuple[Shape, float | None]], Any]:
    """Shapes and starts leaf by leaf, and the structure of the parameters."""
    return jax.tree.flatten(starts, is_leaf=_is_start)


def _is_start(node: Any) -> bool:
    return (
        isinstance(node, tuple) and len(node) == 2 and (node[1] is None or type(node[1]) is float)
    )


def _require_image(name: str, shape: Shape) -> None:
    if len(shape) != 3:
        raise InputError(
            f"{name} takes images (height, width, channels), not {shape}: say "
            "in_shape=(8, 8, 1), for instance"
        )
