r"""From affine layers in the standard parametrisation to an ``MLP`` in the NTK one.

Elsewhere a layer is z = W h + b. Here it is z = (s_w / sqrt(m)) W' h + s_b b', and the output is
c z^D, so

    W' = sqrt(m) W / s_w,    b' = b / s_b,    in the last layer divided by c as well,

is the same function for every choice of the scales. The function is the same; gradient descent is
not. A step eta in (W', b') moves W by eta s_w^2 / m times its gradient and b by eta s_b^2 times
its own: what a certificate says of gradient descent is about these step sizes, layer by layer
(:func:`standard_steps`). With s_w = sqrt(m) and s_b = 1 they are all eta, which one number s_w can
do only if every layer has the same number m of inputs (``scales="standard"``).

A common factor on s_w and s_b cancels from the theorem's condition (docs/imports.md); their ratio
does not.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.files import npz_bytes, write_whole
from overparam.importers.exact_arrays import exact_float64
from overparam.model.activation import Activation
from overparam.model.function import as_function, compiled
from overparam.model.mlp import MLP, Params
from overparam.precision import in_float64

TOLERANCE = 1e-12
"""Largest deviation of outputs in float64, in units of the larger of 1 and the largest output."""

FLOAT32_TOLERANCE = 1e-4
"""The same for outputs that were computed in float32, whatever the parameters are."""

FORMAT = "overparam.network:1"

SCALES = ("weight", "bias", "output")

Check = Any
"""A pair: points (n, d) and what the source makes of them, (n, k) or (n,); arrays or tensors."""


@dataclass(frozen=True)
class Scales:
    """The scales of the NTK form: s_w > 0, s_b > 0 and c > 0; see :class:`overparam.MLP`."""

    weight: float = 1.0
    bias: float = 0.1
    output: float = 1.0


class TrainedLayer(NamedTuple):
    """One layer z = W h + b as it was trained.

    Attributes:
        name: For messages.
        weight: W, (out, in), float64.
        bias: b, (out,), float64; None if the layer has none.
    """

    name: str
    weight: Float[np.ndarray, "out in"]
    bias: Float[np.ndarray, " out"] | None


@dataclass(frozen=True)
class ImportedNetwork:
    """A network from elsewhere.

    Attributes:
        model: The network in the NTK parametrisation: an ``MLP``, or a ``Composed`` one where it
            has other layers than linear ones with one activation between them.
        params: Its parameters, NumPy float64: the imported ones, converted exactly to rounding.
        source: What it was read from.
        notes: What the user should know, one line each.
        centered_at: Parameters whose network is subtracted, for a centred network of a run of
            ``overparam certify``; None for every other.
    """

    model: Any
    params: Any
    source: str
    notes: tuple[str, ...] = ()
    centered_at: Any = None

    def apply(self, x: Float[Array | np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """The outputs in float64, shape (n, k)."""
        points = np.asarray(x, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != self.model.in_dim or not len(points):
            raise InputError(
                f"x has shape {points.shape}; {self.source} takes (n, {self.model.in_dim}), n >= 1"
            )
        apply = compiled(as_function(self.model))
        values = in_float64(apply, self.params, points)
        if self.centered_at is not None:
            values = values - in_float64(apply, self.centered_at, points)
        return values

    def check(
        self,
        x: Float[Array | np.ndarray, "n d"],
        outputs: Any,
        tolerance: float = TOLERANCE,
    ) -> float:
        """Compare the outputs with the source's.

        Args:
            x: Points, shape (n, d).
            outputs: The source's outputs there, shape (n, k), or (n,) for one output.
            tolerance: Largest deviation allowed, in units of the larger of 1 and the largest
                output; the default is for outputs computed in float64.

        Returns:
            The largest deviation, in those units.

        Raises:
            InputError: The outputs have another shape, are not finite, or deviate by more.
        """
        mine, theirs = self.apply(x), np.asarray(outputs, dtype=np.float64)
        theirs = theirs[:, None] if theirs.ndim == 1 else theirs
        if theirs.shape != mine.shape:
            raise InputError(
                f"{self.source} gives outputs of shape {theirs.shape}, the imported network "
                f"{mine.shape}: the layers are not the ones that were read"
            )
        deviation = float(np.max(np.abs(mine - theirs)) / max(1.0, np.max(np.abs(theirs))))
        if not deviation <= tolerance:
            raise InputError(
                f"the imported network deviates from {self.source} by {deviation:.3g} (allowed "
                f"{tolerance:.3g}): another activation or order of layers, a layer that is used "
                "twice, or something between them"
            )
        return deviation

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz file that :func:`overparam.importers.load_network` reads.

        Raises:
            InputError: The file cannot be written, or the network is centred or no perceptron.
        """
        if self.centered_at is not None:
            raise InputError("a centred network is saved by the run it belongs to: copy its folder")
        if not isinstance(self.model, MLP):
            raise InputError("save keeps perceptrons only: keep the module itself, and import it")
        target = Path(path)
        if target.suffix.lower() != ".npz":
            raise InputError(f"{target} must end in .npz")
        model = self.model
        scales = {f"{kind}_scale": getattr(model, f"{kind}_scale") for kind in SCALES}
        content: dict[str, Any] = {"format": FORMAT, "activation": model.act.name, **scales}
        for kind, arrays in zip(("weights", "biases"), self.params, strict=True):
            content |= {f"{kind}_{layer}": array for layer, array in enumerate(arrays)}
        write_whole(target, npz_bytes({key: np.asarray(value) for key, value in content.items()}))


