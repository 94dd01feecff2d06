"""Theorem 1's claims, held against a run at every recorded step.

The theorem speaks of exact arithmetic. A run in floating point sees its residual with an error that
does not shrink with the residual: data and forward pass are rounded, and so is theta_0 + delta.
:class:`RoundingFloor` models that error before the run, and the claims are widened by exactly what
follows from it. docs/rounding_floor.md derives the model and says what of it is bounded, measured
and assumed.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate
from overparam.errors import TheoremViolatedError
from overparam.model.function import ParamTree, compiled, parameter_norm
from overparam.model.mlp import MLP
from overparam.problem.problem import Problem

UNKNOWN_DEPTH = 16
"""Layers that a function is taken to have."""

SAFETY = 8.0
"""How much larger than measured at theta_0 rounding errors may be later in a run."""

Steps = Float[np.ndarray, "t"]


@dataclass(frozen=True)
class RoundingFloor:
    """How rounding enters a run; see docs/rounding_floor.md for the symbols.

    Attributes:
        unit: u, the unit roundoff of the training dtype.
        forward: Error of a computed residual F - h* in L2(mu).
        start: u |theta_0|, the most that rounding theta_0 + delta moves parameters while |delta| is
            far below |theta_0|.
        jacobian_norm: Bound on |J|.
        relative: Relative error of a recorded root excess or norm.
        backward: Relative error of a computed gradient, beside that of the residual.
    """

    unit: float
    forward: float
    start: float
    jacobian_norm: float
    relative: float
    backward: float

    def residual(self, radius: float) -> float:
        """Error o of the residual seen at parameters within ``radius`` of theta_0.

        Rounding theta_0 + delta errs by at most u |theta_0 + delta|, and by at most |delta| since
        theta_0 itself is representable; updating delta errs by u |delta| more.
        """
        error = min(self.start, radius) + 2 * self.unit * radius
        return self.jacobian_norm * error + self.forward


def rounding_floor(
    problem: Problem, params: ParamTree, dtype: str, jacobian_norm: float
) -> RoundingFloor:
    """Model the rounding floor of training ``problem`` from ``params`` in ``dtype``.

    Args:
        problem: The learning problem.
        params: theta_0.
        dtype: The training dtype.
        jacobian_norm: Upper bound on |J| where the run goes.

    Returns:
        The floor; ``estimated``.

    References:
        docs/rounding_floor.md
    """
    unit = float(np.finfo(dtype).eps) / 2
    longest = max(problem.targets.size, *(np.size(leaf) for leaf in jax.tree.leaves(params)))
    return RoundingFloor(
        unit=unit,
        forward=SAFETY * _forward_error(problem, params, dtype),
        start=unit * parameter_norm(params),
        jacobian_norm=jacobian_norm,
        relative=unit * (16 + float(np.sqrt(longest))),
        backward=SAFETY * unit * _depth(problem),
    )


def _depth(problem: Problem) -> int:
    """Layers that a rounding error passes through; differentiating in the input doubles them."""
    layers = problem.model.layers if isinstance(problem.model, MLP) else UNKNOWN_DEPTH
    return layers * (1 + problem.observation.order)


def _forward_error(problem: Problem, params: ParamTree, dtype: str) -> float:
    """How far the residual in ``dtype`` is from the exact one, in L2(mu), measured at theta_0.

    Parameters, data, offset and targets are rounded as the training loop rounds them. For float64
    the float32 error is scaled by the ratio of the unit roundoffs.
    """
    function, x = problem.function, problem.measure.x
    offset = np.zeros(1) if problem.offset is None else problem.offset

    def narrow(tree: Any) -> Any:
        return jax.tree.map(lambda a: np.asarray(a, np.float32), tree)

    exact_values = np.asarray(problem.predict(params))
    target = np.asarray(problem.loss.nearest_minimiser(exact_values, problem.targets))
    exact = exact_values - target
    with jax.enable_x64(False):
        values = np.asarray(compiled(function)(narrow(params), narrow(x)))
    seen = (values - narrow(offset)) - narrow(target)
    unit, single = (float(np.finfo(name).eps) for name in (dtype, "float32"))
    sizes = np.abs(exact) + np.abs(offset) + np.abs(target)
    # A lucky measurement must not promise more than rounding these three numbers once.
    error = np.maximum(np.abs(seen - exact), single * sizes)
    return unit / single * float(np.sqrt(problem.measure.weights @ np.sum(error**2, axis=1)))


@dataclass(frozen=True)
class Monitor:
    """Holds a certificate's claims against records.

    Args:
        certificate: A certificate that certifies gradient descent from the run's start.
        floor: The run's rounding floor.
    """

    certificate: Certificate
    floor: RoundingFloor

    @property
    def _sigma(self) -> float:
        return self.certificate.numbers.sigma_end

    def residual_slack(self, steps: Steps) -> Steps:
        """What rounding may add to the root excess of an exact run after ``steps`` steps."""
        once = self.floor.residual(self.certificate.radius)
        # Each step contracts the earlier errors: their sum grows like a logarithm.
        errors = (2 + (1 + np.log1p(steps)) / np.e) * once
        stalled = self.floor.unit * self.certificate.radius
        # sqrt(2 Delta) changes by at most sqrt(M) times what the residual changes by.
        root = max(1.0, float(np.sqrt(self._smoothness))) * self._amplification
        return root * (errors + stalled / (self.certificate.step_size * self._sigma))

    @property
    def _amplification(self) -> float:
        """What curvature makes of an error on the way to where Theorem 1 holds (Theorem C)."""
        return float(np.exp(self.certificate.numbers.get("exponent", 0.0)))

    def path_slack(self, steps: Steps) -> Steps:
        """What rounding may add to the path length: at the floor, every step still jitters."""
        once = self.floor.residual(self.certificate.radius)
        jitter = self.certificate.step_size * self.floor.jacobian_norm * self._smoothness * once
        return steps * jitter * self._amplification

    def distance_slack(self, steps: Steps) -> Steps:
        """What rounding may add to the distance: errors that persist displace the limit once."""
        return np.minimum(self.path_slack(steps), 2 * self.residual_slack(steps) / self._sigma)

    @property
    def _smoothness(self) -> float:
        return self.certificate.numbers.smoothness

    def check(self, first_step: int, excess: Steps, path: Steps, distance: Steps) -> None:
        """Check records of consecutive steps, the first of which is step ``first_step``.

        Raises:
            TheoremViolatedError: Envelope, rate or radius is violated; the first step is named.
        """
        certificate, floor = self.certificate, self.floor
        steps = first_step + np.arange(len(excess), dtype=np.float64)
        root = np.sqrt(2 * np.maximum(excess, 0.0))
        envelope = np.sqrt(2 * certificate.envelope(steps))
        tilt = certificate.step_size * floor.jacobian_norm * self._sigma * self._smoothness
        widening = 1 + floor.relative + steps * tilt * floor.backward
        allowed = envelope * widening + self.residual_slack(steps)
        self._claim("root excess", steps, root, allowed, "envelope")
        decay = np.sqrt(certificate.rate) * root[:-1] * (1 + 2 * floor.relative + floor.backward)
        pair = 4 * max(1.0, float(np.sqrt(self._smoothness))) * floor.residual(certificate.radius)
        since = certificate.numbers.get("rate_since", 0.0)
        decay = np.where(steps[:-1] >= since, decay, np.inf)
        self._claim("root excess", steps[1:], root[1:], decay + pair, "rate")
        radius = certificate.radius * (1 + floor.relative + floor.backward)
        self._claim("path length", steps, path, radius + self.path_slack(steps), "radius")
        self._claim("distance", steps, distance, radius + self.distance_slack(steps), "radius")

    def envelope(self, steps: Steps) -> Steps:
        """The proved bound on the excess after some steps."""
        return self.certificate.envelope(steps)

    def _claim(
        self, name: str, steps: np.ndarray, seen: np.ndarray, allowed: np.ndarray, claim: str
    ) -> None:
        broken = np.flatnonzero(~(seen <= allowed))
        if len(broken):
            i = broken[0]
            raise TheoremViolatedError(
                f"step {steps[i]:.0f}: {name} {seen[i]:.9g} exceeds {allowed[i]:.9g}, the "
                f"certified {claim} and the rounding floor: the run does not follow its certificate"
            )


class DecayMonitor(Monitor):
    """Holds what Theorem R claims: the excess over the region's minimum, the path, the distance."""

    def envelope(self, steps: Steps) -> Steps:
        """Above f*: the region's minimum, and what a run may still exceed it by."""
        return self.certificate.numbers["region_minimum"] + self.certificate.envelope(steps)

    def path_slack(self, steps: Steps) -> Steps:
        """What rounding may add: of the gradient, and of what weight decay pulls at."""
        numbers, floor = self.certificate.numbers, self.floor
        of_decay = self.certificate.step_size * numbers["weight_decay"] * numbers["rival_distance"]
        once = 8 * floor.unit * (of_decay + self.certificate.radius)
        return super().path_slack(steps) + steps * once * self._amplification

    def check(self, first_step: int, excess: Steps, path: Steps, distance: Steps) -> None:
        """Check records of consecutive steps, the first of which is step ``first_step``.

        Raises:
            TheoremViolatedError: A claim is violated; the first step is named.
        """
        numbers, floor = self.certificate.numbers, self.floor
        steps = first_step + np.arange(len(excess), dtype=np.float64)
        widening, slack = 1 + floor.relative + floor.backward, self.path_slack(steps)
        # The root of the excess is the norm of residual and displacement, scaled.
        M, decay = self._smoothness, numbers["weight_decay"]
        steep = np.sqrt((M * floor.jacobian_norm**2 + decay) / 2)
        seen = np.sqrt(M / 2) * floor.residual(self.certificate.radius)
        allowed = np.sqrt(self.envelope(steps)) * widening + steep * slack + seen
        self._claim("root excess", steps, np.sqrt(np.maximum(excess, 0.0)), allowed, "envelope")
        radius, displacement = self.certificate.radius * widening, numbers.displacement * widening
        self._claim("path length", steps, path, radius + slack, "radius")
        self._claim("distance", steps, distance, displacement + slack, "radius")
