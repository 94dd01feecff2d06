"""What certificates say in words: the claim, or by how much it fails, and what would help."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import UNSET

from overparam.certificate.certificate import Certificate
from overparam.pipeline.curves import can_compare, is_flat
from overparam.pipeline.finding import Finding, Picture, Status, Verdict, steps_words
from overparam.pipeline.formatting import at_least, at_most, finite, number, rate, steps_to_halve
from overparam.pipeline.result import JobResult
from overparam.train.gradient_descent import History, TrainResult


def first_verdict(result: JobResult) -> Verdict:
    """On the parameters a job began with."""
    if result.imported is None:
        place, heading, key = "the initialisation", "from initialisation", "initialisation"
        title = "From initialisation"
    else:
        place, heading, key = "the imported parameters", "as imported", "imported"
        title = "At the weights as imported"
    found = verdict(result.initial, place, result.descent, result.zero_loss)
    numbers = {key: certificate_numbers(result.initial)}
    remedies, needed = found.remedies, found.needed
    if result.imported is not None:
        if result.anchored is None and "residual" in result.initial.remedies:
            polish = "; --polish 10 moves the weights there by Gauss-Newton steps"
            remedies = (remedies[0] + polish, *remedies[1:])
            needed = (needed[0] + polish, *needed[1:])
        numbers["anchor"] = _anchor_numbers(result.initial, result.descent)
    return replace(
        found,
        heading=heading,
        title=title,
        numbers=numbers,
        remedies=remedies,
        needed=needed,
        picture=_run_picture(result) if result.imported and not result.anchored else None,
    )


def anchored_verdict(result: JobResult) -> Verdict:
    """On the parameters a job went on to."""
    anchored = result.anchored
    assert anchored is not None
    if result.imported is None:
        place, heading = "the trained parameters", "anchored"
        title = "At the trained parameters (the anchor)"
    else:
        newton = anchored.gauss_newton
        assert newton is not None
        place, heading = "the moved parameters", "moved"
        title = (
            f"At the weights moved by {len(newton.residuals) - 1} Gauss-Newton steps, "
            f"{number(100 * result.moved, 3)} % of their norm"
        )
    numbers = _anchor_numbers(anchored.certificate, anchored.run)
    if result.imported is None:
        numbers["distance_from_initialisation"] = anchored.distance
    found = verdict(anchored.certificate, place, anchored.run, result.zero_loss)
    if not found.certificate.certified and result.stopped is not None:
        which = "the network stopped early" if result.keeps_stopped else "where Gauss-Newton ended"
        said = (f"{found.said[0]} ({which})", *found.said[1:])
        found = replace(found, said=said, brief=f"{found.brief} ({which})")
    picture = _run_picture(result)
    return replace(
        found, heading=heading, title=title, numbers={"anchor": numbers}, picture=picture
    )


def verdict(
    certificate: Certificate, place: str, run: TrainResult | None, zero_loss: bool
) -> Verdict:
    """One certificate's verdict.

    Args:
        certificate: Certified or not.
        place: Where it was taken, such as "the trained parameters".
        run: Training from there, held against it if it was gradient descent.
        zero_loss: Whether the infimum of the loss is zero, so that a minimum fits all the data.
    """
    status: Status = "not certified"
    if certificate.certified:
        status = "certified"
    elif certificate.exists:
        status = "exists"
    return Verdict(
        heading="",
        said=_claim(certificate, status, place, zero_loss) + _comparison(certificate, run),
        certificate=certificate,
        status=status,
        remedies=() if certificate.certified else _remedies(certificate, run),
        brief=_brief(certificate, status, place, run),
        needed=_needed(certificate),
    )


def certificate_numbers(certificate: Certificate) -> dict[str, Any]:
    """The headline numbers of a certificate."""
    found = {
        "certified": certificate.certified,
        "exists": certificate.exists,
        "reason": certificate.reason,
        "margin": finite(certificate.margin),
        "short_by_factor": _missing(certificate),
        "radius": finite(certificate.radius),
        "existence_radius": finite(certificate.existence_radius),
        **{n: getattr(certificate, n) for n in ("step_size", "rate", "min_eigenvalue", "residual")},
        "remedies": dict(certificate.remedies),
        "rigor": certificate.rigor,
        "theorem": certificate.theorem,
        **batch_numbers(certificate),
        "assumptions": list(certificate.assumptions),
    }
    found |= {n: finite(v) for n, v in certificate.numbers.items() if n in DECAYED}
    return found | {name: finite(certificate.numbers.get(name, math.inf)) for name in FOLLOWING}


def batch_numbers(certificate: Certificate) -> dict[str, Any]:
    """Those of mini-batches; none of another theorem."""
    batches = certificate.batches
    if batches is UNSET:
        return {}
    names = ("minimum_distance", "point_norm", "batch_smoothness", "exit_probability")
    found = {n: finite(certificate.numbers[n]) for n in names if n in certificate.numbers}
    return {"batch_size": batches.size, "sampling": batches.sampling, **found}


DECAYED = (
    *("weight_decay", "residual_curvature", "strong_convexity", "contraction", "gradient_norm"),
    *("loss_infimum", "region_minimum", "rival_distance"),
)
"""Constants of Theorem R."""

FOLLOWING = (
    *("newton_kantorovich", "limit_distance", "distance_ratio", "distance_lower_bound"),
    *("kernel_drift", "relative_kernel_drift", "linearisation_distance"),
)
"""Constants about what follows from convergence."""


def trust(result: JobResult) -> Finding:
    """How far the numbers can be trusted."""
    certificates = result.certificates
    details = ["rigour: proved. The computed numbers are bounds that include their rounding"]
    if any(certificate.rigor != "proved" for certificate in certificates):
        details = [
            "rigour: computed. The hypotheses were evaluated in float64. The bounds on eigenvalues "
            "include the rounding of the factorisation, but the rounding of the kernel's entries "
            "themselves is not bounded"
        ]
    claiming = [c for c in certificates if c.certified or c.exists or c.rigor == "estimated"]
    for kind in ("assumed", "estimated"):
        every = (item for certificate in claiming for item in certificate.constants.items())
        names = sorted({name for name, c in every if c.kind == kind and name != "predicted_steps"})
        if names:
            details.append(f"the claims rest on {kind} numbers too: {', '.join(names)}")
    clauses = dict.fromkeys(clause for c in certificates for clause in c.assumptions)
    said = tuple(clauses)
    return Finding(
        "taken for granted", said, "trust", details=tuple(details), brief="; ".join(said)
    )


def _claim(
    certificate: Certificate, status: Status, place: str, zero_loss: bool
) -> tuple[str, ...]:
    minimum = "a global minimum (zero loss)" if zero_loss else "a global minimum of the loss"
    radius = at_most(certificate.existence_radius)
    missing = _missing(certificate) if "residual" in certificate.remedies else None
    short = "" if missing is None else f", short by a factor {number(missing, 3)}"
    if status == "not certified":
        if not short:
            return (f"not certified: {certificate.reason}",)
        return (f"not certified{short}", *_would_take(certificate))
    if status == "exists":
        descent = "gradient descent"
        if certificate.theorem == "S":
            descent, short = "mini-batches", f": {certificate.reason}"
        return (
            f"existence certified: {minimum} exists within distance {radius} of {place}",
            f"convergence of {descent} to it is not certified{short}",
            *_would_take(certificate),
        )
    if certificate.theorem == "S":
        return _in_batches(certificate, minimum, place)
    if certificate.theorem == "R":
        return _one_minimum(certificate, place)
    halving = steps_to_halve(certificate.rate)
    speed = "" if halving is None else f", and the excess halves in at most {halving:,} steps"
    them = "it" if certificate.start == "initialisation" else "them"
    return (
        f"certified ({certificate.rigor}): {minimum} exists within distance {radius} of {place}, "
        f"and gradient descent from {them} converges to a global minimum, the excess shrinking at "
        f"least by the factor {rate(certificate.rate)} a step{_since(certificate)}",
        f"with step size {number(certificate.step_size)} the whole path of gradient descent is no "
        f"longer than {at_most(certificate.radius)}{speed}",
        f"the condition of Theorem {_condition(certificate)} holds with a factor "
        f"{at_least(certificate.margin)} to spare",
        *_ran(certificate),
    )


def _brief(certificate: Certificate, status: Status, place: str, run: TrainResult | None) -> str:
    """The verdict in three lines of a terminal."""
    if status != "certified":
        words = "existence of a minimum certified, convergence" if status == "exists" else ""
        missing = _missing(certificate) if "residual" in certificate.remedies else None
        if missing is None:
            return f"{words} not certified: {certificate.reason}".strip()
        short = f"{words} not certified: short by a factor {number(missing, 3)}".strip()
        forecast = certificate.forecast
        return short if forecast is UNSET else f"{short}, or a run: {forecast.length} (--budget)"
    halving = steps_to_halve(certificate.rate)
    speed = "" if halving is None else f"; excess halved in at most {halving:,} steps"
    held = ""
    if run is not None and run.certificate_held is not None and len(run.history) > 1:
        held = "; all claims held" if run.certificate_held else "; VIOLATED: claims did not hold"
        held += f" in {steps_words(len(run.history) - 1)}"
    minimum, reach = "a global minimum", certificate.radius
    descent = f"gradient descent with step {number(certificate.step_size)} converges"
    if certificate.theorem == "R":
        minimum, reach = "the only minimum nearby", certificate.numbers.limit_distance
    if certificate.batches is not UNSET:
        descent = f"batches of {certificate.batches.size:,}, step {number(certificate.step_size)}, "
        descent += "converge"
        speed = speed.replace("excess", "mean square distance")
        reach, p = certificate.numbers.limit_distance, certificate.numbers["exit_probability"]
        held = f"; all but {at_most(100 * p, 2)} % of runs" if p else "; every run"
    return (
        f"certified by Theorem {certificate.theorem} ({certificate.rigor}): {descent} to "
        f"{minimum} within "
        f"{at_most(reach, 3)} of {place}{speed}; margin "
        f"{at_least(certificate.margin)}{held}"
    )


def _needed(certificate: Certificate) -> tuple[str, ...]:
    """Each remedy in a few words."""
    if certificate.certified:
        return ()
    needed, words = certificate.remedies, []
    if needed.residual is not UNSET:
        now = number(certificate.residual, 3)
        words.append(f"a residual of {at_least(needed.residual, 3)} (now {now})")
    if needed.output_scale is not UNSET:
        words.append(f"--output-scale {number(needed.output_scale, 3)}")
    if needed.width is not UNSET:
        words.append(f"about {number(needed.width, 2)} units a layer")
    return tuple(words)


def _one_minimum(certificate: Certificate, place: str) -> tuple[str, ...]:
    """What Theorem R certifies, and what it does not."""
    n, ran = certificate.numbers, list[str]()
    if "handover" in n:
        ran.append(
            f"{n.handover:,.0f} steps were made in float64, and in exact arithmetic the network is "
            f"within {at_most(n['deviation'])} of where they led (Theorem R')"
        )
    share = number(100 * n["residual_curvature"] / n["weight_decay"], 2)
    return (
        f"certified ({certificate.rigor}): gradient descent from {place} converges to a minimum of "
        f"the objective within distance {at_most(n.limit_distance)}, the only critical point of "
        f"a ball of radius {at_least(n.ball)}; in it the distance shrinks at least by the "
        f"factor {rate(n['contraction'])} a step of size {number(n.step_size)}",
        f"the residual bends the objective by at most {at_most(n['residual_curvature'])}, "
        f"{share} % of the weight decay; no eigenvalue of the kernel is needed (Theorem R)",
        "not that no better minimum exists elsewhere: this one is at most "
        f"{at_most(n['region_minimum'])} above the loss's infimum, which nothing is below, and "
        f"no better one is farther than {at_most(n['rival_distance'])} from where weights decay "
        "to",
        *ran,
    )


def _in_batches(certificate: Certificate, minimum: str, place: str) -> tuple[str, ...]:
    """What Theorem S or S' certifies of mini-batches."""
    n, batches = certificate.numbers, certificate.batches
    assert batches is not UNSET
    points = "1 point" if batches.size == 1 else f"{batches.size:,} points"
    step = f"with the constant step size {number(n.step_size)}"
    reach = f"within distance {at_most(n.limit_distance)} of {place}"
    fits = "what fits every point is fitted by every batch, so the step need not shrink"
    if batches.sampling == "epochs":
        return (
            f"certified ({certificate.rigor}): batches of {points}, every point once an epoch in "
            f"whatever order, converge {step} to {minimum} {reach}; an epoch multiplies the bound "
            f"on the excess by {rate(n.rate ** (certificate.problem.points / batches.size))}",
            f"{fits} (Theorem S')",
        )
    return (
        f"certified ({certificate.rigor}): batches of {points} ({batches.sampling}) converge "
        f"{step} to {minimum} {reach}, but for runs of probability "
        f"{at_most(n['exit_probability'])}; in the mean over the others the bound on the excess "
        f"shrinks by the factor {rate(n.rate)} a step",
        f"{fits} (Theorem S)",
    )


