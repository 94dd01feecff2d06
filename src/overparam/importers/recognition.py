"""Which activation a layer or a function from elsewhere is.

PyTorch's layers say it by their class and their options; a JAX function is recognised by its
values. What has a free parameter is made here: its constants are exact (docs/imports.md), but as
its name is not built in, certificates call them assumed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from overparam.errors import InputError
from overparam.limits import require_positive
from overparam.model.activation import ACTIVATIONS, Activation, abs_linear

FAR = np.geomspace(31, 300, 20)
"""Where a function that is cut off has been; beyond, exponentials of twice the number overflow."""

GRID = np.concatenate([np.linspace(-30, 30, 241), np.linspace(-3, 3, 241) + 0.0123, FAR, -FAR])
"""Where functions are compared."""


@dataclass(frozen=True)
class _Exponential:
    """scale * s for s > 0, scale * alpha (e^(s / width) - 1) else; ELU, SELU and CELU."""

    alpha: float
    width: float = 1.0
    scale: float = 1.0

    def __call__(self, s: Array) -> Array:
        below = self.alpha * jnp.expm1(jnp.where(s > 0, 0, s) / self.width)
        return self.scale * jnp.where(s > 0, s, below)


@dataclass(frozen=True)
class _Softplus:
    """log(1 + e^(beta s)) / beta."""

    beta: float

    def __call__(self, s: Array) -> Array:
        return jnp.logaddexp(self.beta * s, 0.0) / self.beta


SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def elu(alpha: float = 1.0) -> Activation:
    """s for s > 0, alpha (e^s - 1) else; its slope jumps at 0 unless alpha is 1."""
    return Activation(
        "elu" if alpha == 1 else f"elu(alpha={alpha!r})",
        _Exponential(alpha),
        max(1.0, abs(alpha)),
        1.0 if alpha == 1 else None,
    )


def celu(alpha: float = 1.0) -> Activation:
    """s for s > 0, alpha (e^(s / alpha) - 1) else."""
    if alpha == 1:
        return elu()
    require_positive("CELU's alpha", alpha)
    curvature = math.nextafter(1 / alpha, math.inf)
    return Activation(f"celu(alpha={alpha!r})", _Exponential(alpha, alpha), 1.0, curvature)


def selu() -> Activation:
    """PyTorch's and JAX's SELU; its slope jumps at 0."""
    fn = _Exponential(SELU_ALPHA, scale=SELU_SCALE)
    return Activation("selu", fn, math.nextafter(SELU_ALPHA * SELU_SCALE, math.inf), None)


def softplus(beta: float = 1.0) -> Activation:
    """log(1 + e^(beta s)) / beta."""
    if beta == 1:
        return ACTIVATIONS["softplus"]
    require_positive("Softplus's beta", beta)
    return Activation(f"softplus(beta={beta!r})", _Softplus(beta), 1.0, beta / 4)


def _leaky(slope: float) -> Activation:
    if slope == 0.01:
        return ACTIVATIONS["leaky_relu"]
    return abs_linear((1 - slope) / 2, (1 + slope) / 2)


def _gelu(approximate: str) -> Activation:
    return ACTIVATIONS["gelu" if approximate == "none" else "gelu_tanh"]


TORCH_LAYERS: dict[str, Callable[[Any], Activation]] = {
    "Tanh": lambda layer: ACTIVATIONS["tanh"],
    "Sigmoid": lambda layer: ACTIVATIONS["sigmoid"],
    "ReLU": lambda layer: ACTIVATIONS["relu"],
    "SiLU": lambda layer: ACTIVATIONS["silu"],
    "GELU": lambda layer: _gelu(layer.approximate),
    "LeakyReLU": lambda layer: _leaky(layer.negative_slope),
    "Softplus": lambda layer: softplus(layer.beta),
    "ELU": lambda layer: elu(layer.alpha),
    "CELU": lambda layer: celu(layer.alpha),
    "SELU": lambda layer: selu(),
}
"""Activation layers of ``torch.nn`` by their class's name."""


def recognise(function: Callable[[Any], Any], what: str) -> Activation:
    """The activation that a JAX function is, by its values at some hundred points.

    Args:
        function: Elementwise.
        what: For messages, e.g. "activation of MLP".

    Raises:
        InputError: It is none of the known ones.
    """
    with jax.enable_x64(True):
        points = jnp.asarray(GRID)
        try:
            values = np.asarray(function(points))
        except Exception as error:
            raise InputError(f"the {what} cannot be evaluated on an array: {_mend()}") from error
        if values.shape == GRID.shape:
            for candidate in (*ACTIVATIONS.values(), elu(), selu()):
                if np.allclose(values, candidate(points), rtol=1e-13, atol=1e-13):
                    return candidate
    name = getattr(function, "__name__", type(function).__name__)
    raise InputError(f"the {what}, {name}, is not a known activation: {_mend()}")


def is_identity(function: Callable[[Any], Any]) -> bool:
    """Whether a JAX function gives some hundred points back unchanged."""
    with jax.enable_x64(True):
        try:
            return bool(np.array_equal(np.asarray(function(jnp.asarray(GRID))), GRID))
        except Exception:  # whatever it is, it is not the identity
            return False


def flattens(function: Callable[[Any], Any], batched: bool) -> bool:
    """Whether a function puts the entries of a point in a row, of a point or of each of a batch."""
    points = np.arange(120.0, dtype=np.float32).reshape(2, 3, 4, 5)
    flat = points.reshape(2, -1)
    try:
        found = np.asarray(function(jnp.asarray(points if batched else points[0])))
    except Exception:  # whatever it is, it does not
        return False
    return np.array_equal(found, flat if batched else flat[0])


def pooled(function: Callable[[Any], Any]) -> tuple[int, int] | None:
    """The window over which a function of a batch of images takes means; None if it does not."""
    points = np.random.default_rng(0).standard_normal((2, 12, 12, 3)).astype(np.float32)
    try:
        found = np.asarray(function(jnp.asarray(points)))
    except Exception:  # whatever it is, it does not
        return None
    if found.ndim != 4 or found.shape[0] != 2 or found.shape[3] != 3 or 0 in found.shape:
        return None
    rows, columns = found.shape[1:3]
    height, width = 12 // rows, 12 // columns
    windows = points[:, : rows * height, : columns * width]
    means = windows.reshape(2, rows, height, columns, width, 3).mean(axis=(2, 4))
    if (height, width) == (1, 1) or not np.allclose(found, means, atol=1e-5):
        return None
    return height, width


def _mend() -> str:
    return (
        f"give activation= one of {', '.join(ACTIVATIONS)}, or Activation(name, fn, "
        "slope_bound=..., curvature_bound=...)"
    )
