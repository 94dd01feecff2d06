"""The verdict in words: what a certificate claims, how rigorous it is, and what would help."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from overparam.certificate.certificate import Certificate
from overparam.pipeline.imported import AnchorResult
from overparam.pipeline.result import JobResult
from overparam.report.numbers import at_least, at_most, number, rate, steps_to_halve
from overparam.train.gradient_descent import TrainResult

Status = Literal["certified", "exists", "not certified"]

SYMBOLS: dict[Status, str] = {"certified": "✓", "exists": "◐", "not certified": "✗"}


@dataclass(frozen=True)
class Verdict:
    """What a certificate says, in words.

    Attributes:
        status: Convergence of gradient descent certified, existence alone, or neither.
        place: Where it was taken.
        sentence: The claim, or by how much it fails.
        details: Further sentences.
        remedies: What alone would close the gap.
    """

    status: Status
    place: str
    sentence: str
    details: tuple[str, ...]
    remedies: tuple[str, ...]

    @property
    def symbol(self) -> str:
        """A sign for the status."""
        return SYMBOLS[self.status]


def verdicts(result: JobResult, *, zero_loss: bool) -> list[Verdict]:
    """The certificates' verdicts: the trained parameters first, then the initialisation.

    Args:
        result: The job's result.
        zero_loss: Whether the infimum of the loss is zero, so that a minimum fits all the data.
    """
    initial = verdict_of(result.initial, "From initialisation", result.descent, zero_loss)
    anchored = result.anchored
    if anchored is None:
        return [initial]
    place = "At the trained parameters (the anchor)"
    return [verdict_of(anchored.certificate, place, anchored.run, zero_loss), initial]


def anchor_verdicts(result: AnchorResult, *, zero_loss: bool) -> list[Verdict]:
    """The verdicts on an imported network: where it was moved to, if it was, then as imported.

    Args:
        result: The job's result.
        zero_loss: Whether the infimum of the loss is zero, so that a minimum fits all the data.
    """
    moved = result.polished
    if moved is None:
        return [verdict_of(result.imported, "At the weights as imported", result.run, zero_loss)]
    place = (
        f"At the weights moved by {len(moved.gauss_newton.residuals) - 1} Gauss-Newton steps, "
        f"{number(100 * moved.relative, 3)} % of their norm"
    )
    return [
        verdict_of(moved.certificate, place, result.run, zero_loss),
        verdict_of(result.imported, "At the weights as imported", None, zero_loss),
    ]


def rigor(certificates: Iterable[Certificate]) -> str:
    """An honest line on how far the numbers can be trusted."""
    certificates = list(certificates)
    if any(certificate.rigor == "computed" for certificate in certificates):
        text = (
            "Rigour: computed. The hypotheses were evaluated in float64. The bounds on eigenvalues "
            "include the rounding of the factorisation, but the rounding of the kernel's entries "
            "themselves is not bounded."
        )
    else:
        text = "Rigour: proved. The computed numbers are bounds that include their rounding."
    for kind in ("assumed", "estimated"):
        names = sorted(
            {
                name
                for certificate in certificates
                for name, constant in certificate.constants.items()
                if constant.kind == kind
            }
        )
        if names:
            text += f" The claims rest on {kind} numbers too: {', '.join(names)}."
    assumed = dict.fromkeys(clause for c in certificates for clause in c.assumptions)
    return f"{text} Taken for granted: {'; '.join(assumed)}."


def shortfall(certificate: Certificate) -> float | None:
    """The factor by which the condition of Theorem 1 is missed, if it is one of size."""
    if certificate.certified or "residual" not in certificate.remedies:
        return None
    return 1 / certificate.margin


def verdict_of(
    certificate: Certificate, place: str, run: TrainResult | None, zero_loss: bool
) -> Verdict:
    """One certificate's verdict.

    Args:
        certificate: Certified or not.
        place: Where it was taken, for the heading.
        run: Gradient descent from there, held against it, if there was one.
        zero_loss: Whether the infimum of the loss is zero.
    """
    status: Status = "not certified"
    if certificate.certified:
        status = "certified"
    elif certificate.exists:
        status = "exists"
    return Verdict(
        status=status,
        place=place,
        sentence=_sentence(certificate, status, zero_loss),
        details=_details(certificate, run),
        remedies=_remedies(certificate, run),
    )


def _sentence(certificate: Certificate, status: Status, zero_loss: bool) -> str:
    minimum = "a global minimum (zero loss)" if zero_loss else "a global minimum of the loss"
    anchored = certificate.start == "anchor"
    here, them = ("the trained parameters", "them") if anchored else ("the initialisation", "it")
    radius = at_most(certificate.existence_radius)
    missing = shortfall(certificate)
    if status == "certified":
        return (
            f"Certified: {minimum} exists within distance {radius} of {here}, and gradient descent "
            f"from {them} converges to a global minimum, the excess shrinking at least by the "
            f"factor {rate(certificate.rate)} a step{_since(certificate)}."
        )
    if status == "exists":
        gap = "" if missing is None else f", short by a factor {number(missing, 3)}"
        return (
            f"Existence certified: {minimum} exists within distance {radius} of {here}. "
            f"Convergence of gradient descent to it is not certified{gap}."
        )
    place = "At the trained parameters" if anchored else "From initialisation"
    gap = f"short by a factor {number(missing, 3)}." if missing else f"{certificate.reason}."
    return f"{place}: not certified, {gap}"


def _since(certificate: Certificate) -> str:
    """From when on, if the excess may rise before (Theorem C)."""
    since = certificate.constants["rate_since"].value if certificate.theorem == "C" else 0
    return f" from step {since:,.0f} on" if since else ""


def _details(certificate: Certificate, run: TrainResult | None) -> tuple[str, ...]:
    if not certificate.certified:
        return ()
    halving = steps_to_halve(certificate.rate)
    speed = "" if halving is None else f" It halves the excess in at most {halving:,} steps."
    details = [
        f"With step size {number(certificate.step_size)} the whole path of gradient descent is no "
        f"longer than {at_most(certificate.radius)}.{speed}",
        f"The condition of Theorem 1 holds with a factor {at_least(certificate.margin, 3)} to "
        "spare.",
    ]
    if certificate.theorem == "C":
        constants = certificate.constants
        details.append(
            f"Theorem C: {constants['handover'].value:,.0f} steps were made in float64, and in "
            f"exact arithmetic the network is within {at_most(constants['deviation'].value)} of "
            "where they led; there the condition of Theorem 1 holds. Nothing has to be lazy."
        )
    if run is not None and run.certificate_held is not None:
        details.append(_comparison(run))
    return tuple(details)


def _comparison(run: TrainResult) -> str:
    steps = len(run.history) - 1
    if steps < 1:
        return "No step of gradient descent was taken to compare it with."
    word = "step" if steps == 1 else "steps"
    if not run.certificate_held:
        return f"Violated: its claims did not hold in {steps:,} {word} of gradient descent."
    return f"Every claim held in {steps:,} {word} of gradient descent run from there."


def _lowered(run: TrainResult | None) -> str:
    """What the steps taken from there made of the residual, if they lowered it."""
    excess = np.empty(0) if run is None else run.history.excess
    if not len(excess) or not excess[-1] < excess[0]:
        return ""
    steps, residual = len(excess) - 1, math.sqrt(2 * float(excess[-1]))
    return f", and {steps:,} steps of training lowered it to {number(residual, 3)}"


def _remedies(certificate: Certificate, run: TrainResult | None) -> tuple[str, ...]:
    needed = certificate.remedies
    words = []
    if "residual" in needed:
        words.append(
            f"the residual √(2Δ₀) were at most {at_least(needed['residual'], 3)} with this kernel; "
            f"it is {number(certificate.residual, 3)}{_lowered(run)}"
        )
    if "output_scale" in needed:
        words.append(
            f"the network's output were scaled by about {number(needed['output_scale'], 3)} "
            f"instead of {number(certificate.problem['output_scale'], 3)}, which makes training "
            "lazier"
        )
    if "width" in needed:
        now = min(certificate.problem["hidden_widths"])
        words.append(
            f"each hidden layer had about {number(float(needed['width']), 2)} units instead of "
            f"{now:,}, if everything else scaled with the width as in the theory"
        )
    words += [
        f"{name.replace('_', ' ')} were {number(value)}"
        for name, value in needed.items()
        if name not in ("residual", "output_scale", "width")
    ]
    return tuple(words)
