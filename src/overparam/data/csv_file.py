"""Reading CSV files strictly.

Polars parses the cells. It is also forgiving: it fills short lines with nulls, reads a blank line
as a row of nulls and renames columns that share a name. A certificate should not rest on a guess
about what the file meant, so the records are first counted with the standard library's reader,
which also yields the line on which each record starts.

What separates the columns is told from the first records, unless it is given: a comma, a semicolon,
a tab or a bar. In a file not separated by commas, a comma inside a number is a decimal one.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from overparam.data.raw import RowNames, quoted
from overparam.errors import InputError

SEPARATORS = (",", ";", "\t", "|")
"""The first one wins a tie."""

NAMED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}

SPELLED = {
    **{"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "bar": "|", "pipe": "|"},
    "space": " ",
}
"""Names of separators that a command line has trouble with."""

MISSING = frozenset({"", "?", "-", "--", ".", "na", "n/a", "nan", "none", "null", "missing"})
"""How tables spell, in lower case, that there is no value."""

SAMPLE = 100
"""Rows that tell the separator, and names from data."""

_SPACE_BESIDE_QUOTE = re.compile(r',[ \t]+"')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_POINT_NUMBER = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")


def read_csv(
    path: Path, separator: str | None = None, header: bool = True
) -> tuple[pl.DataFrame, RowNames]:
    """Reads a UTF-8 file of separated values.

    Args:
        path: an existing file; one whose name ends in .gz is decompressed.
        separator: what stands between columns, one character or one of :data:`SPELLED`; None to
            tell, in a .tsv file a tab.
        header: whether the first line names the columns; otherwise they are column_1, column_2, ...

    Returns:
        The columns, typed as Polars infers from all cells, and the line of each row.

    Raises:
        InputError: if the file is empty, not text, ragged, or has no usable header.
    """
    text = _text(path)
    separator = _given(separator, path) or _separator(text)
    if separator == " ":  # several in a row, as in aligned columns, are one
        text = re.sub(r"[ \t]+", " ", re.sub(r"(?m)^[ \t]+|[ \t]+$", "", text))
    names, lines, blanks, decimal_commas = _structure(text, path, separator, header)
    if blanks or separator != "," or _SPACE_BESIDE_QUOTE.search(text):
        text = _tidied(text, separator, decimal_commas)
    try:
        # Inferring from all rows: a column is numeric only if every cell is.
        source = io.BytesIO(text.encode())
        frame = pl.read_csv(source, has_header=header, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be parsed as CSV ({reason}); save it again") from error
    if frame.shape != (len(lines), len(names)):
        raise InputError(f"{path} cannot be parsed as CSV (its quotes are ambiguous); quote fields")
    frame.columns = names
    return frame, RowNames("line", np.array(lines))


def is_number(text: str) -> bool:
    """Whether text is a number as tables spell them, with a decimal point."""
    return _NUMBER.fullmatch(text) is not None


def has_decimal_comma(text: str) -> bool:
    """Whether text is a number with a comma inside."""
    return _COMMA_NUMBER.fullmatch(text) is not None


def _given(separator: str | None, path: Path) -> str | None:
    """The character that was asked for, or that the file's name says."""
    if separator is None:
        return "\t" if ".tsv" in (suffix.lower() for suffix in path.suffixes) else None
    found = SPELLED.get(separator.strip().lower(), separator)
    if len(found) != 1 or found.isalnum() or found in "\"'\r\n+-.":
        raise InputError(
            f"{separator!r} separates no columns: give one character such as ';', or one of "
            f"{', '.join(name for name in SPELLED if name.isalpha())}"
        )
    return found


