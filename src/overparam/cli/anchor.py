"""``overparam anchor``: a certificate at weights trained elsewhere."""

from pathlib import Path
from typing import Any

from overparam.cli.certify import Output
from overparam.cli.options import data_selection
from overparam.cli.progress import ProgressBar
from overparam.data import load
from overparam.importers import load_network
from overparam.pipeline.run import anchor_network
from overparam.pipeline.settings import AnchorSettings


def anchor(
    weights: str, data: str, out: Path | None, as_json: bool, verbose: bool, **options: Any
) -> None:
    """Anchor a certificate at WEIGHTS, trained elsewhere, on DATA."""
    selection = data_selection(options)
    selection["standardize_target"] = options.pop("target_units") == "standardized"
    layers = options.pop("layers")
    reading = {name: options.pop(name) for name in ("activation", "scales")}
    settings = AnchorSettings(**options)
    output = Output(out, as_json, verbose)
    with ProgressBar() as progress:
        progress("reading the weights", 0, 0)
        names = None if layers is None else [name.strip() for name in layers.split(",")]
        network = load_network(weights, layers=names, **reading)
        progress("reading the data", 0, 0)
        dataset = load(data, **selection)
        result = anchor_network(dataset, network, settings, progress=progress)
        output.write(result, progress)
    output.say(result)
