"""What can be checked without data: the numbers and words of a certificate against each other.

Each function yields one sentence per fault. Identities between stored floats are held to 1e-9
(each side is a few float64 operations, outward rounding included); differences from 1 and similar
cancellations get the float64 spacing at 1 on top.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from flint import arb

from overparam.certificate.certificate import ASSUMPTIONS, with_random_vectors
from overparam.verification.activations import ACTIVATIONS
from overparam.verification.claim import Claim
from overparam.verification.losses import loss_of
from overparam.verification.mini_batches import batch_faults

IDENTITY = 1e-9
FAILURE = 1e-12
SPACING = 4.5e-16


def faults(claim: Claim) -> Iterator[str]:
    """Sentences on everything that does not fit together."""
    yield from _assumptions(claim)
    yield from _beside(claim)
    yield from batch_faults(claim) if claim.in_batches else _flags(claim)
    yield from _grid(claim)
    yield from _of_other_theorems(claim)
    yield from _given_constants(claim)
    yield from _identities(claim)
    if not claim.in_batches:
        yield from _remedies(claim)


MODULUS = {"mlp": "docs/modulus.md, Theorems 2 and 3", "function": "docs/composed.md, Theorem D1"}
"""What a network's modulus comes from where its values are observed, by the kind of model."""


def _assumptions(claim: Claim) -> Iterator[str]:
    source = MODULUS[claim.problem["model_kind"]]
    if claim.content["modulus"] != source:
        yield f"the modulus of a network comes from {source}"
    granted = ASSUMPTIONS[claim.content["rigor"]]
    if claim.has("failure_probability"):
        granted = with_random_vectors(granted)
    if tuple(claim.content["assumptions"]) != granted:
        yield "the assumptions are not those of the certificate's rigor"


_OF_A_RUN = {
    *("limit_distance_lower", "handover", "deviation", "exponent", "handover_excess"),
    *("handover_eigenvalue", "rate_since", "overshoot", "kernel_drift_lower"),
    *("linearisation_distance_lower", "linearisation_parameter_distance_lower", "steps_in_balls"),
}
_OF_A_DECAYED_RUN = {
    *("limit_distance_lower", "handover", "deviation", "exponent", "rate_since", "overshoot"),
}
_WITH_WEIGHT_DECAY = {
    *("weight_decay", "loss_infimum", "gradient_norm", "residual_curvature", "strong_convexity"),
    *("contraction", "minimum_excess", "region_minimum", "rival_distance"),
}
_IN_BATCHES = {"minimum_distance", "point_norm", "batch_smoothness", "exit_probability"}
_OF_BATCHES_GIVEN = {
    *("handover", "deviation", "exponent", "rate_since", "overshoot"),
    *("handover_excess", "handover_eigenvalue"),
}
_OF_SOME = (
    _OF_A_RUN
    | _WITH_WEIGHT_DECAY
    | _IN_BATCHES
    | {
        *("failure_probability", "tube_radius", "predicted_steps", "steps_made"),
    }
)


def _of_other_theorems(claim: Claim) -> Iterator[str]:
    """Numbers that nothing here is held against: a certificate has its own theorem's, and all."""
    if claim.decayed != ("weight_decay" in claim.problem):
        yield "weight decay goes with Theorem R, and with no other"
    if claim.decayed and claim.has("target_norm"):
        yield "target_norm is none of this theorem's numbers"
    proved = claim.content["rigor"] == "proved"
    expected = _expected(claim, proved)
    for name in sorted(_OF_SOME):
        if name == "failure_probability" and (claim.by_run or claim.decayed) and not proved:
            continue
        if claim.has(name) != (name in expected):
            fault = "missing" if name in expected else "none of this theorem's numbers"
            yield f"{name} is {fault}"


def _expected(claim: Claim, proved: bool) -> set[str]:
    if claim.decayed:
        run = claim.content["start"] == "initialisation"
        return _WITH_WEIGHT_DECAY | (_OF_A_DECAYED_RUN if run else set())
    if claim.by_run:
        return _OF_A_RUN
    if claim.in_batches:
        if claim.follows_batches:
            return _IN_BATCHES | _OF_BATCHES_GIVEN
        return _IN_BATCHES | ({"overshoot"} if claim.number("excess") else set())
    return set()


def _beside(claim: Claim) -> Iterator[str]:
    """What is no number, and of which every theorem's certificate has to be free."""
    if "not_proved" in claim.content and claim.content["rigor"] != "computed":
        yield "not_proved is stated of a certificate that is"
    yield from _course(claim)
    if "forecast" in claim.content and claim.certified:
        yield "a forecast is stated though the run is certified"


def _course(claim: Claim) -> Iterator[str]:
    if "course" not in claim.content:
        return
    if not (claim.by_run and claim.certified):
        yield "a course is stated though no run was made that certifies"
        return
    steps, deviations = claim.course
    if len(steps) != len(deviations) or steps[0] != 0 or steps[-1] != claim.number("handover"):
        yield "the course does not lead from step 0 to the hand-over"
    if any(b <= a for a, b in pairwise(steps)) or any(b < a for a, b in pairwise(deviations)):
        yield "the course does not increase"
    if deviations[-1] < claim.number("deviation"):
        yield "the course ends below the deviation"


