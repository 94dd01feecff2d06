"""What follows from convergence, in words: four topics, each with its table and its figure."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from overparam.certificate.certificate import Certificate
from overparam.pipeline.consequences import Consequences
from overparam.pipeline.distances import Distance
from overparam.pipeline.finding import Finding, Picture
from overparam.pipeline.formatting import at_least, at_most, finite, number
from overparam.pipeline.regularisation import Regularisation
from overparam.pipeline.result import JobResult
from overparam.pipeline.transfer import TransferStudy
from overparam.risk.risk_bound import RiskBound
from overparam.train.laziness import LAZY, PARTLY_LAZY, Laziness

ENDS = {"descent": "after the optimiser's steps", "anchor": "at the anchor"}
TRANSFERRED = {True: "transfers", False: "does not transfer", None: "is undecided"}
PARAMETRISATIONS = {"ntk": "NTK", "standard": "standard", "mup": "maximal update"}


def consequences(found: Consequences, result: JobResult) -> Iterator[Finding]:
    """In the theory's order."""
    yield _regularisation(found.regularisation, result.initial)
    yield _laziness(found.laziness, result)
    if found.transfer is not None:
        yield _transfer(found.transfer)
    yield risk(found.risks, result)


def _regularisation(found: Regularisation, initial: Certificate) -> Finding:
    closest, ratio = found.closest, found.measured_ratio
    rows = [Distance("final network", found.reached, "measured")]
    said = [f"the final network lies {number(found.reached)} from the initialisation"]
    details = []
    if closest is not None and closest.converged:
        rows.append(Distance("closest that fits, found", closest.distance, "measured"))
        rows.append(Distance("no closer one that fits ≥", closest.lower_bound, "lower"))
        if ratio is not None:
            said[0] += f", {number(ratio)} times as far as the closest network found that fits "
            said[0] += f"the data, at {number(closest.distance)}"
    elif closest is not None:
        details.append(f"the search for the closest network did not converge: {closest.reason}")
    if found.minimum_norm is None:
        details.append("the kernel is too large here to search for closer networks")
    else:
        rows.append(Distance("linearised model ρ_K", found.minimum_norm, "measured"))
        said.append(f"the linearised model needs {number(found.minimum_norm)}")
    rows.append(Distance("any global minimiser ≥", found.lower, "lower"))
    rows.append(Distance("limit of descent ≤", found.limit, "upper"))
    if found.lower > 0:
        text = f"certified: no global minimiser is closer than {at_least(found.lower)}"
        if math.isfinite(found.certified_ratio):
            text += f", and gradient descent ends within {at_most(found.limit)}: at most "
            text += f"{at_most(found.certified_ratio)} times the shortest way"
        said.append(text)
    if initial.certified:
        theorem = "Theorem C" if initial.theorem == "C" else "Theorem 5'"
        details.append(
            "from the initialisation the ratio of the two is certified to be at most "
            f"{at_most(initial.numbers.distance_ratio)} ({theorem})"
        )
    shown = [row for row in rows if math.isfinite(row.value) and row.value > 0]
    kinds = {"measured": "measured", "lower": "certified, at least", "upper": "certified, at most"}
    return Finding(
        heading="distance",
        said=tuple(said),
        role="consequence",
        brief=f"{number(found.reached)} from the initialisation"
        + ("" if ratio is None else f", {number(ratio, 3)} times the closest network that fits"),
        numbers={"implicit_regularisation": _regularisation_numbers(found)},
        title="Implicit regularisation",
        details=tuple(details),
        table=(
            ("Distance from the initialisation", "Value", "Kind"),
            [(row.label, row.shown, kinds[row.side]) for row in shown],
        ),
        picture=_picture(
            *("regularisation", "Implicit regularisation", shown),
            caption="Of the many networks that fit the data, a wide one trained by gradient "
            "descent ends next to the closest. Circles are measured; ▶ and ◀ are certified lower "
            "and upper bounds.",
        ),
    )


def _regularisation_numbers(found: Regularisation) -> dict[str, Any]:
    closest = found.closest
    return {
        "distance": found.reached,
        "certified_limit": finite(found.limit),
        "certified_lower_bound": found.lower,
        "certified_ratio": finite(found.certified_ratio),
        "minimum_norm_distance": finite(found.minimum_norm),
        "closest_found": closest
        and {
            "distance": closest.distance,
            "residual": closest.residual,
            "optimality": finite(closest.optimality),
            "lower_bound": closest.lower_bound,
            "converged": closest.converged,
        },
        "measured_ratio": found.measured_ratio,
    }


def _picture(kind: str, title: str, *data: Any, caption: str) -> Picture | None:
    """A picture, if there is something to draw in it."""
    return Picture(kind, title, data, caption) if data[0] else None


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