def _bytes(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix.lower() != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged or not compressed by gzip; save it again") from error


def _text(path: Path) -> str:
    try:
        text = _bytes(path).decode("utf-8-sig")  # drops a byte order mark
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as CSV with UTF-8 encoding") from error
    if "\0" in text:
        raise InputError(f"{path} holds binary data, not text; save it as CSV")
    if not text.strip():
        raise InputError(f"{path} is empty; it needs a header line and at least two rows")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which each record starts, and its cells; no cells for a blank line."""
    reader = csv.reader(
        io.StringIO(text), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )
    start = 1
    for cells in reader:
        blank = len(cells) == 0 or (len(cells) == 1 and not cells[0].strip())
        yield start, [] if blank else [cell.strip() for cell in cells]
        start = reader.line_num + 1


def _sample(text: str, separator: str) -> list[list[str]]:
    """The first records that are not blank, up to the first that cannot be parsed."""
    found: list[list[str]] = []
    try:
        for _, cells in _records(text, separator):
            if cells:
                found.append(cells)
            if len(found) > SAMPLE:
                break
    except csv.Error:
        pass
    return found


def _separator(text: str) -> str:
    """What separates columns: that which makes of the first records most of a table."""

    def likeness(separator: str) -> tuple[bool, bool, float]:
        records = _sample(text, separator)
        if not records or len(records[0]) < 2:
            return False, False, 0.0
        regular = len({len(cells) for cells in records}) == 1
        cells = [cell for row in records[1:] for cell in row]
        numbers = sum(is_number(c) or (separator != "," and has_decimal_comma(c)) for c in cells)
        return regular, True, numbers / max(len(cells), 1)

    return max(SEPARATORS, key=likeness)


def _structure(
    text: str, path: Path, separator: str, named: bool
) -> tuple[list[str], list[int], bool, bool]:
    """How a text divides into cells, checked.

    Returns:
        The columns' names, the line of each row that is not blank, whether there are blank lines,
        and whether numbers are written like 1,5.
    """
    lines: list[int] = []
    blanks, line = False, 1
    with_comma: tuple[int, str] | None = None
    with_point: tuple[int, str] | None = None
    try:
        records = _records(text, separator)
        if named:
            _, header = next(records)
            _check_header(header, _sample(text, separator)[1:], path)
        else:
            first = _sample(text, separator)[:1] or [[]]
            header = [f"column_{i + 1}" for i in range(len(first[0]))]
        for line, cells in records:
            if not cells:
                blanks = True
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {line} has {len(cells)} fields but the "
                    f"{'header' if named else 'first line'} has {len(header)}; complete the line, "
                    f"or quote fields that hold {NAMED.get(separator, repr(separator))}"
                )
            lines.append(line)
            if separator != ",":
                with_comma = with_comma or _first(cells, _COMMA_NUMBER, line)
                with_point = with_point or _first(cells, _POINT_NUMBER, line)
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be parsed as CSV after line {line} ({error}); check its quotes"
        ) from error
    if not lines:
        raise InputError(f"{path} holds a header but no rows; it needs at least two")
    if with_comma and with_point:
        raise InputError(
            f"{path} holds {with_comma[1]} in line {with_comma[0]} and {with_point[1]} in line "
            f"{with_point[0]}: write all decimals with points, or all with commas"
        )
    return header, lines, blanks, with_comma is not None


def _first(cells: list[str], pattern: re.Pattern, line: int) -> tuple[int, str] | None:
    """The line, and the first of its cells that matches."""
    return next(((line, cell) for cell in cells if pattern.fullmatch(cell)), None)


def _check_header(names: list[str], rows: list[list[str]], path: Path) -> None:
    """Refuse a first line that does not name the columns."""
    if not names:
        raise InputError(f"line 1 of {path} is blank; start the file with the columns' names")
    if _is_data(names, rows):
        shown = ", ".join(quoted(name) for name in names[:3]) + ", ..." * (len(names) > 3)
        raise InputError(
            f"line 1 of {path} holds data ({shown}), not the columns' names; put a line of names "
            "above it, or read it with --no-header (header=False)"
        )
    for position, name in enumerate(names, start=1):
        if not name:
            raise InputError(
                f"column {position} of {path} has no name (a saved row index?); name or drop it"
            )
        if names.index(name) != position - 1:
            raise InputError(f"{path} has two columns named {quoted(name)}; rename one of them")


def _is_data(names: list[str], rows: list[list[str]]) -> bool:
    """Whether a first line is one of the rows: there is no header.

    Numbers may name columns (years, wavelengths), but then in order, and beside names that are no
    values of their own column.
    """
    numbers = [i for i, name in enumerate(names) if is_number(name) or has_decimal_comma(name)]
    known = [i for i, name in enumerate(names) if name.lower() not in MISSING]
    if numbers and set(known) <= set(numbers):
        return not _is_enumeration(names)
    columns = [{row[i] for row in rows if i < len(row)} for i in range(len(names))]
    recurring = [i for i in known if i not in numbers and names[i] in columns[i]]
    if not numbers:
        return len(names) > 1 and len(recurring) == len(names)
    values = [float(names[i].replace(",", ".")) for i in numbers]
    steps = np.sign(np.diff(values))
    ordered = bool(np.all(steps == 1) or np.all(steps == -1))
    return bool(recurring) or not ordered


def _is_enumeration(names: list[str]) -> bool:
    """Whether the names are 0, 1, 2, ... or 1, 2, 3, ..., as array-to-CSV writers produce."""
    return any(names == [str(i + first) for i in range(len(names))] for first in (0, 1))


def _tidied(text: str, separator: str, decimal_commas: bool) -> str:
    """The same records separated by commas, with decimal points and no blank lines."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for _, cells in _records(text, separator):
        if cells and decimal_commas:
            cells = [c.replace(",", ".") if has_decimal_comma(c) else c for c in cells]
        if cells:
            writer.writerow(cells)
    return out.getvalue()