def _flags(claim: Claim) -> Iterator[str]:
    finite = math.isfinite(claim.number("radius"))
    if claim.certified != finite:
        yield "a margin above 1 is not the same as a finite radius"
    if not claim.certified and (claim.number("rate") != 1 or claim.number("sigma_end") != 0):
        yield "a rate or sigma_end is stated though nothing is certified"
    of_theorem_1 = not (claim.by_run or claim.decayed)
    if claim.certified and of_theorem_1 and claim.number("radius") >= claim.number("ball"):
        yield "the radius is not below the ball's"
    chain = [claim.number(name) for name in ("limit_distance", "displacement", "radius")]
    if not (chain[0] <= chain[1] <= chain[2] or claim.decayed):
        yield "limit_distance <= displacement <= radius does not hold"
    if not 0 <= claim.number("step_fraction") <= 1:
        yield "step_fraction is not between 0 and 1"
    if "batches" in claim.content:
        yield "batches are stated of a theorem about all points"
    stated = claim.has("newton_kantorovich")
    if claim.decayed and stated:
        yield "newton_kantorovich is none of Theorem R's numbers"
    elif of_theorem_1 and stated != (claim.number("min_eigenvalue") > 0):
        yield "newton_kantorovich must be stated exactly if min_eigenvalue is positive"


def _grid(claim: Claim) -> Iterator[str]:
    nodes = claim.nodes
    if any(b <= a for a, b in pairwise(nodes)):
        yield "the nodes do not increase"
    of_the_start = not (claim.by_run or claim.follows_batches)
    if of_the_start and claim.number("ball") not in nodes:
        yield "the ball's radius is not one of the nodes"


def _given_constants(claim: Claim) -> Iterator[str]:
    """M, alpha, beta_1, beta_2: known in closed form."""
    loss = loss_of(claim.problem["loss"], int(claim.problem["outputs"]))  # JSON may say 2.0
    yield from _constant(claim, "smoothness", loss.smoothness())
    alpha, most = arb(claim.number("pl_constant")), loss.pl_constant(arb(0))
    none = alpha == 0 and most == 0 and claim.decayed
    if (not 0 < alpha <= most and not none) or (loss.everywhere and alpha < most * (1 - IDENTITY)):
        yield (
            f"pl_constant of {claim.problem['loss']} is {'' if loss.everywhere else 'at most '}"
            f"{float(most):.17g}, not {float(alpha):.17g}"
        )
    name = claim.problem.get("activation")
    if name not in ACTIVATIONS:
        return
    activation = ACTIVATIONS[name]
    yield from _constant(claim, "slope_bound", activation.slope_bound())
    if claim.has("curvature_bound") != (activation.curvature_bound is not None):
        yield f"curvature_bound does not fit the activation {name}"
    elif activation.curvature_bound is not None:
        yield from _constant(claim, "curvature_bound", activation.curvature_bound())


def _constant(claim: Claim, name: str, exact: arb) -> Iterator[str]:
    stored = arb(claim.number(name))
    if not (stored >= exact or exact.overlaps(stored)):
        yield f"{name} is {float(stored):.17g}, below the supremum {float(exact):.17g}"
    elif stored > exact * (1 + IDENTITY):
        yield f"{name} is {float(stored):.17g}, not the supremum {float(exact):.17g}"


def _identities(claim: Claim) -> Iterator[str]:
    """Formulas that tie stored numbers together."""
    if claim.decayed:
        expected = _of_theorem_r(claim)
    elif claim.in_batches:
        c = claim.number
        expected = [("residual", c("residual"), math.sqrt(2 * c("excess")), 0.0, "sqrt(2 excess)")]
    else:
        expected = _of_the_hand_over(claim) if claim.by_run else _of_theorem_1(claim)
    for name, stored, value, slack, formula in expected:
        if not _close(stored, value, slack):
            yield f"{name} is {stored:.12g}, but {formula} is {value:.12g}"


Identity = tuple[str, float, float, float, str]


def _of_the_hand_over(claim: Claim) -> list[Identity]:
    """Formulas of Theorem C: what was rounded upwards on the way gets ten times the tolerance."""
    c, loss = claim.number, loss_of(claim.problem["loss"], int(claim.problem["outputs"]))
    q = max(1 - c("step_size") * c("objective_smoothness") / 2, 0.0)
    h = _times(c("lipschitz_on_ball"), c("level")) / max(c("handover_eigenvalue"), 1e-300)
    closest, limit = c("distance_lower_bound"), c("limit_distance")
    ratio = limit / closest if closest else math.inf
    loose = 10 * IDENTITY
    expected = [
        ("residual", c("residual"), math.sqrt(2 * c("excess")), 0.0, "sqrt(2 excess)"),
        ("step_fraction", c("step_fraction"), q, SPACING, "1 - step_size L_phi / 2"),
        ("newton_kantorovich", c("newton_kantorovich"), h, loose * h, "L rho / sigma^2"),
        ("distance_ratio", c("distance_ratio"), ratio, loose * limit, "the quotient of distances"),
    ]
    if loss.everywhere and q:
        level = math.sqrt(2 * c("handover_excess") / c("pl_constant")) / q
        formula = "sqrt(2 handover_excess / alpha) / q"
        expected.append(("level", c("level"), level, 0.0, formula))
    if claim.has("failure_probability"):
        p = c("failure_probability")
        expected.append(("failure_probability", p, FAILURE, 0.0, "what every certificate has"))
    return expected


