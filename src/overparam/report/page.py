"""The report's page: one HTML file with everything in it, style, figures and numbers.

It asks nothing of the network and runs no script, so it can be mailed, archived and printed. Text
from the data (names of features, notes) and the command are escaped by the template engine.
"""

from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from overparam.certificate.certificate import Certificate
from overparam.pipeline.imported import AnchorResult
from overparam.pipeline.result import JobResult
from overparam.pipeline.summary import cost_of_fitting
from overparam.problem.integrands import get_integrand
from overparam.report import captions, distances, numbers, plots, tables
from overparam.report.curves import can_compare, can_draw
from overparam.report.svg import FONTS, inline_svg
from overparam.report.topics import Topic, topics
from overparam.report.verdict import anchor_verdicts, rigor, verdicts


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes:
        title: A few words.
        svg: The figure as an SVG element.
        caption: What to look at.
    """

    title: str
    svg: Markup
    caption: str


def render(result: JobResult, command: str | None = None) -> str:
    """The report of a job as one self-contained HTML file.

    Args:
        result: What ``run_job`` gave.
        command: The command line that made it, to be shown.

    Returns:
        The page's text; the same result gives the same text.
    """
    certificates = [("From initialisation", result.initial)]
    if result.anchored is not None:
        certificates.insert(0, ("At the trained parameters", result.anchored.certificate))
    pictures = _pictures(result)
    return _fill(
        result,
        certificates,
        command,
        subtitle=f"{_subtitle(result)} · seed {result.settings.seed}",
        verdicts=verdicts(result, zero_loss=result.zero_loss),
        pictures=pictures,
        topics=_topics(result, len(pictures)),
        notes=result.dataset.notes,
    )


def render_anchor(result: AnchorResult, command: str | None = None) -> str:
    """The report of an imported network as one self-contained HTML file.

    Args:
        result: What ``anchor_network`` gave.
        command: The command line that made it, to be shown.

    Returns:
        The page's text; the same result gives the same text.
    """
    certificates = [("At the weights as imported", result.imported)]
    if result.polished is not None:
        certificates.insert(0, ("At the moved weights", result.polished.certificate))
    return _fill(
        result,
        certificates,
        command,
        subtitle=f"{_subtitle(result)} · weights from {result.network.source}",
        verdicts=anchor_verdicts(result, zero_loss=result.zero_loss),
        pictures=_anchor_pictures(result),
        topics=[],
        notes=[*result.network.notes, *result.dataset.notes],
    )


def _fill(
    result: JobResult | AnchorResult,
    certificates: list[tuple[str, Certificate]],
    command: str | None,
    **parts: Any,
) -> str:
    """The page from the parts that differ between jobs and what is the same for all."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("overparam.report", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(
        fonts=Markup(FONTS),
        source=result.dataset.source,
        rigor=rigor(certificate for _, certificate in certificates),
        key_numbers=_key_numbers(result.certificate),
        errors=tables.errors(result),
        cost=_cost(result),
        certificates=[(title, tables.constants(c), c.reason) for title, c in certificates],
        settings=tables.settings(result),
        problem=tables.problem(result),
        versions=sorted(result.certificate.versions.items()),
        seconds=tables.seconds(result.seconds),
        total=numbers.seconds(sum(result.seconds.values())),
        command=command,
        **parts,
    )


@dataclass(frozen=True)
class Section:
    """A topic with its figure drawn.

    Attributes:
        topic: Its words and table.
        number: The figure's number on the page.
        svg: The figure as an SVG element, or None.
    """

    topic: Topic
    number: int
    svg: Markup | None


def _topics(result: JobResult, before: int) -> list[Section]:
    """What follows from convergence, its figures numbered on from ``before``."""
    sections = []
    for number, topic in enumerate(topics(result), start=before + 1):
        svg = None
        if topic.figure is not None:
            svg = inline_svg(topic.figure, f"f{number}", topic.title)
        sections.append(Section(topic, number, svg))
    return sections


