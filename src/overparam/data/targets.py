"""Targets as points of R^k, and back.

Two classes become one column of -1 and +1, more classes one such column each (one against the
rest). Regression targets are standardised, so that the loss at a centred initialisation is 1/2 per
output whatever the units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import msgspec
import numpy as np
from jaxtyping import Float64, Int

from overparam.data.preprocess import constant_columns, mean_and_scale
from overparam.data.raw import Kind, quoted
from overparam.errors import InputError
from overparam.limits import require_choice


@dataclass(frozen=True)
class TargetCoding:
    """How a target column is represented as outputs of a network.

    Attributes:
        kind: "classification" or "regression".
        name: the column's name.
        classes: the classes' labels; of two, the second is +1. Empty for regression.
        mean: for regression what is subtracted, one number an output.
        scale: for regression what is divided by, one positive number an output.
    """

    kind: Kind
    name: str
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """The number of outputs k."""
        if self.kind == "regression":
            return len(self.mean)
        return 1 if len(self.classes) == 2 else len(self.classes)

    def encode(
        self, target: Int[np.ndarray, " n"] | Float64[np.ndarray, "n k"]
    ) -> Float64[np.ndarray, "n k"]:
        """Class indices, shape (n,), or values in original units, shape (n, k), as outputs.

        Args:
            target: what a table holds.

        Returns:
            Outputs, shape (n, k).
        """
        if self.kind == "regression":
            return (target - np.array(self.mean)) / np.array(self.scale)
        if self.outputs == 1:
            return np.where(target == 1, 1.0, -1.0)[:, None]
        return np.where(target[:, None] == np.arange(self.outputs), 1.0, -1.0)

    def decode(
        self, outputs: Float64[np.ndarray, "n k"]
    ) -> Int[np.ndarray, " n"] | Float64[np.ndarray, "n k"]:
        """What the outputs of a network predict.

        Args:
            outputs: shape (n, k).

        Returns:
            The index of the predicted class, shape (n,), the first one in a tie; or values in
            original units, shape (n, k).
        """
        if self.kind == "regression":
            return outputs * np.array(self.scale) + np.array(self.mean)
        if self.outputs == 1:
            return (outputs[:, 0] > 0).astype(np.int64)
        return np.argmax(outputs, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON represents exactly."""
        return msgspec.to_builtins(self)

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "TargetCoding":
        """The inverse of :meth:`to_dict`.

        Args:
            stored: what :meth:`to_dict` returned.

        Returns:
            The coding.

        Raises:
            InputError: if a key is missing or holds something else.
        """
        try:
            found = msgspec.convert(stored, TargetCoding)
        except msgspec.ValidationError as error:
            raise InputError(f"stored target coding is damaged ({error}); save it again") from error
        fits = len(found.classes) >= 2 and not found.mean
        if found.kind == "regression":
            fits = len(found.mean) >= 1 and all(s > 0 for s in found.scale)
        if not fits or len(found.mean) != len(found.scale):
            name = quoted(found.name)
            raise InputError(f"stored target coding of {name} is damaged; save it again")
        return found


def fit_coding(
    target: Int[np.ndarray, " n"] | Float64[np.ndarray, "n k"],
    kind: str,
    name: str,
    classes: tuple[str, ...] = (),
    standardize: bool = True,
) -> TargetCoding:
    """Chooses the representation of a target from its training part.

    Args:
        target: class indices, shape (n,), or real numbers, shape (n, k).
        kind: "classification" or "regression".
        name: the column's name.
        classes: the classes' labels.
        standardize: whether a regression target gets mean 0 and variance 1, or stays as it is.

    Returns:
        The coding.

    Raises:
        InputError: if a regression target is constant, or a class has no example.
    """
    require_choice("kind", kind, get_args(Kind))
    if kind == "classification":
        absent = [label for i, label in enumerate(classes) if not np.any(target == i)]
        if absent:
            listed = ", ".join(map(quoted, absent[:3])) + ", ..." * (len(absent) > 3)
            raise InputError(
                f"the training part has no example of class {listed} of target {quoted(name)}; "
                "raise samples, lower test_fraction or change the seed"
            )
        return TargetCoding("classification", name, classes)
    constant = constant_columns(target)
    if np.any(constant):
        column = f" (column {int(np.argmax(constant)) + 1})" if len(constant) > 1 else ""
        raise InputError(
            f"target {quoted(name)}{column} is constant in the training part; "
            "raise samples, change the seed or pick another target"
        )
    if not standardize:
        outputs = np.shape(target)[1]
        return TargetCoding("regression", name, (), (0.0,) * outputs, (1.0,) * outputs)
    mean, scale = mean_and_scale(target, f"target {quoted(name)}, column")
    return TargetCoding("regression", name, (), tuple(mean.tolist()), tuple(scale.tolist()))
