"""The certificate's numbers against what the data and parameters give.

A ``proved`` number must not be stronger than the re-derived one at all. A ``computed`` number comes
from float64 without an error bound, and may deviate by what float64 arithmetic explains
(:func:`tolerance`). No number may be weaker than re-derived by more than ``WEAKER``: it would not
be what the theorem gives.

Later numbers are derived from earlier ones as *verified*: from the stored value where it is on the
safe side, else from the re-derived one. So every accepted number follows rigorously, up to its
tolerance, and an error in one does not excuse another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from flint import arb, ctx

from overparam.numbers import over, smaller
from overparam.theorems import conclusions
from overparam.theorems.conclusions import Premises
from overparam.theorems.convergence import Convergence
from overparam.theorems.distance import Dual
from overparam.theorems.implicit_bias import Limit
from overparam.theorems.majorant import Majorant
from overparam.verification.claim import Claim
from overparam.verification.measured_kernel import MeasuredKernel

RELATIVE = 1e-6
WEAKER = 0.05
ZERO = 1e-150
"""What rounding upwards may make of an exact zero: roots of the least float64."""
_UNIT, _NARROW = 2.0**-53, 2.0**-40
_WIDE_IF_PROVED = ("excess", "residual", "target_norm", "distance_lower_bound")
"""Proved in float64, these include a bound on the residual's rounding, which may dwarf it."""


@dataclass(frozen=True)
class Tolerance:
    """Relative tolerances for ``computed`` numbers.

    Attributes:
        plain: For what does not involve the residual.
        residual: For what is proportional to the residual's norm.
        target_norm: For what is proportional to rho_K.
    """

    plain: float
    residual: float
    target_norm: float


def tolerance(claim: Claim, measured: MeasuredKernel) -> Tolerance:
    """What float64 arithmetic explains.

    ``RELATIVE``, plus the relative error that rounding leaves in lambda_min, order times u times
    lambda_max / lambda_min. A residual carries noise of norm 16 D u times the size of the terms
    summed up in it; relative to the residual it adds to the second tolerance, and relative to
    sigma_0 rho_K to the third, since K^-1/2 may amplify it by 1 / sigma_0. Each addition is at most
    1/2.
    """
    order = claim.problem["points"] * claim.problem["outputs"]
    noise = 16 * measured.layers * _UNIT * measured.terms
    residual = float((2 * measured.excess).sqrt().abs_upper())
    # sqrt(2 Delta) changes by at most sqrt(M) times what the values change by.
    noise *= max(1.0, math.sqrt(float(measured.loss.smoothness())))
    in_residual = _ratio(noise, residual)
    if not measured.min_eigenvalue > 0 or measured.target_norm is None:
        return Tolerance(RELATIVE, RELATIVE + in_residual, RELATIVE + in_residual)
    smallest, largest = float(measured.min_eigenvalue), float(measured.max_eigenvalue)
    plain = RELATIVE + _ratio(order * _UNIT * largest, smallest)
    amplified = _ratio(noise, math.sqrt(smallest) * float(measured.target_norm.abs_upper()))
    return Tolerance(plain, plain + in_residual, plain + max(in_residual, amplified))


def too_few_bits(claim: Claim, measured: MeasuredKernel) -> bool:
    """Whether the balls are wider than what float64 tells apart: then true claims fail, too."""
    excess, smallest = (abs(claim.number(name)) for name in ("excess", "min_eigenvalue"))
    size = abs(measured.excess.mid()).max(arb(excess))
    spread = arb(smallest).max(_UNIT * arb(claim.number("max_eigenvalue")))
    narrow = measured.excess.rad() <= _NARROW * size and measured.kernel_radius <= _NARROW * spread
    return not narrow


def _ratio(error: float, size: float) -> float:
    return min(error / size, 0.5) if size else 0.5