def _would_take(certificate: Certificate) -> tuple[str, ...]:
    """How long a run would be that Theorem C could certify, if that is known."""
    forecast = certificate.forecast
    return () if forecast is UNSET else (forecast.words(certificate.numbers, certificate.problem),)


def _since(certificate: Certificate) -> str:
    """From when on, if the excess may rise before (Theorem C)."""
    since = certificate.numbers.get("rate_since", 0.0)
    return f" from step {since:,.0f} on" if since else ""


def _condition(certificate: Certificate) -> str:
    """Theorem C ends in the condition of Theorem 1."""
    return "1" if certificate.theorem == "C" else certificate.theorem


def _ran(certificate: Certificate) -> tuple[str, ...]:
    """How Theorem C knows."""
    if certificate.theorem != "C":
        return ()
    numbers = certificate.numbers
    return (
        f"Theorem C: {numbers.handover:,.0f} steps were made in float64, and in exact "
        f"arithmetic the network is within {at_most(numbers['deviation'])} of where they "
        "led; there Theorem 1 takes over. Nothing has to be lazy",
    )


def _missing(certificate: Certificate) -> float | None:
    """The factor by which the theorem's condition is missed, if it is one of size."""
    return None if certificate.holds else finite(certificate.short_by)


def _comparison(certificate: Certificate, run: TrainResult | None) -> tuple[str, ...]:
    if not certificate.certified or run is None or run.certificate_held is None:
        return ()
    steps = len(run.history) - 1
    if steps < 1:
        return ("no step of gradient descent was taken to compare it with",)
    if not run.certificate_held:
        return (f"VIOLATED: its claims did not hold in {steps_words(steps)} of gradient descent",)
    return (f"every claim held in {steps_words(steps)} of gradient descent run from there",)


