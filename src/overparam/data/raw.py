"""Data as a file holds it: named columns of numbers, a target, and where each row stands.

Rows keep the name by which the user can find them (a line of a CSV file, a row of a table), so that
an error found much later, in the measure, still points into the file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

Kind = Literal["classification", "regression"]


@dataclass(frozen=True, eq=False)
class RowNames:
    """What the rows of a table are called in messages.

    Attributes:
        unit: "line" for text files, "row" otherwise.
        numbers: for each row its number in the file, counted from 1.
    """

    unit: str
    numbers: Int[np.ndarray, " n"]

    @staticmethod
    def counted(n: int) -> "RowNames":
        """Rows 1 to n."""
        return RowNames("row", np.arange(1, n + 1))

    def name(self, row: int) -> str:
        """The name of one row, e.g. ``line 5``."""
        return f"{self.unit} {self.numbers[row]}"

    def names(self, rows: Iterable[int]) -> str:
        """The names of several rows, e.g. ``lines 5 and 9``; only the first four are listed."""
        numbers = [str(self.numbers[row]) for row in rows]
        if len(numbers) > 4:
            numbers = [*numbers[:4], f"{len(numbers) - 4} more"]
        return f"{self.unit}s {', '.join(numbers[:-1])} and {numbers[-1]}"

    def take(self, rows: Int[np.ndarray, " m"]) -> "RowNames":
        """The names of a selection of rows."""
        return RowNames(self.unit, self.numbers[rows])


@dataclass(frozen=True, eq=False)
class Target:
    """The column to be learnt.

    Attributes:
        name: the column's name.
        kind: "classification" or "regression".
        values: class indices, shape (n,), or real numbers, shape (n, k).
        classes: the classes' labels in the order of their indices; empty for regression.
    """

    name: str
    kind: Kind
    values: Int[np.ndarray, " n"] | Float64[np.ndarray, "n k"]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class RawData:
    """A table split into features and target, not preprocessed in any way.

    Attributes:
        features: shape (n, d).
        feature_names: d distinct names.
        target: the column to be learnt.
        rows: what the rows are called in the file.
        source: the file or data set, as it was named.
        indicators: the features that are 1 for one category and 0 for the others, each with the
            name of the column that it came from.
    """

    features: Float64[np.ndarray, "n d"]
    feature_names: tuple[str, ...]
    target: Target
    rows: RowNames
    source: str
    indicators: Mapping[str, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.features)


def quoted(text: str) -> str:
    """Text from a file, fit for a one-line message: escaped, in quotes, shortened."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
