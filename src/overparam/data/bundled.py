"""The data sets that ship with scikit-learn, read without it.

Importing scikit-learn takes longer than the theorems of a small job.
"""

import gzip
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from overparam.choices import DATA_SETS

_NUCLEUS = (
    *("radius", "texture", "perimeter", "area", "smoothness"),
    *("compactness", "concavity", "concave points", "symmetry", "fractal dimension"),
)

FEATURES: dict[str, tuple[str, ...]] = {
    "digits": tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8)),
    "diabetes": ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
    "breast_cancer": (
        *(f"mean {measured}" for measured in _NUCLEUS),
        *(f"{measured} error" for measured in _NUCLEUS),
        *(f"worst {measured}" for measured in _NUCLEUS),
    ),
    "wine": (
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols"),
        *("flavanoids", "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue"),
        *("od280/od315_of_diluted_wines", "proline"),
    ),
    "iris": (
        *("sepal length (cm)", "sepal width (cm)"),
        *("petal length (cm)", "petal width (cm)"),
    ),
}
"""Names of the features, by data set; the files do not have them."""

BUNDLED = DATA_SETS

_FILES = {"wine": "wine_data.csv"}
"""Where a file is not named after its data set."""


def read_bundled(name: str, target: str | None = None) -> pl.DataFrame:
    """A data set that ships with scikit-learn, its target as the last column.

    Args:
        name: One of :data:`BUNDLED`.
        target: "parity" of the digits, for "even" and "odd" instead of the ten classes.
    """
    classes: list[str]
    if name == "diabetes":  # unscaled: scaling is done later, on the training part only
        data, labels = (
            _numbers("diabetes_data_raw.csv.gz"),
            _numbers("diabetes_target.csv.gz")[:, 0],
        )
        return _frame(name, data, pl.Series("target", labels))
    if name == "digits":
        rows = _numbers("digits.csv.gz", ",")
        classes = [str(digit) for digit in range(10)]
    else:
        lines = _folder().joinpath(_FILES.get(name, f"{name}.csv")).read_text("utf-8").splitlines()
        classes = lines[0].split(",")[2:]  # after the numbers of rows and of features
        rows = _parsed(lines[1:], ",")
    numbers, column = rows[:, -1].astype(int), "target"
    if target == "parity" and name == "digits":
        classes, numbers, column = ["odd", "even"], 1 - numbers % 2, "parity"
    labelled = pl.Series(column, [classes[i] for i in numbers], dtype=pl.Enum(classes))
    return _frame(name, rows[:, :-1], labelled)


def _frame(name: str, features: Float[np.ndarray, "n d"], target: pl.Series) -> pl.DataFrame:
    return pl.DataFrame(features, schema=list(FEATURES[name])).with_columns(target)


def _folder() -> Path:
    """Where scikit-learn keeps its data; to find it imports nothing."""
    found = importlib.util.find_spec("sklearn")
    assert found is not None  # it is required
    assert found.origin is not None
    return Path(found.origin).parent / "datasets" / "data"


def _numbers(file: str, delimiter: str | None = None) -> Float[np.ndarray, "n d"]:
    with gzip.open(_folder() / file, "rt", encoding="utf-8") as lines:
        return _parsed(lines, delimiter)


def _parsed(lines: Iterable[str], delimiter: str | None) -> Float[np.ndarray, "n d"]:
    return np.loadtxt(lines, delimiter=delimiter, ndmin=2)
