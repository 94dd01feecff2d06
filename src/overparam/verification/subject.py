"""What a certificate is about, read afresh: data, parameters, model, loss, and their fingerprints.

Nothing here comes from the code that made the certificate but plain arrays. A folder holds the data
and the parameters; the model's scales, its activation and the loss are then what the certificate
says they are, and every number in it is checked against exactly that model.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from overparam.problem.integrands.integrand import DECAYED, INTEGRANDS
from overparam.problem.problem import Problem
from overparam.verification.activations import ACTIVATIONS
from overparam.verification.arrays import Shape, read_arrays
from overparam.verification.losses import BallLoss, loss_of
from overparam.verification.refusal import RefusedError


@dataclass(frozen=True)
class Parameters:
    """Weights (m_l, m_{l-1}) and biases (m_l,), NumPy float64, and the precision they came in."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    dtype: str

    @staticmethod
    def of(weights: Any, biases: Any) -> "Parameters":
        """From two sequences of arrays of floats."""
        arrays = [np.asarray(a) for a in (*weights, *biases)]
        double = any(a.dtype.kind == "f" and a.dtype.itemsize > 4 for a in arrays)
        wide = [np.asarray(a, dtype=np.float64) for a in arrays]
        if not all(np.isfinite(a).all() for a in wide):
            raise RefusedError("a parameter is not a finite number")
        d = len(wide) // 2
        return Parameters(tuple(wide[:d]), tuple(wide[d:]), "float64" if double else "float32")

    def fingerprint(self) -> str:
        """SHA-256 of the shapes and the little-endian float64 bytes, weights before biases."""
        digest = hashlib.sha256()
        for array in (*self.weights, *self.biases):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Architecture:
    """What the parameters do not say about the model, and the loss; what moves, None for all."""

    activation: str
    weight_scale: float
    bias_scale: float
    output_scale: float
    loss: str
    trainable: tuple[str, ...] | None = None

    def moves(self, layer: int) -> tuple[bool, bool]:
        """Whether the weights of a layer, counted from 0, move in training, and its biases."""
        if self.trainable is None:
            return True, True
        return f"weights.{layer}" in self.trainable, f"biases.{layer}" in self.trainable

    def loss_for(self, outputs: int) -> BallLoss:
        """The loss in balls.

        Raises:
            RefusedError: The re-check does not know it.
        """
        return loss_of(self.loss, outputs)


@dataclass(frozen=True)
class Subject:
    """Everything the theorem is about.

    Attributes:
        x: Points, (n, d).
        y: Targets, (n, k).
        weights: w_i > 0, (n,).
        params: theta_0.
        center: The parameters at which a centred model vanishes, or None.
        architecture: Scales, activation and loss.
        decay: lambda of weight decay, 0 for none.
        decay_to: theta_ref, or None for 0.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    params: Parameters
    center: Parameters | None
    architecture: Architecture
    decay: float = 0.0
    decay_to: Parameters | None = None

    def description(self) -> dict[str, Any]:
        """The ``problem`` field of a certificate about this."""
        shapes = [w.shape for w in self.params.weights]
        found = {
            "model_kind": "mlp",
            "points": len(self.x),
            "in_dim": shapes[0][1],
            "outputs": shapes[-1][0],
            "hidden_widths": [m for m, _ in shapes[:-1]],
            "activation": self.architecture.activation,
            "activation_bounds": "proved",
            "weight_scale": self.architecture.weight_scale,
            "bias_scale": self.architecture.bias_scale,
            "output_scale": self.architecture.output_scale,
            "parameters": self._moving_entries(),
            "loss": self.architecture.loss,
            "loss_constants": "proved",
            "params_dtype": self.params.dtype,
            "data_sha256": data_fingerprint(self.x, self.y, self.weights),
            "params_sha256": self.params.fingerprint(),
        }
        if self.architecture.trainable is not None:
            found["trainable"] = list(self.architecture.trainable)
        if self.center is not None:
            found["center_sha256"] = self.center.fingerprint()
        if self.decay:
            found["weight_decay"] = self.decay
        if self.decay_to is not None:
            found["decay_sha256"] = self.decay_to.fingerprint()
        return found

    def _moving_entries(self) -> int:
        total = 0
        for layer, w in enumerate(self.params.weights):
            weights, biases = self.architecture.moves(layer)
            total += w.size * weights + w.shape[0] * biases
        return total

    def validate(self) -> None:
        """Refuse shapes that do not fit together and data the theorem does not speak of.

        Raises:
            RefusedError: With the reason.
        """
        _check_data(self.x, self.y, self.weights)
        _check_layers("params", self.params, self.x.shape[1], self.y.shape[1])
        for name, other in (("the centre", self.center), ("decay_to", self.decay_to)):
            if other is None:
                continue
            _check_layers(name, other, self.x.shape[1], self.y.shape[1])
            if [w.shape for w in other.weights] != [w.shape for w in self.params.weights]:
                raise RefusedError(f"{name} has parameters of other shapes than the parameters")
        if self.architecture.activation not in ACTIVATIONS:
            raise RefusedError(
                f"the activation {self.architecture.activation!r} is not built in: its constants "
                "are assumed and cannot be checked"
            )
        _check_names(self.architecture, len(self.params.weights))
        self.architecture.loss_for(self.y.shape[1]).check_targets(self.y)


def subject_of(problem: Problem, params: Any) -> Subject:
    """The subject that a problem and parameters describe."""
    model, loss, measure = problem.mlp, problem.loss, problem.measure
    known = (INTEGRANDS | DECAYED).get(loss.name) is type(loss)
    proved = model.act.bounds_kind == "proved"
    center, towards = problem.centered_at, problem.decay_to if problem.weight_decay else None
    return Subject(
        x=measure.x,
        y=problem.targets,
        weights=measure.weights,
        params=Parameters.of(*params),
        center=None if center is None else Parameters.of(*center),
        architecture=Architecture(
            activation=model.act.name if proved else f"{model.act.name} (user-defined)",
            weight_scale=model.weight_scale,
            bias_scale=model.bias_scale,
            output_scale=model.output_scale,
            loss=loss.spelling if known else f"{loss.spelling} (user-defined)",
            trainable=None if model.trainable == "all" else model.trainable,
        ),
        decay=problem.weight_decay,
        decay_to=None if towards is None else Parameters.of(*towards),
    )


def subject_in(folder: Path, content: Mapping[str, Any]) -> Subject:
    """The subject whose arrays lie in a folder that ``overparam certify --out`` wrote.

    Args:
        folder: With params.npz and data.npz.
        content: The certificate's content: ``problem`` describes the model and with it the shapes
            of all arrays, and ``start`` says which of the two sets of parameters it is about.

    Raises:
        InputError: A file is missing.
        RefusedError: A file is damaged, or holds other parameters than the certificate's.
    """
    claimed = content["problem"]
    prefix = "initial_" if content["start"] == "initialisation" else ""
    shapes = parameter_shapes(claimed, prefix)
    if "center_sha256" in claimed or "decay_sha256" in claimed:
        shapes |= parameter_shapes(claimed, "initial_")
    arrays = read_arrays(folder / "params.npz", shapes)
    params = _parameters(arrays, prefix)
    if params.fingerprint() != claimed["params_sha256"]:
        raise RefusedError("params.npz does not hold the parameters that the certificate is about")
    data = read_arrays(folder / "data.npz", data_shapes(claimed))
    return Subject(
        x=np.asarray(data["x"], dtype=np.float64),
        y=np.asarray(data["y"], dtype=np.float64),
        weights=np.asarray(data["weights"], dtype=np.float64),
        params=params,
        center=_parameters(arrays, "initial_") if "center_sha256" in claimed else None,
        architecture=Architecture(
            activation=claimed["activation"],
            weight_scale=float(claimed["weight_scale"]),
            bias_scale=float(claimed["bias_scale"]),
            output_scale=float(claimed["output_scale"]),
            loss=claimed["loss"],
            trainable=tuple(claimed["trainable"]) if "trainable" in claimed else None,
        ),
        decay=float(claimed.get("weight_decay", 0.0)),
        decay_to=_parameters(arrays, "initial_") if "decay_sha256" in claimed else None,
    )


def data_shapes(claimed: Mapping[str, Any]) -> dict[str, Shape]:
    """The shapes of a certificate's data, by name in data.npz."""
    n, d, k = (int(claimed[name]) for name in ("points", "in_dim", "outputs"))  # JSON may say 2.0
    return {"x": (n, d), "y": (n, k), "weights": (n,)}


