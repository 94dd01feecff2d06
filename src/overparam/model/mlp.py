"""The deep multilayer perceptron in the NTK parametrisation.

With widths m_0, ..., m_D, weights W^l of shape (m_l, m_{l-1}) and biases b^l,

    z^l = (s_w / sqrt(m_{l-1})) W^l h^{l-1} + s_b b^l,    h^0 = x,    h^l = act(z^l),

and the network is N(theta, x) = c z^D. Every entry of W and b starts as an independent N(0, 1), so
the 1/sqrt(width) that usually sits in the initialisation sits in the forward pass, and gradients
in all layers keep their size as the network grows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.model.activation import Activation, get_activation
from overparam.model.draw import draw_parameters
from overparam.model.trainable import Trainable, Trained, names_of, trained_arrays
from overparam.precision import is_traced
from overparam.randomness import require_key

Params = tuple[tuple, tuple]
"""``(weights, biases)``: ``weights[l]`` of shape (m_{l+1}, m_l), ``biases[l]`` (m_{l+1},)."""

if TYPE_CHECKING:
    Scale = float  # as it is everywhere but inside of transformations
else:
    Scale = float | Array


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron in the NTK parametrisation; immutable and hashable.

    Args:
        in_dim: Input dimension d = m_0.
        hidden_widths: Widths m_1, ..., m_{D-1} of the hidden layers; empty for a linear model.
        out_dim: Number of outputs k = m_D.
        activation: A name (see ``overparam.model.ACTIVATIONS``) or an ``Activation``.
        weight_scale: s_w > 0.
        bias_scale: s_b >= 0; zero switches the biases off.
        output_scale: c > 0, the factor on the network's output. A large c makes training lazy.
        trainable: What moves in training: "all", "last layer", "layers.1:", "weights", "biases.0",
            ..., see :func:`~overparam.model.trainable.trained_arrays`. It is kept as "all", or as
            the names of the arrays that move. The others are constants to every derivative.

    Inside a JAX transformation the three scales may be traced, to differentiate ``apply`` or
    ``infinite_ntk`` in them; nothing is then known of their sign, and nothing else takes the model.

    Raises:
        InputError: A width is not a positive integer, a scale is not a finite number of the right
            sign, the activation is unknown, or ``trainable`` names what is not there, or nothing.
    """

    in_dim: int
    hidden_widths: tuple[int, ...] = (512, 512)
    out_dim: int = 1
    activation: str | Activation = "gelu"
    weight_scale: Scale = 1.0
    bias_scale: Scale = 0.1
    output_scale: Scale = 1.0
    trainable: Trainable = "all"
    act: Activation = field(init=False, repr=False)
    trained: Trained = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("in_dim", "out_dim"):
            object.__setattr__(self, name, require_whole(name, getattr(self, name), 1))
        object.__setattr__(self, "hidden_widths", _widths(self.hidden_widths))
        for name in ("weight_scale", "output_scale"):
            object.__setattr__(self, name, _scale(name, getattr(self, name), positive=True))
        object.__setattr__(self, "bias_scale", _scale("bias_scale", self.bias_scale))
        object.__setattr__(self, "act", get_activation(self.activation))
        trained = trained_arrays(self.trainable, self.layers)
        biases_alone = not any(weights for weights, _ in trained)
        if biases_alone and isinstance(self.bias_scale, float) and not self.bias_scale:
            raise InputError("trainable names biases alone, and bias_scale is 0: nothing moves")
        whole = all(map(all, trained))
        object.__setattr__(self, "trained", trained)
        object.__setattr__(self, "trainable", "all" if whole else names_of(trained))

    def __repr__(self) -> str:
        names = ["in_dim", "hidden_widths", "out_dim", "activation"]
        names += ["weight_scale", "bias_scale", "output_scale"]
        names += [] if self.trainable == "all" else ["trainable"]
        return f"MLP({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @property
    def widths(self) -> tuple[int, ...]:
        """All widths (m_0, ..., m_D)."""
        return (self.in_dim, *self.hidden_widths, self.out_dim)

    @property
    def layers(self) -> int:
        """D, the number of affine layers: one more than the hidden ones."""
        return len(self.widths) - 1

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases."""
        return sum(m * (n + 1) for n, m in zip(self.widths[:-1], self.widths[1:], strict=True))

    @property
    def products(self) -> int:
        """Multiplications of one pass at one point, about."""
        return self.parameter_count

    @property
    def weight_factors(self) -> tuple[Scale, ...]:
        """(c_1, ..., c_D) with c_l = s_w / sqrt(m_{l-1}), the factor in front of W^l."""
        return tuple(self.weight_scale / math.sqrt(m) for m in self.widths[:-1])

    @property
    def trained_factors(self) -> tuple[tuple[Scale, Scale], ...]:
        """(c_l, s_b) for each layer, with 0 for weights and for biases that are frozen."""
        pairs = zip(self.weight_factors, self.trained, strict=True)
        return tuple((c if w else 0.0, self.bias_scale if b else 0.0) for c, (w, b) in pairs)

    @property
    def bends(self) -> bool:
        """Whether a hidden layer moves; else J is constant, and the model linear in what moves."""
        return any(map(any, self.trained[:-1]))

    def moving(self, params: Any) -> Any:
        """Zeros in place of the arrays that are frozen, in a pytree like ``params``; traceable."""
        if self.trainable == "all":
            return params
        leaves, structure = jax.tree.flatten(params)
        moves = [moves for kind in zip(*self.trained, strict=True) for moves in kind]
        kept = zip(leaves, moves, strict=True)
        return jax.tree.unflatten(structure, [a if moves else 0 * a for a, moves in kept])

    def init(self, key: Array, dtype: jax.typing.DTypeLike = jnp.float32) -> Params:
        """Draw the initial parameters, independent N(0, 1).

        Args:
            key: A JAX PRNG key.
            dtype: float32, or float64 inside ``jax.enable_x64(True)``.

        Returns:
            ``(weights, biases)``.
        """
        return draw_parameters(self.widths, np.dtype(dtype), require_key(key))

    def apply(self, params: Params, x: Float[Array | np.ndarray, "n d"]) -> Float[Array, "n k"]:
        """Evaluate the network on a batch.

        Args:
            params: ``(weights, biases)``.
            x: Inputs, shape (n, in_dim).

        Returns:
            Outputs, shape (n, out_dim), in the precision JAX computes in.
        """
        h = jnp.asarray(x)
        for layer in range(self.layers - 1):
            h = self.act.fn(self.preactivation(params, layer, h))
        return self.output_scale * self.preactivation(params, self.layers - 1, h)

    def preactivation(self, params: Params, layer: int, h: Array) -> Array:
        """z^{l+1} from h^l, for ``layer`` = l counted from 0; shapes (n, m_l) -> (n, m_{l+1})."""
        weights, bias = params[0][layer], params[1][layer]
        if not self.trained[layer][0]:
            weights = jax.lax.stop_gradient(weights)
        z = self.weight_factors[layer] * (h @ weights.T)
        if isinstance(self.bias_scale, float) and self.bias_scale == 0.0:  # not if it is traced
            return z
        if not self.trained[layer][1]:
            bias = jax.lax.stop_gradient(bias)
        return z + self.bias_scale * jnp.expand_dims(bias, 0)

    def validate(self, params: Params) -> None:
        """Check that ``params`` has this network's structure and only finite entries.

        Of parameters that a JAX transformation traces the structure is all that can be checked.

        Raises:
            InputError: The structure or a shape differs, or an entry is NaN or infinite.
        """
        expected = [(m, n) for n, m in zip(self.widths[:-1], self.widths[1:], strict=True)]
        try:
            weights, biases = params
            shapes = [np.shape(w) for w in weights], [np.shape(b) for b in biases]
        except (TypeError, ValueError) as error:
            raise InputError("params must be a pair of tuples (weights, biases)") from error
        if shapes != (expected, [(m,) for m, _ in expected]):
            raise InputError(
                f"params have weights {shapes[0]} and biases {shapes[1]}, the model needs weights "
                f"{expected}: use params from this model's init"
            )
        for kind, arrays in (("weights", weights), ("biases", biases)):
            for layer, array in enumerate(arrays):
                if not is_traced(array) and not np.isfinite(np.asarray(array)).all():
                    raise InputError(
                        f"{kind}[{layer}] has a NaN or infinite entry: did training diverge? "
                        "Take a smaller step"
                    )


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    if isinstance(widths, int | np.integer):
        raise InputError(f"hidden_widths must be a tuple such as ({widths},), one entry a layer")
    return tuple(require_whole("every entry of hidden_widths", m, 1) for m in widths)


def _scale(name: str, value: Scale, positive: bool = False) -> Scale:
    if is_traced(value):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a number, not {value!r}") from error
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        raise InputError(f"{name} must be {'positive' if positive else '0 or more'} and finite")
    return number