class Comparison:
    """Collects sentences on stored numbers that are stronger, or far weaker, than derived."""

    def __init__(self, claim: Claim, measured: MeasuredKernel) -> None:
        self.claim = claim
        self.allowed = tolerance(claim, measured)
        self.hint = ""
        if too_few_bits(claim, measured):
            self.hint = (
                f" (at {ctx.prec} bits, which are too few here: take --precision {2 * ctx.prec})"
            )
        self.faults: list[str] = []

    def say(self, text: str) -> None:
        """Collect a sentence, with advice where more bits may change it."""
        self.faults.append(text + self.hint)

    def upper(
        self,
        name: str,
        derived: arb | float,
        *,
        slack: float | None = None,
        far: bool = True,
    ) -> None:
        """A stored upper bound; what is not finite derives no bound.

        Args:
            name: Of the constant.
            derived: The bound that was derived.
            slack: Relative tolerance of ``computed`` numbers.
            far: Whether to refuse a bound that is far weaker than the derived one.
        """
        stored, derived = self.claim.number(name), arb(derived)
        if not derived.is_finite():
            if math.isfinite(stored):
                self._say(name, stored, "no bound is proved")
            return
        if math.isinf(stored):
            self._say(name, stored, f"the data and parameters give {_show(derived)}")
        elif not arb(stored) + self._zero(name) >= derived * (1 - self._slack(name, slack)):
            self._say(name, stored, f"below {_show(derived)}, the least that is proved")
        elif (
            far
            and self._far(name)
            and (arb(stored) * (1 - WEAKER) > derived.abs_upper() * self._room() + ZERO)
        ):
            self._say(name, stored, f"far above {_show(derived)}, which the theorem gives")

    def lower(
        self,
        name: str,
        derived: arb | float,
        *,
        slack: float | None = None,
        far: bool = True,
    ) -> None:
        """A stored lower bound; what is not finite derives infinity. Arguments as above."""
        stored, derived = self.claim.number(name), arb(derived)
        if not derived.is_finite():
            if 0 < stored < math.inf:  # 0 says nothing, and so nothing false
                self._say(name, stored, "the data and parameters give no limit")
            return
        if math.isinf(stored) or not arb(stored) <= derived * (1 + self._slack(name, slack)):
            self._say(name, stored, f"above {_show(derived)}, the most that is proved")
        elif far and self._far(name) and arb(stored) * self._room() < derived * (1 - WEAKER):
            self._say(name, stored, f"far below {_show(derived)}, which the theorem gives")

    def eigenvalue(self, derived: arb) -> None:
        """lambda_min >= 0: a lower bound that may be as weak as float64 makes it."""
        stored = self.claim.number("min_eigenvalue")
        slack = self._slack("min_eigenvalue", None)
        if not arb(stored) <= derived.max(arb(0)) * (1 + slack):
            text = f"above {_show(derived)}, the most that is proved"
            self._say("min_eigenvalue", stored, text)

    def _slack(self, name: str, slack: float | None) -> float:
        if self.claim.kind(name) == "proved":
            return 0.0
        return self.allowed.plain if slack is None else slack

    def _zero(self, name: str) -> float:
        """What float64 cannot tell from zero."""
        return 0.0 if self.claim.kind(name) == "proved" else ZERO

    def _far(self, name: str) -> bool:
        """Whether a much weaker value than derived is a fault; not in the noise of float64."""
        if self.allowed.target_norm >= RELATIVE + 0.5:
            return False
        return self.claim.kind(name) != "proved" or name not in _WIDE_IF_PROVED

    def _room(self) -> float:
        return 1 + self.allowed.target_norm

    def _say(self, name: str, stored: float, what: str) -> None:
        self.say(f"{name} is {stored:.12g}: {what}")


