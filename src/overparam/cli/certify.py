"""``overparam certify``: the main job."""

import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import flush, say, say_json
from overparam.data import load
from overparam.files import prepare_folder
from overparam.pipeline import JobResult, JobSettings, run_job
from overparam.pipeline.output import write_output
from overparam.pipeline.summary import lines, summary

HEADINGS = 21
"""Columns of the summary's headings; what follows the verdict stands below it."""


def certify(data: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """Certify a network on DATA: a CSV, Parquet or npz file, or a bundled set's name."""
    chosen = ("target", "task", "samples", "seed", "test_fraction", "standardize")
    selection = {name: options.pop(name) for name in chosen}
    settings = JobSettings(seed=selection["seed"], **options)
    if out is not None:
        prepare_folder(out)
    checkpoint = None if out is None else out / "checkpoint.npz"
    said: list[tuple[str, str]] = []
    with ProgressBar() as progress:

        def verdict(known: JobResult) -> None:
            """What is known is said, and on disk, whatever becomes of the rest."""
            if out is not None:
                write_output(known, out, None)
            if not as_json:
                said.extend(lines(known))
                with progress.hidden():
                    print_table(said, HEADINGS)
                    flush()

        progress("reading the data", 0, 0)
        dataset = load(data, **selection)
        result = run_job(
            dataset, settings, progress=progress, verdict=verdict, checkpoint=checkpoint
        )
        if out is not None:
            from overparam.report import render  # which loads what draws figures

            progress("writing the report", 0, 0)
            write_output(result, out, render(result, command_line()))
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    if as_json:
        say_json(summary(result))
        return
    rest = [row for row in lines(result) if row not in said]
    if out is not None:
        rest.append(("report", str(out / "report.html")))
    print_table(rest, HEADINGS)


def command_line() -> str:
    """The command as typed."""
    return shlex.join(["overparam", *sys.argv[1:]])


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
