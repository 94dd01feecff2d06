"""Where data comes from: CSV and Parquet files, NumPy archives, data frames, and bundled sets."""

import difflib
import io
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from overparam.data.bundled import BUNDLED, read_bundled
from overparam.data.columns import feature_matrix, one_hot, pick_target, target_values
from overparam.data.csv_file import read_csv
from overparam.data.raw import RawData, RowNames, Target, quoted
from overparam.errors import InputError
from overparam.files import open_npz
from overparam.problem.measure import real_array

TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SUFFIXES = (*TEXT, ".parquet", ".npz")


def read_table(
    source: Any,
    target: str | None = None,
    task: str = "auto",
    *,
    separator: str | None = None,
    header: bool = True,
    one_hot: bool | Collection[str] = False,
) -> RawData:
    """Reads features and a target.

    Args:
        source: a file with one of :data:`SUFFIXES` (.npz with the keys x and y), one of
            :data:`BUNDLED`, or a data frame of Polars or pandas.
        target: the column to learn; the last one if None. For ``digits`` also "parity".
        task: "classification", "regression", or "auto" to tell from the target's values by the
            rule of :mod:`overparam.data.columns`.
        separator: between the columns of a text file; None to tell.
        header: whether the first line of a text file names the columns.
        one_hot: which columns hold categories, see :func:`overparam.data.columns.one_hot`.

    Returns:
        The table, not preprocessed.

    Raises:
        InputError: if the source is missing or unreadable, or a cell is not a finite number.
    """
    if isinstance(source, str | os.PathLike) and _is_npz(source):
        path = Path(source)
        _require_readable(path, separator, header)
        return _read_npz(path, target, task)
    frame, rows, name = read_frame(source, target, separator=separator, header=header)
    return _from_frame(frame, rows, target, task, name, one_hot)


def read_frame(
    source: Any, target: str | None = None, *, separator: str | None = None, header: bool = True
) -> tuple[pl.DataFrame, RowNames, str]:
    """Reads all columns of a table; of an .npz archive its x, as columns x1, x2, ...

    Args:
        source: as of :func:`read_table`.
        target: for ``digits`` "parity".
        separator: between the columns of a text file; None to tell.
        header: whether the first line of a text file names the columns.

    Returns:
        The columns, what the rows are called, and what the table is called.

    Raises:
        InputError: if the source is missing or unreadable.
    """
    if not isinstance(source, str | os.PathLike):
        frame = as_frame(source)
        return frame, RowNames.counted(frame.height), "the data frame"
    name = os.fspath(source)
    if name in BUNDLED:
        frame = read_bundled(name, target)
        return frame, RowNames.counted(frame.height), name
    path = Path(name)
    _require_readable(path, separator, header)
    try:
        if _is_npz(path):
            x = _npz_points(path, _npz_arrays(path, ("x",))["x"])
            frame = pl.DataFrame(dict(zip(_npz_names(x), x.T, strict=True)))
            return frame, RowNames.counted(len(x)), name
        is_text = _suffix(path) in TEXT
        frame, rows = read_csv(path, separator, header) if is_text else _read_parquet(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    return frame, rows, name


def _is_npz(source: str | os.PathLike) -> bool:
    return os.fspath(source) not in BUNDLED and _suffix(Path(source)) == ".npz"


def _require_readable(path: Path, separator: str | None, header: bool) -> None:
    try:
        _require_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    if _suffix(path) not in TEXT and (separator is not None or not header):
        raise InputError(f"{path} is no text file; leave separator and header out")


def as_frame(source: Any) -> pl.DataFrame:
    """A data frame of Polars, or of another library with columns that become NumPy arrays.

    Raises:
        InputError: if it is none, or has two columns of one name.
    """
    if isinstance(source, pl.DataFrame):
        return source
    if not hasattr(source, "columns") or not hasattr(source, "__getitem__"):
        raise InputError(
            f"the data are a {type(source).__name__}: give a file's or a bundled set's name, or a "
            "data frame of Polars or pandas; arrays make a Measure(x, y)"
        )
    names = [str(name) for name in source.columns]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"the data frame has two columns named {quoted(repeated)}; rename one")
    return pl.DataFrame([_series(str(name), source[name]) for name in source.columns])


def _series(name: str, column: Any) -> pl.Series:
    """A column; what its own library calls missing is missing."""
    values = column.to_numpy()
    if values.dtype.kind in "biuf":
        return pl.Series(name, values)
    missing = column.isna().to_numpy()
    cells = [None if gone else value for value, gone in zip(values, missing, strict=True)]
    try:
        return pl.Series(name, cells)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series(name, [None if cell is None else str(cell) for cell in cells])


def _suffix(path: Path) -> str:
    """The end of a file's name in lower case; .gz together with what stands before it."""
    *rest, last = ["", *(suffix.lower() for suffix in path.suffixes)]
    return rest[-1] + last if last == ".gz" else last


