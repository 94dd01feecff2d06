"""From Flax: parameters of Linen modules, and NNX modules."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.importers.activations import recognise
from overparam.importers.network import (
    FLOAT32_TOLERANCE,
    TOLERANCE,
    Affine,
    Check,
    ImportedNetwork,
    Scales,
    compare,
)
from overparam.importers.pytorch import from_arrays
from overparam.importers.steps import (
    Pointwise,
    evaluated,
    linear,
    network_of,
    random_points,
)
from overparam.model.activation import Activation, get_activation


def from_flax(
    source: Any,
    activation: str | Activation | None = None,
    *,
    layers: Sequence[str] | None = None,
    scales: Scales | str = "ntk",
    check: Check | None = None,
) -> ImportedNetwork:
    """Import a Flax network.

    An NNX module is compared with its import at random points, in float64 unless its layers insist
    on another dtype. Parameters alone cannot be: give outputs with ``check``.

    Args:
        source: An ``nnx.Sequential``, whose activations are read; another ``nnx.Module`` of
            ``nnx.Linear`` layers, or the parameters of a Linen module (``{"params": {...}}`` or the
            inner dictionary), with ``activation``.
        activation: The activation between the layers; for an ``nnx.Sequential`` in place of its
            own, if that is not known here.
        layers: Names of the layers in the order of their use, each once. Parameters in which a
            width occurs twice do not show it and need this or ``check``.
        scales: Of the NTK form; see :class:`Scales`.
        check: Points and the network's outputs there, to compare the import with.

    Returns:
        The :class:`ImportedNetwork`.

    Raises:
        InputError: A layer or an activation is not supported, arrays are missing, left over or of
            unfit shapes or those of several networks, layers share their weights, or the outputs
            are others than the import's.
    """
    given = None if activation is None else get_activation(activation)
    if isinstance(source, Mapping) and not _is_nnx(source):
        params = source.get("params", source)
        left_over = [key for key in source if key != "params"] if "params" in source else []
        if left_over:
            raise InputError(
                f"the variables have the collection {left_over[0]!r} besides params (batch "
                "normalisation?): only linear layers are supported"
            )
        named = "the Flax parameters"
        return from_arrays(
            params, given, named, layers=layers, scales=scales, ordered=False, check=check
        )
    if not _is_nnx(source):
        raise InputError(
            f"a {type(source).__name__} is no Flax network: give an nnx.Module or the parameters "
            "of a Linen module"
        )
    from flax import nnx  # the module brings it along

    name = type(source).__name__
    if name == "Sequential":
        steps, notes = _steps(source, given)
        network = network_of(steps, scales, name, notes)
    else:
        params = nnx.to_pure_dict(nnx.state(source, nnx.Param))
        network = from_arrays(
            params, given, name, layers=layers, scales=scales, ordered=False, compared=True
        )
    x = random_points(network)
    outputs, exact = _outputs(source, x)
    network.check(x, outputs, TOLERANCE if exact else FLOAT32_TOLERANCE)
    return compare(network, check)


def _is_nnx(source: Any) -> bool:
    return any(base.__module__.startswith("flax.nnx") for base in type(source).__mro__)


def _steps(
    module: Any, given: Activation | None
) -> tuple[list[Affine | Pointwise], tuple[str, ...]]:
    steps: list[Affine | Pointwise] = []
    notes: tuple[str, ...] = ()
    for number, layer in enumerate(module.layers):
        name = type(layer).__name__
        label = f"layer {number} ({getattr(layer, '__name__', name)})"
        if name == "Linear":
            bias = None if layer.bias is None else layer.bias[...]
            steps.append(linear(label, layer.kernel[...], bias, "kernel"))
        elif name == "Dropout":
            notes = ("Dropout is the identity here: the network is the one in evaluation mode",)
        elif _is_nnx(layer):
            raise InputError(f"{label} is not supported: Linear, Dropout and functions are")
        else:
            steps.append(Pointwise(label, given or recognise(layer, label)))
    return steps, notes


def _outputs(module: Any, x: Float[np.ndarray, "n d"]) -> tuple[np.ndarray, bool]:
    """The module's outputs with its parameters in float64, and whether it computed in float64."""
    from flax import nnx

    graph, state = nnx.split(module)
    with jax.enable_x64(True):

        def widen(a: Any) -> Any:
            real = jnp.issubdtype(a.dtype, jnp.floating)
            return jnp.asarray(np.asarray(a, np.float64)) if real else a

        twin = nnx.merge(graph, jax.tree.map(widen, state))
        twin.eval()
        outputs = evaluated(module, lambda: twin(jnp.asarray(x)))
    return np.asarray(outputs, np.float64), outputs.dtype == np.float64