def parameter_shapes(claimed: Mapping[str, Any], prefix: str) -> dict[str, Shape]:
    """The shapes of a certificate's parameters, by name in params.npz."""
    widths = [claimed["in_dim"], *claimed["hidden_widths"], claimed["outputs"]]
    pairs = list(enumerate(pairwise(map(int, widths))))
    return {f"{prefix}weights_{layer}": (m, before) for layer, (before, m) in pairs} | {
        f"{prefix}biases_{layer}": (m,) for layer, (_, m) in pairs
    }


def _parameters(arrays: Mapping[str, np.ndarray], prefix: str) -> Parameters:
    """Parameters from arrays named weights_0, ..., biases_0, ... with a prefix."""
    weights, biases = (
        [array for name, array in arrays.items() if name.startswith(f"{prefix}{kind}_")]
        for kind in ("weights", "biases")
    )
    return Parameters.of(weights, biases)


def _check_data(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> None:
    if x.ndim != 2 or y.ndim != 2 or weights.ndim != 1 or not len(x) == len(y) == len(weights):
        raise RefusedError(
            f"data of shapes x {x.shape}, y {y.shape}, weights {weights.shape} do not fit together"
        )
    if 0 in (*x.shape, *y.shape):
        raise RefusedError("there are no data")
    if not all(np.isfinite(a).all() for a in (x, y, weights)):
        raise RefusedError("the data are not finite")
    if not np.all(weights > 0) or abs(math.fsum(weights) - 1) > 1e-12:
        raise RefusedError("the weights are not positive numbers that sum to 1")


def _check_layers(name: str, params: Parameters, inputs: int, outputs: int) -> None:
    width = inputs
    for layer, (w, b) in enumerate(zip(params.weights, params.biases, strict=True)):
        if w.ndim != 2 or w.shape[1] != width or b.shape != (w.shape[0],) or not w.shape[0]:
            raise RefusedError(
                f"{name}: weights {w.shape} and biases {b.shape} of layer {layer} do not fit"
            )
        width = w.shape[0]
    if width != outputs:
        raise RefusedError(
            f"{name}: the last layer has {width} outputs, the targets {outputs} columns"
        )


def _check_names(architecture: Architecture, layers: int) -> None:
    known = {f"{kind}.{layer}" for kind in ("weights", "biases") for layer in range(layers)}
    unknown = set(architecture.trainable or ()) - known
    if unknown:
        raise RefusedError(f"trainable names {min(unknown)!r}, which the network does not have")


def data_fingerprint(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> str:
    """SHA-256 of the shapes and the little-endian float64 bytes."""
    digest = hashlib.sha256(b"overparam.Measure:1")
    for name, array in (("x", x), ("y", y), ("weights", weights)):
        digest.update(f"|{name}:{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
