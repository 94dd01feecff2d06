"""The main job's result in words for people and as a dictionary for programs."""

from typing import Any

import numpy as np

from overparam.certificate.certificate import Certificate
from overparam.enclosures.rounding import decimal_down, decimal_up
from overparam.pipeline import summary_fitting as fitting
from overparam.pipeline.numbers import error_text, finite
from overparam.pipeline.result import JobResult
from overparam.pipeline.summary_consequences import consequences_lines, consequences_summary
from overparam.problem.integrands import get_integrand


def summary(result: JobResult) -> dict[str, Any]:
    """Everything a program may want to know, with JSON's types only; None stands for infinity."""
    anchored = result.anchored
    newton = None if anchored is None else anchored.gauss_newton
    return {
        "source": result.dataset.source,
        "notes": list(result.dataset.notes),
        "training_points": result.dataset.train.n,
        "test_points": 0 if result.dataset.test is None else result.dataset.test.n,
        "features": result.model.in_dim,
        "outputs": result.model.out_dim,
        "widths": list(result.model.hidden_widths),
        "parameters": result.model.parameter_count,
        "loss": get_integrand(result.settings.loss).spelling,
        "initialisation": certificate_summary(result.initial),
        "descent": {
            "optimizer": result.settings.optimizer,
            "steps": len(result.descent.history) - 1,
            "excess_before": float(result.descent.history.excess[0]),
            "excess_after": float(result.descent.history.excess[-1]),
            "linearised_after": (
                None if result.linearised is None else finite(result.linearised[-1])
            ),
            "certificate_held": result.descent.certificate_held,
        },
        "gauss_newton": newton
        and {
            "steps": len(newton.residuals) - 1,
            "residual_before": newton.residuals[0],
            "residual_after": newton.residuals[-1],
            "levenberg_marquardt_steps": newton.damped,
            "converged": newton.converged,
        },
        "obstacle": result.obstacle and fitting.obstacle_summary(result.obstacle),
        "stopped_early": result.stopped
        and {
            "price": result.stopped.price,
            "errors": result.stopped.errors,
            "final": fitting.keeps_stopped(result),
        },
        "anchor": anchored
        and {
            **certificate_summary(anchored.certificate),
            "distance_from_initialisation": anchored.distance,
            "checked_steps": 0 if anchored.run is None else len(anchored.run.history) - 1,
            "certificate_held": anchored.run and anchored.run.certificate_held,
        },
        "certified": result.certificate.certified,
        "consequences": result.consequences and consequences_summary(result.consequences),
        "errors": result.errors,
        "errors_before_gauss_newton": result.errors_before,
        "preprocessing": result.dataset.preprocessing.to_dict(),
        "target": result.dataset.coding.to_dict(),
        "seconds": {name: round(value, 3) for name, value in result.seconds.items()},
    }


def certificate_summary(certificate: Certificate) -> dict[str, Any]:
    """The headline numbers of a certificate."""
    shortfall = None if certificate.certified or not certificate.margin else 1 / certificate.margin
    return {
        "certified": certificate.certified,
        "exists": certificate.exists,
        "reason": certificate.reason,
        "margin": finite(certificate.margin),
        "short_by_factor": shortfall,
        "radius": finite(certificate.radius),
        "existence_radius": finite(certificate.existence_radius),
        "step_size": certificate.step_size,
        "rate": certificate.rate,
        "min_eigenvalue": certificate.min_eigenvalue,
        "residual": certificate.residual,
        "newton_kantorovich": _value(certificate, "newton_kantorovich"),
        **{name: _value(certificate, name) for name in FOLLOWING},
        "remedies": dict(certificate.remedies),
        "theorem": certificate.theorem,
        "rigor": certificate.rigor,
        "assumptions": list(certificate.assumptions),
    }


FOLLOWING = (
    *("limit_distance", "distance_ratio", "distance_lower_bound"),
    *("kernel_drift", "relative_kernel_drift", "linearisation_distance"),
)
"""Constants about what follows from convergence."""


def _value(certificate: Certificate, name: str) -> float | None:
    constant = certificate.constants.get(name)
    return None if constant is None else finite(constant.value)


def lines(result: JobResult) -> list[tuple[str, str]]:
    """The summary as (heading, text) pairs for the terminal."""
    model, dataset = result.model, result.dataset
    test = 0 if dataset.test is None else dataset.test.n
    widths = "-".join(map(str, model.widths))
    table = [
        ("data", f"{dataset.source}; {dataset.train.n:,} for training, {test:,} held out"),
        ("network", f"{widths} {model.act.name}, {model.parameter_count:,} parameters"),
        ("loss", get_integrand(result.settings.loss).title),
        *(("note", note) for note in dataset.notes),
        ("from initialisation", verdict_text(result.initial, "initial", result.zero_loss)),
        *_remedies(result.initial),
        ("descent", _descent(result)),
    ]
    if result.anchored is not None:
        table += _anchored(result)
    table.append(assumptions_line(result.certificate))
    if result.consequences is not None:
        table += consequences_lines(result)
    for part, error in result.errors.items():
        table.append((f"{part} error", error_text(error)))
    cost = cost_of_fitting(result.errors_before, result.errors)
    return table if cost is None else [*table, ("cost of fitting", cost)]