def _laziness(runs: dict[str, Laziness], result: JobResult) -> Finding:
    said: tuple[str, ...] = ("no step was taken",)
    details = []
    if runs:
        where, lazy = list(runs.items())[-1]
        said = (
            f"training was {lazy.verdict}, {ENDS[where]}",
            f"kernel drift {number(lazy.kernel_drift, 3)}, linearisation error "
            f"{number(lazy.linearisation_error, 3)}, parameters moved by "
            f"{number(lazy.movement, 3)} of their norm",
        )
        details.append(lazy.reason)
    details += [_certified_laziness(c) for c in result.certificates if c.certified]
    rows = [
        (label, *(number(getattr(lazy, name), 3) for lazy in runs.values()))
        for name, label in LAZY_ROWS
    ]
    for layer in range(len(result.model.widths) - 1):
        values = (number(lazy.weight_movement[layer], 3) for lazy in runs.values())
        rows.append((f"movement of W{layer + 1}, relative", *values))
    return Finding(
        heading="laziness",
        said=said,
        role="consequence",
        numbers={"laziness": {name: _laziness_numbers(lazy) for name, lazy in runs.items()}},
        title="Lazy training",
        brief=f"{said[0]}: kernel drift {number(lazy.kernel_drift, 3)}" if runs else "",
        details=tuple(details),
        table=(("Measured", *(ENDS[name] for name in runs)), rows),
        picture=_picture(
            *("laziness", "Lazy training", {ENDS[name]: lazy for name, lazy in runs.items()}),
            caption=f"Lazy up to {LAZY}, partly lazy up to {PARTLY_LAZY} (dashed lines): how much "
            "the tangent kernel changed, and what part of the network's change its first-order "
            "expansion at the initialisation misses.",
        ),
    )


def _laziness_numbers(found: Laziness) -> dict[str, Any]:
    return {
        name: finite(value) if isinstance(value, float) else value
        for name, value in asdict(found).items()
    }


def _certified_laziness(certificate: Certificate) -> str:
    numbers = certificate.numbers
    where = "initialisation" if certificate.start == "initialisation" else "anchor"
    text = (
        f"certified for the whole run of gradient descent from the {where}: the kernel drifts by "
        f"at most {at_most(numbers.relative_kernel_drift, 3)} of its norm"
    )
    least, apart = numbers.get("kernel_drift_lower", 0.0), numbers.linearisation_distance
    if least:
        text += f", in the end at least {at_least(least / numbers.max_eigenvalue, 3)} of it"
    if not math.isfinite(apart):
        return text
    text += f", and the predictions stay within {at_most(apart, 3)} of the linearised model's"
    if least := numbers.get("linearisation_distance_lower", 0.0):
        text += f", at some step at least {at_least(least, 3)} apart"
    source = "Proposition C9" if certificate.theorem == "C" else "Theorems 6 and 7"
    return f"{text} ({source})"


def _transfer(study: TransferStudy) -> Finding:
    allowed, ntk, limit = study.allowed, study.verdicts["ntk"], study.limit.step_size
    stable, lasting = (
        [number(float(step), 3) for step in np.median(steps, axis=1)]
        for steps in (allowed.stable_step, allowed.descent_step)
    )
    by_width = zip(stable, allowed.widths, strict=True)
    shown = ", ".join(f"{step} at {width:,}" for step, width in by_width)
    said = [
        f"in the NTK parametrisation the best step {ntk.reason}",
        f"descent is stable below {shown}, {number(limit, 3)} in the limit",
    ]
    if study.catapult:
        said.append(
            "the best step is larger than the stable one: training then first climbs, which "
            "flattens the kernel, and converges afterwards; how far that goes depends on the "
            "width, and the theory, which is about steps up to the stable one, does not cover it"
        )
    said.append(f"measured with {study.points} of the training points")
    rows: list[tuple[str, ...]] = []
    for index, width in enumerate(allowed.widths):
        certified = float(np.nanmax(np.append(allowed.certified_step[index], -1.0)))
        rows.append(
            (
                *(f"{width:,}", stable[index], lasting[index]),
                number(certified, 3) if certified > 0 else "none",
                *(_best(study, name, width) for name in study.sweeps),
            )
        )
    rows.append(("∞", number(limit, 3), "–", "–", *("–" for _ in study.sweeps)))
    head = (
        *("Width", "Stable below", f"Descent for {allowed.steps} steps", "Certified (Theorem 1)"),
        *(f"Best measured, {PARAMETRISATIONS[name]}" for name in study.sweeps),
    )
    return Finding(
        heading="step by width",
        said=tuple(said),
        role="consequence",
        numbers={"transfer": _transfer_numbers(study)},
        title="Learning-rate transfer",
        details=tuple(
            f"in the {PARAMETRISATIONS[name]} parametrisation it {verdict.reason}"
            for name, verdict in study.verdicts.items()
            if name != "ntk"
        ),
        table=(head, rows),
        picture=_picture(
            *("transfer", "Learning-rate transfer", study.sweeps, PARAMETRISATIONS),
            caption="Excess after the last step against the step size, by width (geometric mean "
            "over seeds; a run that ends above its start counts as standing still). Where the "
            "valleys stand under one another, the step found on a narrow network serves a wide "
            "one.",
        ),
        brief=f"the best step {TRANSFERRED[ntk.transferred]}: {number(ntk.narrow.step_size, 3)} at "
        f"width {ntk.narrow.width:,}, {number(ntk.wide.step_size, 3)} at {ntk.wide.width:,}; "
        f"stable below {stable[0]} and {stable[-1]}",
    )


