"""From Flax: parameters of Linen modules, and NNX modules."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.importers.composed import composed_of
from overparam.importers.exact_arrays import exact_float64
from overparam.importers.imported_network import (
    FLOAT32_TOLERANCE,
    TOLERANCE,
    Check,
    ImportedNetwork,
    Scales,
    compare,
)
from overparam.importers.layer_steps import (
    ActivationStep,
    Flat,
    Means,
    Step,
    batch_norm,
    convolution,
    evaluated,
    linear,
    network_of,
    norm,
    plain_steps,
    random_points,
    read_layers,
)
from overparam.importers.pytorch import from_arrays
from overparam.importers.recognition import flattens, pooled, recognise
from overparam.model.activation import Activation, get_activation
from overparam.model.composed import Composed


def from_flax(
    source: Any,
    activation: str | Activation | None = None,
    *,
    layers: Sequence[str] | None = None,
    scales: Scales | str = "ntk",
    check: Check | None = None,
    in_shape: tuple[int, ...] | None = None,
) -> ImportedNetwork:
    """Import a Flax network.

    An NNX module is compared with its import at random points, in float64 unless its layers insist
    on another dtype. Parameters alone cannot be: give outputs with ``check``.

    Args:
        source: An ``nnx.Sequential`` of ``Linear``, ``Conv``, ``LayerNorm``, ``Dropout`` and
            functions, whose activations, flattening and pooling are read; another ``nnx.Module`` of
            ``nnx.Linear`` layers, or the parameters of a Linen module (``{"params": {...}}`` or the
            inner dictionary), with ``activation``.
        activation: The activation between the layers; for an ``nnx.Sequential`` in place of its
            own, if that is not known here.
        layers: Names of the layers in the order of their use, each once. Parameters in which a
            width occurs twice do not show it and need this or ``check``.
        scales: Of the NTK form; see :class:`Scales`.
        check: Points and the network's outputs there, to compare the import with.
        in_shape: (height, width, channels) of a point, for a module of images; its points are then
            flat here, channels fastest.

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
        steps, notes = read_layers(source.layers, partial(_step, given=given), "evaluation")
        if in_shape is None and plain_steps(steps):
            network = network_of(steps, scales, name, notes)
        else:
            network = composed_of(steps, in_shape, scales, name, notes, channels_first=False)
    else:
        params = nnx.to_pure_dict(nnx.state(source, nnx.Param))
        network = from_arrays(
            params, given, name, layers=layers, scales=scales, ordered=False, compared=True
        )
    x = random_points(network)
    images = isinstance(network.model, Composed)
    outputs, exact = _outputs(source, x.reshape(-1, *network.model.shape) if images else x)
    network.check(x, outputs, TOLERANCE if exact else FLOAT32_TOLERANCE)
    return compare(network, check)


def _is_nnx(source: Any) -> bool:
    return any(base.__module__.startswith("flax.nnx") for base in type(source).__mro__)


def _step(layer: Any, name: str, label: str, given: Activation | None) -> Step:
    if name == "Linear":
        bias = None if layer.bias is None else layer.bias[...]
        return linear(label, layer.kernel[...], bias, "kernel")
    if name == "Conv":
        kernel = exact_float64(layer.kernel[...], f"the kernel of {label}")
        bias = None if layer.bias is None else layer.bias[...]
        dilations = {1, *np.ravel(layer.input_dilation), *np.ravel(layer.kernel_dilation)}
        plain = kernel.ndim == 4 and layer.feature_group_count == 1 and dilations == {1}
        plain = plain and getattr(layer, "mask", None) is None  # what is masked does not move
        return convolution(
            label, np.moveaxis(kernel, -1, 0), bias, layer.strides or 1, layer.padding, plain
        )
    axes = (-1, (-1,))
    if name == "LayerNorm" and layer.reduction_axes in axes and layer.feature_axes in axes:
        gain, bias = (None if a is None else a[...] for a in (layer.scale, layer.bias))
        return norm(label, layer.epsilon, gain, bias)
    if _is_nnx(layer):
        raise InputError(
            f"{label} is not supported: Linear, Conv, LayerNorm over the last axis, Dropout and "
            f"functions are{batch_norm(name)}"
        )
    if flattens(layer, batched=True):
        return Flat(label)
    window = pooled(layer)
    if window is not None:
        return Means(label, window)
    return ActivationStep(label, given or recognise(layer, label))


def _outputs(module: Any, x: Float[np.ndarray, "n ..."]) -> tuple[np.ndarray, bool]:
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
