"""What a certificate of Theorem C says, from a run and its hand-over."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from msgspec import UNSET

from overparam.certificate.certificate import (
    MOST_ENDS,
    Certificate,
    Course,
    Remedies,
    with_random_vectors,
)
from overparam.certificate.constants import Numbers, concluded
from overparam.certificate.field_types import replace
from overparam.certificate.hypotheses import Hypotheses
from overparam.certificate.prediction import Prediction
from overparam.certificate.reason import Converges, Reason
from overparam.certificate.trajectory_movement import spared
from overparam.certificate.trajectory_points import Point, distance_of, sigma_at
from overparam.certificate.trajectory_run import Run
from overparam.jacobian.random_curvature import FAILURE
from overparam.numbers import Interval, larger, safe_lower, safe_upper
from overparam.theorems.convergence import Convergence
from overparam.theorems.drift_along_run import Movement

LEAST_PATH = 1e3
"""Times the deviation: with a path behind T that is shorter a later T knows hardly more."""


@dataclass(frozen=True, eq=False)
class Found:
    """A run and where Theorem 1 takes over.

    Attributes:
        run: The run.
        point: thetahat_T.
        deviation: delta_T.
        excess: Delta_T from above.
        tail: Theorem 1 from there on.
        upper: Delta_0, ..., Delta_{T-1} from above.
        lower: The same from below.
        length: Of the path up to T.
        farthest: The largest distance from theta_0 up to T.
        ends: t at the ends of cells, and the largest delta up to there.
        exponent: a_T and the sum of the e_t up to T.
        movement: What kernel and parameters have moved, and the linearised run beside them.
    """

    run: Run
    point: Point
    deviation: float
    excess: float
    tail: Convergence
    upper: Float[np.ndarray, " steps"]
    lower: Float[np.ndarray, " steps"]
    length: float
    farthest: float
    ends: Float[np.ndarray, "ends 2"]
    exponent: float
    movement: Movement

    @property
    def steps(self) -> int:
        """T."""
        return len(self.lower)

    def sharp(self, ratio: float) -> bool:
        """Whether the kernel's change is known from both sides up to this, or cannot be better."""
        moved = self.movement
        known = moved.drift_at_end <= ratio * moved.drift_lower
        return known or not self.tail.radius > LEAST_PATH * self.deviation


def not_certified(
    first: Certificate,
    step_size: float,
    why: Reason | None,
    steps: int,
    predicted: Prediction | None,
) -> Certificate:
    """The certificate of a run that was not made, or did not get there, and why."""
    assert why is not None, "a run ends for a reason"
    numbers = replace(
        first.numbers,
        radius=math.inf,
        rate=1.0,
        margin=min(first.margin, 1.0),
        # Theorem 1 may have bounded these, but of another run.
        kernel_drift=math.inf,
        relative_kernel_drift=math.inf,
        linearisation_distance=math.inf,
        linearisation_parameter_distance=math.inf,
        step_size=step_size,
        steps_made=steps,
        # The run was not lost, but would have taken too long.
        predicted_steps=UNSET if predicted is None else predicted.steps,
    )
    return replace(first, theorem="C", why=why, numbers=numbers, remedies=Remedies())


def certificate_of(hypotheses: Hypotheses, first: Certificate, found: Found) -> Certificate:
    """The certificate that a run which Theorem 1 took over gives.

    Args:
        hypotheses: Measured at theta_0.
        first: Theorem 1's certificate, for all that does not depend on the theorem.
        found: The run.
    """
    granted = first.assumptions
    return replace(
        first,
        theorem="C",
        why=Converges(),
        numbers=_numbers(hypotheses, first, found),
        course=_course(found.ends),
        remedies=Remedies(),
        assumptions=with_random_vectors(granted) if found.run.randomised else granted,
    )


def _course(ends: Float[np.ndarray, "ends 2"]) -> Course:
    """Some of the ends of cells, the last one among them."""
    few = np.linspace(0, len(ends) - 1, min(len(ends), MOST_ENDS)).round().astype(int)
    steps, deviations = ends[few].T.tolist()
    return Course(steps=tuple(map(int, steps)), deviations=tuple(deviations))


