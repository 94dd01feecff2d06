"""From PyTorch: an ``nn.Sequential``, any other module of linear layers, or a state dict.

An ``nn.Sequential`` may hold convolutions, means and layer norm; its images have channels first.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overparam.errors import InputError
from overparam.importers.composed import composed_of
from overparam.importers.exact_arrays import exact_float64
from overparam.importers.imported_network import Check, ImportedNetwork, Scales, build, compare
from overparam.importers.layer_steps import (
    ActivationStep,
    Block,
    Flat,
    Means,
    Step,
    convolution,
    linear,
    means,
    network_of,
    norm,
    plain_steps,
    random_points,
    require_inference,
)
from overparam.importers.recognition import TORCH_LAYERS
from overparam.importers.state_dict import affine_layers
from overparam.model.activation import ACTIVATIONS, Activation, get_activation
from overparam.model.composed import Composed

_DROPOUTS = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "Dropout1d", "Dropout2d")
_LAYERS = ("Linear", "Conv2d", "LayerNorm")
"""Those with parameters."""


def from_torch(
    source: Any,
    activation: str | Activation | None = None,
    *,
    layers: Sequence[str] | None = None,
    scales: Scales | str = "ntk",
    check: Check | None = None,
    in_shape: tuple[int, ...] | None = None,
) -> ImportedNetwork:
    """Import a PyTorch network.

    Dropout and ``Identity`` are the identity of a network in evaluation mode, and so is
    ``Flatten`` on points of shape (n, d). A module is compared with its import at random points,
    in float64.

    Args:
        source: An ``nn.Sequential`` (nested ones are unrolled), whose activations are read, with
            ``Linear``, ``Conv2d``, ``AvgPool2d``, ``AdaptiveAvgPool2d(1)``, ``LayerNorm`` over one
            axis and ``Flatten``, and modules of one's own that hold one ``Sequential`` and add what
            it makes of h to h; another ``nn.Module`` or a state dict, with ``activation``.
        activation: The activation between the layers. For an ``nn.Sequential`` it stands for
            layers that are not known here.
        layers: Names of the layers in the order of their use, each once, such as ("encoder",
            "head"). A state dict in which a width occurs twice does not show it and needs this or
            ``check``.
        scales: Of the NTK form; see :class:`Scales`.
        check: Points and the network's outputs there, to compare the import with.
        in_shape: (height, width, channels) of a point, for a module of images (which has channels
            first); its points are then flat here, channels fastest.

    Returns:
        The :class:`ImportedNetwork`.

    Raises:
        InputError: A layer or an activation is not supported, arrays are missing, left over, not
            finite or of unfit shapes, a state dict is that of several networks, layers share their
            weights, or the outputs are others than the import's.
    """
    given = None if activation is None else get_activation(activation)
    if isinstance(source, Mapping):
        named = "the state dict"
        return from_arrays(source, given, named, layers=layers, scales=scales, check=check)
    if not hasattr(source, "state_dict") or not callable(source):
        raise InputError(
            f"a {type(source).__name__} is no PyTorch network: give an nn.Sequential, another "
            "nn.Module or a state dict"
        )
    name = type(source).__name__
    if name in ("Sequential", "Linear") and _from_torch(source):
        steps, notes = _steps(source, given, name)
        _refuse_twice(source, name)
        said, flat = tuple(dict.fromkeys(notes)), [s for s in steps if not isinstance(s, Flat)]
        if in_shape is None and plain_steps(flat):
            network = network_of(flat, scales, name, said)
        else:
            network = composed_of(steps, in_shape, scales, name, said, channels_first=True)
    else:
        network = from_arrays(
            source.state_dict(), given, name, layers=layers, scales=scales, compared=True
        )
    _check(network, source)
    return compare(network, check)


def from_arrays(
    arrays: Mapping[str, Any],
    activation: Activation | None,
    source: str,
    *,
    layers: Sequence[str] | None,
    scales: Scales | str,
    ordered: bool = True,
    check: Check | None = None,
    compared: bool = False,
) -> ImportedNetwork:
    """Import named arrays; see :func:`overparam.importers.state_dict.affine_layers`."""
    compared = compared or check is not None
    affine = affine_layers(arrays, source, layers=layers, ordered=ordered, compared=compared)
    if activation is None:
        if len(affine) > 1:
            raise InputError(
                f"{source} does not say what is between the layers: give activation= one of "
                f"{', '.join(ACTIVATIONS)}"
            )
        activation = get_activation("identity")
    return compare(build(affine, activation, scales, source), check)


def _from_torch(module: Any) -> bool:
    return type(module).__module__.startswith("torch.")


def _refuse_twice(source: Any, name: str) -> None:
    """No layer with parameters is used twice, which ``modules()`` would show once."""
    every = source.named_modules(remove_duplicate=False)
    layers = [module for _, module in every if type(module).__name__ in _LAYERS]
    twice = [module for i, module in enumerate(layers) if any(module is m for m in layers[:i])]
    if twice:
        kind = type(twice[0]).__name__
        raise InputError(f"a {kind} layer stands twice in {name}: tied weights are unsupported")


def _steps(module: Any, given: Activation | None, path: str) -> tuple[list[Step], list[str]]:
    """The steps of a ``Sequential``, and notes."""
    name, known = type(module).__name__, _from_torch(module)
    if known and name == "Sequential":
        steps, notes = list[Step](), list[str]()
        for number, child in enumerate(module):  # one activation may stand in several places
            inner = str(number) if path == "Sequential" else f"{path}.{number}"
            more, said = _steps(child, given, inner)
            steps += more
            notes += said
        return steps, notes
    label = f"layer {path} ({name})"
    if known and name == "Linear":
        return [linear(label, module.weight, module.bias)], []
    if known and name == "Identity":
        return [], []
    if known and name in _DROPOUTS:
        require_inference(module, label)
        return [], [f"{name} is the identity here: the network is the one in evaluation mode"]
    if known and (step := _of_images(module, name, label)) is not None:
        return [step], []
    inner_stack = list(module.children())
    if not known and len(inner_stack) == 1 and type(inner_stack[0]).__name__ == "Sequential":
        more, notes = _steps(inner_stack[0], given, path)  # whether it is added the outputs tell
        return [Block(label, tuple(more))], notes
    if given is not None and not list(module.parameters()):
        return [ActivationStep(label, given)], []
    if known and name in TORCH_LAYERS:
        notes = []
        if name == "Softplus":
            notes = [
                f"PyTorch's Softplus is linear above {module.threshold / module.beta:g}; here it "
                "is smooth, and larger there by at most "
                f"{np.log1p(np.exp(-module.threshold)) / module.beta:.1e}"
            ]
        return [ActivationStep(label, TORCH_LAYERS[name](module))], notes
    raise InputError(f"{label} is not supported{_hint(name)}")


def _of_images(module: Any, name: str, label: str) -> Step | None:
    """A layer that a perceptron does not have; None of other layers."""
    if name == "Flatten" and module.start_dim == 1 and module.end_dim == -1:
        return Flat(label)
    if name == "Conv2d":
        weight = np.moveaxis(exact_float64(module.weight, f"the weight of {label}"), 1, -1)
        plain = module.groups == 1 and set(module.dilation) == {1}
        plain = plain and module.padding_mode == "zeros"
        return convolution(label, weight, module.bias, module.stride, module.padding, plain)
    if name == "AvgPool2d" and not module.ceil_mode and module.divisor_override is None:
        return means(label, module.kernel_size, module.stride, module.padding)
    if name == "AdaptiveAvgPool2d" and set(np.ravel(module.output_size).tolist()) == {1}:
        return Means(label, None)
    if name == "LayerNorm" and len(module.normalized_shape) == 1:
        return norm(label, module.eps, module.weight, module.bias)
    return None


def _hint(name: str) -> str:
    if name.startswith("BatchNorm"):
        return ": fold it into the linear layer (torch.nn.utils.fusion.fuse_linear_bn_eval)"
    if name.startswith(("Conv", "Lazy", "LayerNorm", "RNN", "LSTM", "Embedding", "AdaptiveAvg")):
        known = "Linear, Conv2d, AvgPool2d, AdaptiveAvgPool2d(1), LayerNorm over one axis, Flatten"
        return f": {known} and activations are"
    return (
        f": linear layers and {', '.join(TORCH_LAYERS)} are; for another activation give "
        "activation=Activation(name, fn, slope_bound=...)"
    )


def _check(network: ImportedNetwork, module: Any) -> None:
    """Compare at random points, in float64, on a copy in evaluation mode."""
    import torch  # the module brings it along

    x = points = random_points(network)
    if isinstance(network.model, Composed) and len(network.model.shape) == 3:
        points = np.moveaxis(x.reshape(len(x), *network.model.shape), -1, 1)
    try:
        with torch.no_grad():
            twin = copy.deepcopy(module).cpu().double().eval()
            outputs = twin(torch.from_numpy(np.ascontiguousarray(points))).numpy()
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{network.source} does not map points (n, {network.model.in_dim}) to outputs "
            f"({reason}): give its state dict instead"
        ) from error
    network.check(x, outputs)
