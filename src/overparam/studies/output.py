"""What a study leaves in its folder: table, figure, findings, and a page that shows them."""

import io
import json
import os
import platform
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from overparam.files import text_bytes, write_whole, written_together
from overparam.memory import readable
from overparam.pipeline.formatting import seconds as duration
from overparam.report.svg import styled
from overparam.studies.run import StudyResult
from overparam.studies.store import identity

SYMBOLS = {"holds": "✓", "fails": "✗", "undecided": "?"}


def write_study(result: StudyResult, folder: Path, command: str) -> None:
    """Write a study's files, all of them or none.

    Args:
        result: The study's result.
        folder: Its folder.
        command: What made it.

    Raises:
        InputError: A file cannot be written.
    """
    table = io.BytesIO()
    result.table.write_parquet(table)
    figure = result.figure()
    text = json.dumps(findings(result, command), indent=2)
    with written_together(folder) as new:
        write_whole(new / "table.parquet", table.getvalue())
        write_whole(new / "table.csv", result.table.write_csv().encode())
        write_whole(new / "figure.svg", svg_bytes(figure))
        write_whole(new / "figure.pdf", pdf_bytes(figure))
        write_whole(new / "figure.png", png_bytes(figure))
        write_whole(new / "findings.json", text_bytes(text + "\n"))
        write_whole(new / "README.md", text_bytes(page(result, command)))


@styled
def svg_bytes(figure: Figure) -> bytes:
    """A figure as an SVG file, the same bytes for the same figure."""
    stream = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    return stream.getvalue()


@styled
def pdf_bytes(figure: Figure) -> bytes:
    """A figure as a PDF file for a paper, fonts embedded as outlines that journals accept."""
    stream = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))
        FigureCanvasPdf(figure).print_pdf(stream, metadata=nothing)
    return stream.getvalue()


@styled
def png_bytes(figure: Figure) -> bytes:
    """A figure as a PNG file of 150 dots an inch."""
    figure.set_dpi(150)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def findings(result: StudyResult, command: str) -> dict[str, Any]:
    """Verdicts and how they were made, with JSON's types; infinities as text."""
    about = identity(result.study.name, result.settings)
    report, grid = result.report, result.study.cells(result.settings)
    return {
        "study": result.study.name,
        "verdict": result.verdict,
        "findings": [
            {
                "claim": finding.claim,
                "verdict": finding.verdict,
                "words": finding.words,
                "statistics": {name: _finite(v) for name, v in finding.statistics.items()},
            }
            for finding in result.findings
        ],
        "cells": result.cells,
        "rows": result.table.height,
        "core_seconds": round(result.seconds, 1),
        "this_run": {
            "jobs": report.jobs,
            "cells": report.measured,
            "seconds": round(report.seconds, 1),
            "busy_seconds": round(report.busy, 1),
            "compiling_seconds": round(report.compiling, 1),
            "programs_compiled": report.compiled,
        },
        "seeds": sorted({int(c["seeds"] or 1) for c in grid if "seeds" in c}),
        "damaged": list(result.damaged),
        "command": command,
        "settings": about["settings"],
        "versions": about["versions"] | {"python": platform.python_version()},
        "machine": machine(),
    }


def page(result: StudyResult, command: str) -> str:
    """The study's page in Markdown."""
    study = result.study
    lines = [f"# {study.title}", "", study.question, ""]
    lines += [f"![{study.caption}](figure.svg)", "", study.caption, "", "## Verdict", ""]
    for finding in result.findings:
        lines += [f"- {SYMBOLS[finding.verdict]} **{finding.claim}** {finding.verdict.title()}: "]
        lines[-1] += finding.words
    lines += ["", "## Table", "", markdown(result.summary()), ""]
    lines += ["All rows: [table.csv](table.csv), [table.parquet](table.parquet). For a paper: "]
    lines[-1] += "[figure.pdf](figure.pdf), its fonts embedded."
    lines += [""]
    lines += ["## How it was made", "", f"    {command}", ""]
    lines += [
        f"{result.cells} cells, {duration(result.seconds)} of one core in all, on {machine()}. "
        "Versions and statistics: [findings.json](findings.json).",
        "",
    ]
    return "\n".join(lines)


def gallery(results: list[tuple[str, str, str]]) -> str:
    """The index of all studies in Markdown, from (name, title, verdict)."""
    lines = ["# Evidence", ""]
    lines += ["What the theory claims, and what was measured. Each page has the command.", ""]
    lines += ["| study | | verdict |", "|---|---|---|"]
    lines += [
        f"| [{name}]({name}/README.md) | {title} | {SYMBOLS[verdict]} {verdict} |"
        for name, title, verdict in results
    ]
    return "\n".join([*lines, ""])


def markdown(table: pl.DataFrame) -> str:
    """A table in Markdown; floats with three digits."""
    rows = [[_cell(value) for value in row] for row in table.rows()]
    head = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * table.width]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in rows])


def machine() -> str:
    """The processor, cores and memory, for people."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {readable(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))}"
    return f"{name}, {os.cpu_count()} cores{memory}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _finite(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)
