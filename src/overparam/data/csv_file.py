"""Reading CSV files strictly.

Polars parses the cells. It is also forgiving: it fills short lines with nulls, reads a blank line
as a row of nulls and renames columns that share a name. A certificate should not rest on a guess
about what the file meant, so the records are first counted with the standard library's reader,
which also yields the line on which each record starts.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from overparam.data.raw import RowNames, quoted
from overparam.errors import InputError

_SPACE_BESIDE_QUOTE = re.compile(r',[ \t]+"')


def read_csv(path: Path) -> tuple[pl.DataFrame, RowNames]:
    """Reads a comma-separated UTF-8 file whose first line names the columns.

    Args:
        path: an existing file.

    Returns:
        The columns, typed as Polars infers from all cells, and the line of each row.

    Raises:
        InputError: if the file is empty, not text, ragged, or has no usable header.
    """
    text = _text(path)
    header, lines, blanks = _structure(text, path)
    if blanks or _SPACE_BESIDE_QUOTE.search(text):
        text = _tidied(text)
    try:
        # Inferring from all rows: a column is numeric only if every cell is.
        frame = pl.read_csv(io.BytesIO(text.encode()), infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be parsed as CSV ({reason}); save it again") from error
    if frame.shape != (len(lines), len(header)):
        raise InputError(f"{path} cannot be parsed as CSV (its quotes are ambiguous); quote fields")
    frame.columns = header
    return frame, RowNames("line", np.array(lines))


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # drops a byte order mark
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as CSV with UTF-8 encoding") from error
    if "\0" in text:
        raise InputError(f"{path} holds binary data, not text; save it as CSV")
    if not text.strip():
        raise InputError(f"{path} is empty; it needs a header line and at least two rows")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record starts, and its cells; no cells for a blank line."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
    start = 1
    for cells in reader:
        blank = len(cells) == 0 or (len(cells) == 1 and not cells[0].strip())
        yield start, [] if blank else cells
        start = reader.line_num + 1


def _structure(text: str, path: Path) -> tuple[list[str], list[int], bool]:
    """The header, the line of each row that is not blank, and whether there are blank lines."""
    lines: list[int] = []
    blanks = False
    line = 1
    try:
        records = _records(text)
        _, header = next(records)
        header = _checked_header(header, path)
        for line, cells in records:
            if not cells:
                blanks = True
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {line} has {len(cells)} fields but the header has "
                    f"{len(header)}; complete the line, or quote fields that hold commas"
                )
            lines.append(line)
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be parsed as CSV after line {line} ({error}); check its quotes"
        ) from error
    if not lines:
        raise InputError(f"{path} holds a header but no rows; it needs at least two")
    return header, lines, blanks


def _checked_header(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    if not names:
        raise InputError(f"line 1 of {path} is blank; start the file with the columns' names")
    if len(names) == 1 and re.search(r"[;\t|]", names[0]):
        raise InputError(f"{path} is not separated by commas; save it as comma-separated CSV")
    for position, name in enumerate(names, start=1):
        if not name:
            raise InputError(
                f"column {position} of {path} has no name (a saved row index?); name or drop it"
            )
        if names.index(name) != position - 1:
            raise InputError(f"{path} has two columns named {quoted(name)}; rename one of them")
    if all(map(_is_number, names)) and not _is_enumeration(names):
        raise InputError(f"line 1 of {path} holds numbers; put a line of column names above it")
    return names


def _is_enumeration(names: list[str]) -> bool:
    """Whether the names are 0, 1, 2, ... or 1, 2, 3, ..., as array-to-CSV writers produce."""
    return any(names == [str(i + first) for i in range(len(names))] for first in (0, 1))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tidied(text: str) -> str:
    """The same records without blank lines and without spaces before quotes."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(cells for _, cells in _records(text) if cells)
    return out.getvalue()
