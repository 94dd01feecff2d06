"""Why a certificate holds, or does not: codes with values, put into words only to be shown.

A code has a value where the sentence needs one that is not among the certificate's numbers.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from overparam.certificate.constants import Numbers
from overparam.certificate.description import Description
from overparam.certificate.field_types import Count, Extended, Finite

Steps = Annotated[int, Meta(ge=0)]


class Why(Struct, frozen=True, forbid_unknown_fields=True, tag_field="code"):
    """A reason; its class is the code."""

    template: ClassVar[str] = ""

    def words(self, n: Numbers, about: Description) -> str:
        """One sentence, without its full stop.

        Args:
            n: The certificate's numbers.
            about: What it is about.
        """
        return self.template.format(self=self, n=n, about=about)


class Converges(Why, frozen=True, tag="converges"):
    """The condition holds, and gradient descent converges."""

    def words(self, n: Numbers, about: Description) -> str:
        """By which theorem, with which margin, and how far."""
        before, reach = "", n.radius
        if "tube_radius" in n:
            before = (
                f"within {n.tube_radius:.4g} of the linearised run for {n.handover:.0f} steps "
                "(Theorem P), then "
            )
        if "deviation" in n:
            reach = n.limit_distance
            before = (
                f"{n.handover:.0f} steps of gradient descent were made (Theorem C), known up to "
                f"{n.deviation:.2g}; then "
            )
        return (
            f"{before}max Psi / rho = {n.margin:.4g} > 1: gradient descent with step size "
            f"{n.step_size:.4g} converges within distance {reach:.4g}"
        )


class EqualPoints(Why, frozen=True, tag="equal_points"):
    """Two rows of the data are the same point.

    Attributes:
        rows: Their numbers, from 1.
    """

    rows: Annotated[tuple[Count, ...], Meta(min_length=2)]

    def words(self, n: Numbers, about: Description) -> str:
        """Which rows, and what to do."""
        rows = ", ".join(map(str, self.rows))
        return f"lambda_min(K) is 0: rows {rows} are the same point; merge them (Measure.merged)"


class TooFewParameters(Why, frozen=True, tag="too_few_parameters"):
    """There are fewer parameters than values to fit."""

    template: ClassVar[str] = (
        "lambda_min(K) is 0: {about.parameters} parameters cannot fit {about.values} values; widen "
        "the network"
    )


class Singular(Why, frozen=True, tag="singular"):
    """The tangent kernel is not certified to be positive."""

    template: ClassVar[str] = (
        "lambda_min(K) is not certified positive (lower bound {n.min_eigenvalue:.3g}): widen the "
        "network, or remove nearly equal points"
    )


class NoCurvatureBound(Why, frozen=True, tag="no_curvature_bound"):
    """The activation has no bound on its second derivative."""

    template: ClassVar[str] = (
        "the activation {about[activation]} has no bound on its second derivative, which the "
        "modulus of the Jacobian needs: choose a smooth one such as gelu or softplus"
    )


class StepTooLong(Why, frozen=True, tag="step_too_long"):
    """The step size is not below 2 / L_phi."""

    def words(self, n: Numbers, about: Description) -> str:
        """The limit."""
        return (
            f"the step size {n.step_size:.4g} is not below 2 / L_phi = "
            f"{2 / n.objective_smoothness:.4g}: take a smaller one, or none to have it "
            "chosen"
        )


class NoPLConstant(Why, frozen=True, tag="no_pl_constant"):
    """The loss has no PL constant at the excess of the start."""

    template: ClassVar[str] = (
        "the loss {about.loss} has no PL constant at an excess of {n.excess:.4g}, where it may "
        "have other stationary points: train first, then anchor"
    )


class RoundsToOne(Why, frozen=True, tag="rounds_to_one"):
    """The condition holds, and what follows from it is below float64's resolution."""

    template: ClassVar[str] = (
        "the rate 1 - 2 eta q alpha sigma_*^2 rounds to 1, which float64 cannot tell from no "
        "convergence: take a longer step, or remove nearly equal points"
    )