def _of_theorem_r(claim: Claim) -> list[Identity]:
    c, decay = claim.number, claim.problem.get("weight_decay", 0.0)
    left = decay - c("residual_curvature")
    q = max(1 - c("step_size") * c("objective_smoothness") / 2, 0.0)
    expected = [
        ("weight_decay", c("weight_decay"), decay, 0.0, "that of the problem"),
        ("residual", c("residual"), math.sqrt(2 * c("excess")), 0.0, "sqrt(2 excess)"),
        ("strong_convexity", c("strong_convexity"), left, SPACING * decay, "lambda - mu"),
        ("level", c("level"), c("gradient_norm"), 0.0, "gradient_norm"),
        ("step_fraction", c("step_fraction"), q, SPACING, "1 - step_size L_phi / 2"),
    ]
    if claim.has("failure_probability"):
        p = c("failure_probability")
        expected.append(("failure_probability", p, FAILURE, 0.0, "what every certificate has"))
    return expected


def _of_theorem_1(claim: Claim) -> list[Identity]:
    c = claim.number
    eta, q, smooth = c("step_size"), c("step_fraction"), c("objective_smoothness")
    rest = 2 * c("smoothness") * c("excess")
    jacobian = math.sqrt(c("max_eigenvalue")) + c("modulus_at_ball")
    bend = c("lipschitz_on_ball") * math.sqrt(rest) if rest else 0.0
    if math.isinf(c("lipschitz_on_ball")):
        bend = math.inf
    expected = [
        ("residual", c("residual"), math.sqrt(2 * c("excess")), 0.0, "sqrt(2 excess)"),
        (
            *("objective_smoothness", smooth, c("smoothness") * jacobian**2 + bend, 0.0),
            "M (|J| + omega(R))^2 + L sqrt(2 M excess)",
        ),
    ]
    if math.isfinite(smooth) and not claim.limit:
        used = max(1 - eta * smooth / 2, 0.0)
        expected.append(("step_fraction", q, used, SPACING, "1 - step_size L_phi / 2"))
    if math.isinf(smooth):
        expected.append(("step_fraction", q, 0.0, 0.0, "0 without a bound on L_phi"))
    level = math.sqrt(2 * c("excess") / c("pl_constant")) / q if q else math.inf
    expected.append(("level", c("level"), level, 0.0, "sqrt(2 excess / alpha) / q"))
    if claim.certified:
        rate = 1 - 2 * eta * q * c("pl_constant") * c("sigma_end") ** 2
        slack = IDENTITY * (1 - rate) + SPACING - IDENTITY * rate
        expected.append(("rate", c("rate"), rate, slack, "1 - 2 eta q alpha sigma_end^2"))
    if claim.has("newton_kantorovich") and c("min_eigenvalue") > 0:
        h = _times(c("lipschitz_on_ball"), c("level")) / c("min_eigenvalue")
        expected.append(("newton_kantorovich", c("newton_kantorovich"), h, 0.0, "L rho / sigma^2"))
    return expected


def _remedies(claim: Claim) -> Iterator[str]:
    remedies, margin = claim.content["remedies"], claim.number("margin")
    possible = 0 < margin < math.inf and claim.number("step_fraction") > 0
    if claim.certified or not possible:
        if remedies:
            yield "remedies are stated where there is nothing to mend, or no way to tell"
        return
    expected = {"residual": claim.number("residual") * margin}
    if claim.bends:
        expected["width"] = float(math.ceil(min(claim.hidden_widths) / margin**2))
    if "output_scale" in remedies and "center_sha256" in claim.problem:
        expected["output_scale"] = claim.problem["output_scale"] / margin * 1.25
    if set(remedies) != set(expected):
        yield f"the remedies are {', '.join(sorted(remedies))}, not {', '.join(sorted(expected))}"
        return
    for name, value in expected.items():
        slack = 1.0 if name == "width" else 0.0
        if remedies[name] is None or not _close(float(remedies[name]), value, slack):
            yield f"the remedy {name} does not follow from the margin"


def _times(a: float, b: float) -> float:
    return 0.0 if a == 0 or b == 0 else a * b


def _close(stored: float, expected: float, slack: float) -> bool:
    if math.isinf(stored) or math.isinf(expected):
        return stored == expected
    return abs(stored - expected) <= IDENTITY * max(abs(stored), abs(expected)) + slack
