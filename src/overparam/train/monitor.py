"""Theorem 1's claims, held against a run at every recorded step.

The theorem speaks of exact arithmetic. A run in floating point sees the residual with an error that
does not shrink with the residual: the forward pass rounds, and so does theta_0 + delta. That error
is modelled by :class:`RoundingFloor` from the network and the dtype, before the run, and the claims
are widened by exactly that and nothing else. docs/rounding_floor.md derives the model.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from overparam.errors import TheoremViolatedError
from overparam.model.mlp import Params
from overparam.precision import as_float64, in_float64
from overparam.problem.problem import Problem
from overparam.theory.certificate import Certificate

FORWARD_SAFETY = 8.0
"""How much larger than at theta_0 the forward pass's rounding error may be later in a run."""


@dataclass(frozen=True)
class RoundingFloor:
    """How far a run's recorded numbers may be from those of exact arithmetic.

    Attributes:
        residual: epsilon, an error on |F - h*| in L2(mu) that does not shrink with the residual.
        relative: Relative error of a recorded root excess.
        gradient: Error on the gradient's norm at any step.
    """

    residual: float
    relative: float
    gradient: float

    def root_excess(self, exact: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Largest sqrt(2 Delta) to be recorded where exact arithmetic has at most ``exact``."""
        return exact * (1 + self.relative) + self.residual


def rounding_floor(
    problem: Problem, params: Params, dtype: str, jacobian_norm: float
) -> RoundingFloor:
    """Model the rounding floor of training ``problem`` from ``params`` in ``dtype``.

    Args:
        problem: The learning problem.
        params: theta_0.
        dtype: The training dtype.
        jacobian_norm: Upper bound on |J(theta_0)|.

    Returns:
        The floor; ``estimated``.
    """
    unit = float(np.finfo(dtype).eps) / 2
    forward = _forward_error(problem, params, dtype)
    size = np.sqrt(sum(float(np.vdot(a, a)) for a in jax.tree.leaves(as_float64(params))))
    residual = FORWARD_SAFETY * forward + jacobian_norm * unit * size
    relative = unit * (2 * np.log2(max(problem.targets.size, 2)) + 16)
    smoothness = problem.loss.smoothness
    return RoundingFloor(residual, relative, smoothness * jacobian_norm * residual)


def _forward_error(problem: Problem, params: Params, dtype: str) -> float:
    """|F in dtype - F in more precision| in L2(mu), measured at theta_0.

    For float64 the float32 error is scaled by the ratio of the unit roundoffs.
    """
    model, x = problem.model, problem.measure.x
    single = jax.tree.map(lambda a: np.asarray(a, np.float32), params)
    rounded_up = np.asarray(in_float64(model.apply, single, x.astype(np.float32)))
    with jax.enable_x64(False):
        low = np.asarray(jax.jit(model.apply)(single, x.astype(np.float32)), dtype=np.float64)
    ratio = float(np.finfo(dtype).eps / np.finfo(np.float32).eps)
    squares = np.sum((low - rounded_up) ** 2, axis=1)
    floor = np.finfo(np.float32).eps * float(np.sqrt(np.mean(rounded_up**2)))
    return ratio * max(float(np.sqrt(problem.measure.weights @ squares)), floor)


@dataclass(frozen=True)
class Monitor:
    """Holds a certificate's claims against records.

    Args:
        certificate: A certificate that certifies gradient descent from the run's start.
        floor: The run's rounding floor.
    """

    certificate: Certificate
    floor: RoundingFloor

    def check(
        self,
        first_step: int,
        excess: Float[np.ndarray, "t"],
        path: Float[np.ndarray, "t"],
        distance: Float[np.ndarray, "t"],
    ) -> None:
        """Check records of consecutive steps, the first of which is step ``first_step``.

        Raises:
            TheoremViolatedError: Envelope, rate or radius is violated; the first step is named.
        """
        steps = first_step + np.arange(len(excess))
        root = np.sqrt(2 * np.maximum(excess, 0.0))
        envelope = np.sqrt(2 * self.certificate.envelope(steps))
        self._claim("root excess", steps, root, self.floor.root_excess(envelope), "envelope")
        decay = np.sqrt(self.certificate.rate) * root[:-1]
        self._claim("root excess", steps[1:], root[1:], self.floor.root_excess(decay), "rate")
        drift = steps * self.certificate.step_size * self.floor.gradient
        radius = self.certificate.radius * (1 + self.floor.relative) + drift
        self._claim("path length", steps, path, radius, "radius")
        self._claim("distance", steps, distance, radius, "radius")

    def _claim(
        self, name: str, steps: np.ndarray, seen: np.ndarray, allowed: np.ndarray, claim: str
    ) -> None:
        broken = np.flatnonzero(~(seen <= allowed))
        if len(broken):
            i = broken[0]
            raise TheoremViolatedError(
                f"step {steps[i]}: {name} {seen[i]:.9g} exceeds {allowed[i]:.9g}, the certified "
                f"{claim} and the rounding floor: the run does not follow its certificate"
            )
