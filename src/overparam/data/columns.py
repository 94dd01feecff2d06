"""From columns of a data frame to arrays of numbers, and what kind of target a column is.

The rule for targets, unless the task is given: text and booleans are classes, and so are integers
if they are only 0 and 1, only -1 and 1, or take at most 20 distinct values and fewer than half as
many as there are rows. Every other column of numbers is a regression target.
"""

import difflib
from collections import Counter
from collections.abc import Collection
from typing import get_args

import numpy as np
import polars as pl
from jaxtyping import Float64, Int

from overparam.data.csv_file import MISSING, has_decimal_comma
from overparam.data.raw import Kind, RowNames, Target, quoted
from overparam.errors import InputError
from overparam.limits import require_choice

LISTED = 12
"""Columns that a message lists."""

MAX_CLASSES = 20
TASKS = ("auto", *get_args(Kind))


def pick_target(names: list[str], target: str | None, source: str) -> str:
    """The target column's name: the given one, which must exist, or else the last.

    Args:
        names: the columns.
        target: the column asked for, or None.
        source: what the table is called in the error message.

    Returns:
        The name.

    Raises:
        InputError: if there is no such column; near matches are listed.
    """
    return names[-1] if target is None else pick_column(names, target, source, "for the target")


def pick_column(names: list[str], name: str, source: str, purpose: str) -> str:
    """A column's name, which must exist.

    Raises:
        InputError: if there is no such column; near matches are listed.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3) or names[:LISTED]
        listed = ", ".join(map(quoted, near))
        raise InputError(
            f"{source} has no column {quoted(name)} {purpose}; it has {listed}"
            f"{'' if len(near) == len(names) else ' among others'}"
        )
    return name


def feature_matrix(frame: pl.DataFrame, rows: RowNames) -> Float64[np.ndarray, "n d"]:
    """All columns as float64.

    Args:
        frame: columns of numbers or booleans, or of text that reads as numbers.
        rows: what the rows are called in messages.

    Returns:
        Shape (rows, columns).

    Raises:
        InputError: if a cell is missing, not a number or not finite, with its row and column.
    """
    return np.column_stack([_numbers(frame[name], rows) for name in frame.columns])


def one_hot(
    frame: pl.DataFrame, rows: RowNames, chosen: bool | Collection[str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Columns of categories as columns of 0 and 1, one for each category, in the column's place.

    Args:
        frame: the features.
        rows: what the rows are called in messages.
        chosen: which columns hold categories; True for every column of text, but for one most of
            whose entries are numbers, where the others are mistakes.

    Returns:
        The features, and for each that is new the column it came from. The categories of text are
        in alphabetical order, those of an Enum in its own.

    Raises:
        InputError: if there is no such column, an entry is missing, or nearly every row has a
            category of its own.
    """
    if isinstance(chosen, bool):
        chosen = [name for name in frame.columns if chosen and _is_categories(frame[name])]
    for name in chosen:
        pick_column(frame.columns, name, "the table", "of categories")
    parts = [_indicators(c, rows) if c.name in chosen else [c] for c in frame]
    found = [series for part in parts for series in part]
    name, times = Counter(series.name for series in found).most_common(1)[0]
    if times > 1:
        raise InputError(f"two columns would be called {quoted(name)}; rename one of them")
    origin = {
        series.name: column.name
        for column, part in zip(frame, parts, strict=True)
        if column.name in chosen
        for series in part
    }
    return pl.DataFrame(found), origin


def _indicators(column: pl.Series, rows: RowNames) -> list[pl.Series]:
    """A column of 0 and 1 for each category."""
    text = category_texts(column, rows)
    labels = _labels(column, text)
    if len(labels) > MAX_CLASSES and 2 * len(labels) > len(text):
        raise InputError(
            f"column {quoted(column.name)} holds {len(labels)} different texts in {len(text)} "
            "rows, too many for categories; drop it"
        )
    return [indicator(text, column.name, label) for label in labels]


def category_texts(column: pl.Series, rows: RowNames) -> pl.Series:
    """A column of categories as text, without spaces around it.

    Raises:
        InputError: if an entry is missing.
    """
    text = _stripped(column.cast(pl.String))
    missing = text.is_null() | text.str.to_lowercase().is_in(list(MISSING))
    if missing.any():
        first = text.filter(missing)[0]
        what = "empty" if first is None else f"missing ({quoted(first)})"
        where = _cell(column, rows, missing.fill_null(True).to_numpy())
        raise InputError(f"{where} is {what}{_more(int(missing.sum()), rows)}")
    return text


def indicator(text: pl.Series, name: str, label: str) -> pl.Series:
    """The column NAME=LABEL: 1 where a category is the label, else 0."""
    return (text == label).cast(pl.Float64).alias(f"{name}={label}")


def _labels(column: pl.Series, text: pl.Series) -> list[str]:
    """The categories that occur: an Enum states their order, other text is in alphabetical one."""
    present = set(text.to_list())
    ordered = column.dtype.categories if isinstance(column.dtype, pl.Enum) else sorted(present)
    return [label for label in ordered if label in present]