def _remedies(certificate: Certificate, run: TrainResult | None) -> tuple[str, ...]:
    needed, about, words = certificate.remedies, certificate.problem, []
    if needed.residual is not UNSET:
        words.append(
            f"the residual √(2Δ₀) were at most {at_least(needed.residual, 3)} with this kernel; it "
            f"is {number(certificate.residual, 3)}{_lowered(run)}"
        )
    if needed.output_scale is not UNSET:
        words.append(
            f"the network's output were scaled by about {number(needed.output_scale, 3)} instead "
            f"of {number(about['output_scale'], 3)} (--output-scale), which makes "
            "training lazier"
        )
    if needed.width is not UNSET:
        words.append(
            f"each hidden layer had about {number(needed.width, 2)} units instead of "
            f"{min(about.widths):,}, if everything else scaled with the "
            "width as in the theory"
        )
    return tuple(words)


def _lowered(run: TrainResult | None) -> str:
    """What the steps taken from there made of the residual, if they lowered it."""
    excess = np.empty(0) if run is None else run.history.excess
    if not len(excess) or not excess[-1] < excess[0]:
        return ""
    steps, residual = len(excess) - 1, math.sqrt(2 * float(excess[-1]))
    return f", and {steps:,} steps of training lowered it to {number(residual, 3)}"


