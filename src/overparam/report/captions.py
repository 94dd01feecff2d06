"""One or two sentences to each figure: what it shows and what to look at."""

import numpy as np

from overparam.certificate.certificate import Certificate
from overparam.pipeline.result import JobResult, Spectrum
from overparam.report.curves import is_flat
from overparam.report.numbers import number, rate
from overparam.train.gradient_descent import History


def descent(result: JobResult) -> str:
    """Of the excess from initialisation."""
    history, linearised = result.descent.history, result.linearised
    text = f"Excess loss over {_steps(history)} from initialisation, logarithmic scale."
    if linearised is not None:
        text += (
            " The closer the network stays to the linearised model (its first-order expansion at "
            "initialisation), the lazier it trains."
        )
        infinite = np.flatnonzero(~np.isfinite(linearised))
        if len(infinite):
            text += f" The linearised model diverges: it is not drawn from step {infinite[0]:,}."
    if not np.isfinite(history.excess).all():
        text += " The network diverges: infinite values are not drawn."
    if history.envelope is not None:
        text += " The hatched region above the certified envelope is excluded by the certificate."
    return text


def anchored_run(history: History, certificate: Certificate) -> str:
    """Of gradient descent from the anchor."""
    assert history.envelope is not None, "a certified run has an envelope"
    start = f"which starts at Δ₀ = {number(float(history.excess[0]), 3)}"
    if is_flat(history):
        text = (
            f"The excess, {start}, hardly moves in {_steps(history)}, since the certified rate "
            f"{rate(certificate.rate)} is close to 1; so the relative decrease is drawn. The "
            "measured decrease must lie above the certified one."
        )
    else:
        text = (
            f"Excess over {_steps(history)} of gradient descent from the anchor, {start}. It must "
            "stay below the certified envelope, which falls at the certified rate "
            f"{rate(certificate.rate)} a step: the rate of the slowest direction, so the first "
            "steps are faster."
        )
    if (np.diff(history.excess) > 0).any():
        text += " Steps upwards are the rounding of float64 at so small an excess."
    return text


def spectrum(initial: Spectrum, anchor: Spectrum | None) -> str:
    """Of the kernel's eigenvalues."""
    text = (
        "Eigenvalues of the tangent kernel K in decreasing order; thin horizontal lines mark the "
        "lower bounds on the smallest that the certificates use. It sets the certified rate: the "
        "ratio to the largest is the price of the slowest direction."
    )
    if initial.points < initial.total:
        text += (
            f" The curve belongs to the kernel of {initial.points:,} of the {initial.total:,} "
            "points, drawn at random and scaled like the whole; the bounds belong to the whole "
            "kernel."
        )
    for name, shown in (("initialisation", initial), ("the anchor", anchor)):
        hidden = 0 if shown is None else int((shown.eigenvalues <= 0).sum())
        if hidden:
            text += f" Not drawn: {hidden:,} at {name} that rounding left at or below 0."
    return text


def distances(result: JobResult) -> str:
    """Of the distances travelled."""
    text = (
        "Circles are measured, triangles certified: ◀ an upper and ▶ a lower bound. The path "
        "travelled must end before s*, the bound on the whole path"
    )
    if result.initial.exists or (result.anchored and result.anchored.certificate.exists):
        return text + "; the nearest global minimiser lies between ▶ and ◀."
    return text + ", where there is one."


def gauss_newton(converged: bool) -> str:
    """Of the residuals on the way to the anchor."""
    text = (
        "Gauss-Newton: distance from the network's values to the nearest minimiser of the loss, "
        "before the first step and after each."
    )
    return text if converged else text + " It stopped before it reached its tolerance."


def _steps(history: History) -> str:
    count = len(history) - 1
    return "1 step" if count == 1 else f"{count:,} steps"
