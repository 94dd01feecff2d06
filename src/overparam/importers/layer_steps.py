"""A stack of layers as a list of steps, whatever library they come from."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.importers.exact_arrays import exact_float64
from overparam.importers.imported_network import ImportedNetwork, Scales, TrainedLayer, build
from overparam.model.activation import Activation


class ActivationStep(NamedTuple):
    """An activation layer."""

    name: str
    activation: Activation


class Convolution(NamedTuple):
    """A convolution over images; weights (out, height, width, in)."""

    name: str
    weight: Float[np.ndarray, "out height width in"]
    bias: Float[np.ndarray, " out"] | None
    stride: int
    padding: str | int


class Means(NamedTuple):
    """Means over windows that do not overlap; None for the whole image."""

    name: str
    window: tuple[int, int] | None


class Norm(NamedTuple):
    """Layer norm over the last axis."""

    name: str
    epsilon: float
    gain: Float[np.ndarray, " m"] | None
    bias: Float[np.ndarray, " m"] | None


class Flat(NamedTuple):
    """All entries in a row."""

    name: str


class Block(NamedTuple):
    """A residual sum, h + block(h)."""

    name: str
    steps: tuple[Any, ...]


Step = TrainedLayer | ActivationStep | Convolution | Means | Norm | Flat | Block


def read_layers(
    layers: Iterable[Any], read: Callable[[Any, str, str], Step | None], mode: str
) -> tuple[list[Step], tuple[str, ...]]:
    """The steps of a stack of layers, and notes.

    Args:
        layers: From the input to the output; dropout is the identity.
        read: From a layer, the name of its class and a label to its step, None for the identity.
        mode: What the library calls the mode in which it is.

    Raises:
        InputError: A layer is not supported, dropout is in training mode, or a layer norm stands
            twice.
    """
    steps: list[Step] = []
    notes: tuple[str, ...] = ()
    norms: list[Any] = []  # whose gains are often all 1, so that values do not tell them apart
    for number, layer in enumerate(layers):
        name = type(layer).__name__
        label = f"layer {number} ({getattr(layer, '__name__', name)})"
        if name == "Dropout":
            require_inference(layer, label)
            notes = (f"Dropout is the identity here: the network is the one in {mode} mode",)
        elif (step := read(layer, name, label)) is not None:
            if isinstance(step, Norm):
                if any(layer is other for other in norms):
                    raise InputError(f"{label} stands twice: tied parameters are not supported")
                norms.append(layer)
            steps.append(step)
    return steps, notes


def linear(label: str, weight: Any, bias: Any, kind: str = "weight") -> TrainedLayer:
    """A layer's arrays, of any library, as float64; a Flax kernel is (in, out)."""
    exact = exact_float64(weight, f"the {kind} of {label}")
    weight = np.ascontiguousarray(exact.T) if kind == "kernel" else exact
    return TrainedLayer(
        label, weight, None if bias is None else exact_float64(bias, f"bias of {label}")
    )


def convolution(
    label: str, weight: Any, bias: Any, stride: Any, padding: Any, plain: bool
) -> Convolution:
    """A layer's arrays and options; weights (out, height, width, in).

    Args:
        label: For messages.
        weight: float64.
        bias: Or None.
        stride: One number, or the same for both axes.
        padding: "SAME", "VALID", a number, or the same for all sides.
        plain: Whether it has neither groups nor dilation.

    Raises:
        InputError: It is of another kind.
    """
    strides, pads = set(np.ravel(stride).tolist()), padding
    if not isinstance(padding, str):
        sides = set(np.ravel(padding).tolist())
        pads = sides.pop() if len(sides) == 1 else None
    else:
        pads = padding.upper()
    if not plain or len(strides) > 1 or (pads not in ("SAME", "VALID") and type(pads) is not int):
        raise InputError(
            f"{label} is not supported: convolutions over images with one stride and the same "
            "zeros on all sides are, without groups or dilation"
        )
    offset = None if bias is None else exact_float64(bias, f"bias of {label}").reshape(-1)
    return Convolution(label, np.ascontiguousarray(weight), offset, int(strides.pop()), pads)