def _require_file(path: Path) -> None:
    """Refuse what is no file of a known kind; a pipe or a device might never end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(_missing(path)) from None
    except ValueError as error:  # a null byte
        raise InputError(f"{str(path)!r} is no name of a file ({error})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a directory; name a file in it")
    if _suffix(path) not in SUFFIXES:
        raise InputError(
            f"{path} has the unknown suffix {quoted(_suffix(path))}; "
            f"convert it to one of {', '.join(SUFFIXES)}"
        )
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is no regular file; copy the data into one")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; it needs at least two rows of data")


def _missing(path: Path) -> str:
    siblings = path.parent.iterdir() if path.parent.is_dir() else ()
    readable = [sibling.name for sibling in siblings if _suffix(sibling) in SUFFIXES]
    near = difflib.get_close_matches(path.name.lower(), BUNDLED, n=1)
    near += difflib.get_close_matches(path.name, readable, n=2)
    hint = f"; did you mean {' or '.join(quoted(n) for n in near)}?" if near else ";"
    return f"there is no file {path}{hint} Bundled data sets are {', '.join(BUNDLED)}"


def _from_frame(
    frame: pl.DataFrame,
    rows: RowNames,
    target: str | None,
    task: str,
    source: str,
    categories: bool | Collection[str],
) -> RawData:
    if frame.width < 2:
        raise InputError(
            f"{source} has {frame.width} column; it needs features and a target (--separator says "
            "what stands between them)"
        )
    try:
        return _split_columns(frame, rows, target, task, source, categories)
    except InputError as error:
        if re.match(rf"{rows.unit} \d", str(error)):
            raise InputError(f"{source}: {error}") from error
        raise


def _split_columns(
    frame: pl.DataFrame,
    rows: RowNames,
    target: str | None,
    task: str,
    source: str,
    categories: bool | Collection[str],
) -> RawData:
    name = pick_target(frame.columns, target, source)
    _require_two_rows(frame.height, source)
    features, indicators = frame.drop(name), dict[str, str]()
    target_column = target_values(frame[name], rows, task)
    if categories:
        features, indicators = one_hot(features, rows, categories)
    matrix = feature_matrix(features, rows)
    return RawData(matrix, tuple(features.columns), target_column, rows, source, indicators)


def _require_two_rows(n: int, source: str) -> None:
    if n < 2:
        raise InputError(f"{source} has {n} row{'' if n == 1 else 's'}; it needs at least two")


def _read_parquet(path: Path) -> tuple[pl.DataFrame, RowNames]:
    try:
        # From bytes: a path would have its brackets expanded as a pattern.
        frame = pl.read_parquet(io.BytesIO(path.read_bytes()))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a readable Parquet file ({reason}); save it again"
        ) from error
    return frame, RowNames.counted(frame.height)


def _read_npz(path: Path, target: str | None, task: str) -> RawData:
    arrays = _npz_arrays(path, ("x", "y"))
    if target not in (None, "y"):
        raise InputError(f"{path} has no target {quoted(str(target))}; the target is the array y")
    x = _npz_points(path, arrays["x"])
    _require_two_rows(len(x), str(path))
    rows = RowNames.counted(len(x))
    learnt = _npz_target(arrays["y"], len(x), path, rows, task)
    return RawData(x, _npz_names(x), learnt, rows, str(path))


def _npz_points(path: Path, array: np.ndarray) -> np.ndarray:
    x = real_array(array, f"x in {path}")
    if x.ndim != 2:
        mend = "x[:, None]" if x.ndim == 1 else "x.reshape(len(x), -1)"
        raise InputError(f"x in {path} has shape {x.shape}; save it as (n, d), e.g. {mend}")
    if x.shape[1] == 0:
        raise InputError(f"x in {path} has no columns; save at least one feature")
    return x


def _npz_names(x: np.ndarray) -> tuple[str, ...]:
    return tuple(f"x{column + 1}" for column in range(x.shape[1]))


def _npz_arrays(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    with open_npz(path) as archive:
        absent = [key for key in needed if key not in archive]
        if absent:
            present = ", ".join(archive.files) or "none"
            raise InputError(
                f"{path} has no array {' nor '.join(absent)} (it has {present}); "
                f"save it with np.savez(path, {', '.join(f'{key}=...' for key in needed)})"
            )
        return {key: archive[key] for key in needed}


def _npz_target(y: np.ndarray, n: int, path: Path, rows: RowNames, task: str) -> Target:
    if y.ndim not in (1, 2) or 0 in y.shape[1:]:
        raise InputError(f"y in {path} has shape {y.shape}; save it as (n,) or (n, k)")
    if len(y) != n:
        raise InputError(f"y in {path} has {len(y)} rows but x has {n}; save one target a point")
    if y.ndim == 1 or y.shape[1] == 1:
        flat = y.ravel()
        values = flat if flat.dtype.kind in "bU" else real_array(flat, f"y in {path}")
        return target_values(pl.Series("y", values), rows, task)
    if task == "classification":
        raise InputError(f"y in {path} has {y.shape[1]} columns; save class labels of shape (n,)")
    values = real_array(y, f"y in {path}")
    constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
    if len(constant):
        raise InputError(f"column {constant[0] + 1} of y in {path} is constant; drop it")
    return Target("y", "regression", values)
