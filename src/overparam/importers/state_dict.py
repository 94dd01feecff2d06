"""Layers from named arrays: which belong together, and in which order.

A name ends in ``weight`` (PyTorch: shape (out, in)) or ``kernel`` (Flax: (in, out)), or in
``bias``; what comes before it is the layer. The order of the layers is that of the numbers in their
names if they differ in nothing else (``fc2`` before ``fc10``), otherwise that of the mapping, which
PyTorch keeps; but where the shapes leave only one order, it is that one. A file may have sorted the
names, and then nothing else tells. The user may name the order.

What a layer is called and which shape it has does not show how often it is used. Where all widths
are different it cannot be used twice: what follows it has to have its own shape. Where a width
occurs again, the layers between could be run through any number of times, and in another order,
too. Then something else has to say it: outputs to compare with, or the user.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overparam.errors import InputError
from overparam.importers.exact_arrays import exact_float64
from overparam.importers.imported_network import TrainedLayer

Names = dict[str, dict[str, str]]
"""layer -> kind (weight, kernel or bias) -> full name."""


def affine_layers(
    arrays: Mapping[str, Any],
    source: str,
    *,
    layers: Sequence[str] | None = None,
    ordered: bool = True,
    compared: bool = False,
) -> list[TrainedLayer]:
    """The layers that a state dict holds, from the input to the output.

    Args:
        arrays: By name; nested mappings are joined with dots.
        source: For messages.
        layers: The layers' names in the order of their use, each of them once.
        ordered: Whether the mapping's own order means anything.
        compared: Whether outputs will show it if the order is another or a layer is used twice.

    Raises:
        InputError: A name, an array or the order is not what linear layers have, or the arrays are
            those of several networks.
    """
    flat = flatten(arrays)
    names = _layers_in(flat, source)
    read = {}
    for layer, kinds in names.items():
        kernel = "kernel" in kinds
        weight = exact_float64(flat[kinds["kernel" if kernel else "weight"]], _quoted(kinds))
        if weight.ndim != 2:
            raise InputError(
                f"{_quoted(kinds)} in {source} has shape {weight.shape}: only linear layers are "
                f"supported, and this is {_guess(weight.ndim)}"
            )
        bias = None
        if "bias" in kinds:
            bias = exact_float64(flat[kinds["bias"]], repr(kinds["bias"]))
        read[layer] = TrainedLayer(
            layer, np.ascontiguousarray(weight.T) if kernel else weight, bias
        )
    order = _order(read, source, layers, ordered)
    if layers is None and not compared:
        _require_one_network([read[name] for name in order], source)
    return [read[name] for name in order]


def flatten(arrays: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined with dots."""
    flat: dict[str, Any] = {}
    for key, value in arrays.items():
        name = f"{prefix}{str(key).replace('/', '.')}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _layers_in(flat: Mapping[str, Any], source: str) -> Names:
    names: Names = {}
    for name in flat:
        layer, _, kind = name.rpartition(".")
        if kind not in ("weight", "kernel", "bias"):
            raise InputError(f"{name!r} in {source} {_explained(name)}")
        names.setdefault(layer, {})[kind] = name
    if not names:
        raise InputError(f"{source} holds no weights")
    for layer, kinds in names.items():
        if not kinds.keys() & {"weight", "kernel"}:
            raise InputError(f"{source} has a bias {kinds['bias']!r} but no weight for it")
        if {"weight", "kernel"} <= kinds.keys():
            raise InputError(f"the layer {layer!r} in {source} has both a weight and a kernel")
    return names


def _explained(name: str) -> str:
    if "running_" in name or "num_batches" in name:
        return (
            "belongs to batch normalisation, which is not supported: fold it into the linear "
            "layer before it (torch.nn.utils.fusion.fuse_linear_bn_eval)"
        )
    if "weight_g" in name or "weight_v" in name or "parametrizations" in name:
        return (
            "is a reparametrised weight, which is not supported: save the plain one "
            "(torch.nn.utils.parametrize.remove_parametrizations)"
        )
    return (
        "is neither a weight nor a bias of a linear layer: leave it out if the network's output "
        "does not depend on it"
    )


def _guess(ndim: int) -> str:
    return {1: "a normalisation or scaling", 3: "a convolution", 4: "a convolution"}.get(
        ndim, "something else"
    )


def _quoted(kinds: Mapping[str, str]) -> str:
    return repr(kinds.get("weight", kinds.get("kernel", "")))


def _order(
    read: Mapping[str, TrainedLayer], source: str, layers: Sequence[str] | None, ordered: bool
) -> list[str]:
    if layers is not None:
        if sorted(layers) != sorted(read):
            raise InputError(
                f"layers names {', '.join(layers)}, but {source} has {', '.join(read)}: name each "
                "of them once, from the input to the output"
            )
        return list(layers)
    only = _only_chain(read)
    if only is not None:
        return only
    if len({re.sub(r"\d+", "#", name) for name in read}) == 1:
        return sorted(read, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    if ordered:
        return list(read)
    raise InputError(
        f"the names {', '.join(read)} in {source} do not tell the order of the layers, nor do "
        "their shapes: give layers=(...)"
    )


def _require_one_network(layers: Sequence[TrainedLayer], source: str) -> None:
    """No width occurs twice, so that these layers make one network only, if they make any."""
    widths = [layer.weight.shape[1] for layer in layers] + [len(layers[-1].weight)]
    repeated = next((m for m in widths if widths.count(m) > 1), None)
    chain = all(len(a.weight) == b.weight.shape[1] for a, b in itertools.pairwise(layers))
    if chain and repeated is not None:
        names = ", ".join(repr(layer.name) for layer in layers)
        raise InputError(
            f"the width {repeated} occurs more than once in {source} "
            f"({'-'.join(map(str, widths))}), and then arrays do not show whether a layer is used "
            "twice, nor the order: give the module itself or check=(x, outputs) to compare with, "
            f"or layers=({names}) if each is used once, in this order"
        )


def _only_chain(read: Mapping[str, TrainedLayer]) -> list[str] | None:
    """The only order in which outputs fit inputs; None if there are several or none."""
    shapes = {layer.weight.shape for layer in read.values()}
    if len(shapes) < len(read):
        return None  # equal shapes could be swapped
    found = _chains(read, [])
    return found[0] if len(found) == 1 else None


def _chains(read: Mapping[str, TrainedLayer], begun: list[str]) -> list[list[str]]:
    """Up to two ways to go on such that inputs fit outputs."""
    left = [name for name in read if name not in begun]
    if not left:
        return [begun]
    found: list[list[str]] = []
    for name in left:
        if not begun or len(read[begun[-1]].weight) == read[name].weight.shape[1]:
            found += _chains(read, [*begun, name])
        if len(found) > 1:
            break
    return found