def norm(label: str, epsilon: float, gain: Any, bias: Any) -> Norm:
    """A layer norm over the last axis."""
    arrays = [
        None if array is None else exact_float64(array, f"{kind} of {label}").reshape(-1)
        for kind, array in (("gain", gain), ("bias", bias))
    ]
    return Norm(label, float(epsilon), *arrays)


def means(label: str, window: Any, stride: Any, padding: Any) -> Means:
    """A pooling by means.

    Raises:
        InputError: Its windows overlap, leave gaps, or see zeros around.
    """
    sides = tuple(np.broadcast_to(window, 2).tolist())
    same = tuple(np.broadcast_to(stride, 2).tolist()) == sides
    if not same or np.any(padding):
        raise InputError(f"{label} is not supported: its windows must not overlap, nor be padded")
    return Means(label, sides)


def require_inference(dropout: Any, label: str) -> None:
    """Refuse a dropout layer that would drop something.

    Args:
        dropout: Of PyTorch, Equinox or Flax.
        label: For messages.

    Raises:
        InputError: It is in training mode.
    """
    mends = {  # by the attribute that tells the mode, with what it is in training mode
        "training": (True, "module.eval()"),
        "inference": (False, "equinox.nn.inference_mode(module)"),
        "deterministic": (False, "module.eval()"),
    }
    rate = getattr(dropout, "p", getattr(dropout, "rate", 1.0))
    for name, (in_training, mend) in mends.items():
        if getattr(dropout, name, None) is in_training and rate > 0:
            raise InputError(
                f"{label} is in training mode, in which the network is no function of its "
                f"parameters: import {mend}"
            )


def batch_norm(name: str) -> str:
    """What to say of a layer of this name beside that it is not supported."""
    if not name.startswith("BatchNorm"):
        return ""
    return (
        "; with batch normalisation a point's output depends on the others: in evaluation mode "
        "fold it into the layer before it"
    )


def plain_steps(steps: Sequence[Step]) -> bool:
    """Whether there are linear layers and activations only, as in a perceptron."""
    return all(isinstance(step, TrainedLayer | ActivationStep) for step in steps)


def random_points(network: ImportedNetwork) -> Float[np.ndarray, "64 d"]:
    """Points at which a network that can be called is compared with its import."""
    return np.random.default_rng(0).standard_normal((64, network.model.in_dim))


def evaluated(module: Any, call: Callable[[], Any]) -> np.ndarray:
    """What a call of a module gives.

    Raises:
        InputError: It raises something; the message says what.
    """
    try:
        return np.asarray(call())
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        name = type(module).__name__
        raise InputError(f"the {name} cannot be evaluated: {reason}") from error


def network_of(
    steps: Sequence[Step],
    scales: Scales | str,
    source: str,
    notes: tuple[str, ...] = (),
) -> ImportedNetwork:
    """The network of linear layers and activations in turn.

    Raises:
        InputError: They are not in turn, the activations differ, or one follows the last layer.
    """
    if not any(isinstance(step, TrainedLayer) for step in steps):
        raise InputError(f"{source} has no linear layer")
    if isinstance(steps[0], ActivationStep):
        raise InputError(
            f"{steps[0].name} comes before the first linear layer of {source}: apply it to the data"
        )
    if isinstance(steps[-1], ActivationStep):
        raise InputError(
            f"{steps[-1].name} follows the last linear layer of {source}: leave it out, so that "
            "the outputs are the ones before it (the logits), and put it into the loss"
        )
    for below, above in itertools.pairwise(steps):
        if isinstance(below, TrainedLayer) and isinstance(above, TrainedLayer):
            raise InputError(
                f"no activation between {below.name} and {above.name} of {source}: multiply the "
                "two layers into one"
            )
        if isinstance(below, ActivationStep) and isinstance(above, ActivationStep):
            raise InputError(f"two activations in a row in {source}: {below.name}, {above.name}")
    pointwise = [step for step in steps if isinstance(step, ActivationStep)]
    others = [step for step in pointwise if step.activation != pointwise[0].activation]
    if others:
        raise InputError(
            f"{source} has different activations, {pointwise[0].name} and {others[0].name}: only "
            "networks with one activation are supported"
        )
    activation: str | Activation = pointwise[0].activation if pointwise else "identity"
    affine = [step for step in steps if isinstance(step, TrainedLayer)]
    return build(affine, activation, scales, source, notes)
