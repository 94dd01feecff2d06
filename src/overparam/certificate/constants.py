"""Every number of a certificate: one field with its range, symbol, meaning, backing and source.

What else knows the numbers, reads it here: the file's decoder and its JSON Schema, the table on the
page, and docs/glossary.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypedDict, get_type_hints

from msgspec import UNSET, Meta
from msgspec.structs import force_setattr

from overparam.certificate.field_types import (
    Extended,
    Finite,
    MaybeExtended,
    MaybeFinite,
    MaybeSigned,
    Record,
    Signed,
)
from overparam.choices import Kind
from overparam.theorems.conclusions import Conclusions
from overparam.theorems.convergence import Convergence

Theorem = Literal["1", "P", "C", "R", "S"]

Backing = Literal["measured", "concluded", "loss", "activation", "forecast"]
"""What a number's kind follows from: measured at theta_0, concluded by a theorem, closed forms of
the loss or the activation, or a forecast."""

REFERENCES: Mapping[str, str] = {
    "1": "docs/convergence.md, Theorem 1",
    "P": "docs/path.md, Theorem P",
    "C": "docs/trajectory.md, Theorem C",
    "R": "docs/weight_decay.md, Theorem R",
    "S": "docs/stochastic.md, Theorem S",
}


@dataclass(frozen=True)
class Constant:
    """A number and what is known of it.

    Attributes:
        value: The number.
        kind: ``proved`` (a bound, rounding included), ``computed`` (float64, no rounding bound),
            ``estimated`` (sampling, Lanczos) or ``assumed`` (declared by the user).
        source: The statement or procedure it comes from.
        symbol: As the proofs write it.
        meaning: In words.
    """

    value: float
    kind: Kind
    source: str
    symbol: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class About:
    """What the type says of a number, whatever its value.

    Attributes:
        symbol: As the proofs write it.
        meaning: In words.
        section: Of the glossary.
        backing: What its kind follows from.
        sources: The statement it comes from, by the theorem that a certificate rests on.
        under: Symbol and meaning under a theorem that has others.
    """

    symbol: str
    meaning: str
    section: str
    backing: Backing
    sources: Mapping[str, str]
    under: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _measured(symbol: str, meaning: str, source: str) -> Meta:
    return _meta(symbol, meaning, "What is measured at the start", "measured", source)


def _closed(symbol: str, meaning: str, backing: Backing, source: str) -> Meta:
    return _meta(symbol, meaning, "What is proved of loss and activation", backing, source)


def _on_ball(symbol: str, meaning: str) -> Meta:
    return _meta(symbol, meaning, "What is known on a ball", "concluded", None)


def _converges(
    symbol: str, meaning: str, always: str | None = None, **under: tuple[str, str]
) -> Meta:
    return _meta(symbol, meaning, "Convergence", "concluded", always, under=under)


def _follows(symbol: str, meaning: str, one: str = "", always: str | None = None) -> Meta:
    return _meta(symbol, meaning, "What follows", "concluded", always, {"1": one} if one else {})


def _along(symbol: str, meaning: str, backing: Backing = "concluded") -> Meta:
    return _meta(symbol, meaning, "Along a run: Theorems P and C", backing, None)


def _decayed(symbol: str, meaning: str, backing: Backing = "concluded") -> Meta:
    source = "docs/weight_decay.md, Theorem R"
    return _meta(symbol, meaning, "With weight decay: Theorem R", backing, source)


def _in_batches(symbol: str, meaning: str) -> Meta:
    source = "docs/stochastic.md, Theorem S"
    return _meta(symbol, meaning, "With mini-batches: Theorems S and S'", "concluded", source)


def _meta(
    symbol: str,
    meaning: str,
    section: str,
    backing: Backing,
    always: str | None,
    sources: Mapping[str, str] = REFERENCES,
    under: Mapping[str, tuple[str, str]] | None = None,
) -> Meta:
    by_theorem = dict.fromkeys(REFERENCES, always) if always else {**REFERENCES, **sources}
    extra = {"about": About(symbol, meaning, section, backing, by_theorem, under or {})}
    return Meta(title=symbol, description=meaning, extra=extra)


_LOSS, _ACTIVATION = "docs/integrands.md", "docs/activations.md"
_FIVE, _SIX, _SEVEN = (
    "docs/regularisation.md, Theorem 5",
    "docs/lazy.md, Theorem 6",
    "docs/lazy.md, Theorem 7",
)


class Numbers(Record, frozen=True, kw_only=True):
    """Every number that a claim rests on, or that follows from it; infinite is "no bound"."""

    excess: Annotated[
        Finite,
        _measured("Δ₀", "excess loss at the starting point", "docs/convergence.md, Theorem 1"),
    ]
    residual: Annotated[
        Finite,
        _measured("√(2Δ₀)", "size of what is left to fit", "docs/convergence.md, Theorem 1"),
    ]
    min_eigenvalue: Annotated[
        Signed,
        _measured(
            "λₘᵢₙ(K)",
            "lower bound on the smallest eigenvalue of the tangent kernel",
            "docs/enclosures.md",
        ),
    ]
    max_eigenvalue: Annotated[
        Finite,
        _measured(
            "λₘₐₓ(K)",
            "upper bound on the largest eigenvalue of the tangent kernel",
            "docs/enclosures.md",
        ),
    ]
    target_norm: Annotated[
        MaybeExtended,
        _measured(
            "ρ_K",
            "length of the linearised way to the minimum",
            "docs/convergence.md, Theorem 1'",
        ),
    ] = UNSET

    smoothness: Annotated[Finite, _closed("M", "smoothness of the loss", "loss", _LOSS)]
    pl_constant: Annotated[
        Finite, _closed("α", "Polyak-Lojasiewicz constant of the loss", "loss", _LOSS)
    ]
    slope_bound: Annotated[
        MaybeFinite, _closed("β₁", "bound on the activation's slope", "activation", _ACTIVATION)
    ] = UNSET
    curvature_bound: Annotated[
        MaybeFinite,
        _closed("β₂", "bound on the activation's second derivative", "activation", _ACTIVATION),
    ] = UNSET

    ball: Annotated[Finite, _on_ball("R", "radius of the ball on which the hypotheses are used")]
    modulus_at_ball: Annotated[
        Finite, _on_ball("ω(R)", "bound on the change of the Jacobian on the ball")
    ]
    lipschitz_on_ball: Annotated[
        Extended, _on_ball("L", "Lipschitz constant of the Jacobian on the ball")
    ]
    objective_smoothness: Annotated[
        Extended, _on_ball("L_φ", "smoothness of the objective on the ball")
    ]

    step_size: Annotated[Finite, _converges("η", "step size")]
    step_fraction: Annotated[
        Finite,
        _converges("q", "share of the descent a step of this size keeps, 1 − ηL_φ / 2"),
    ]
    level: Annotated[
        Extended,
        _converges("ρ", "what Ψ must exceed", R=("γ", "what (λ − μ) r / 2 must exceed")),
    ]
    margin: Annotated[
        Extended,
        _converges(
            *("max Ψ / ρ", "certified if above 1"),
            R=("(λ − μ)(r − δ) / 2γ", "certified if above 1"),
        ),
    ]
    radius: Annotated[
        Extended, _converges("s*", "bound on the length of gradient descent's whole path")
    ]
    sigma_end: Annotated[
        Finite,
        _converges("σ_*", "root of the smallest eigenvalue at the end of the path, at least"),
    ]
    rate: Annotated[
        Finite,
        _converges(
            *("1 − 2ηqασ_*²", "factor by which the excess shrinks at least, per step"),
            R=("ρ²", "factor by which the excess over the minimum shrinks at least, per step"),
            S=("1 − ηcσ²", "factor by which the excess shrinks at least in the mean, per step"),
        ),
    ]
    newton_kantorovich: Annotated[
        MaybeExtended,
        _converges(
            "h",
            "Newton-Kantorovich number, Lρ / σ₀²; below 1/2 suffices if the ball reaches 2ρ / σ₀",
        ),
    ] = UNSET
    existence_radius: Annotated[
        Extended,
        _converges(
            "s_K",
            "a global minimiser exists within this distance",
            "docs/convergence.md, Theorem 1'",
        ),
    ]

    displacement: Annotated[
        Extended,
        _follows("D", "gradient descent is never farther from its start than this", _SEVEN),
    ]
    limit_distance: Annotated[
        Extended, _follows("d", "gradient descent ends no farther than this", _FIVE)
    ]
    limit_distance_lower: Annotated[
        MaybeFinite,
        _follows("d₋", "gradient descent ends at least as far as this from its start"),
    ] = UNSET
    distance_lower_bound: Annotated[
        Finite,
        _follows("d′", "no global minimiser is closer", always="docs/convergence.md, Theorem 4"),
    ]
    distance_ratio: Annotated[
        Extended,
        _follows("d / d′", "times the closest global minimiser's distance, at most", _FIVE + "'"),
    ]
    kernel_drift: Annotated[
        Extended, _follows("|Kₜ − K₀|", "bound on the kernel's change at every step", _SIX)
    ]
    relative_kernel_drift: Annotated[
        Extended, _follows("|Kₜ − K₀| / |K₀|", "the same, relative", _SIX)
    ]
    kernel_drift_lower: Annotated[
        MaybeFinite, _follows("|K∞ − K₀|", "the kernel has changed at least by this in the end")
    ] = UNSET
    linearisation_distance: Annotated[
        Extended,
        _follows("δ", "bound on the distance to the linearised model's predictions", _SEVEN),
    ]
    linearisation_distance_lower: Annotated[
        MaybeFinite, _follows("δ₋", "predictions are at least as far apart as this at some step")
    ] = UNSET
    linearisation_parameter_distance: Annotated[
        Extended, _follows("π", "bound on the distance to its parameters", _SEVEN)
    ]
    linearisation_parameter_distance_lower: Annotated[
        MaybeFinite, _follows("π₋", "parameters end at least as far apart as this")
    ] = UNSET

    tube_radius: Annotated[
        MaybeFinite,
        _along("max Eₜ", "the path stays as close as this to the linearised run's"),
    ] = UNSET
    handover: Annotated[
        MaybeFinite,
        _along("T", "the step from which on the rest of the path is bounded at once"),
    ] = UNSET
    deviation: Annotated[
        MaybeFinite,
        _along("δ_T", "exact gradient descent is as close as this to the run in float64"),
    ] = UNSET
    exponent: Annotated[
        MaybeFinite,
        _along("Σ η|Rₜ|", "rounding grows at most by e to this power along the run"),
    ] = UNSET
    steps_in_balls: Annotated[
        MaybeFinite,
        _along("T₁", "first steps of the run that were made with more bits than float64"),
    ] = UNSET
    failure_probability: Annotated[
        MaybeFinite,
        _along("p", "that the bound on curvature along the run is wrong, at most"),
    ] = UNSET
    handover_excess: Annotated[
        MaybeFinite, _along("Δ_T", "excess loss where Theorem 1 takes over, at most")
    ] = UNSET
    handover_eigenvalue: Annotated[
        MaybeFinite, _along("λₘᵢₙ(K_T)", "smallest eigenvalue of the kernel there, at least")
    ] = UNSET
    rate_since: Annotated[
        MaybeFinite, _along("T′", "the step from which on the excess shrinks by the rate")
    ] = UNSET
    overshoot: Annotated[MaybeExtended, _along("c", "the envelope is this times Δ₀ rateᵗ")] = UNSET
    predicted_steps: Annotated[
        MaybeFinite,
        _along(
            "T̂",
            "steps to where the rest may be certified at once, by the linearised run",
            "forecast",
        ),
    ] = UNSET
    steps_made: Annotated[MaybeFinite, _along("t", "steps of the run before it ended")] = UNSET

    weight_decay: Annotated[MaybeFinite, _decayed("λ", "weight decay", "measured")] = UNSET
    loss_infimum: Annotated[
        MaybeSigned,
        _decayed("f*", "no parameters at all have a smaller objective than this", "loss"),
    ] = UNSET
    gradient_norm: Annotated[
        MaybeFinite, _decayed("γ", "gradient of the objective where the ball is centred, at most")
    ] = UNSET
    residual_curvature: Annotated[
        MaybeExtended,
        _decayed("μ", "how much the residual bends the objective down on the ball, at most"),
    ] = UNSET
    strong_convexity: Annotated[
        MaybeFinite, _decayed("λ − μ", "strong convexity of the objective on the ball, at least")
    ] = UNSET
    contraction: Annotated[
        MaybeFinite,
        _decayed("ρ", "factor by which the distance to the minimiser shrinks at least, per step"),
    ] = UNSET
    minimum_excess: Annotated[
        MaybeExtended,
        _decayed("E", "the start's objective exceeds the region's minimum by no more than this"),
    ] = UNSET
    region_minimum: Annotated[
        MaybeFinite,
        _decayed("φ(θ_*) − f*", "the region's minimum exceeds the loss's infimum by at most this"),
    ] = UNSET
    rival_distance: Annotated[
        MaybeExtended,
        _decayed(
            "√(2(φ − f*) / λ)", "no better minimum is farther than this from where it decays to"
        ),
    ] = UNSET

    minimum_distance: Annotated[
        MaybeFinite,
        _in_batches(
            "d₀", "a global minimum is no farther than this from where Theorem S is applied"
        ),
    ] = UNSET
    point_norm: Annotated[
        MaybeFinite,
        _in_batches("A", "norm of the Jacobian at each point, as it counts in a batch, at most"),
    ] = UNSET
    batch_smoothness: Annotated[
        MaybeFinite,
        _in_batches(
            "b̄²", "expected smoothness of a batch's loss; of epochs that of every batch, C²"
        ),
    ] = UNSET
    exit_probability: Annotated[
        MaybeFinite, _in_batches("p", "that a run leaves the region where it converges, at most")
    ] = UNSET

    def __post_init__(self) -> None:
        for name in self:  # also what is NumPy's, or a step's number, is kept as a float
            force_setattr(self, name, float(self[name]))


class Drifts(TypedDict):
    """What a run that interpolates moves, and how far it is from the linearised one."""

    distance_ratio: float
    kernel_drift: float
    relative_kernel_drift: float
    linearisation_distance: float
    linearisation_parameter_distance: float


def drifts(found: Conclusions) -> Drifts:
    """Them by the names of a certificate."""
    return Drifts(
        distance_ratio=found.distance_ratio,
        kernel_drift=found.kernel_drift,
        relative_kernel_drift=found.relative_kernel_drift,
        linearisation_distance=found.linearisation_distance,
        linearisation_parameter_distance=found.linearisation_parameter_distance,
    )


NOT_KNOWN = drifts(Conclusions())
"""Where nothing is interpolated."""


class Concluded(TypedDict):
    """The numbers that Theorem 1 gives, wherever it is applied."""

    step_size: float
    step_fraction: float
    ball: float
    level: float
    margin: float
    radius: float
    sigma_end: float
    rate: float
    objective_smoothness: float


def concluded(found: Convergence) -> Concluded:
    """Theorem 1's numbers by the names of a certificate."""
    return Concluded(
        step_size=found.step_size,
        step_fraction=found.step_fraction,
        ball=found.ball,
        level=found.level,
        margin=found.margin,
        radius=found.radius,
        sigma_end=found.sigma_end,
        rate=found.rate,
        objective_smoothness=found.smoothness,
    )


ABOUT: Mapping[str, About] = {
    name: hint.__metadata__[-1].extra["about"]
    for name, hint in get_type_hints(Numbers, include_extras=True).items()
}
"""What the type says of each number, by its name."""
