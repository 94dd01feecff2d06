"""A stack of layers as a list of steps, whatever library they come from."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from overparam.errors import InputError
from overparam.importers.arrays import exact_float64
from overparam.importers.network import Affine, ImportedNetwork, Scales, build
from overparam.model.activation import Activation


class Pointwise(NamedTuple):
    """An activation layer."""

    name: str
    activation: Activation


def linear(label: str, weight: Any, bias: Any, kind: str = "weight") -> Affine:
    """A layer's arrays, of any library, as float64; a Flax kernel is (in, out)."""
    exact = exact_float64(weight, f"the {kind} of {label}")
    weight = np.ascontiguousarray(exact.T) if kind == "kernel" else exact
    return Affine(label, weight, None if bias is None else exact_float64(bias, f"bias of {label}"))


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
    steps: Sequence[Affine | Pointwise],
    scales: Scales | str,
    source: str,
    notes: tuple[str, ...] = (),
) -> ImportedNetwork:
    """The network of linear layers and activations in turn.

    Raises:
        InputError: They are not in turn, the activations differ, or one follows the last layer.
    """
    if not any(isinstance(step, Affine) for step in steps):
        raise InputError(f"{source} has no linear layer")
    if isinstance(steps[0], Pointwise):
        raise InputError(
            f"{steps[0].name} comes before the first linear layer of {source}: apply it to the data"
        )
    if isinstance(steps[-1], Pointwise):
        raise InputError(
            f"{steps[-1].name} follows the last linear layer of {source}: leave it out, so that "
            "the outputs are the ones before it (the logits), and put it into the loss"
        )
    for below, above in itertools.pairwise(steps):
        if isinstance(below, Affine) and isinstance(above, Affine):
            raise InputError(
                f"no activation between {below.name} and {above.name} of {source}: multiply the "
                "two layers into one"
            )
        if isinstance(below, Pointwise) and isinstance(above, Pointwise):
            raise InputError(f"two activations in a row in {source}: {below.name}, {above.name}")
    pointwise = [step for step in steps if isinstance(step, Pointwise)]
    others = [step for step in pointwise if step.activation != pointwise[0].activation]
    if others:
        raise InputError(
            f"{source} has different activations, {pointwise[0].name} and {others[0].name}: only "
            "networks with one activation are supported"
        )
    activation: str | Activation = pointwise[0].activation if pointwise else "identity"
    affine = [step for step in steps if isinstance(step, Affine)]
    return build(affine, activation, scales, source, notes)
