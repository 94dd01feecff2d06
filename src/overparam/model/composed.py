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
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_positive, require_whole
from overparam.model.activation import Activation
from overparam.model.composed_layers import (
    Factors,
    Shape,
    Tap,
    activations,
    as_layers,
    each_layer,
    products,
    run_layers,
    shapes,
    starts,
)
from overparam.model.mlp import MLP
from overparam.precision import is_traced
from overparam.randomness import require_key


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
        object.__setattr__(self, "parts", as_layers(self.parts))
        for name in ("weight_scale", "output_scale"):
            object.__setattr__(self, name, float(require_positive(name, getattr(self, name))))
        if not (math.isfinite(self.bias_scale) and self.bias_scale >= 0):
            raise InputError(f"bias_scale must be 0 or more and finite, not {self.bias_scale!r}")
        shape = shapes(self.parts, shape)[-1]
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
        return starts(self.parts, self.shape)

    @property
    def layers(self) -> int:
        """D, the number of layers, those of residual blocks included."""
        return sum(1 for _ in each_layer(self.parts))

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape, _ in _flat(self.starts)[0])

    @property
    def products(self) -> int:
        """Multiplications of one pass at one point, about."""
        return products(self.parts, self.shape)

    def init(self, key: Array, dtype: jax.typing.DTypeLike = jnp.float32) -> Any:
        """Draw the initial parameters: N(0, 1) for weights and biases, 1 and 0 for scales.

        Args:
            key: A JAX PRNG key.
            dtype: float32, or float64 inside ``jax.enable_x64(True)``.

        Returns:
            A tuple with a dictionary for each layer, a tuple of such for a ``Residual``.
        """
        return _draw(self, np.dtype(dtype), require_key(key))

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
        return self.output_scale * run_layers(self.parts, params, h, self.factors, tap)

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


def bending(network: MLP | Composed) -> tuple[Activation, ...]:
    """The activations whose derivatives bound how a network bends in what moves."""
    if isinstance(network, MLP):
        return (network.act,) if network.bends else ()
    return activations(network.parts)


def _flat(starts: Any) -> tuple[list[tuple[Shape, float | None]], Any]:
    """Shapes and starts leaf by leaf, and the structure of the parameters."""
    return jax.tree.flatten(starts, is_leaf=_is_start)


def _is_start(node: Any) -> bool:
    return (
        isinstance(node, tuple) and len(node) == 2 and (node[1] is None or type(node[1]) is float)
    )
