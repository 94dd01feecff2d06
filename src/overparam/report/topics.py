"""What follows from convergence, as the report's four topics: a sentence, a table, a figure."""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from overparam.certificate.certificate import Certificate
from overparam.pipeline.consequences import Consequences
from overparam.pipeline.regularisation import Regularisation
from overparam.pipeline.result import JobResult
from overparam.pipeline.transfer import TransferStudy
from overparam.report import topic_plots as plots
from overparam.report.distances import Distance
from overparam.report.numbers import at_least, at_most, number
from overparam.risk.risk_bound import RiskBound
from overparam.train.laziness import LAZY, PARTLY_LAZY

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Head and rows."""

ENDS = {"descent": "after the optimiser's steps", "anchor": "at the anchor"}

PARAMETRISATIONS = {"ntk": "NTK", "standard": "standard", "mup": "maximal update"}


@dataclass(frozen=True)
class Topic:
    """One consequence.

    Attributes:
        title: Its name in the field.
        sentence: The finding.
        details: Further sentences.
        table: Head and rows.
        figure: The figure, if there is something to draw.
        caption: What to look at.
    """

    title: str
    sentence: str
    details: tuple[str, ...]
    table: Table
    figure: Figure | None
    caption: str

    @property
    def wide(self) -> bool:
        """Whether the table needs the whole width of the page."""
        return len(self.table[0]) > 4


def topics(result: JobResult) -> list[Topic]:
    """The consequences that a job measured, in the theory's order."""
    found = result.consequences
    if found is None:
        return []
    parts = [_regularisation(found.regularisation, result), _laziness(found, result)]
    if found.transfer is not None:
        parts.append(_transfer(found.transfer))
    return [*parts, _risks(found.risks, result)]


def _regularisation(found: Regularisation, result: JobResult) -> Topic:
    closest, ratio = found.closest, found.measured_ratio
    rows = [Distance("final network", found.reached, "measured")]
    if closest is not None and closest.converged:
        rows.append(Distance("closest that fits, found", closest.distance, "measured"))
        rows.append(Distance("no closer one that fits ≥", closest.lower_bound, "lower"))
    if found.minimum_norm is not None:
        rows.append(Distance("linearised model ρ_K", found.minimum_norm, "measured"))
    rows.append(Distance("any global minimiser ≥", found.lower, "lower"))
    rows.append(Distance("limit of descent ≤", found.limit, "upper"))
    shown = [row for row in rows if math.isfinite(row.value) and row.value > 0]
    sentence = f"The final network lies {number(found.reached)} from the initialisation"
    if ratio is not None and closest is not None:
        sentence += (
            f", {number(ratio, 3)} times as far as the closest network found that fits the data "
            f"({number(closest.distance)})"
        )
    details = []
    if found.lower > 0:
        details.append(
            f"Certified: no global minimiser is closer than {at_least(found.lower)}"
            + (
                f", and gradient descent ends within {at_most(found.limit)}: at most "
                f"{at_most(found.certified_ratio)} times the shortest way."
                if math.isfinite(found.certified_ratio)
                else "."
            )
        )
    if result.initial.certified:
        theorem = "Theorem C" if result.initial.theorem == "C" else "Theorem 5'"
        details.append(
            "From the initialisation the ratio of the two is certified to be at most "
            f"{at_most(result.initial.constants['distance_ratio'].value)} ({theorem})."
        )
    if closest is not None and not closest.converged:
        details.append(f"The search for the closest network did not converge: {closest.reason}.")
    if found.minimum_norm is None:
        details.append("The kernel is too large here to search for closer networks.")
    table: list[tuple[str, ...]] = [(row.label, _shown(row), KINDS[row.side]) for row in shown]
    return Topic(
        title="Implicit regularisation",
        sentence=sentence + ".",
        details=tuple(details),
        table=(("Distance from the initialisation", "Value", "Kind"), table),
        figure=plots.figure_regularisation(shown) if shown else None,
        caption=(
            "Of the many networks that fit the data, a wide one trained by gradient descent ends "
            "next to the closest. Circles are measured; ▶ and ◀ are certified lower and upper "
            "bounds."
        ),
    )


KINDS = {"measured": "measured", "lower": "certified, at least", "upper": "certified, at most"}


def _shown(row: Distance) -> str:
    return {"measured": number, "lower": at_least, "upper": at_most}[row.side](row.value)


def _laziness(found: Consequences, result: JobResult) -> Topic:
    columns = found.laziness
    head = ("Measured", *(ENDS[name] for name in columns))
    rows = [
        (label, *(_cell(getattr(lazy, name)) for lazy in columns.values()))
        for name, label in LAZY_ROWS
    ]
    for layer in range(len(result.model.widths) - 1):
        values = (number(lazy.weight_movement[layer], 3) for lazy in columns.values())
        rows.append((f"movement of W{layer + 1}, relative", *values))
    last, lazy = list(columns.items())[-1] if columns else ("", None)
    details = [f"{lazy.reason[0].upper()}{lazy.reason[1:]}."] if lazy is not None else []
    details += [
        _certified_laziness(certificate)
        for certificate in _certificates(result)
        if certificate.certified
    ]
    return Topic(
        title="Lazy training",
        sentence="No step was taken."
        if lazy is None
        else f"Training was {lazy.verdict}, {ENDS[last]}.",
        details=tuple(details),
        table=(head, rows),
        figure=plots.figure_laziness({ENDS[name]: value for name, value in columns.items()})
        if columns
        else None,
        caption=(
            f"Lazy up to {LAZY}, partly lazy up to {PARTLY_LAZY} (dashed lines): how much the "
            "tangent kernel changed, and what part of the network's change its first-order "
            "expansion at the initialisation misses."
        ),
    )