def compare_premises(claim: Claim, measured: MeasuredKernel) -> list[str]:
    """Sentences on the numbers measured at theta_0 that are stronger than they may be."""
    check = Comparison(claim, measured)
    check.eigenvalue(measured.min_eigenvalue)
    check.upper("max_eigenvalue", measured.max_eigenvalue)
    check.upper("excess", measured.excess, slack=check.allowed.residual)
    check.upper("residual", (2 * measured.excess).sqrt(), slack=check.allowed.residual)
    level = arb(claim.number("excess")) / measured.least_weight
    check.lower("pl_constant", measured.loss.pl_constant(level))
    if claim.has("target_norm"):
        _compare_target_norm(check, measured)
    return check.faults


def compare_conclusions(
    claim: Claim, measured: MeasuredKernel, modulus: list[tuple[arb, arb | None]]
) -> list[str]:
    """Sentences on the numbers that do not follow from the premises.

    Args:
        claim: The certificate.
        measured: The hypotheses in balls.
        modulus: (omega, L) at the certificate's nodes.
    """
    check = Comparison(claim, measured)
    premises = verified_premises(claim, measured, modulus)
    ball = claim.ball
    check.upper("modulus_at_ball", premises.majorant.modulus[ball])
    check.upper("lipschitz_on_ball", premises.lipschitz[ball])
    step_size = None if claim.limit else arb(claim.number("step_size"))
    _compare_convergence(check, conclusions.convergence(premises, step_size, ball))
    slack = check.allowed.target_norm
    check.upper("existence_radius", conclusions.existence(premises).radius, slack=slack)
    check.lower("distance_lower_bound", conclusions.distance(premises), slack=slack)
    if not check.faults:
        _compare_consequences(check, premises)
    return check.faults


def compare_existence(
    claim: Claim, measured: MeasuredKernel, modulus: list[tuple[arb, arb | None]]
) -> list[str]:
    """Sentences on what is said of minimisers near theta_0, whatever theorem certifies the rest."""
    check = Comparison(claim, measured)
    premises, slack = verified_premises(claim, measured, modulus), check.allowed.target_norm
    check.upper("existence_radius", conclusions.existence(premises).radius, slack=slack)
    check.lower("distance_lower_bound", conclusions.distance(premises), slack=slack)
    return check.faults


def _compare_target_norm(check: Comparison, measured: MeasuredKernel) -> None:
    """rho_K bounds from both sides, so it must be right from both."""
    stored = check.claim.number("target_norm")
    if math.isinf(stored):
        return
    slack = check.allowed.target_norm
    found = measured.target_norm
    check.upper("target_norm", math.inf if found is None else found, slack=slack)
    if check.claim.kind("target_norm") == "computed" and found is not None:
        check.lower("target_norm", found, slack=slack)


def verified_premises(
    claim: Claim, measured: MeasuredKernel, modulus: list[tuple[arb, arb | None]]
) -> Premises:
    """The hypotheses on the safe side: stored where that is the weaker, else re-derived."""
    smallest = arb(claim.number("min_eigenvalue")).min(measured.min_eigenvalue).max(arb(0))
    excess, stored = measured.excess, arb(claim.number("excess"))
    omega, running = [], arb(0)
    for value, _ in modulus:
        running = running.max(value)
        omega.append(running)
    level = excess.max(stored).upper() / measured.least_weight
    alpha = measured.loss.pl_constant(level).min(arb(claim.number("pl_constant")))
    smoothness = measured.loss.smoothness().max(arb(claim.number("smoothness")))
    largest = measured.max_eigenvalue.max(arb(claim.number("max_eigenvalue"))).upper()
    target_norm = _target_norm(claim, measured)
    return Premises(
        majorant=Majorant(
            smallest.lower().max(arb(0)).sqrt(), _vector(claim.nodes), _vector(omega)
        ),
        lipschitz=_vector([math.inf if value is None else value for _, value in modulus]),
        jacobian_norm=largest.sqrt(),
        smoothness=smoothness.upper(),
        pl_constant=alpha.lower(),
        excess=excess.max(stored).upper(),
        least_excess=excess.min(stored).lower(),
        target_norm=None if target_norm is None else target_norm[1],
        least_target_norm=None if target_norm is None else target_norm[0],
        kernel_norm=measured.kernel_norm,
        quadratic=measured.loss.quadratic,
        unique=measured.loss.unique,
        differentiable=claim.has("curvature_bound") or not claim.bends,
        dual=_dual(claim, measured, omega),
    )


