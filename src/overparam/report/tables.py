"""The report's tables as rows of text: constants, settings, the problem, time."""

import math
from collections.abc import Mapping
from dataclasses import fields

from overparam.certificate.certificate import Certificate
from overparam.certificate.constants import Constant
from overparam.model.activation import Activation
from overparam.pipeline import formatting
from overparam.pipeline.result import JobResult

CLOSE_TO_ONE = ("rate", "step_fraction")


def constants(certificate: Certificate) -> list[tuple[str, str, str, Constant]]:
    """Every number of a certificate: its name, four significant digits, all digits, and more."""
    rows = []
    for name, constant in certificate.constants.items():
        show = formatting.rate if name in CLOSE_TO_ONE else formatting.number
        exact = "no bound" if math.isinf(constant.value) else repr(constant.value)
        rows.append((name, show(constant.value), exact, constant))
    return rows


def settings(result: JobResult) -> list[tuple[str, str]]:
    """Every setting of the job, in the order of its class."""
    rows = []
    for item in fields(result.settings):
        value = getattr(result.settings, item.name)
        if isinstance(value, Activation):
            value = value.name
        text = "chosen" if value is None else formatting.number(value)
        rows.append((item.name.replace("_", " "), text))
    return rows


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
