"""From Equinox: ``equinox.nn.MLP`` and ``equinox.nn.Sequential``."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.importers.activations import is_identity, recognise
from overparam.importers.network import Affine, ImportedNetwork, Scales, build
from overparam.importers.steps import (
    Pointwise,
    evaluated,
    linear,
    network_of,
    random_points,
)
from overparam.model.activation import Activation, get_activation


def from_equinox(
    module: Any,
    activation: str | Activation | None = None,
    *,
    scales: Scales | str = "ntk",
) -> ImportedNetwork:
    """Import an Equinox network; it is compared with its import at random points, in float64.

    Args:
        module: An ``equinox.nn.MLP``, or an ``equinox.nn.Sequential`` of ``Linear``, ``Lambda``,
            ``Dropout`` and ``Identity``.
        activation: In place of the module's own, if that is not known here.
        scales: Of the NTK form; see :class:`Scales`.

    Returns:
        The :class:`ImportedNetwork`.

    Raises:
        InputError: A layer or an activation is not supported, or the outputs differ.
    """
    name = type(module).__name__
    if not type(module).__module__.startswith("equinox."):
        raise InputError(f"a {name} is no Equinox network: give an equinox.nn.MLP or Sequential")
    given = None if activation is None else get_activation(activation)
    if name == "MLP":
        if not is_identity(module.final_activation):
            raise InputError(
                "the MLP's final_activation is not the identity: leave it out, so that the "
                "outputs are the ones before it, and put it into the loss"
            )
        layers = [linear(f"layer {i}", a.weight, a.bias) for i, a in enumerate(module.layers)]
        inner = given or recognise(module.activation, "activation of the MLP")
        network = build(layers, inner, scales, name)
    elif name == "Sequential":
        steps, notes = _steps(module, given)
        network = network_of(steps, scales, name, notes)
    else:
        raise InputError(f"equinox.nn.{name} is not supported: give an MLP or a Sequential")
    x = random_points(network)
    network.check(x, _outputs(module, x))
    return network


def _steps(
    module: Any, given: Activation | None
) -> tuple[list[Affine | Pointwise], tuple[str, ...]]:
    steps: list[Affine | Pointwise] = []
    notes: tuple[str, ...] = ()
    for number, layer in enumerate(module.layers):
        name = type(layer).__name__
        label = f"layer {number} ({name})"
        if name == "Linear":
            steps.append(linear(label, layer.weight, layer.bias))
        elif name == "Lambda":
            steps.append(Pointwise(label, given or recognise(layer.fn, label)))
        elif name == "Dropout":
            notes = ("Dropout is the identity here: the network is the one in inference mode",)
        elif name != "Identity":
            raise InputError(
                f"{label} is not supported: Linear, Lambda, Dropout and Identity layers are"
            )
    return steps, notes


def _outputs(module: Any, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """The module's own outputs, with its arrays and arithmetic in float64."""
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64) if isinstance(leaf, Array) else leaf, module
        )
        points = x[:, 0] if getattr(module, "in_size", None) == "scalar" else x
        outputs = evaluated(module, lambda: jax.vmap(_inference(wide))(points))
    return outputs.reshape(len(x), -1)


def _inference(module: Any) -> Any:
    """A ``Sequential`` without its dropout layers, which ask for a key."""
    if type(module).__name__ != "Sequential":
        return module
    return type(module)([layer for layer in module.layers if type(layer).__name__ != "Dropout"])