def _dual(claim: Claim, measured: MeasuredKernel, omega: list[arb]) -> Dual | None:
    """The vector that says the most at the certificate's nodes."""
    if measured.duals is None or not claim.has("target_norm"):
        return None
    return measured.duals.best(np.array(claim.nodes), np.array([float(w.upper()) for w in omega]))


def _vector(values: Sequence[arb | float]) -> np.ndarray:
    return np.array([arb(value) for value in values], dtype=object)


def _target_norm(claim: Claim, measured: MeasuredKernel) -> tuple[arb, arb] | None:
    if measured.target_norm is None or not claim.has("target_norm"):
        return None
    stored, found = claim.number("target_norm"), measured.target_norm
    if math.isinf(stored):
        return None
    return found.min(arb(stored)).lower(), found.max(arb(stored)).upper()


def _compare_convergence(check: Comparison, derived: Convergence) -> None:
    claim = check.claim
    if claim.certified and not derived.certified:
        check.say("certified is true, but the condition of Theorem 1 is not proved")
        return
    check.upper("objective_smoothness", derived.smoothness)
    check.lower("step_fraction", derived.step_fraction)
    check.upper("level", derived.level, slack=check.allowed.residual)
    # Where float64 cannot tell the rate from 1, a condition that holds is not claimed.
    margin = derived.margin if claim.certified else smaller(derived.margin, 1.0)
    check.lower("margin", margin, slack=check.allowed.residual)
    if not claim.certified:
        return
    check.upper("radius", derived.radius, slack=check.allowed.residual)
    check.lower("sigma_end", derived.sigma_end)
    rate, slack = arb(claim.number("rate")), check.allowed.plain
    decrease = 1 - derived.rate
    allowed = decrease if claim.kind("rate") == "proved" else decrease * (1 + slack) + 4 * _UNIT
    if not 1 - rate <= allowed:
        check.say(f"rate is {float(rate):.17g}: below {_show(derived.rate)}, the least proved")


_CONSEQUENCES = tuple(field.name for field in fields(conclusions.Conclusions))


def _compare_consequences(check: Comparison, premises: Premises) -> None:
    """Theorems 5 to 7, one after the other: each from stored numbers that have passed."""
    claim, slack = check.claim, check.allowed.target_norm
    if not claim.certified:
        for name in _CONSEQUENCES:
            check.upper(name, math.inf)
        return
    path, step_size = arb(claim.number("radius")), arb(claim.number("step_size"))
    near = conclusions.linearisation(premises, path, step_size)
    check.upper("displacement", near.displacement, slack=slack)
    if check.faults:
        return
    displacement = arb(claim.number("displacement"))
    end = conclusions.limit(premises, path, displacement)
    check.upper("limit_distance", end.distance, slack=slack)
    drift = conclusions.drift(premises, displacement)
    check.upper("kernel_drift", drift)
    check.upper("relative_kernel_drift", over(drift, premises.kernel_norm))
    near = conclusions.apart(premises, path, displacement)
    check.upper("linearisation_distance", near.predictions, slack=slack)
    check.upper("linearisation_parameter_distance", near.parameters, slack=slack)
    if not check.faults:
        stored = Limit(arb(claim.number("limit_distance")), end.kernel_part)
        closest = arb(claim.number("distance_lower_bound"))
        check.upper("distance_ratio", conclusions.ratio(premises, stored, closest))


def _show(ball: arb) -> str:
    """A number for people; of a ball that says nothing, that."""
    if not ball.is_finite():
        return "an unknown number"
    return f"{float(ball.mid()):.12g}"
