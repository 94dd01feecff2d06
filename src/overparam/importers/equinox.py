"""From Equinox: ``equinox.nn.MLP`` and ``equinox.nn.Sequential``."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.importers.composed import composed_of
from overparam.importers.exact_arrays import exact_float64
from overparam.importers.imported_network import ImportedNetwork, Scales, build
from overparam.importers.layer_steps import (
    ActivationStep,
    Block,
    Flat,
    Step,
    batch_norm,
    convolution,
    evaluated,
    linear,
    means,
    network_of,
    norm,
    plain_steps,
    random_points,
    read_layers,
)
from overparam.importers.recognition import flattens, is_identity, recognise
from overparam.model.activation import Activation, get_activation
from overparam.model.composed import Composed


def from_equinox(
    module: Any,
    activation: str | Activation | None = None,
    *,
    scales: Scales | str = "ntk",
    in_shape: tuple[int, ...] | None = None,
) -> ImportedNetwork:
    """Import an Equinox network; it is compared with its import at random points, in float64.

    Args:
        module: An ``equinox.nn.MLP``, or an ``equinox.nn.Sequential`` of ``Linear``, ``Conv2d``,
            ``AvgPool2d``, ``LayerNorm``, ``Lambda``, ``Dropout`` and ``Identity``, and of modules
            that hold one ``Sequential`` and add what it makes of h to h.
        activation: In place of the module's own, if that is not known here.
        scales: Of the NTK form; see :class:`Scales`.
        in_shape: (height, width, channels) of a point, for a module of images (which has channels
            first); its points are then flat here, channels fastest.

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
        steps, notes = read_layers(module.layers, partial(_step, given=given), "inference")
        if in_shape is None and plain_steps(steps):
            network = network_of(steps, scales, name, notes)
        else:
            network = composed_of(steps, in_shape, scales, name, notes, channels_first=True)
    else:
        raise InputError(f"equinox.nn.{name} is not supported: give an MLP or a Sequential")
    x = random_points(network)
    points = x
    if isinstance(network.model, Composed) and len(network.model.shape) == 3:
        points = np.moveaxis(x.reshape(len(x), *network.model.shape), -1, 1)
    network.check(x, _outputs(module, points))
    return network


def _step(layer: Any, name: str, label: str, given: Activation | None) -> Step | None:
    if name == "Linear":
        return linear(label, layer.weight, layer.bias)
    if name == "Lambda":
        if flattens(layer.fn, batched=False):
            return Flat(label)
        return ActivationStep(label, given or recognise(layer.fn, label))
    if name == "Identity":
        return None
    if name == "Conv2d":
        weight = exact_float64(layer.weight, f"the weight of {label}")
        plain = layer.groups == 1 and set(np.ravel(layer.dilation).tolist()) == {1}
        weight = np.moveaxis(weight, 1, -1)
        return convolution(label, weight, layer.bias, layer.stride, layer.padding, plain)
    if name == "AvgPool2d":
        return means(label, layer.kernel_size, layer.stride, layer.padding)
    if name == "LayerNorm" and len(layer.shape) == 1:
        return norm(label, layer.eps, layer.weight, layer.bias)
    inner = _only_stack(layer)
    if inner is not None:  # whether it is added to its input the comparison will tell
        steps, _ = read_layers(inner.layers, partial(_step, given=given), "inference")
        return Block(label, tuple(steps))
    raise InputError(
        f"{label} is not supported: Linear, Conv2d, AvgPool2d, LayerNorm over one axis, Lambda, "
        f"Dropout and Identity layers are{batch_norm(name)}"
    )


def _only_stack(layer: Any) -> Any:
    """The one ``Sequential`` in a module of somebody's own, if there is nothing else in it."""
    parts = list(getattr(layer, "__dict__", {}).values())
    own = not type(layer).__module__.startswith("equinox.")
    one = own and len(parts) == 1 and type(parts[0]).__name__ == "Sequential"
    return parts[0] if one else None


def _outputs(module: Any, x: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n k"]:
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
    import equinox  # the module brings it along

    return equinox.nn.inference_mode(module)