def build(
    layers: Sequence[TrainedLayer],
    activation: str | Activation,
    scales: Scales | str,
    source: str,
    notes: tuple[str, ...] = (),
) -> ImportedNetwork:
    """The network of affine layers with one activation between them.

    Args:
        layers: From the input to the output.
        activation: Between any two of them.
        scales: See :class:`Scales`; "ntk" are the default ones, "standard" makes the step sizes
            of all layers equal.
        source: What the layers were read from.
        notes: Passed on.

    Raises:
        InputError: Shapes do not fit together, layers share their weights, or the scales do not
            suit the widths.
    """
    _check_chain(layers, source)
    check_untied(layers, source)
    widths = [layer.weight.shape[1] for layer in layers] + [len(layers[-1].weight)]
    chosen = scales_for(scales, widths)
    without = [layer.name for layer in layers if layer.bias is None]
    if without and len(without) < len(layers):
        notes += (
            f"{', '.join(without)} had no bias: it is 0 here, and gradient descent may move it",
        )
    bias_scale = 0.0 if len(without) == len(layers) else chosen.bias
    scales_of_model = chosen.weight, bias_scale, chosen.output
    model = MLP(widths[0], tuple(widths[1:-1]), widths[-1], activation, *scales_of_model)
    weights, biases = [], []
    for layer, (weight, bias) in zip(layers, _factors(model), strict=True):
        offset = np.zeros(len(layer.weight)) if layer.bias is None else layer.bias
        weights.append(layer.weight / weight)
        biases.append(offset / (bias or 1.0))
    params = tuple(weights), tuple(biases)
    model.validate(params)
    return ImportedNetwork(model, params, source, notes)


def standard_layers(model: MLP, params: Params) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """(W, b) of every layer in the standard parametrisation, z = W h + b, in float64.

    The way back: weights (out, in) and biases (out,), for ``nn.Linear`` and its like.
    """
    model.validate(params)
    return tuple(
        (np.asarray(w, np.float64) * weight, np.asarray(b, np.float64) * bias)
        for w, b, (weight, bias) in zip(*params, _factors(model), strict=True)
    )


def standard_steps(model: MLP, step_size: float) -> tuple[tuple[float, float], ...]:
    """Step sizes for (W, b) of every layer that amount to ``step_size`` in the NTK form.

    Gradient descent with ``step_size`` on the parameters of an ``MLP`` is gradient descent on the
    standard ones with these: eta (dW / dW')^2 for the weights and the same for the biases.

    Args:
        model: The network.
        step_size: eta, such as a certificate's.

    Returns:
        For every layer the step size of its weights and that of its biases.
    """
    return tuple((step_size * weight**2, step_size * bias**2) for weight, bias in _factors(model))