def _best(study: TransferStudy, name: str, width: int) -> str:
    sweep = study.sweeps[name]
    return number(sweep.optimum(width).step_size, 3) if width in sweep.widths else "–"


def _transfer_numbers(found: TransferStudy) -> dict[str, Any]:
    return {
        "points": found.points,
        "limiting_stable_step": found.limit.step_size,
        "best_step_above_stable": found.catapult,
        "by_width": {
            name: [int(v) if column.dtype.kind == "i" else finite(float(v)) for v in column]
            for name, column in found.allowed.table().items()
        },
        "measured": {
            name: {
                "best_steps": {str(o.width): o.step_size for o in (verdict.narrow, verdict.wide)},
                "factor": 2**verdict.shift,
                "factor_interval": [2**verdict.low, 2**verdict.high],
                "tolerance": verdict.tolerance,
                "transferred": verdict.transferred,
                "reason": verdict.reason,
            }
            for name, verdict in found.verdicts.items()
        },
    }


def risk(risks: tuple[RiskBound, ...], result: JobResult) -> Finding:
    """Bounds on the expected loss of the final network."""
    said = [_risk_words(bound) for bound in told(risks)]
    caveats = sorted({caveat for bound in risks for caveat in bound.caveats})
    details = [
        "each bound holds with its confidence by itself, not all of them together",
        *(f"reservation: {caveat}; the bounds marked assumed rest on it" for caveat in caveats),
        *_assumed(risks),
    ]
    rows: list[tuple[str, ...]] = [
        (
            *(bound.name, bound.predictor, bound.loss, _value(bound), _worth(bound)),
            *(bound.dominant, f"{bound.sample_size:,}", bound.kind),
        )
        for bound in risks
    ]
    # The measured error that the bounds are about, where it is the same loss.
    measured = result.errors.get("test", {}).get("error")
    return Finding(
        heading="risk",
        said=tuple(said) or ("every bound is vacuous at this sample size",),
        role="consequence",
        numbers={"risk_bounds": [_risk_numbers(bound) for bound in risks]},
        title="Generalisation",
        details=tuple(details),
        table=(("Bound", "Of", "Loss", "Value", "Verdict", "Largest term", "Rows", "Kind"), rows),
        picture=_picture(
            *("risks", "Generalisation", risks, measured),
            caption="Bounds on the expected loss; hollow squares are vacuous (they say no more "
            "than that the loss is bounded) and drawn at the largest loss, the diamond is a "
            "reference value and bounds nothing.",
        ),
    )


def _assumed(risks: tuple[RiskBound, ...]) -> Iterator[str]:
    """What all bounds assume, then what some do; a reference value by itself."""
    bounds = [bound for bound in risks if bound.is_bound]
    each = [set(bound.assumptions) for bound in bounds]
    common = set.intersection(*each) if each else set()
    if common:
        yield f"every bound assumes: {'; '.join(sorted(common))}"
    of: dict[str, list[str]] = {}
    for bound in risks:
        for text in bound.assumptions:
            if not (bound.is_bound and text in common):
                of.setdefault(text, []).append(bound.name)
    for text in sorted(of):
        yield f"{', '.join(dict.fromkeys(of[text]))}: {text}"


def told(risks: tuple[RiskBound, ...]) -> list[RiskBound]:
    """The least bound of each kind that says anything, the least of all first."""
    useful = sorted((b for b in risks if b.is_bound and not b.vacuous), key=lambda b: b.value)
    best: dict[str, RiskBound] = {}
    for bound in useful:
        best.setdefault(bound.name[:2], bound)
    return list(best.values())


def _risk_words(bound: RiskBound) -> str:
    reservation = f"; reservation: {bound.caveats[0]}" if bound.caveats else ""
    return (
        f"with probability {number(bound.confidence)} the {bound.loss} of {bound.predictor} is at "
        f"most {_value(bound)} ({bound.name}{reservation})"
    )


def _value(bound: RiskBound) -> str:
    return at_most(bound.value, 3) if bound.is_bound else number(bound.value, 3)


def _worth(bound: RiskBound) -> str:
    if not bound.is_bound:
        return "reference, no bound"
    return "vacuous" if bound.vacuous else "non-vacuous"


def _risk_numbers(bound: RiskBound) -> dict[str, Any]:
    names = ("name", "predictor", "loss", "loss_bound", "confidence", "is_bound", "vacuous")
    return {name: getattr(bound, name) for name in (*names, "dominant", "kind", "sample_size")} | {
        "value": finite(bound.value),
        "terms": {name: finite(value) for name, value in bound.terms.items()},
        "assumptions": list(bound.assumptions),
        "caveats": list(bound.caveats),
        "details": {name: finite(value) for name, value in bound.details.items()},
    }