def cost_of_fitting(before: dict[str, dict], after: dict[str, dict]) -> str | None:
    """What Gauss-Newton to interpolation did to the held-out rows, if there are any.

    Args:
        before: Errors by part before it; empty if it took no step.
        after: Errors by part after it.
    """
    if "test" not in before or "test" not in after:
        return None
    old, new = before["test"], after["test"]
    measure = "error" if "error" in old else "rmse"
    change = new[measure] - old[measure]
    text = f"on held-out rows {error_text(old)} before Gauss-Newton, {error_text(new)} after: "
    if change > 0:
        return text + (
            "fitting the training rows made it WORSE on fresh ones; see docs/generalisation.md, "
            "When not to interpolate"
        )
    return text + ("fitting the training rows cost nothing" if change else "no different")


def verdict_text(certificate: Certificate, where: str, zero_loss: bool) -> str:
    """What a certificate claims about parameters; ``zero_loss`` as in ``zero_is_attained``."""
    if not certificate.certified:
        short = f", short by a factor {1 / certificate.margin:.3g}" if certificate.margin else ""
        return f"not certified{short}" + ("" if short else f": {certificate.reason}")
    zero = " (zero loss)" if zero_loss else ""
    since = int(certificate.constants["rate_since"].value) if certificate.theorem == "C" else 0
    after = f" from step {since:,} on" if since else ""
    return (
        f"certified ({certificate.rigor}): a global minimum{zero} exists within distance "
        f"{decimal_up(certificate.existence_radius, 3):.3g} of the {where} parameters, and "
        f"gradient descent with step size {certificate.step_size:.4g} converges to one within "
        f"{decimal_up(certificate.radius, 3):.3g} at rate {rate_text(certificate.rate)} a step"
        f"{after}{_ran(certificate)}"
    )


def _ran(certificate: Certificate) -> str:
    """How Theorem C knows."""
    if certificate.theorem != "C":
        return ""
    constants = certificate.constants
    return (
        f"; known from {constants['handover'].value:,.0f} of its steps, made in float64: exact "
        f"arithmetic ends within {decimal_up(constants['deviation'].value, 2):.2g} of them, where "
        "Theorem 1 takes over (Theorem C)"
    )


def assumptions_line(certificate: Certificate) -> tuple[str, str]:
    """What it takes for granted."""
    return ("taken for granted", "; ".join(certificate.assumptions))


def rate_text(rate: float) -> str:
    """A rate, an upper bound, readable where it is close to 1."""
    return f"{decimal_up(rate, 6):.6g}" if rate < 0.999 else f"1 - {decimal_down(1 - rate, 3):.3g}"


def _remedies(certificate: Certificate) -> list[tuple[str, str]]:
    texts = {
        "residual": "a residual of {:.3g} at this kernel",
        "output_scale": "--output-scale {:.3g}",
        "width": "width {:.3g}, if everything else scaled as in the theory",
    }
    remedies = [texts[name].format(value) for name, value in certificate.remedies.items()]
    return [("  to close the gap", ", or ".join(remedies))] if remedies else []


def _descent(result: JobResult) -> str:
    history, settings = result.descent.history, result.settings
    steps = len(history) - 1
    if not steps:
        return "no steps"
    size = f" of size {result.initial.step_size:.4g}" if settings.optimizer == "gd" else ""
    text = f"{steps} {settings.optimizer} steps{size}: excess {history.excess[0]:.4g} to "
    text += f"{history.excess[-1]:.4g}"
    if result.linearised is not None:
        last = len(result.linearised) - 1
        where = "" if last == steps else f", at step {last} {history.excess[last]:.4g}"
        text += f"{where}; the linearised model predicts {result.linearised[-1]:.4g}"
    if result.descent.certificate_held:
        text += "; envelope, rate and radius held at every step"
    return text


def _anchored(result: JobResult) -> list[tuple[str, str]]:
    anchored = result.anchored
    assert anchored is not None
    table = []
    if anchored.gauss_newton is not None:
        table += fitting.newton_lines(result)
    table.append(("anchored", verdict_text(anchored.certificate, "trained", result.zero_loss)))
    if anchored.run is not None:
        steps = len(anchored.run.history) - 1
        table.append(
            (
                "checked",
                f"{steps} steps of gradient descent from there: envelope, rate and radius held",
            )
        )
    return table


def history_columns(result: JobResult) -> dict[str, np.ndarray]:
    """All recorded runs, one under the other, as columns of equal length."""
    parts = [("descent", result.descent, result.linearised)]
    if result.anchored is not None and result.anchored.run is not None:
        parts.append(("anchor", result.anchored.run, None))
    columns: dict[str, list] = {}
    for name, run, linearised in parts:
        count = len(run.history)
        unknown = np.full(count, np.nan)
        predicted = unknown.copy()
        if linearised is not None:
            predicted[: len(linearised)] = linearised[:count]
        rows = {
            "phase": np.full(count, name),
            "step": np.arange(count),
            "excess": run.history.excess,
            "gradient_norm": run.history.gradient_norm,
            "path_length": run.history.path_length,
            "distance": run.history.distance,
            "envelope": unknown if run.history.envelope is None else run.history.envelope,
            "linearised": predicted,
        }
        for key, values in rows.items():
            columns.setdefault(key, []).append(values)
    return {key: np.concatenate(values) for key, values in columns.items()}