class Short(Why, frozen=True, tag="short"):
    """The condition is missed by a factor."""

    def words(self, n: Numbers, about: Description) -> str:
        """The factor, and what holds without the condition."""
        nearby = ""
        if n.existence_radius < math.inf:
            nearby = f"; yet a global minimiser exists within {n.existence_radius:.4g} (Theorem 1')"
        factor = 1 / n.margin if n.margin else math.inf
        formula = f"max Psi / rho = {n.margin:.4g} is not above 1"
        return f"short by a factor {factor:.4g} ({formula}){nearby}"


class StepTooLongForPath(Why, frozen=True, tag="step_too_long_for_path"):
    """The linearised run is not monotone: Theorem P does not apply.

    Attributes:
        longest: 1 / lambda_max(K).
    """

    longest: Extended

    template: ClassVar[str] = (
        "the step size {n.step_size:.4g} is above 1 / lambda_max(K) = {self.longest:.4g}, or "
        "lambda_min(K) is not positive: Theorem P asks for a smaller step and a positive kernel"
    )


class PathLost(Why, frozen=True, tag="path_lost"):
    """The linearised run could not be followed to where Theorem 1 holds."""

    template: ClassVar[str] = (
        "the linearised run could be followed for {n.handover:.0f} steps only (Theorem P), where "
        "max Psi / rho = {n.margin:.4g} is not above 1: widen the network"
    )


class NothingMoves(Why, frozen=True, tag="nothing_moves"):
    """The Jacobian is zero."""

    template: ClassVar[str] = "no parameter changes the outputs"


class OutOfRange(Why, frozen=True, tag="out_of_range"):
    """Sizes whose fourth powers are no numbers of float64."""

    template: ClassVar[str] = (
        "the sizes of outputs and residual leave the range in which a run's curvature is seen in "
        "float64: rescale the targets, or the model's outputs"
    )


class NoForecast(Why, frozen=True, tag="no_forecast"):
    """The linearised run cannot say how long a run would take."""

    template: ClassVar[str] = (
        "the tangent kernel at the initialisation is singular in float64, so that the linearised "
        "run does not say how long a run would take"
    )


class WouldTake(Why, frozen=True, tag="would_take"):
    """A run to where Theorem 1 holds would take longer than the budget.

    Attributes:
        step_size: With this step.
        seconds: How long, by the linearised run or by how far it came.
        at_least: Whether it is known only that it takes longer than that.
        steps: Of the run, by the linearised one; absent if that does not say.
    """

    step_size: Finite
    seconds: Extended
    at_least: bool
    steps: Steps | UnsetType = UNSET

    @property
    def length(self) -> str:
        """How many steps, and how long here."""
        steps = "" if self.steps is UNSET else f"about {count(self.steps)} steps, "
        return f"{steps}{'more than ' if self.at_least else ''}{duration(self.seconds)} here"

    def words(self, n: Numbers, about: Description) -> str:
        """How long, and what to do."""
        last = "R" if "weight_decay" in n else "S" if "exit_probability" in n else "1"
        return (
            f"gradient descent with step size {self.step_size:.4g} would take {self.length}, to "
            f"the region where Theorem {last} holds: allow it that time with a larger budget, or "
            "anchor trained parameters"
        )


class Diverged(Why, frozen=True, tag="diverged"):
    """The run left the numbers of float64.

    Attributes:
        step: Not before this step.
    """

    step: Steps

    template: ClassVar[str] = (
        "gradient descent diverged after step {self.step}: take a smaller step"
    )


class Lost(Why, frozen=True, tag="lost"):
    """Rounding may have carried the run out of the ball on which it is known.

    Attributes:
        steps: After so many steps.
        deviation: How far from the exact run.
        exponent: Curvature has amplified rounding by e to this power.
    """

    steps: Steps
    deviation: Extended
    exponent: Extended

    template: ClassVar[str] = (
        "after {self.steps} steps rounding may have carried the run {self.deviation:.2g} from the "
        "exact one, too far for its bounds: curvature has amplified it by e^{self.exponent:.0f}"
    )


class Adrift(Why, frozen=True, tag="adrift"):
    """Rounding alone keeps Theorem 1 from taking over."""

    template: ClassVar[str] = (
        "rounding may have carried the run too far from the exact one for Theorem 1 to take over"
    )


