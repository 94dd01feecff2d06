"""``overparam anchor``: a certificate at weights trained elsewhere."""

from pathlib import Path
from typing import Any

from overparam.cli.certify import command_line, print_table
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import say_json
from overparam.data import load
from overparam.files import prepare_folder
from overparam.importers import load_network
from overparam.pipeline.imported import AnchorSettings, anchor_lines, anchor_network, anchor_summary
from overparam.pipeline.output import write_anchor_output
from overparam.report import render_anchor


def anchor(weights: str, data: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """Anchor a certificate at WEIGHTS, trained elsewhere, on DATA."""
    chosen = ("target", "task", "samples", "seed", "test_fraction", "standardize")
    selection = {name: options.pop(name) for name in chosen}
    selection["standardize_target"] = options.pop("target_units") == "standardized"
    layers = options.pop("layers")
    reading = {name: options.pop(name) for name in ("activation", "scales")}
    settings = AnchorSettings(**options)
    if out is not None:
        prepare_folder(out)
    with ProgressBar() as progress:
        progress("reading the weights", 0, 0)
        names = None if layers is None else [name.strip() for name in layers.split(",")]
        network = load_network(weights, layers=names, **reading)
        progress("reading the data", 0, 0)
        dataset = load(data, **selection)
        result = anchor_network(dataset, network, settings, progress=progress)
        if out is not None:
            write_anchor_output(result, out, render_anchor(result, command_line()))
    if as_json:
        say_json(anchor_summary(result))
        return
    table = anchor_lines(result)
    if out is not None:
        table.append(("report", str(out / "report.html")))
    print_table(table)
