"""What the network of a job's folder predicts for new rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from overparam.data import Preprocessing, TargetCoding
from overparam.data.new_rows import read_features
from overparam.errors import InputError
from overparam.files import read_start
from overparam.importers import load_network

LONGEST = 2**28
"""Bytes beyond which a file is no summary of a job."""


def predict(
    folder: Path, source: Any, *, separator: str | None = None, header: bool = True
) -> pl.DataFrame:
    """Apply the final network of a job to the rows of a table.

    Args:
        folder: What ``overparam certify --out`` or ``overparam anchor --out`` wrote.
        source: A table with the columns of the training; a target in it is left alone.
        separator: Between the columns of a text file; None to tell.
        header: Whether its first line names the columns.

    Returns:
        A row for each row of the table: the class by its name, or the value in the target's units,
        in a column of the target's name; of several outputs in columns NAME_1, NAME_2, ...

    Raises:
        InputError: The folder is no job's, or of an older version, or the table does not fit.
    """
    summary = _summary(folder)
    try:
        names, categories = summary["feature_names"], summary["categories"]
        preprocessing = Preprocessing.from_dict(summary["preprocessing"])
        coding = TargetCoding.from_dict(summary["target"])
    except KeyError as error:
        raise InputError(
            f"{folder} does not say how its data were prepared ({error} is missing in "
            "summary.json): run the job again into it"
        ) from error
    network = load_network(folder)
    x, rows = read_features(source, names, categories, separator=separator, header=header)
    decoded = coding.decode(network.apply(preprocessing.apply(x, rows)))
    if coding.kind == "classification":
        return pl.DataFrame({coding.name: [coding.classes[index] for index in decoded.tolist()]})
    if coding.outputs == 1:
        return pl.DataFrame({coding.name: np.ravel(decoded)})
    return pl.DataFrame({f"{coding.name}_{i + 1}": v for i, v in enumerate(decoded.T)})


def _summary(folder: Path) -> dict[str, Any]:
    file = folder / "summary.json"
    if not file.is_file():
        raise InputError(f"{folder} has no summary.json: give the folder of a job (certify --out)")
    try:
        found = json.loads(read_start(file, LONGEST))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: run the job again into its folder") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} is no summary of a job: give the folder of one (certify --out)")
    return found
