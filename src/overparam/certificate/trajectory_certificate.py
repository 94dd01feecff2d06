"""What a certificate of Theorem C says, from a run and its hand-over."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate, Constant
from overparam.certificate.hypotheses import Hypotheses
from overparam.certificate.prediction import Prediction
from overparam.certificate.trajectory_points import Point, sigma_at
from overparam.certificate.trajectory_run import Run
from overparam.jacobian.random_curvature import FAILURE
from overparam.model.function import parameter_distance
from overparam.theorems.convergence import Convergence

ROUNDING = 1 + 1e-9
"""Covers the rounding of sums over a run, and of distances."""

UNKNOWN = (
    *("kernel_drift", "relative_kernel_drift"),
    *("linearisation_distance", "linearisation_parameter_distance"),
)
"""What Theorem C does not bound; Theorem 1 may have, but of another run."""


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

    @property
    def steps(self) -> int:
        """T."""
        return len(self.lower)


def would_take(step_size: float, foreseen: Prediction | None, needed: str) -> str:
    """What a run would have taken, and what to do about it."""
    about = "" if foreseen is None else f"about {count(foreseen.steps)} steps, "
    return (
        f"gradient descent with step size {step_size:.4g} would take {about}{needed} here, to the "
        "region where Theorem 1 holds: allow it that time with a larger budget, or anchor trained "
        "parameters"
    )


def not_certified(
    first: Certificate, step_size: float, why: str, steps: int, predicted: Prediction | None
) -> Certificate:
    """The certificate of a run that was not made, or did not get there, and why."""
    source = "docs/trajectory.md, Theorem C"
    nothing = {"radius": math.inf, "rate": 1.0, "margin": min(first.margin, 1.0)}
    constants = _with_unknown(first) | {
        name: Constant(value, first.constants[name].kind, source)
        for name, value in {**nothing, "step_size": step_size}.items()
    }
    constants["steps_made"] = Constant(float(steps), "computed", f"before it ended; {source}")
    if predicted is not None:  # the run was not lost, but would have taken too long
        text = "by the linearised run, to where Theorem 1 may take over"
        constants["predicted_steps"] = Constant(
            float(predicted.steps), "estimated", f"{text}; {source}"
        )
    return replace(
        first,
        certified=False,
        radius=math.inf,
        rate=1.0,
        margin=min(first.margin, 1.0),
        step_size=step_size,
        exists=math.isfinite(first.constants["existence_radius"].value),
        existence_radius=first.constants["existence_radius"].value,
        reason=why,
        remedies={},
        constants=constants,
        theorem="C",
    )


def certificate_of(hypotheses: Hypotheses, first: Certificate, found: Found) -> Certificate:
    """The certificate that a run which Theorem 1 took over gives.

    Args:
        hypotheses: Measured at theta_0.
        first: Theorem 1's certificate, for all that does not depend on the theorem.
        found: The run.
    """
    tail, steps, step_size = found.tail, found.steps, found.run.step_size
    upper = np.append(found.upper, found.excess)
    rate, since, overshoot = envelope(hypotheses.excess, upper, found.lower, tail.rate)
    gone = parameter_distance(found.point.params, found.run.start)
    radius = (found.length + tail.radius) * ROUNDING
    limit = min((gone + found.deviation + tail.radius) * ROUNDING, radius)
    constants = _constants(
        hypotheses, first, found, (rate, since, overshoot), (radius, limit, gone)
    )
    after = f"{steps} steps of gradient descent were made"
    return replace(
        first,
        certified=True,
        exists=True,
        reason=(
            f"{after} (Theorem C), known up to {found.deviation:.2g}; then max Psi / rho = "
            f"{tail.margin:.4g} > 1: gradient descent with step size {step_size:.4g} converges "
            f"within distance {limit:.4g}"
        ),
        radius=radius,
        existence_radius=min(first.existence_radius, limit),
        step_size=step_size,
        rate=rate,
        margin=tail.margin,
        remedies={},
        constants=constants,
        theorem="C",
    )


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
    with np.errstate(divide="ignore", invalid="ignore"):
        shrinks = upper[1:] / lower
    whole = float(np.max(shrinks, initial=tail)) if np.isfinite(shrinks).all() else math.inf
    rate, since = (whole * (1 + 1e-12), 0) if whole * (1 + 1e-12) < 1 else (tail, T)
    if not start:
        return rate, since, 1.0
    if since and 0 < upper[T] < start:  # slower than the tail, so as not to fall below the run
        rate = max(rate, min(math.exp(math.log(upper[T] / start) / T), 1 - 1e-15))
    with np.errstate(divide="ignore"):
        excess = np.log(upper / start) - np.arange(T + 1) * math.log(rate)
    worst = float(np.max(excess, initial=0.0))
    if worst >= MOST_EXPONENT:
        return rate, since, math.inf
    least, more = math.exp(worst), 1e-9
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


_HOW = {
    "none": "curvature by L",
    "neurons": "curvature neuron by neuron",
    "layers": "curvature by blocks of layers",
}


def _constants(
    hypotheses: Hypotheses,
    first: Certificate,
    found: Found,
    decay: tuple[float, int, float],
    distances: tuple[float, float, float],
) -> dict[str, Constant]:
    tail, point, source = found.tail, found.point, "docs/trajectory.md, Theorem C"
    (rate, since, overshoot), (radius, limit, gone) = decay, distances
    reach = found.deviation + tail.ball
    left = sigma_at(point) - point.bounds.modulus(found.deviation)
    lipschitz = point.bounds.lipschitz(reach)
    closest = first.constants["distance_lower_bound"].value
    how = (
        f"curvature by Hessian-vector products with random vectors, wrong with probability at most "
        f"{FAILURE:g}"
        if found.run.randomised
        else _HOW[found.run.how]
    )
    slack = found.run.slack(found.steps)
    values: dict[str, tuple[float, str]] = {
        "step_size": (tail.step_size, "eta"),
        "step_fraction": (tail.step_fraction, "q = 1 - eta L_phi / 2 where Theorem 1 takes over"),
        "objective_smoothness": (tail.smoothness, "L_phi there"),
        "ball": (tail.ball, "the ball's radius there"),
        "level": (tail.level, "rho there"),
        "radius": (radius, "length of the whole path"),
        "sigma_end": (tail.sigma_end, "sigma_* behind the hand-over"),
        "rate": (rate, f"per step, from step {since} on"),
        "margin": (tail.margin, "max Psi / rho where Theorem 1 takes over"),
        "modulus_at_ball": (point.bounds.modulus(reach), "omega around thetahat_T"),
        "lipschitz_on_ball": (lipschitz, "L around thetahat_T"),
        "newton_kantorovich": (
            lipschitz * tail.level / left**2 * ROUNDING,
            "L rho / sigma^2 there",
        ),
        "handover": (float(found.steps), "T, the step from which on Theorem 1 holds"),
        "deviation": (found.deviation, f"delta_T >= |theta_T - thetahat_T|; {how}"),
        "exponent": (found.run.exponent + slack, f"of the amplification of rounding; {how}"),
        "handover_excess": (found.excess, "Delta_T, from above"),
        "handover_eigenvalue": (
            max(left, 0.0) ** 2 * (2 - ROUNDING),
            "lambda_min(K(theta_T)), from below",
        ),
        "rate_since": (float(since), "the step from which on the excess shrinks by the rate"),
        "overshoot": (overshoot, "envelope(t) is this times Delta_0 rate^t"),
        "displacement": (
            max(found.farthest * ROUNDING, limit),
            "|theta_t - theta_0| at every step",
        ),
        "limit_distance": (limit, "|theta_inf - theta_0|"),
        "limit_distance_lower": (
            max(gone * (2 - ROUNDING) - (found.deviation + tail.radius) * ROUNDING, 0.0),
            "|theta_inf - theta_0| from below",
        ),
        "distance_ratio": (
            limit / closest * ROUNDING if closest else math.inf,
            "the same over the closest global minimiser's",
        ),
    }
    if found.run.proved:
        values["steps_in_balls"] = (
            float(found.run.early),
            "of the T; float64 rounds them too much",
        )
    if found.run.randomised:
        values["failure_probability"] = (FAILURE, "p, of the bound on curvature")
    constants = _with_unknown(first)
    for name, (value, text) in values.items():
        constants[name] = Constant(float(value), hypotheses.rigor, f"{text}; {source}")
    return constants


def _with_unknown(first: Certificate) -> dict[str, Constant]:
    """Theorem 1's constants, but for what it says of its own run."""
    constants = dict(first.constants)
    for name in set(UNKNOWN) & constants.keys():
        constants[name] = replace(constants[name], value=math.inf)
    return constants


def count(steps: int) -> str:
    """A number of steps for people: 700, 85,000, 1.3 million."""
    for scale, word in ((1e9, " billion"), (1e6, " million")):
        if steps >= scale:
            return f"{float(f'{steps / scale:.2g}'):,g}{word}"
    return f"{round(steps, -max(0, len(str(steps)) - 2)):,}"


def duration(seconds: float) -> str:
    """A time for people: 40 seconds, 12 minutes, 5 hours, 3 days."""
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0.0):.0f} seconds"