def _factors(model: MLP) -> list[tuple[float, float]]:
    """W = factor W', b = factor b', layer by layer."""
    last = [1.0] * (model.layers - 1) + [model.output_scale]
    return [
        (c * weight, c * model.bias_scale)
        for c, weight in zip(last, model.weight_factors, strict=True)
    ]


def compare(network: ImportedNetwork, check: Check | None) -> ImportedNetwork:
    """The network, after its outputs were held against given ones, if there are any.

    Raises:
        InputError: See :meth:`ImportedNetwork.check`.
    """
    if check is not None:
        try:
            x, outputs = check
        except (TypeError, ValueError) as error:
            raise InputError("check must be a pair (x, outputs) of points and outputs") from error
        double = str(getattr(outputs, "dtype", "float64")).endswith("float64")
        network.check(
            exact_float64(x, "x of check"),
            exact_float64(outputs, "outputs of check"),
            TOLERANCE if double else FLOAT32_TOLERANCE,
        )
    return network


def scales_for(scales: Scales | str, widths: list[int]) -> Scales:
    """The scales that were asked for, of layers with so many inputs each; the last is passed over.

    Raises:
        InputError: They are none, or do not suit the widths.
    """
    if isinstance(scales, Scales):
        if not all(s > 0 for s in (scales.weight, scales.bias, scales.output)):
            raise InputError(f"all scales must be positive, not {scales}")
        return scales
    if scales == "ntk":
        return Scales()
    if scales != "standard":
        raise InputError(f"scales is {scales!r}: give 'ntk', 'standard' or Scales(...)")
    inputs = set(widths[:-1])
    if len(inputs) > 1:
        raise InputError(
            "scales='standard' needs layers with equal numbers of inputs, not "
            f"{', '.join(map(str, widths[:-1]))}: take 'ntk', whose step sizes for the standard "
            "parameters standard_steps gives; empirical_ntk(..., scales='standard') is their kernel"
        )
    return Scales(weight=math.sqrt(inputs.pop()), bias=1.0)


def _check_chain(layers: Sequence[TrainedLayer], source: str) -> None:
    if not layers:
        raise InputError(f"{source} has no linear layer")
    for layer in layers:
        if layer.weight.ndim != 2 or 0 in layer.weight.shape:
            raise InputError(
                f"the weight of {layer.name} in {source} has shape {layer.weight.shape}: only "
                "linear layers, (out, in), are supported"
            )
        if layer.bias is not None and layer.bias.shape != (len(layer.weight),):
            raise InputError(
                f"the bias of {layer.name} in {source} has shape {layer.bias.shape}, its weight "
                f"{layer.weight.shape}: they do not belong together"
            )
    for below, above in itertools.pairwise(layers):
        if len(below.weight) != above.weight.shape[1]:
            raise InputError(
                f"{below.name} in {source} has {len(below.weight)} outputs, but {above.name} takes "
                f"{above.weight.shape[1]} inputs: give the order of the layers, layers=(...)"
            )


def check_untied(layers: Sequence[Any], source: str) -> None:
    """No two layers are one, or one and its transpose: descent would move them together.

    Args:
        layers: Each with a name and the weights that it is known by.
        source: For the message.

    Raises:
        InputError: Two are.
    """
    for first, second in itertools.combinations(layers, 2):
        a, b = first.weight, second.weight
        if _the_same(a, b) or _the_same(a, b.T):
            raise InputError(
                f"{first.name} and {second.name} in {source} have equal weights: a layer that is "
                "used twice (tied weights) is not supported, because gradient descent moves both "
                "alike there and not here"
            )


def _the_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal number by number, and not because both are constant."""
    return a.shape == b.shape and bool(np.ptp(a) > 0) and np.array_equal(a, b)
