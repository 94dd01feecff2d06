"""What follows from convergence, in words for people and as a dictionary for programs."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from overparam.enclosures.rounding import decimal_down, decimal_up
from overparam.pipeline.consequences import Consequences
from overparam.pipeline.numbers import finite
from overparam.pipeline.regularisation import Regularisation
from overparam.pipeline.result import JobResult
from overparam.pipeline.transfer import TransferStudy
from overparam.risk.risk_bound import RiskBound
from overparam.train.laziness import Laziness

Line = tuple[str, str]
"""Heading and text."""


def consequences_summary(found: Consequences) -> dict[str, Any]:
    """Everything a program may want to know, with JSON's types only; None stands for infinity."""
    return {
        "implicit_regularisation": _regularisation(found.regularisation),
        "laziness": {name: _laziness(lazy) for name, lazy in found.laziness.items()},
        "transfer": None if found.transfer is None else _transfer(found.transfer),
        "risk_bounds": [_risk(bound) for bound in found.risks],
    }


def _regularisation(found: Regularisation) -> dict[str, Any]:
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


def _laziness(found: Laziness) -> dict[str, Any]:
    return {
        name: finite(value) if isinstance(value, float) else value
        for name, value in asdict(found).items()
    }


def _transfer(found: TransferStudy) -> dict[str, Any]:
    table = found.allowed.table()
    return {
        "points": found.points,
        "limiting_stable_step": found.limit.step_size,
        "best_step_above_stable": found.catapult,
        "by_width": {
            name: [int(v) if column.dtype.kind == "i" else finite(float(v)) for v in column]
            for name, column in table.items()
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


def _risk(bound: RiskBound) -> dict[str, Any]:
    return {
        "name": bound.name,
        "predictor": bound.predictor,
        "loss": bound.loss,
        "value": finite(bound.value),
        "loss_bound": bound.loss_bound,
        "confidence": bound.confidence,
        "is_bound": bound.is_bound,
        "vacuous": bound.vacuous,
        "dominant": bound.dominant,
        "kind": bound.kind,
        "terms": {name: finite(value) for name, value in bound.terms.items()},
        "sample_size": bound.sample_size,
        "assumptions": list(bound.assumptions),
        "caveats": list(bound.caveats),
        "details": {name: finite(value) for name, value in bound.details.items()},
    }


def consequences_lines(result: JobResult) -> list[Line]:
    """The four consequences as (heading, text) pairs for the terminal."""
    found = result.consequences
    assert found is not None
    lines = [("distance", distance_words(found.regularisation))]
    lines += [("laziness", _lazy_words(name, lazy)) for name, lazy in found.laziness.items()][-1:]
    if found.transfer is not None:
        lines.append(("step by width", step_words(found.transfer)))
    lines += [("risk", risk_words(bound)) for bound in told(found.risks)]
    return lines


def distance_words(found: Regularisation) -> str:
    """How far the network went, and how far it had to."""
    text = f"{found.reached:.4g} from the initialisation"
    closest = found.closest
    if closest is not None and closest.converged:
        text += f"; the closest network found that fits the data is at {closest.distance:.4g}"
    if found.minimum_norm is not None:
        text += f"; the linearised model needs {found.minimum_norm:.4g}"
    if found.lower > 0:
        text += f"; certified: no global minimum within {decimal_down(found.lower, 4):.4g}"
    if math.isfinite(found.certified_ratio):
        text += f", so at most {decimal_up(found.certified_ratio, 4):.4g} times the shortest way"
    return text


def _lazy_words(name: str, lazy: Laziness) -> str:
    where = {"descent": "where the optimiser stopped", "anchor": "at the anchor"}[name]
    return (
        f"{lazy.verdict} {where}: kernel drift {lazy.kernel_drift:.3g}, linearisation error "
        f"{lazy.linearisation_error:.3g}, parameters moved by {lazy.movement:.3g} of their norm"
    )


def step_words(study: TransferStudy) -> str:
    """The largest stable step by width, and what a sweep measured."""
    steps = np.median(study.allowed.stable_step, axis=1)
    shown = ", ".join(
        f"{step:.3g} at {width:,}" for width, step in zip(study.allowed.widths, steps, strict=True)
    )
    verdict = study.verdicts["ntk"].reason
    beyond = "; a best step above the stable one is beyond the theory" if study.catapult else ""
    return (
        f"stable below {shown}, {study.limit.step_size:.3g} in the limit; in a sweep on "
        f"{study.points} points it {verdict}{beyond}"
    )


def told(risks: tuple[RiskBound, ...]) -> list[RiskBound]:
    """The yardstick and the least bound of each other kind that says anything."""
    best: dict[str, RiskBound] = {}
    for bound in risks:
        kind = bound.name[:2]
        if bound.is_bound and (kind not in best or bound.value < best[kind].value):
            best[kind] = bound
    return [bound for _, bound in sorted(best.items()) if not bound.vacuous]


def risk_words(bound: RiskBound) -> str:
    """One bound as a sentence."""
    text = (
        f"{bound.loss} of {bound.predictor} at most {decimal_up(bound.value, 4):.4g} with "
        f"probability {bound.confidence:g} ({bound.name})"
    )
    return text + (f"; reservation: {bound.caveats[0]}" if bound.caveats else "")
