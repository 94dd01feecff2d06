"""What a stored kernel is of: a description that two runs of the same job share, and nobody else.

The description is plain JSON: names and numbers where they are few, SHA-256 digests of the bytes of
parameters and points.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from overparam.model.mlp import MLP


def digest(*arrays: Any) -> str:
    """SHA-256 of the values of arrays, as float64, and of their shapes."""
    state = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array, np.float64)
        state.update(repr(values.shape).encode())
        state.update(values.data)
    return state.hexdigest()


def describe_network(model: MLP) -> dict[str, Any]:
    """Widths, activation and scales. An activation of the user's goes by its name and constants."""
    return {
        "widths": list(model.widths),
        "activation": [model.act.name, model.act.slope_bound, model.act.curvature_bound],
        "weight_scale": model.weight_scale,
        "bias_scale": model.bias_scale,
        "output_scale": model.output_scale,
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The entries in which two descriptions differ."""
    missing = object()
    keys = dict.fromkeys([*one, *other])
    return [key for key in keys if one.get(key, missing) != other.get(key, missing)]
