"""What a certificate is about: sizes, model, loss, and fingerprints of data and parameters."""

import hashlib
from typing import Any

import jax
import numpy as np

from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.model.observation import Value
from overparam.precision import floating_dtype
from overparam.problem.problem import Problem, model_name


def describe(problem: Problem, params: ParamTree) -> dict[str, Any]:
    """What a certificate is about: sizes, model, what is observed, loss and fingerprints.

    Of a function that is no ``MLP``, nothing but its name and the shapes of its parameters can be
    written down: ``model`` and ``observe`` are stated exactly where a re-check is not possible.
    """
    centre = problem.centered_at
    return {
        "points": problem.measure.n,
        **_describe_model(problem),
        "parameters": parameter_count(params),
        "loss": problem.loss.spelling,
        "centered": centre is not None,
        "params_dtype": str(floating_dtype(params)),
        "data_sha256": problem.measure.fingerprint(),
        "params_sha256": params_fingerprint(params),
        "center_sha256": None if centre is None else params_fingerprint(centre),
    }


def _describe_model(problem: Problem) -> dict[str, Any]:
    model = problem.model
    sizes = {"in_dim": problem.measure.dim, "outputs": problem.outputs}
    seen = {"observe": problem.observation.name}
    if not isinstance(model, MLP):
        return {**sizes, "model": model_name(model), **seen}
    return {
        **sizes,
        **({} if isinstance(problem.observation, Value) else seen),
        "hidden_widths": tuple(model.hidden_widths),
        "activation": model.act.name,
        "weight_scale": model.weight_scale,
        "bias_scale": model.bias_scale,
        "output_scale": model.output_scale,
    }


def parameter_count(params: ParamTree) -> int:
    """The number of entries of all arrays."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))


def params_fingerprint(params: ParamTree) -> str:
    """SHA-256 over shapes and float64 entries of all parameters, in order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        array = np.ascontiguousarray(leaf, dtype="<f8")
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
