"""``overparam width``: how wide is wide enough, before any network is drawn."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from overparam.apriori.coefficients import SOURCES, APrioriCoefficients
from overparam.apriori.conditions import Step
from overparam.apriori.inputs import Knowledge, Norms
from overparam.apriori.moments import Moments
from overparam.apriori.setting import Setting, build_setting
from overparam.apriori.width import EXACT, RequiredWidth, width_for
from overparam.cli.options import data_selection
from overparam.cli.progress import ProgressBar
from overparam.cli.terminal import print_table, say_json
from overparam.data import load
from overparam.data.dataset import Dataset
from overparam.errors import InputError
from overparam.files import prepare_folder, write_whole, written_together
from overparam.limits import require_scales
from overparam.memory import available_memory, readable
from overparam.model.mlp import MLP
from overparam.pipeline.formatting import at_least, at_most, finite, number, plain
from overparam.pipeline.formatting import rate as rate_text

DEEPEST = 10
"""Hidden layers at most."""

THEOREMS = {
    "W4": "the worst residual in the worst direction at every step",
    "W5": "descent stays near the linearised run",
}
"""What the theorems of docs/apriori.md rest on."""

SCALES = ("output_scale", "weight_scale", "bias_scale")

PLOTTED = 25
"""Widths in the plot, from a hundredth of the required one to ten thousand times."""


def width(
    data: str,
    out: Path | None,
    as_json: bool,
    step_fraction: float,
    step: float | None,
    knowing: str,
    assume_limit: bool,
    **options: Any,
) -> None:
    """Print the width from which gradient descent on DATA provably converges."""
    selection = data_selection(options)
    if out is not None:
        prepare_folder(out)
    with ProgressBar() as progress:
        progress("reading the data", 0, 0)
        require_width_options(options)
        dataset = load(data, **selection)
        progress("looking for the width", 0, 0)
        setting = _setting(dataset, knowing, assume_limit, **options)
        answer = width_for(setting, Step.checked(step_fraction, step), progress)
        if out is not None:
            curves = _curves(answer, progress)
    if out is not None:
        _write(out, _summary(answer, dataset, knowing), curves, answer.width)
    if as_json:
        say_json(_summary(answer, dataset, knowing))
    else:
        _show(answer, dataset, knowing, out)


def require_width_options(options: dict[str, Any]) -> None:
    """Refuse what the search could not end with.

    Raises:
        InputError: Too many layers, or scales beyond the range of floats.
    """
    depth = options["depth"]
    if depth > DEEPEST:
        raise InputError(
            f"--depth {depth}: the width is worked out for at most {DEEPEST} hidden layers; each "
            "further one multiplies the work, and the answer was out of reach long before"
        )
    scales = {name: options[name] for name in SCALES}
    require_scales(max(depth, 0) + 1, **scales)


def _setting(
    dataset: Dataset, knowing: str, assume_limit: bool, *, depth: int, activation: str, **asked: Any
) -> Setting:
    """What is asked; lambda_min from the points even where the rest may not know them."""
    train = dataset.train
    scales = {name: asked.pop(name) for name in SCALES}
    model = MLP(train.dim, (1,) * depth, train.outputs, activation, **scales)
    if assume_limit and asked["min_eigenvalue"] is not None:
        raise InputError("give --min-eigenvalue or --assume-limit, not both")
    if assume_limit:
        surely = asked | {"eigenvalue_failure_probability": 0.0}
        spectra = build_setting(train, model, **surely).spectra
        assert spectra is not None, "the points are known"
        asked["min_eigenvalue"] = spectra.kernel
    whole = build_setting(train, model, **asked)
    if knowing == "points":
        return whole
    if asked["min_eigenvalue"] is None:
        raise InputError(
            f"--knowing {knowing} cannot bound lambda_min: add --assume-limit or --min-eigenvalue"
        )
    less: Knowledge = Norms.of(train) if knowing == "norms" else Moments.of(train)
    return build_setting(less, model, residual=whole.residual, sample_size=train.n, **asked)


def _curves(answer: RequiredWidth, progress: ProgressBar) -> dict[int, APrioriCoefficients]:
    """The coefficients at widths around the required one."""
    low, high = max(answer.width // 100, 1), answer.width * 10**4
    exponents = np.linspace(math.log(low), math.log(high), PLOTTED)
    widths = sorted({answer.width, *(max(1, round(math.exp(e))) for e in exponents)})
    found = {}
    for done, w in enumerate(widths):
        progress("coefficients by width", done, len(widths))
        found[w] = answer.at(w)
    return found


def _summary(answer: RequiredWidth, dataset: Dataset, knowing: str) -> dict[str, Any]:
    setting = answer.setting
    return {
        "width": answer.width,
        "dominating": answer.dominating,
        "gain_without": {k: finite(v) for k, v in answer.shares.items()},
        "data": dataset.source,
        "n": dataset.train.n,
        "dim": dataset.train.dim,
        "outputs": dataset.train.outputs,
        "knowing": knowing,
        "hidden_layers": len(setting.model.hidden_widths),
        "activation": setting.model.act.name,
        "loss": setting.loss.name,
        "failure_probability": setting.total_failure_probability,
        "step_fraction": answer.step.fraction,
        "theorem": answer.coefficients.theorem,
        "limiting_min_eigenvalue": setting.limiting_min_eigenvalue,
        "reference_radius": answer.coefficients.reference_radius,
        "coefficients": {
            name: {"value": finite(c.value), "kind": c.kind, "source": c.source}
            for name, c in answer.coefficients.constants.items()
        },
    }


def _write(
    out: Path, summary: dict[str, Any], curves: dict[int, APrioriCoefficients], required: int
) -> None:
    """summary.json with the curves, and their plot."""
    from overparam.report.width_plot import figure_width  # which loads what draws figures

    columns = {name: np.array([c[name] for c in curves.values()]) for name in SOURCES}
    summary["by_width"] = {"width": list(curves)} | {
        name: [finite(float(v)) for v in values] for name, values in columns.items()
    }
    figure = figure_width(list(curves), columns, required)
    with written_together(out) as new:
        text = json.dumps(summary, indent=2, allow_nan=False)
        write_whole(new / "summary.json", text.encode())
        for kind in ("svg", "png"):
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, dpi=150)
            figure.set_layout_engine("none")  # what the first drawing found is right for the next
            write_whole(new / f"width.{kind}", stream.getvalue())


def _show(answer: RequiredWidth, dataset: Dataset, knowing: str, out: Path | None) -> None:
    """The readable summary."""
    found, setting = answer.coefficients, answer.setting
    layers = len(setting.model.hidden_widths)
    order = sorted(answer.shares.items(), key=lambda item: -item[1])
    others = "; ".join(f"{name} {number(gain, 3)}" for name, gain in order[1:4])
    assumed = "" if setting.assumed is None else " (assumed)"
    rows = [
        ("data", f"{dataset.source}; bounds know the {knowing}"),
        (
            "width",
            f"{_units(answer.width)} in each of {layers} hidden layer{'s' * (layers > 1)}, "
            f"with probability {1 - setting.total_failure_probability:g} over the initialisation; "
            "so at each larger width, by itself",
        ),
        ("theorem", f"{answer.coefficients.theorem}: {THEOREMS[answer.coefficients.theorem]}"),
        (
            "dominated by",
            f"{answer.dominating}: without it the margin would be "
            f"{number(order[0][1], 3)} times larger ({others})",
        ),
        (
            "lambda_min",
            f"at least {at_least(found['min_eigenvalue'])}{assumed}; "
            f"{number(setting.limiting_min_eigenvalue)} in the limit",
        ),
        (
            "descent",
            f"step size {number(found['step_size'])}, rate {rate_text(found['rate'])} a step, "
            f"path at most {at_most(found['radius'])}; the same step at each larger width, at this "
            "rate or a better one",
        ),
        (
            "consequences",
            f"ends at most {at_most(found['distance_ratio'])} times as far as the closest global "
            f"minimiser; kernel moves by at most {at_most(found['kernel_drift'])}, predictions at "
            f"most {at_most(found['linearisation_distance'])} from the linearised model's",
        ),
    ]
    if (unreachable := _out_of_reach(answer)) is not None:
        rows.insert(2, ("", unreachable))
    if out is not None:
        rows.append(("plot", str(out / "width.svg")))
    print_table([(heading, plain(text)) for heading, text in rows])


def _units(width: int) -> str:
    """A width in words; a large one to two digits, rounded up."""
    return f"{number(width) if width < EXACT else at_most(float(width), 2)} units"


def _out_of_reach(answer: RequiredWidth) -> str | None:
    """Why no machine holds such a network, if this one does not."""
    needed = 4 * answer.setting.at((answer.width,) * _layers(answer)).parameter_count
    if needed <= available_memory():
        return None
    return (
        f"out of reach: the parameters alone take {readable(needed)} and this machine has "
        f"{readable(available_memory())} free. The bound holds in the worst case, and grows as "
        f"lambda_min, here {number(answer.setting.limiting_min_eigenvalue, 2)}, falls; overparam "
        "certify tells what holds of a network that fits"
    )


def _layers(answer: RequiredWidth) -> int:
    return len(answer.setting.model.hidden_widths)