def _anchor_numbers(certificate: Certificate, run: TrainResult | None) -> dict[str, Any]:
    return certificate_numbers(certificate) | {
        "checked_steps": 0 if run is None else len(run.history) - 1,
        "certificate_held": run and run.certificate_held,
    }


def _run_picture(result: JobResult) -> Picture | None:
    """Gradient descent from the anchor."""
    run = result.descent if result.anchored is None else result.anchored.run
    if run is None or not can_compare(run.history) or result.certificate.theorem == "R":
        return None
    caption = anchored_run_caption(run.history, result.certificate)
    return Picture("anchored_run", "From the anchor", (run.history,), caption)


def anchored_run_caption(history: History, certificate: Certificate) -> str:
    """What to look at in gradient descent from an anchor."""
    assert history.envelope is not None, "a certified run has an envelope"
    start = f"which starts at Δ₀ = {number(float(history.excess[0]), 3)}"
    steps = steps_words(len(history) - 1)
    if is_flat(history):
        text = (
            f"The excess, {start}, hardly moves in {steps}, since the certified rate "
            f"{rate(certificate.rate)} is close to 1; so the relative decrease is drawn. The "
            "measured decrease must lie above the certified one."
        )
    else:
        text = (
            f"Excess over {steps} of gradient descent from the anchor, {start}. It must stay below "
            "the certified envelope, which falls at the certified rate "
            f"{rate(certificate.rate)} a step: the rate of the slowest direction, so the first "
            "steps are faster."
        )
    if (np.diff(history.excess) > 0).any():
        text += " Steps upwards are the rounding of float64 at so small an excess."
    return text