class OneMinimum(Why, frozen=True, tag="one_minimum"):
    """Theorem R holds: one minimum in the region, and gradient descent converges to it."""

    def words(self, n: Numbers, about: Description) -> str:
        """What was found, and what was not."""
        before = ""
        if "handover" in n:
            before = (
                f"{n.handover:.0f} steps of gradient descent were made, known up to "
                f"{n.deviation:.2g}; then "
            )
        return (
            f"{before}the residual bends the objective by at most {n.residual_curvature:.4g}, less "
            f"than the weight decay {n.weight_decay:.4g}: gradient descent with step size "
            f"{n.step_size:.4g} converges to the only minimum of a region (Theorem R), within "
            f"distance {n.limit_distance:.4g}; whether a better one exists elsewhere is not known"
        )


class DecayTooWeak(Why, frozen=True, tag="decay_too_weak"):
    """The residual bends the objective by as much as the weight decay does, or more.

    Attributes:
        enough: A weight decay that would do, were the curvature there no larger.
    """

    enough: Extended

    template: ClassVar[str] = (
        "the residual may bend the objective by {n.residual_curvature:.4g}, and weight decay "
        "{n.weight_decay:.4g} is not above that: about {self.enough:.2g} would do (Theorem R), or "
        "a wider network"
    )


class NotAtMinimum(Why, frozen=True, tag="not_at_minimum"):
    """The gradient is too large for a minimum to be found in the ball.

    Attributes:
        needed: What it must not exceed.
    """

    needed: Finite

    template: ClassVar[str] = (
        "the gradient of the objective is {n.gradient_norm:.3g} here, and Theorem R needs "
        "{self.needed:.3g}: train on, or go to the minimum with decayed_minimum"
    )


class BatchesConverge(Why, frozen=True, tag="batches_converge"):
    """Theorem S holds: with mini-batches and a constant step a run converges."""

    def words(self, n: Numbers, about: Description) -> str:
        """With which probability, and how far."""
        before, odds = "", "whatever the order of the batches"
        if "handover" in n:
            before = (
                f"{n['handover']:.0f} steps with given batches were made, known up to "
                f"{n['deviation']:.2g}; then "
            )
        if n["exit_probability"]:
            odds = f"but for runs of probability {n['exit_probability']:.2g}"
        return (
            f"{before}mini-batches with the constant step size {n.step_size:.4g} converge to a "
            f"global minimum within distance {n.limit_distance:.4g}, {odds} (Theorem S)"
        )


class BatchStepTooLong(Why, frozen=True, tag="batch_step_too_long"):
    """The step size is too long for the noise of mini-batches.

    Attributes:
        longest: It must be below this.
    """

    longest: Extended

    template: ClassVar[str] = (
        "the step size {n.step_size:.4g} is not below {self.longest:.4g}, which the noise of these "
        "batches asks for (Theorem S): take a smaller one, larger batches, or none to have it "
        "chosen"
    )


class MayLeave(Why, frozen=True, tag="may_leave"):
    """A run with mini-batches may leave the region where anything is known."""

    template: ClassVar[str] = (
        "a minimum exists within {n.minimum_distance:.4g}, yet too far for Theorem S: mini-batches "
        "may carry a run out of the region where it converges (margin {n.margin:.3g}, not above "
        "1); train on, or widen the network"
    )


Reason = (
    Converges
    | EqualPoints
    | TooFewParameters
    | Singular
    | NoCurvatureBound
    | StepTooLong
    | NoPLConstant
    | RoundsToOne
    | Short
    | StepTooLongForPath
    | PathLost
    | NothingMoves
    | OutOfRange
    | NoForecast
    | WouldTake
    | Diverged
    | Lost
    | Adrift
    | OneMinimum
    | DecayTooWeak
    | NotAtMinimum
    | BatchesConverge
    | BatchStepTooLong
    | MayLeave
)

_SCALES: Mapping[str, float] = {" billion": 1e9, " million": 1e6}
_UNITS: Mapping[str, int] = {"days": 86400, "hours": 3600, "minutes": 60}


def count(steps: int) -> str:
    """A number of steps for people: 700, 85,000, 1.3 million."""
    for word, scale in _SCALES.items():
        if steps >= scale:
            return f"{float(f'{steps / scale:.2g}'):,g}{word}"
    return f"{round(steps, -max(0, len(str(steps)) - 2)):,}"


def duration(seconds: float) -> str:
    """A time for people: 40 seconds, 12 minutes, 5 hours, 3 days."""
    for name, unit in _UNITS.items():
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0.0):.0f} seconds"
