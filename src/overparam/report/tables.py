"""The report's tables as rows of text: constants, settings, the problem, time."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from overparam.certificate.certificate import Certificate, Constant, Kind
from overparam.model.activation import Activation
from overparam.pipeline import formatting
from overparam.pipeline.result import JobResult

MEANINGS = {
    "excess": ("Δ₀", "excess loss at the starting point"),
    "residual": ("√(2Δ₀)", "size of what is left to fit"),
    "min_eigenvalue": ("λₘᵢₙ(K)", "lower bound on the smallest eigenvalue of the tangent kernel"),
    "max_eigenvalue": ("λₘₐₓ(K)", "upper bound on the largest eigenvalue of the tangent kernel"),
    "smoothness": ("M", "smoothness of the loss"),
    "pl_constant": ("α", "Polyak-Lojasiewicz constant of the loss"),
    "slope_bound": ("β₁", "bound on the activation's slope"),
    "curvature_bound": ("β₂", "bound on the activation's second derivative"),
    "step_size": ("η", "step size"),
    "step_fraction": ("q", "share of the descent a step of this size keeps"),
    "objective_smoothness": ("L_φ", "smoothness of the objective on the ball"),
    "ball": ("R", "radius of the ball on which the hypotheses are used"),
    "level": ("ρ", "what Ψ must exceed"),
    "radius": ("s*", "bound on the length of gradient descent's whole path"),
    "sigma_end": ("σ_*", "root of the smallest eigenvalue at the end of the path, at least"),
    "rate": ("1 − 2ηqασ_*²", "factor by which the excess shrinks at least, per step"),
    "margin": ("max Ψ / ρ", "certified if above 1"),
    "modulus_at_ball": ("ω(R)", "bound on the change of the Jacobian on the ball"),
    "lipschitz_on_ball": ("L", "Lipschitz constant of the Jacobian on the ball"),
    "existence_radius": ("s_K", "a global minimiser exists within this distance"),
    "distance_lower_bound": ("d′", "no global minimiser is closer"),
    "limit_distance": ("d", "gradient descent ends no farther than this"),
    "distance_ratio": ("d / d′", "times the closest global minimiser's distance, at most"),
    "kernel_drift": ("|Kₜ − K₀|", "bound on the kernel's change at every step"),
    "relative_kernel_drift": ("|Kₜ − K₀| / |K₀|", "the same, relative"),
    "linearisation_distance": ("δ", "bound on the distance to the linearised model's predictions"),
    "linearisation_parameter_distance": ("π", "bound on the distance to its parameters"),
    "displacement": ("D", "gradient descent is never farther from its start than this"),
    "tube_radius": ("max Eₜ", "the path stays as close as this to the linearised run's"),
    "handover": ("T", "the step from which on the rest of the path is bounded at once"),
    "deviation": ("δ_T", "exact gradient descent is as close as this to the run in float64"),
    "exponent": ("Σ η|Rₜ|", "rounding grows at most by e to this power along the run"),
    "handover_excess": ("Δ_T", "excess loss where Theorem 1 takes over, at most"),
    "handover_eigenvalue": (
        "λₘᵢₙ(K_T)",
        "smallest eigenvalue of the kernel there, at least",
    ),
    "steps_in_balls": ("T₁", "first steps of the run that were made with more bits than float64"),
    "rate_since": ("T′", "the step from which on the excess shrinks by the rate"),
    "overshoot": ("c", "the envelope is this times Δ₀ rateᵗ"),
    "limit_distance_lower": ("d₋", "gradient descent ends at least as far as this from its start"),
    "failure_probability": ("p", "that the bound on curvature along the run is wrong, at most"),
    "predicted_steps": ("T̂", "steps to where Theorem 1 may take over, by the linearised run"),
    "steps_made": ("t", "steps of the run before it ended"),
    "target_norm": ("ρ_K", "length of the linearised way to the minimum"),
    "newton_kantorovich": ("h", "Newton-Kantorovich number, Lρ / σ₀²"),
}
"""Symbol and meaning of every constant that a certificate can have, by its name."""

CLOSE_TO_ONE = ("rate", "step_fraction")


@dataclass(frozen=True)
class Row:
    """A constant of a certificate, ready to print.

    Attributes:
        name: Its name in ``certificate.json``.
        symbol: Its symbol in the theory.
        meaning: In words.
        value: Four significant digits.
        exact: All digits.
        kind: How it was obtained.
        source: Where it comes from.
    """

    name: str
    symbol: str
    meaning: str
    value: str
    exact: str
    kind: Kind
    source: str


def constants(certificate: Certificate) -> list[Row]:
    """Every constant of a certificate, in its order."""
    return [_row(name, constant) for name, constant in certificate.constants.items()]


def _row(name: str, constant: Constant) -> Row:
    symbol, meaning = MEANINGS.get(name, ("", ""))
    show = formatting.rate if name in CLOSE_TO_ONE else formatting.number
    exact = "no bound" if math.isinf(constant.value) else repr(constant.value)
    shown = show(constant.value)
    return Row(name, symbol, meaning, shown, exact, constant.kind, constant.source)


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
    return rows + [(name.replace("_", " "), about[name]) for name in prints if about.get(name)]


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
