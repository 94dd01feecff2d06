"""What a loss sees of a model at a point: its value, or also its derivatives in the input.

A loss functional of general form integrates l(g(theta, x), y) over the data, where g is computed
from the model N(theta, .) around x: the value; the value and the input gradient (the 1-jet), for
gradient penalties and Sobolev training; the value, gradient and Laplacian, for differential
equations. An :class:`Observation` turns the function N(theta, x) of shape (n, k) into the function
g(theta, x) of shape (n, K), and everything downstream (tangent kernel, certificate, training) is
about g.

Layout: the built-in observations put what they see of an output next to each other, output after
output: value, then the d components of the gradient, then the Laplacian, so that the K columns are
an array (n, k, K / k), flattened. ``pack`` builds targets in this layout, ``unpack`` undoes it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_choice
from overparam.model.function import Function, Network, as_function
from overparam.model.mlp import MLP

Points = Float[Array | np.ndarray, "n d"]


class Parts(NamedTuple):
    """What was seen, taken apart; None where the observation does not see it.

    Attributes:
        value: N(x), (n, k).
        gradient: Its input gradients, (n, k, d).
        laplacian: Its Laplacians in the input, (n, k).
    """

    value: Any
    gradient: Any = None
    laplacian: Any = None


class Observation(ABC):
    """What the loss sees of a model at a point; a frozen dataclass without mutable state.

    A subclass of your own implements :meth:`outputs` and :meth:`observe`.

    Attributes:
        name: What it is called in files and messages.
        order: The highest derivative in the input that it takes, q. Then g contains act^(q), its
            Jacobian in the parameters act^(q+1), and a modulus of that needs a bound on act^(q+2).
    """

    name: ClassVar[str]
    order: ClassVar[int]

    def part_of(self) -> "Observation | None":
        """Name an observation of which this one sees a part, if there is one.

        A part is P_i g at each point, with |P_i| <= 1: a selection of columns up to signs, for
        instance. The Jacobian is then P J with |P| <= 1, so that whatever bounds the change of the
        whole's Jacobian bounds that of the part's.
        """
        return None

    @abstractmethod
    def outputs(self, k: int, d: int) -> int:
        """K, the number of columns seen of a model with k outputs in d dimensions."""

    @abstractmethod
    def observe(self, function: Function, params: Any, x: Points) -> Any:
        """Evaluate g(params, x), shape (n, K); traced and differentiated.

        Args:
            function: N(params, x), shape (n, k), whose rows depend on their own point only.
            params: Its parameters.
            x: Points.
        """


@dataclass(frozen=True)
class _Blocks(Observation):
    """The built-in ones: a block of columns for each output."""

    def outputs(self, k: int, d: int) -> int:
        """K = k times the length of an output's block."""
        return k * self.block(d)

    def block(self, d: int) -> int:
        """The number of columns of one output, in d dimensions."""
        return 1 + (d if self.order >= 1 else 0) + (self.order >= 2)

    def pack(self, value: Any, gradient: Any = None, laplacian: Any = None) -> np.ndarray:
        """Targets in the layout of the columns.

        Args:
            value: Shape (n, k), or (n,) for one output.
            gradient: Shape (n, k, d), or (n, d) for one output; if it is seen.
            laplacian: Shape (n, k), or (n,) for one output; if it is seen.

        Returns:
            Shape (n, K), float64.

        Raises:
            InputError: A part is missing, not seen, or of another shape.
        """
        columns = [_part("value", value, 2)[:, :, None]]
        for name, part, seen in (
            ("gradient", gradient, self.order >= 1),
            ("laplacian", laplacian, self.order >= 2),
        ):
            if (part is not None) != seen:
                verb = "needs" if seen else "does not see"
                raise InputError(f"the observation {self.name!r} {verb} {name}")
            if seen:
                ndim = 3 if name == "gradient" else 2
                array = _part(name, part, ndim)
                columns.append(array if ndim == 3 else array[:, :, None])
        if len({array.shape[:2] for array in columns}) > 1:
            shapes = ", ".join(str(array.shape) for array in columns)
            raise InputError(f"the parts have shapes {shapes}: they differ in points or outputs")
        return np.concatenate(columns, axis=2).reshape(len(columns[0]), -1)

    def unpack(self, columns: Any, d: int) -> Parts:
        """Take columns (n, K), NumPy or JAX, apart.

        Args:
            columns: What was seen, or targets.
            d: The input dimension.

        Returns:
            The :class:`Parts`, views of the same kind of array.
        """
        n, width = columns.shape
        size = self.block(d)
        if width % size:
            raise InputError(
                f"{width} columns are no multiple of {size}, what {self.name!r} sees of an output "
                f"in {d} dimensions"
            )
        blocks = columns.reshape(n, width // size, size)
        return Parts(
            blocks[:, :, 0],
            blocks[:, :, 1 : 1 + d] if self.order >= 1 else None,
            blocks[:, :, -1] if self.order >= 2 else None,
        )


@dataclass(frozen=True)
class Value(_Blocks):
    """The value: g = N, K = k."""

    name: ClassVar[str] = "value"
    order: ClassVar[int] = 0

    def observe(self, function: Function, params: Any, x: Points) -> Any:
        """Evaluate N(params, x), shape (n, k)."""
        return function(params, x)


@dataclass(frozen=True)
class Jet(_Blocks):
    """The 1-jet, value and input gradient of each output: K = k (1 + d)."""

    name: ClassVar[str] = "jet"
    order: ClassVar[int] = 1

    def observe(self, function: Function, params: Any, x: Points) -> Any:
        """Evaluate (N_1, grad N_1, N_2, grad N_2, ...), shape (n, k (1 + d))."""
        x = jnp.asarray(x)
        value, gradient = _value_and_gradient(function, params, x)
        return _columns(value, gradient)


@dataclass(frozen=True)
class Laplacian(_Blocks):
    """Value, input gradient and Laplacian of each output: K = k (d + 2)."""

    name: ClassVar[str] = "laplacian"
    order: ClassVar[int] = 2

    def observe(self, function: Function, params: Any, x: Points) -> Any:
        """Evaluate (N_1, grad N_1, Laplacian N_1, N_2, ...), shape (n, k (d + 2))."""
        x = jnp.asarray(x)

        def along(direction: Array) -> tuple[Array, Array, Array]:
            tangent = jnp.broadcast_to(direction, x.shape)

            def once(points: Array) -> tuple[Array, Array]:
                return jax.jvp(lambda p: function(params, p), (points,), (tangent,))

            (value, slope), (_, curvature) = jax.jvp(once, (x,), (tangent,))
            return value, slope, curvature

        basis = jnp.expand_dims(jnp.eye(x.shape[1], dtype=x.dtype), 1)
        value, slopes, curvatures = jax.vmap(along, out_axes=(None, 0, 0))(basis)
        return _columns(value, jnp.moveaxis(slopes, 0, 2), jnp.sum(curvatures, axis=0))


OBSERVATIONS: dict[str, Observation] = {o.name: o for o in (Value(), Jet(), Laplacian())}
"""The built-in observations by name."""


def get_observation(observe: object) -> Observation:
    """Return a built-in observation by name, or the one given.

    Args:
        observe: A name in :data:`OBSERVATIONS`, or an :class:`Observation`.

    Raises:
        InputError: If the name is unknown or the argument is something else.
    """
    if isinstance(observe, Observation):
        return observe
    if not isinstance(observe, str):
        known = ", ".join(OBSERVATIONS)
        raise InputError(
            f"observe is {observe!r}: give one of the names {known}, or an Observation of your own"
        )
    require_choice("observation", observe, OBSERVATIONS)
    return OBSERVATIONS[observe]


@dataclass(frozen=True)
class Observed:
    """The function g(params, x) that an observation makes of a network; equal if both are.

    Attributes:
        network: N.
        observation: What is seen of it.
    """

    network: Network
    observation: Observation

    def __call__(self, params: Any, x: Any) -> Any:
        """Evaluate g, shape (n, K)."""
        return self.observation.observe(as_function(self.network), params, x)


def observed(network: Network, observation: Observation) -> Network:
    """g as a network: the network itself if its values are all that is seen.

    Args:
        network: An ``MLP`` or a function.
        observation: What is seen.

    Raises:
        InputError: The activation of the ``MLP`` lacks a derivative that the observation needs.
    """
    if isinstance(network, MLP) and network.hidden_widths:
        _require_smooth(network, observation)
    return network if isinstance(observation, Value) else Observed(network, observation)


def _require_smooth(model: MLP, observation: Observation) -> None:
    """An observation of order q sees act^(q), which has to be continuous."""
    act = model.act
    if observation.order >= 1 and act.curvature_bound is None:
        raise InputError(
            f"the observation {observation.name!r} sees the slope of the activation "
            f"{act.name!r}, which jumps or has no curvature_bound, so that J is not continuous: "
            "choose a smooth activation such as gelu or tanh"
        )


def _value_and_gradient(function: Function, params: Any, x: Array) -> tuple[Array, Array]:
    """N (n, k) and its input gradients (n, k, d), by min(k, d) passes over the batch."""
    k = jax.eval_shape(function, params, x).shape[1]
    d = x.shape[1]
    if k <= d:
        value, pullback = jax.vjp(lambda points: function(params, points), x)
        gradient = jax.vmap(lambda cotangent: pullback(cotangent)[0])(_basis(k, value))
        return value, jnp.moveaxis(gradient, 0, 1)
    value, pushforward = jax.linearize(lambda points: function(params, points), x)
    return value, jnp.moveaxis(jax.vmap(pushforward)(_basis(d, x)), 0, 2)


def _basis(size: int, rows: Array) -> Float[Array, "m n m"]:
    """The unit vectors, each repeated for all rows of an array (n, m)."""
    units = jnp.expand_dims(jnp.eye(size, dtype=rows.dtype), 1)
    return jnp.broadcast_to(units, (size, *rows.shape))


def _columns(value: Array, gradient: Array, *more: Array) -> Array:
    """Blocks (n, k, 1 + d + ...) flattened to (n, K)."""
    parts = [jnp.expand_dims(value, 2), gradient, *(jnp.expand_dims(a, 2) for a in more)]
    blocks = jnp.concatenate(parts, axis=2)
    return blocks.reshape(blocks.shape[0], -1)


def _part(name: str, values: Any, ndim: int) -> Float[np.ndarray, "..."]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == ndim - 1:
        array = array[:, None]
    if array.ndim != ndim:
        shape = "(n, k, d)" if ndim == 3 else "(n, k)"
        raise InputError(f"{name} has shape {array.shape}: it must be {shape}")
    return array
