"""The report's tables as rows of text: constants, settings, the problem, time."""

import math
from collections.abc import Mapping
from dataclasses import fields

from overparam.certificate.certificate import Certificate
from overparam.certificate.constants import Constant
from overparam.model.activation import Activation
from overparam.pipeline import formatting
from overparam.pipeline.result import JobResult
from overparam.pipeline.settings import JobSettings

CLOSE_TO_ONE = ("rate", "step_fraction", "contraction")
"""Shown by their distance from 1."""

LOWER = (
    *("min_eigenvalue", "pl_constant", "ball", "step_fraction", "margin", "sigma_end"),
    *("limit_distance_lower", "distance_lower_bound", "kernel_drift_lower"),
    *("linearisation_distance_lower", "linearisation_parameter_distance_lower"),
    *("handover_eigenvalue", "strong_convexity"),
)
"""Bounds from below, which are rounded down."""

GIVEN = (
    *("step_size", "handover", "steps_in_balls", "rate_since", "predicted_steps", "steps_made"),
    *("weight_decay", "loss_infimum"),
)
"""Numbers that are no bounds; all others are bounds from above, and rounded up."""


def constants(certificate: Certificate) -> list[tuple[str, str, str, Constant]]:
    """Every number of a certificate: its name, four significant digits, all digits, and more.

    A certificate that certifies says nothing by a number that is no bound: it is left out.
    """
    rows = []
    for name, constant in certificate.constants.items():
        if certificate.certified and math.isinf(constant.value):
            continue
        exact = "no bound" if math.isinf(constant.value) else repr(constant.value)
        rows.append((name, rounded(name, constant.value), exact, constant))
    return rows


def rounded(name: str, value: float) -> str:
    """A number of a certificate to four digits; a bound rounded in its own direction."""
    if name in GIVEN or math.isinf(value):
        return formatting.number(value)
    if name in CLOSE_TO_ONE and name not in LOWER:
        return formatting.rate(value)
    return formatting.at_least(value) if name in LOWER else formatting.at_most(value)


def settings(result: JobResult) -> list[tuple[str, str]]:
    """Every setting of the job, in the order of its class; what was left open as it was taken."""
    left = taken(result.settings) if isinstance(result.settings, JobSettings) else {}
    rows = []
    for item in fields(result.settings):
        value = getattr(result.settings, item.name)
        if isinstance(value, Activation):
            value = value.name
        text = left.get(item.name) or formatting.number(value)
        rows.append((item.name.replace("_", " "), text))
    return rows


def taken(asked: JobSettings) -> dict[str, str]:
    """What became of settings that leave something to the job."""
    found = {
        "batch_size": "all points",
        "learning_rate": "the theorem's" if asked.optimizer == "gd" else "0.001",
        "dtype": asked.training_dtype,
        "theorem": "R" if asked.weight_decay else "S" if asked.batch_size else "1, P, C in turn",
        "memory": "all that was free",
    }
    found = {name: text for name, text in found.items() if getattr(asked, name) is None}
    if asked.weight_decay:
        found["finish"] = "Newton's method, to the minimum"
    if asked.batch_size is None:
        found["sampling"] = "none"
    return found


def problem(result: JobResult) -> list[tuple[str, str]]:
    """Data and network, with the fingerprints that tie the certificate to them."""
    data, model, about = result.dataset, result.model, result.certificate.problem
    hidden = [f"{width:,}" for width in model.hidden_widths]
    rows = [
        ("data", data.source),
        ("training points", formatting.number(data.train.n)),
        ("test points", formatting.number(0 if data.test is None else data.test.n)),
        ("features", ", ".join(_shortened(data.feature_names))),
        ("preprocessing", data.preprocessing.mode),
        ("hidden layers", " · ".join(hidden) if hidden else "none (linear model)"),
        ("outputs", formatting.number(model.out_dim)),
        ("activation", model.act.name),
        ("parameters", formatting.number(model.parameter_count)),
    ]
    prints = ("data_sha256", "params_sha256", "center_sha256")
    return rows + [(name.replace("_", " "), about[name]) for name in prints if name in about]


def seconds(spent: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Phase, duration, and its share of the longest in per cent."""
    longest = max(spent.values(), default=0.0) or 1.0
    return [
        (phase, formatting.seconds(value), round(100 * value / longest, 1))
        for phase, value in spent.items()
    ]


def _shortened(names: tuple[str, ...], limit: int = 12) -> list[str]:
    if len(names) <= limit:
        return list(names)
    return [*names[: limit - 1], f"and {len(names) - limit + 1:,} more"]
