"""The report's page: one HTML file with everything in it, style, figures and numbers.

It asks nothing of the network, so it can be mailed, archived and printed. It is complete without
its script, which sorts tables and shows the values of curves. Text from the data (names of
features, notes) and the command are escaped by the template engine.
"""

from importlib.resources import files
from itertools import count

import jinja2
from markupsafe import Markup
from msgspec import UNSET

from overparam.certificate.certificate import Certificate
from overparam.pipeline import formatting
from overparam.pipeline.finding import Finding, Picture, Verdict, sentence
from overparam.pipeline.findings import findings
from overparam.pipeline.result import JobResult
from overparam.pipeline.settings import JobSettings
from overparam.problem.integrands import get_integrand
from overparam.report import plots, tables, topic_plots
from overparam.report.svg import FONTS, inline_svg

SYMBOLS = {"certified": "✓", "exists": "◐", "not certified": "✗"}


def render(
    result: JobResult, command: str | None = None, found: list[Finding] | None = None
) -> str:
    """The report of a job as one self-contained HTML file.

    Args:
        result: What ``run_job`` or ``anchor_network`` gave.
        command: The command line that made it, to be shown.
        found: What there is to be said of it, if that is known already.

    Returns:
        The page's text; the same result gives the same text.
    """
    found = findings(result) if found is None else found
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("overparam.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    number = count(1)
    environment.globals |= {
        "draw": lambda picture: _draw(picture, next(number)),
        "sentence": sentence,
        "symbols": SYMBOLS,
    }
    by_role = {
        role: [each for each in found if each.role == role]
        for role in ("subject", "course", "trust", "error", "cost", "consequence")
    }
    verdicts = [each for each in reversed(found) if isinstance(each, Verdict)]
    return environment.get_template("template.html").render(
        fonts=Markup(FONTS),
        script=Markup(files("overparam.report").joinpath("script.js").read_text("utf-8").strip()),
        source=result.dataset.source,
        subtitle=_subtitle(result),
        verdicts=verdicts,
        **by_role,
        told=[
            (each.heading.strip(), "; ".join(each.said))
            for each in by_role["course"]
            if each.said and not isinstance(each, Verdict)
        ],
        key_numbers=_key_numbers(result.certificate),
        certificates=[
            (each.title, tables.constants(each.certificate), each.certificate.reason)
            for each in verdicts
        ],
        settings=tables.settings(result),
        problem=tables.problem(result),
        versions=sorted(result.certificate.versions.items()),
        seconds=tables.seconds(result.seconds),
        total=formatting.seconds(sum(result.seconds.values())),
        command=command,
    )


def _draw(picture: Picture, number: int) -> tuple[int, Markup]:
    """The figure's number on the page, and the figure as an SVG element."""
    name = f"figure_{picture.kind}"
    figure = getattr(plots, name, None) or getattr(topic_plots, name)
    return number, inline_svg(figure(*picture.data), f"f{number}", picture.title)


def _subtitle(result: JobResult) -> str:
    model = result.model
    depth = len(model.hidden_widths)
    layers = "layer" if depth == 1 else "layers"
    network = "linear model"
    if depth:
        network = f"{depth} hidden {layers} of {model.hidden_widths[0]:,} {model.act.name} units"
    loss = get_integrand(result.settings.loss).title
    origin = f"weights from {result.imported.source}" if result.imported else ""
    if isinstance(result.settings, JobSettings):
        origin = f"seed {result.settings.seed}"
    return (
        f"{network}, {model.parameter_count:,} parameters · {result.dataset.train.n:,} training "
        f"points · {loss} · {origin}"
    )


def _key_numbers(found: Certificate) -> list[tuple[str, str, str]]:
    """Label, value and gloss of the numbers people ask for first."""
    radius = formatting.at_most(found.radius) if found.certified else "none"
    rate = formatting.rate(found.rate) if found.certified else "none"
    if found.theorem == "R":
        return _decayed_key_numbers(found, rate)
    if found.batches is not UNSET:
        leave = formatting.at_most(found.numbers["exit_probability"])
        return [
            ("batch size", f"{found.batches.size:,}", f"points, {found.batches.sampling}"),
            ("margin", formatting.at_least(found.margin), "certified above 1"),
            ("p", leave, "runs that may be lost, at most"),
            ("rate", rate, "of the mean excess, per step"),
            ("step size", formatting.number(found.step_size), "constant"),
        ]
    return [
        ("margin", formatting.at_least(found.margin), "max Ψ / ρ, certified above 1"),
        ("radius s*", radius, "bound on the whole path"),
        ("rate", rate, "of the excess, per step"),
        ("λₘᵢₙ ≥", formatting.at_least(found.min_eigenvalue), "of the tangent kernel"),
        ("residual", formatting.at_most(found.residual), "√(2Δ₀)"),
    ]


def _decayed_key_numbers(found: Certificate, rate: str) -> list[tuple[str, str, str]]:
    """Of Theorem R."""
    numbers, words = found.numbers, formatting.number
    rows = [("λ", words(numbers["weight_decay"]), "weight decay")]
    if "residual_curvature" in numbers:
        bend = formatting.at_most(numbers["residual_curvature"])
        rows.append(("μ", bend, "bend of the residual, certified below λ"))
    gradient = formatting.at_most(numbers["gradient_norm"])
    return [
        *rows,
        ("margin", formatting.at_least(found.margin), "certified above 1"),
        ("gradient", gradient, "of the objective, at most"),
        ("rate", rate, "of the excess over the minimum, per step"),
    ]
