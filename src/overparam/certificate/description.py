"""What a certificate is about: sizes, model, loss, and fingerprints of data and parameters."""

import hashlib
from typing import Annotated, Any, Literal, TypedDict

import jax
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from overparam.certificate.field_types import Count, Finite, Hash, Positive, Record, Word
from overparam.model.composed import Composed
from overparam.model.composed_layers import activations
from overparam.model.function import Network, ParamTree, covering_network
from overparam.model.low_rank import LowRank
from overparam.model.mlp import MLP
from overparam.model.observation import Value
from overparam.model.trainable import PartlyTrained
from overparam.precision import floating_dtype
from overparam.problem.problem import Problem, model_name

Declared = Literal["proved", "assumed"]


class Description(Record, frozen=True, kw_only=True, tag_field="model_kind"):
    """What every certificate says of its problem.

    Attributes:
        points: n.
        in_dim: d.
        outputs: Columns of the targets: the model's outputs if its values are observed.
        parameters: Entries of all arrays that move.
        loss: Its spelling.
        loss_constants: ``proved``, or ``assumed`` because the user declared them.
        params_dtype: The precision the parameters came in.
        data_sha256: Of 'overparam.Measure:1', then for x, y and weights of '|name:shape|' and the
            little-endian float64 bytes.
        params_sha256: Of the shape and the little-endian float64 bytes of every weight matrix, then
            of every bias.
        center_sha256: The same of the parameters at which a centred model vanishes; absent if it is
            not centred.
        observe: What the loss sees of the model, where it is more than the values of an ``MLP``.
        weight_decay: lambda; absent if there is none.
        decay_sha256: Of theta_ref, like ``params_sha256``; absent if that is 0.
        trainable: The arrays that move, by name; absent if all do.
    """

    points: Count
    in_dim: Count
    outputs: Count
    parameters: Count
    loss: Word
    loss_constants: Declared
    params_dtype: Literal["float32", "float64"]
    data_sha256: Hash
    params_sha256: Hash
    center_sha256: Hash | UnsetType = UNSET
    observe: Word | UnsetType = UNSET
    weight_decay: Positive | UnsetType = UNSET
    decay_sha256: Hash | UnsetType = UNSET
    trainable: Annotated[tuple[Word, ...], Meta(max_length=2000)] | UnsetType = UNSET

    @property
    def values(self) -> int:
        """n k."""
        return self.points * self.outputs

    @property
    def bends(self) -> bool:
        """Whether something moves below the output layer of an ``MLP``: else J is constant."""
        last = len(self.widths)
        moving = self.get("trainable", (f"weights.{layer}" for layer in range(last)))
        return bool(last) and any(int(name.rpartition(".")[2]) < last for name in moving)

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer; none if the model is no ``MLP``."""
        return self.get("hidden_widths", ())


class NetworkDescription(Description, frozen=True, kw_only=True, tag="mlp"):
    """A problem with a multilayer perceptron, which can be built again.

    Attributes:
        hidden_widths: m_1, ..., m_h.
        activation: Its name.
        activation_bounds: ``proved``, or ``assumed`` because the user declared them.
        weight_scale: s_w.
        bias_scale: s_b.
        output_scale: c.
    """

    hidden_widths: Annotated[tuple[Count, ...], Meta(max_length=1000)]
    activation: Word
    activation_bounds: Declared
    weight_scale: Positive
    bias_scale: Finite
    output_scale: Positive


class FunctionDescription(Description, frozen=True, kw_only=True, tag="function"):
    """A problem with any other function, whose code is not part of the certificate.

    Attributes:
        model: Its name.
        activation_bounds: ``proved``, or ``assumed`` if the user declared those of one of its
            activations; absent if the function is not known to be a network of layers.
    """

    model: Word
    activation_bounds: Declared | UnsetType = UNSET


def describe(problem: Problem, params: ParamTree) -> NetworkDescription | FunctionDescription:
    """What a certificate about a problem at given parameters is about."""
    model, centre, observation = problem.model, problem.centered_at, problem.observation
    common: dict[str, Any] = {
        "points": problem.measure.n,
        "in_dim": problem.measure.dim,
        "outputs": problem.outputs,
        "parameters": parameter_count(problem, params),
        "loss": problem.loss.spelling,
        "loss_constants": problem.loss.constants_kind,
        "params_dtype": str(floating_dtype(params)),
        "data_sha256": problem.measure.fingerprint(),
        "params_sha256": params_fingerprint(params),
        "center_sha256": UNSET if centre is None else params_fingerprint(centre),
    }
    if problem.weight_decay:
        common["weight_decay"] = problem.weight_decay
        if problem.decay_to is not None:
            common["decay_sha256"] = params_fingerprint(problem.decay_to)
    moving = trained_names(model, params)
    if moving is not None:
        common["trainable"] = moving
    if not isinstance(model, MLP):
        return FunctionDescription(
            **common,
            observe=observation.name,
            model=model_name(model),
            activation_bounds=_activation_bounds(model),
        )
    return NetworkDescription(
        **common,
        observe=UNSET if isinstance(observation, Value) else observation.name,
        hidden_widths=tuple(map(int, model.hidden_widths)),
        activation=model.act.name,
        activation_bounds=model.act.bounds_kind,
        weight_scale=float(model.weight_scale),
        bias_scale=float(model.bias_scale),
        output_scale=float(model.output_scale),
    )


class ActivationBounds(TypedDict):
    """Bounds on an activation's derivatives, as a certificate states them."""

    slope_bound: float | UnsetType
    curvature_bound: float | UnsetType


def activation_bounds(model: Network) -> ActivationBounds:
    """beta_1 and beta_2 of an MLP, as far as they are known."""
    act = model.act if isinstance(model, MLP) else None
    curvature = None if act is None else act.curvature_bound
    return ActivationBounds(
        slope_bound=UNSET if act is None else act.slope_bound,
        curvature_bound=UNSET if curvature is None else curvature,
    )


def _activation_bounds(model: Network) -> Declared | UnsetType:
    """What the bounds on the activations of a network are that is no ``MLP``."""
    inner = covering_network(model) or model
    if isinstance(inner, PartlyTrained):
        inner = inner.function
    if isinstance(inner, LowRank):
        inner = inner.model
    if not isinstance(inner, MLP | Composed):
        return UNSET
    found = (inner.act,) if isinstance(inner, MLP) else activations(inner.parts)
    return "assumed" if any(act.bounds_kind == "assumed" for act in found) else "proved"


def trained_names(model: Network, params: ParamTree) -> tuple[str, ...] | None:
    """The arrays that move, and how much of those that move in part; None if all do."""
    if isinstance(model, MLP):
        return None if model.trainable == "all" else model.trainable
    return model.names(params) if isinstance(model, PartlyTrained) else None


def parameter_count(problem: Problem, params: ParamTree) -> int:
    """The number of entries of all arrays that move."""
    ones = jax.tree.map(lambda leaf: np.ones(np.shape(leaf)), params)
    return sum(int(np.sum(leaf)) for leaf in jax.tree.leaves(problem.moving(ones)))


def params_fingerprint(params: ParamTree) -> str:
    """SHA-256 over shapes and float64 entries of all parameters, in order."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        array = np.ascontiguousarray(leaf, dtype="<f8")
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