def target_values(column: pl.Series, rows: RowNames, task: str) -> Target:
    """Reads a column as classes or as real numbers, by the rule at the top of this module.

    Args:
        column: the target.
        rows: what the rows are called in messages.
        task: "auto", "classification" or "regression".

    Returns:
        The target, with class indices or values of shape (n, 1).

    Raises:
        InputError: if a cell is unusable, the column is constant, or it does not suit the task.
    """
    require_choice("task", task, TASKS)
    column = _stripped(column)
    _require_complete(column, rows)
    as_text = task == "classification" and _is_text(column)
    if as_text or (task == "auto" and _is_categories(column)):
        return _text_classes(column, task)
    values = _numbers(column, rows)
    distinct = np.unique(values)
    if len(distinct) == 1:
        raise InputError(f"target {quoted(column.name)} is constant; pick another target column")
    if task == "regression" or (task == "auto" and not _looks_like_classes(distinct, column)):
        return Target(column.name, "regression", values[:, None])
    labels = [str(int(v)) if v.is_integer() else repr(v) for v in distinct.tolist()]
    return _classes(column.name, np.searchsorted(distinct, values), labels)


def _looks_like_classes(distinct: Float64[np.ndarray, " values"], column: pl.Series) -> bool:
    if column.dtype == pl.Boolean or distinct.tolist() in ([0, 1], [-1, 1]):
        return True
    integers = bool(np.all(distinct == np.round(distinct)))
    return integers and len(distinct) <= MAX_CLASSES and 2 * len(distinct) < len(column)


def _text_classes(column: pl.Series, task: str) -> Target:
    text = column.cast(pl.String)
    labels = _labels(column, text)
    if len(labels) == 1:
        raise InputError(f"target {quoted(column.name)} is constant; pick another target column")
    if task == "auto" and len(labels) > MAX_CLASSES:
        raise InputError(
            f"target {quoted(column.name)} holds {len(labels)} different texts, more than "
            f"{MAX_CLASSES} classes; pick another target, or force it with task='classification'"
        )
    index_of = {label: index for index, label in enumerate(labels)}
    return _classes(column.name, np.array([index_of[label] for label in text]), labels)


def _classes(name: str, indices: Int[np.ndarray, " n"], labels: list[str]) -> Target:
    if len(labels) == len(indices) > 2:
        raise InputError(
            f"every row has its own class in target {quoted(name)}; use task='regression'"
        )
    return Target(name, "classification", indices.astype(np.int64), tuple(labels))


def _is_text(column: pl.Series) -> bool:
    return isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum)


def _is_categories(column: pl.Series) -> bool:
    """Whether a column is text, and most of it no numbers."""
    if not _is_text(column):
        return False
    numbers = _stripped(column).cast(pl.String).cast(pl.Float64, strict=False)
    return numbers.null_count() >= len(column) / 2


def _stripped(column: pl.Series) -> pl.Series:
    """Without spaces around text; a cell of spaces alone becomes missing."""
    if column.dtype != pl.String:
        return column
    stripped = column.str.strip_chars()
    return stripped.set(stripped == "", None)


def _require_complete(column: pl.Series, rows: RowNames) -> None:
    missing = column.is_null().to_numpy()
    if missing.any():
        count = int(missing.sum())
        raise InputError(f"{_cell(column, rows, missing)} is empty{_more(count, rows)}")


def _numbers(column: pl.Series, rows: RowNames) -> Float64[np.ndarray, " n"]:
    """One column as finite float64."""
    column = _stripped(column)
    if _is_text(column):
        numbers = column.cast(pl.String).cast(pl.Float64, strict=False)
        failed = (numbers.is_null() & column.is_not_null()).to_numpy()
        if failed.any():
            raise InputError(_text_message(column, rows, failed))
    elif column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        numbers = column.cast(pl.Float64)
    else:
        raise InputError(
            f"column {quoted(column.name)} has type {column.dtype}; "
            "convert it to numbers or drop it"
        )
    _require_complete(column, rows)
    values = numbers.to_numpy()
    infinite = ~np.isfinite(values)
    if infinite.any():
        raise InputError(
            f"{_cell(column, rows, infinite)} is {values[infinite][0]:g}; "
            f"fill the entry or drop the {rows.unit}"
        )
    return values


def _text_message(column: pl.Series, rows: RowNames, failed: np.ndarray) -> str:
    """What is the matter with the cells of a column that are no numbers."""
    texts = [str(column[int(i)]) for i in np.flatnonzero(failed)]
    first, where = quoted(texts[0]), _cell(column, rows, failed)
    if any(has_decimal_comma(text) for text in texts):
        text = next(text for text in texts if has_decimal_comma(text))
        return (
            f"column {quoted(column.name)} holds {quoted(text)}, a number with a comma; write a "
            "decimal point, and nothing between thousands"
        )
    if all(text.lower() in MISSING for text in texts):
        return f"{where} is missing ({first}){_more(len(texts), rows)}"
    if len(texts) >= len(column) - column.null_count():
        return (
            f"column {quoted(column.name)} holds text ({first}); encode it with --one-hot "
            "(one_hot=True), drop it, or make it the target"
        )
    return f"{where} holds {first}, not a number; mend the entry or drop the {rows.unit}"


def _more(count: int, rows: RowNames) -> str:
    """How many entries of a column are missing, and the mend."""
    if count == 1:
        return f"; fill the entry or drop the {rows.unit}"
    others = f"{count - 1} more {rows.unit}{'s' * (count > 2)}"
    return f", and in {others}; fill the entries or drop the {rows.unit}s"


def _cell(column: pl.Series, rows: RowNames, wrong: np.ndarray) -> str:
    return f"{rows.name(int(np.argmax(wrong)))}, column {quoted(column.name)}"
