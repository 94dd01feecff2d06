"""Weights in files. Nothing in a file is ever executed: pickled objects are refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from overparam.errors import InputError
from overparam.files import open_npz
from overparam.importers.exact_arrays import exact_float64
from overparam.importers.imported_network import (
    FORMAT,
    SCALES,
    Check,
    ImportedNetwork,
    Scales,
    compare,
)
from overparam.importers.pytorch import from_arrays
from overparam.importers.safetensors import read_safetensors
from overparam.model.activation import ACTIVATIONS, Activation, get_activation
from overparam.model.mlp import MLP

TORCH = (".pt", ".pth", ".ckpt")
PICKLES = (".pkl", ".pickle", ".joblib", ".skops")
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
"""Where training scripts put the state dict in a larger dictionary."""


def load_network(
    path: str | Path,
    activation: str | Activation | None = None,
    *,
    layers: Sequence[str] | None = None,
    scales: Scales | str = "ntk",
    check: Check | None = None,
) -> ImportedNetwork:
    """Read a network from a file of weights.

    Args:
        path: A ``.safetensors`` file; ``.pt``, ``.pth`` or Lightning's ``.ckpt`` with a PyTorch
            state dict, alone or beside an epoch and the like (needs PyTorch); ``.npz``, written by
            :meth:`ImportedNetwork.save` or with arrays named as in a state dict; or a folder that
            ``overparam certify --out`` wrote, or its params.npz.
        activation: Between the layers, where the file does not say.
        layers: Names of the layers in the order of their use, each once. Weights in which a width
            occurs twice do not show it and need this or ``check``.
        scales: Of the NTK form; see :class:`Scales`. Files of this package have their own.
        check: Points and the network's outputs there, to compare the import with.

    Returns:
        The :class:`ImportedNetwork`.

    Raises:
        InputError: The file is missing, damaged, of another kind, or holds pickled objects; the
            arrays are not those of linear layers, or those of several networks; the activation is
            missing; or the outputs are others.
    """
    file = Path(path)
    if file.is_dir() or file.name == "params.npz":
        return compare(_from_run(file if file.is_dir() else file.parent), check)
    if not file.exists():
        raise InputError(f"there is no file {file}")
    suffix = file.suffix.lower()
    given = None if activation is None else get_activation(activation)
    if suffix == ".safetensors":
        arrays: Mapping[str, Any] = read_safetensors(file)
        ordered = False
    elif suffix in TORCH:
        arrays, ordered = _read_torch(file), True
    elif suffix == ".npz":
        arrays, ordered = _read_npz(file), False
        if "format" in arrays:
            return compare(_from_saved(arrays, given, file), check)
    elif suffix in PICKLES:
        raise InputError(
            f"{file} is a pickle, and reading it could run any code: load it yourself, import the "
            "object with from_sklearn or from_torch, and save that as .npz"
        )
    else:
        raise InputError(
            f"{file} has the unknown suffix {suffix!r}: give .safetensors, .npz or one of "
            f"{', '.join(TORCH)}"
        )
    return from_arrays(
        arrays, given, str(file), layers=layers, scales=scales, ordered=ordered, check=check
    )


def _read_torch(file: Path) -> Mapping[str, Any]:
    if not file.stat().st_size:
        raise InputError(f"{file} is empty: save the weights again")
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"reading {file} needs PyTorch: pip install 'overparam[torch]', or save the state dict "
            "as .safetensors"
        ) from error
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or malicious file can raise nearly anything
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise InputError(
                f"{file} holds Python objects besides tensors, and loading them could run any "
                "code: save the state dict, torch.save(model.state_dict(), path), or .safetensors"
            ) from error
        raise InputError(f"{file} is damaged or no PyTorch file: save the weights again") from error
    if isinstance(found, Mapping):
        for key in CHECKPOINT_KEYS:
            if isinstance(found.get(key), Mapping):
                return found[key]
        return found
    raise InputError(
        f"{file} holds a {type(found).__name__}, not a state dict: save model.state_dict()"
    )


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    with open_npz(file) as archive:
        return dict(archive)


def _from_saved(
    arrays: Mapping[str, np.ndarray], given: Activation | None, file: Path
) -> ImportedNetwork:
    """What :meth:`ImportedNetwork.save` wrote."""
    if str(arrays["format"]) != FORMAT:
        raise InputError(f"{file} has the format {arrays['format']}, this version reads {FORMAT}")
    try:
        name = str(arrays["activation"])
        scales = [float(arrays[f"{kind}_scale"]) for kind in SCALES]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is damaged ({error}): save it again") from error
    if given is None and name not in ACTIVATIONS:
        raise InputError(f"{file} has the activation {name!r}, which is not built in: give it")
    return _assemble(arrays, "", given or ACTIVATIONS[name], scales, str(file))


def _from_run(folder: Path) -> ImportedNetwork:
    """The network that a run's certificate is about."""
    try:
        problem = json.loads((folder / "certificate.json").read_text("utf-8"))["problem"]
        name, centered = problem["activation"], problem.get("center_sha256") is not None
        scales = [float(problem[f"{kind}_scale"]) for kind in SCALES]
    except OSError as error:
        raise InputError(
            f"{folder} has no certificate.json, which says what network params.npz belongs to: "
            "give the folder of a run"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'certificate.json'} is damaged ({error})") from error
    if name not in ACTIVATIONS:
        raise InputError(f"the run in {folder} has the activation {name!r}, which is not built in")
    arrays = _read_npz(folder / "params.npz")
    network = _assemble(arrays, "", ACTIVATIONS[name], scales, str(folder))
    if not centered:
        return network
    center = _assemble(arrays, "initial_", ACTIVATIONS[name], scales, str(folder))
    return ImportedNetwork(network.model, network.params, str(folder), (), center.params)


def _assemble(
    arrays: Mapping[str, np.ndarray],
    prefix: str,
    activation: Activation,
    scales: Sequence[float],
    source: str,
) -> ImportedNetwork:
    """A network from arrays in the NTK parametrisation."""
    depth = sum(name.startswith(f"{prefix}weights_") for name in arrays)
    try:
        weights, biases = (
            tuple(
                exact_float64(arrays[f"{prefix}{kind}_{layer}"], f"{kind}_{layer} in {source}")
                for layer in range(depth)
            )
            for kind in ("weights", "biases")
        )
        widths = [weights[0].shape[1], *(len(weight) for weight in weights)]
    except (KeyError, IndexError) as error:
        raise InputError(f"{source} lacks {prefix}weights_0, _1, ... or the biases") from error
    model = MLP(widths[0], tuple(widths[1:-1]), widths[-1], activation, *scales)
    model.validate((weights, biases))
    return ImportedNetwork(model, (weights, biases), source)
