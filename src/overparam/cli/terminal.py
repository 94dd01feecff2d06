"""Where text leaves for the terminal: escaped, in its encoding, errors as one line.

Names of files, columns and classes, and the texts of certificates come from others. A control
character in them would be obeyed by the terminal: it could hide a line, or write one of its own.
"""

import os
import shutil
import sys
import textwrap
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

LONGEST = 600
"""Characters of an error line; of a longer one the middle is left out."""

_OBEYED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode's categories of controls, marks of direction, surrogates, unassigned, line ends."""


def escaped(text: str) -> str:
    """One line in which every character that a terminal might obey is spelled out.

    Line ends and tabs are spelled out, too.
    """
    if text.isprintable():
        return text
    return "".join(_spelled(c) if unicodedata.category(c) in _OBEYED else c for c in text)


def _spelled(character: str) -> str:
    return repr(character)[1:-1] if not character.isprintable() else character


def say(line: str) -> None:
    """Print one line of results."""
    _print(line, sys.stdout)


def print_table(table: list[tuple[str, str]], column: int = 0) -> None:
    """Print (heading, text) pairs, wrapped to the terminal.

    Args:
        table: The pairs.
        column: Least number of columns for the headings.
    """
    column = max([column, *(len(heading) + 2 for heading, _ in table)])
    width = max(shutil.get_terminal_size((100, 24)).columns, column + 40)
    for heading, text in table:
        wrapped = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        for start, line in zip((heading, *("",) * len(wrapped)), wrapped, strict=False):
            say(f"{start:<{column}}{line}")


def say_json(content: Any) -> None:
    """Print a result for machines: ASCII, in which JSON spells out all but DEL by itself."""
    import json

    text = json.dumps(content, indent=2, allow_nan=False).replace("\x7f", "\\u007f")
    for line in text.split("\n"):
        _print(line, sys.stdout)


def complain(message: str) -> None:
    """Print one line on stderr."""
    line = f"overparam: {' '.join(message.split())}"
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    with suppress(OSError):  # nobody is there to be told
        _print(line, sys.stderr)


def _print(line: str, stream: Any) -> None:
    if stream is None:  # closed by whoever started this process
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(escaped(line).encode(encoding, "backslashreplace").decode(encoding), file=stream)


def flush() -> None:
    """Write out what was printed, so that a full disk or a closed pipe is heard of in time."""
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_output() -> None:
    """Nobody reads stdout, or it is full: what is left in it is not tried again at the end."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError):  # a stream of tests, without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the warnings of libraries, which are for programmers, off the terminal.

    ``python -W default -m overparam`` and JAX_LOGGING_LEVEL bring them back.
    """
    import logging

    logger = logging.getLogger("jax")
    level = logger.level
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        if "JAX_LOGGING_LEVEL" not in os.environ:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