LAZY_ROWS = (
    ("kernel_drift", "kernel drift |K − K₀| / |K₀|"),
    ("jacobian_drift", "Jacobian drift |J − J₀| / |J₀|"),
    ("kernel_alignment", "kernel alignment (cosine)"),
    ("linearisation_error", "linearisation error, training"),
    ("linearisation_error_test", "linearisation error, test"),
    ("trajectory_error", "against the trained linearised model, training"),
    ("trajectory_error_test", "against the trained linearised model, test"),
    ("movement", "movement of all parameters, relative"),
)


def _cell(value: float | None) -> str:
    return "–" if value is None else number(value, 3)


def _certificates(result: JobResult) -> list[Certificate]:
    anchored = result.anchored
    return [result.initial] + ([] if anchored is None else [anchored.certificate])


def _certified_laziness(certificate: Certificate) -> str:
    constants = certificate.constants
    where = "initialisation" if certificate.start == "initialisation" else "anchor"
    text = (
        f"Certified for the whole run of gradient descent from the {where}: the kernel drifts by "
        f"at most {at_most(constants['relative_kernel_drift'].value, 3)} of its norm"
    )
    apart = constants["linearisation_distance"].value
    if math.isfinite(apart):
        text += (
            f", and the predictions stay within {at_most(apart, 3)} of the linearised model's "
            "(Theorems 6 and 7)"
        )
    return text + "."


def _transfer(study: TransferStudy) -> Topic:
    allowed, ntk = study.allowed, study.verdicts["ntk"]
    rows = []
    for index, width in enumerate(allowed.widths):
        certified = float(np.nanmax(np.append(allowed.certified_step[index], -1.0)))
        rows.append(
            (
                f"{width:,}",
                number(float(np.median(allowed.stable_step[index])), 3),
                number(float(np.median(allowed.descent_step[index])), 3),
                number(certified, 3) if certified > 0 else "none",
                *(_best(study, name, width) for name in study.sweeps),
            )
        )
    rows.append(("∞", number(study.limit.step_size, 3), "–", "–", *("–" for _ in study.sweeps)))
    head = (
        *("Width", "Stable below", f"Descent for {allowed.steps} steps", "Certified (Theorem 1)"),
        *(f"Best measured, {PARAMETRISATIONS[name]}" for name in study.sweeps),
    )
    return Topic(
        title="Learning-rate transfer",
        sentence=f"In the NTK parametrisation the best step {ntk.reason}.",
        details=(
            *(
                f"In the {PARAMETRISATIONS[name]} parametrisation it {verdict.reason}."
                for name, verdict in study.verdicts.items()
                if name != "ntk"
            ),
            *((CATAPULT,) if study.catapult else ()),
            f"Measured with {study.points} of the training points.",
        ),
        table=(head, rows),
        figure=plots.figure_transfer(study.sweeps, PARAMETRISATIONS),
        caption=(
            "Excess after the last step against the step size, by width (geometric mean over "
            "seeds; a run that ends above its start counts as standing still). Where the valleys "
            "stand under one another, the step found on a narrow network serves a wide one."
        ),
    )


CATAPULT = (
    "The best step is larger than the stable one: training then first climbs, which flattens the "
    "kernel, and converges afterwards. How far that goes depends on the width, and the theory, "
    "which is about steps up to the stable one, does not cover it."
)


def _best(study: TransferStudy, name: str, width: int) -> str:
    sweep = study.sweeps[name]
    if width not in sweep.widths:
        return "–"
    return number(sweep.optimum(width).step_size, 3)


def _risks(risks: tuple[RiskBound, ...], result: JobResult) -> Topic:
    useful = [bound for bound in risks if bound.is_bound and not bound.vacuous]
    if useful:
        best = min(useful, key=lambda bound: bound.value)
        sentence = (
            f"With probability {number(best.confidence)} the {best.loss} of {best.predictor} is at "
            f"most {at_most(best.value, 3)} ({best.name})."
        )
    else:
        sentence = "Every bound is vacuous at this sample size."
    caveats = sorted({caveat for bound in risks for caveat in bound.caveats})
    assumptions = sorted({text for bound in risks for text in bound.assumptions})
    details = [
        "Each bound holds with its confidence by itself, not all of them together.",
        *(f"Reservation: {caveat}; the bounds marked assumed rest on it." for caveat in caveats),
        "They assume: " + "; ".join(assumptions) + ".",
    ]
    rows: list[tuple[str, ...]] = [
        (
            bound.name,
            bound.predictor,
            bound.loss,
            at_most(bound.value, 3) if bound.is_bound else number(bound.value, 3),
            _verdict(bound),
            bound.dominant,
            f"{bound.sample_size:,}",
            bound.kind,
        )
        for bound in risks
    ]
    head = ("Bound", "Of", "Loss", "Value", "", "Largest term", "Rows", "Kind")
    return Topic(
        title="Generalisation",
        sentence=sentence,
        details=tuple(details),
        table=(head, rows),
        figure=plots.figure_risks(risks, _test_error(result)) if risks else None,
        caption=(
            "Bounds on the expected loss; hollow squares are vacuous (they say no more than that "
            "the loss is bounded), the diamond is a reference value and bounds nothing."
        ),
    )


def _verdict(bound: RiskBound) -> str:
    if not bound.is_bound:
        return "reference, no bound"
    return "vacuous" if bound.vacuous else "non-vacuous"


def _test_error(result: JobResult) -> float | None:
    """The measured error that the bounds are about, where it is the same loss."""
    value = result.errors.get("test", {}).get("error")
    return None if value is None else float(value)