MOST_EXPONENT = 700.0
"""Beyond, e to this power is no number."""


def envelope(
    start: float, upper: np.ndarray, lower: np.ndarray, tail: float
) -> tuple[float, int, float]:
    """A rate, the step since when it holds, and the factor on Delta_0 for an envelope of all steps.

    Args:
        start: Delta_0 from above.
        upper: Bounds on Delta_0, ..., Delta_T.
        lower: The same from below, without Delta_T.
        tail: Theorem 1's rate from step T on.
    """
    T = len(lower)
    shrinks = (Interval.exact(upper[1:]) / lower).upper
    whole = float(np.max(shrinks, initial=tail))
    rate, since = (whole, 0) if whole < 1 else (tail, T)
    if not start:
        return rate, since, 1.0
    if since and 0 < upper[T] < start:  # slower than the tail, so as not to fall below the run
        rate = max(rate, min(math.exp(math.log(upper[T] / start) / T), 1 - 1e-15))
    with np.errstate(divide="ignore"):
        excess = np.log(upper / start) - np.arange(T + 1) * math.log(rate)
    worst = float(np.max(excess, initial=0.0))
    if worst >= MOST_EXPONENT:
        return rate, since, math.inf
    least, more = math.exp(worst), 2.0**-50
    while not _covers(least * (1 + more), start, rate, upper):  # logarithms alone do not prove it
        more *= 2
    return rate, since, least * (1 + more)


def _covers(overshoot: float, start: float, rate: float, upper: np.ndarray) -> bool:
    """Whether overshoot start rate^t, rounded down, is at least every bound."""
    value = math.nextafter(overshoot * start, 0.0)
    for bound in upper.tolist():
        if value < bound:
            return False
        value = math.nextafter(value * rate, 0.0)
    return True


def _numbers(hypotheses: Hypotheses, first: Certificate, found: Found) -> Numbers:
    """Theorem 1's numbers with those of Theorem C in their place."""
    tail, point = found.tail, found.point
    rate, since, overshoot = envelope(
        hypotheses.excess, np.append(found.upper, found.excess), found.lower, tail.rate
    )
    exact = Interval.exact
    rest = exact(found.deviation) + tail.radius
    least, most = spared(distance_of(point.params, found.run.start))
    radius = safe_upper(exact(found.length) + tail.radius)
    limit = min(safe_upper(most + rest), radius)
    left = exact(sigma_at(point)) - point.bounds.modulus(found.deviation)
    omega, lipschitz = point.bounds.on_ball(safe_upper(exact(found.deviation) + tail.ball))
    closest = first.numbers.distance_lower_bound
    moved, kernel_norm = found.movement, hypotheses.max_eigenvalue.lower
    relative = safe_upper(exact(moved.drift) / kernel_norm) if kernel_norm > 0 else math.inf
    numbers = replace(first.numbers, **concluded(tail))
    return replace(
        numbers,
        radius=radius,
        rate=rate,
        modulus_at_ball=omega,
        lipschitz_on_ball=lipschitz,
        newton_kantorovich=safe_upper(exact(lipschitz) * tail.level / (left * left)),
        handover=found.steps,
        steps_in_balls=found.run.early,
        deviation=found.deviation,
        exponent=found.exponent,
        failure_probability=FAILURE if found.run.randomised else UNSET,
        handover_excess=found.excess,
        handover_eigenvalue=safe_lower(larger(left, 0.0) * larger(left, 0.0)),
        rate_since=since,
        overshoot=overshoot,
        displacement=max(found.farthest, limit),
        limit_distance=limit,
        limit_distance_lower=max(safe_lower(least - rest), 0.0),
        distance_ratio=safe_upper(exact(limit) / closest) if closest else math.inf,
        kernel_drift=moved.drift,
        kernel_drift_lower=moved.drift_lower,
        relative_kernel_drift=relative,
        linearisation_distance=moved.predictions,
        linearisation_distance_lower=moved.predictions_lower,
        linearisation_parameter_distance=moved.parameters,
        linearisation_parameter_distance_lower=moved.parameters_lower,
    )