def _subtitle(result: JobResult | AnchorResult) -> str:
    model = result.model
    depth = len(model.hidden_widths)
    layers = "layer" if depth == 1 else "layers"
    network = (
        f"{depth} hidden {layers} of {model.hidden_widths[0]:,} {model.act.name} units"
        if depth
        else "linear model"
    )
    loss = get_integrand(result.settings.loss).title
    return (
        f"{network}, {model.parameter_count:,} parameters · {result.dataset.train.n:,} training "
        f"points · {loss}"
    )


def _cost(result: JobResult | AnchorResult) -> str | None:
    """What Gauss-Newton did to the held-out rows, as a sentence; None if nothing."""
    if isinstance(result, JobResult):
        before = result.errors_before
    else:
        before = {} if result.polished is None else result.imported_errors
    found = cost_of_fitting(before, result.errors)
    return found and f"{found[:1].upper()}{found[1:]}."


def _key_numbers(found: Certificate) -> list[tuple[str, str, str]]:
    """Label, value and gloss of the numbers people ask for first."""
    radius = numbers.at_most(found.radius, 3) if found.certified else "none"
    rate = numbers.rate(found.rate) if found.certified else "none"
    return [
        ("margin", numbers.at_least(found.margin, 3), "max Ψ / ρ, certified above 1"),
        ("radius s*", radius, "bound on the whole path"),
        ("rate", rate, "of the excess, per step"),
        ("λₘᵢₙ ≥", numbers.at_least(found.min_eigenvalue, 3), "of the tangent kernel"),
        ("residual", numbers.number(found.residual, 3), "√(2Δ₀)"),
    ]


def _pictures(result: JobResult) -> list[Picture]:
    """The figures there is something to draw for."""
    drawn: list[tuple[str, Figure, str]] = []
    anchored, descent = result.anchored, result.descent.history
    if can_draw(descent.excess):
        optimizer = result.settings.optimizer
        figure = plots.figure_descent(descent, result.linearised, optimizer)
        drawn.append(("From initialisation", figure, captions.descent(result)))
    run = None if anchored is None else anchored.run
    if anchored is not None and run is not None and can_compare(run.history):
        figure = plots.figure_anchored_run(run.history)
        caption = captions.anchored_run(run.history, anchored.certificate)
        drawn.append(("From the anchor", figure, caption))
    if len(result.initial_spectrum.eigenvalues):
        spectrum = None if anchored is None else anchored.spectrum
        figure = plots.figure_spectrum(
            result.initial_spectrum,
            result.initial.min_eigenvalue,
            spectrum,
            None if anchored is None else anchored.certificate.min_eigenvalue,
        )
        caption = captions.spectrum(result.initial_spectrum, spectrum)
        drawn.append(("Spectrum of the tangent kernel", figure, caption))
    panels = [("From initialisation", distances.from_initialisation(result))]
    if anchored is not None:
        panels.append(("From the anchor", distances.from_anchor(anchored)))
    if any(rows for _, rows in panels):
        figure = plots.figure_distances(panels)
        drawn.append(("Distances", figure, captions.distances(result)))
    newton = None if anchored is None else anchored.gauss_newton
    if newton is not None and can_draw(np.asarray(newton.residuals)):
        figure = plots.figure_gauss_newton(newton.residuals)
        drawn.append(("The way to the anchor", figure, captions.gauss_newton(newton.converged)))
    return _drawn(drawn)


def _anchor_pictures(result: AnchorResult) -> list[Picture]:
    """The run from the anchor, and the way to it."""
    drawn: list[tuple[str, Figure, str]] = []
    run, moved = result.run, result.polished
    if run is not None and can_compare(run.history):
        figure = plots.figure_anchored_run(run.history)
        caption = captions.anchored_run(run.history, result.certificate)
        drawn.append(("From the anchor", figure, caption))
    if moved is not None and can_draw(np.asarray(moved.gauss_newton.residuals)):
        figure = plots.figure_gauss_newton(moved.gauss_newton.residuals)
        caption = captions.gauss_newton(moved.gauss_newton.converged)
        drawn.append(("The way to the anchor", figure, caption))
    return _drawn(drawn)


def _drawn(drawn: list[tuple[str, Figure, str]]) -> list[Picture]:
    return [
        Picture(title, inline_svg(figure, f"f{index}", title), caption)
        for index, (title, figure, caption) in enumerate(drawn, start=1)
    ]
