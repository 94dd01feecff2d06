"""Rows that a network has not seen, as the features that it was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from overparam.data.columns import category_texts, feature_matrix, indicator
from overparam.data.raw import RowNames, quoted
from overparam.data.sources import read_frame
from overparam.errors import InputError


def read_features(
    source: Any,
    names: Sequence[str],
    indicators: Mapping[str, str],
    *,
    separator: str | None = None,
    header: bool = True,
) -> tuple[Float64[np.ndarray, "n d"], RowNames]:
    """Reads the columns that features were made of; others, such as the target, are left alone.

    Args:
        source: a table, as ``load`` takes it.
        names: the features, in order (``Dataset.feature_names``).
        indicators: those that stand for a category, and of which column (``Dataset.indicators``).
            A category that the training part did not have is 0 in all of them, as it is in the
            test part.
        separator: between the columns of a text file; None to tell.
        header: whether its first line names the columns.

    Returns:
        The features, not preprocessed, shape (n, d), and what the rows are called.

    Raises:
        InputError: if the table cannot be read, has no rows, lacks columns, or a cell is missing
            or no number.
    """
    frame, rows, name = read_frame(source, separator=separator, header=header)
    needed = list(dict.fromkeys(indicators.get(each, each) for each in names))
    lacking = [column for column in needed if column not in frame.columns]
    if lacking:
        listed = ", ".join(map(quoted, lacking[:12])) + ", ..." * (len(lacking) > 12)
        raise InputError(
            f"{name} has no column {listed}: give the columns that the network was trained on, "
            "under the same names"
        )
    if not frame.height:
        raise InputError(f"{name} has no rows; give one or more")
    try:
        texts = {column: category_texts(frame[column], rows) for column in set(indicators.values())}
        columns = [_feature(frame, each, indicators.get(each), texts) for each in names]
        return feature_matrix(pl.DataFrame(columns), rows), rows
    except InputError as error:
        cause, text, _ = str(error).partition("; encode it with --one-hot")
        mend = "; the network was trained on numbers there" if text else ""
        raise InputError(f"{name}: {cause}{mend}") from error


def _feature(
    frame: pl.DataFrame, name: str, column: str | None, texts: Mapping[str, pl.Series]
) -> pl.Series:
    if column is None:
        return frame[name]
    return indicator(texts[column], column, name.removeprefix(f"{column}="))
