"""A certificate from Theorem P: gradient descent followed along its linearised run."""

import math

import numpy as np
from msgspec import UNSET

from overparam.certificate.certificate import Certificate, Remedies
from overparam.certificate.constants import Numbers, concluded
from overparam.certificate.field_types import replace
from overparam.certificate.hypotheses import Hypotheses
from overparam.certificate.reason import Converges, PathLost, Reason, StepTooLongForPath
from overparam.errors import InputError
from overparam.linearised.path import KernelLooks, LinearisedPath, follow, look_along
from overparam.linearised.path_drift import look_closer
from overparam.model.mlp import MLP
from overparam.model.observation import Value
from overparam.problem.problem import Problem, plain_network
from overparam.theorems.implicit_bias import Limit, distance_ratio
from overparam.theorems.lazy import jacobian_to_kernel_drift
from overparam.theorems.majorant import Majorant
from overparam.theorems.path import PathConvergence

LARGEST = 512
"""The number of values n k up to which Theorem P is tried unasked."""

HOPELESS = 0.02
"""Theorem 1's margin below which it is not: the least with which it has certified is 0.085
(docs/path.md)."""

FRACTION = 0.65
"""q = 1 - eta L_phi / 2 of the step that is chosen, with L_phi at theta_0."""


def check_path(problem: Problem, rigor: str) -> None:
    """Raise unless Theorem P can say something about a problem.

    Raises:
        InputError: The model is no ``MLP`` observed by its values, the loss is not the squared one,
            or the rigor is another than ``computed``.
    """
    plain_network(problem, "Theorem P")
    if rigor != "computed":
        raise InputError(
            f'Theorem P knows no rigor={rigor!r}: leave rigor out, or take theorem="1"'
        )
    if problem.loss.name != "squared":
        raise InputError(
            f"Theorem P is about the squared loss, not {problem.loss.name}: take theorem='1'"
        )


def worth_a_path(problem: Problem, first: Certificate) -> bool:
    """Whether Theorem P is worth its time after Theorem 1 failed."""
    size = problem.measure.n * problem.outputs
    return (
        not first.holds
        and HOPELESS < first.margin < 1  # at 1 the rate of this step rounds to 1 (`stands`)
        and size <= LARGEST
        and problem.loss.name == "squared"
        and first.rigor == "computed"
        and isinstance(problem.model, MLP)
        and isinstance(problem.observation, Value)
        and math.isfinite(first.numbers.lipschitz_on_ball)
    )


def certify_along_path(
    hypotheses: Hypotheses, first: Certificate, step_size: float | None = None
) -> Certificate:
    """What Theorem P certifies, beside what Theorem 1 said.

    Args:
        hypotheses: Measured at theta_0, with the squared loss.
        first: Theorem 1's certificate, for all that does not depend on the theorem.
        step_size: eta, or None to choose it.

    References:
        docs/path.md, Theorem P.
    """
    if step_size is None:
        bend = hypotheses.bounds.lipschitz(0.0) * hypotheses.residual
        step_size = 2 * (1 - FRACTION) / (hypotheses.jacobian_norm**2 + bend)
    path = LinearisedPath(hypotheses.point.modes, step_size)
    looks = KernelLooks(hypotheses.point, path)
    found = follow(path, look_along(looks))
    if found.converges.certified:
        found = look_closer(found, looks)
    numbers = _numbers(hypotheses, first, found)
    if found.converges.certified:
        why: Reason = Converges()
    elif path.monotone:
        why = PathLost()
    else:
        _, largest = path.extremes
        why = StepTooLongForPath(1 / largest if largest > 0 else math.inf)
    return replace(first, theorem="P", why=why, numbers=numbers, remedies=Remedies())


def _numbers(hypotheses: Hypotheses, first: Certificate, found: PathConvergence) -> Numbers:
    """Theorem 1's numbers with those of Theorem P in their place."""
    drift = min(
        jacobian_to_kernel_drift(found.change, hypotheses.jacobian_norm), found.kernel_drift
    )
    largest = hypotheses.max_eigenvalue.lower
    closest = first.numbers.distance_lower_bound
    ratio = distance_ratio(
        majorant=_at(hypotheses, found.limit),
        limit=Limit(found.limit, found.parameters),
        closest=closest,
        unique=True,
    )
    certified = found.converges.certified
    return replace(
        first.numbers,
        **concluded(found.converges),
        modulus_at_ball=found.change if certified else first.numbers.modulus_at_ball,
        lipschitz_on_ball=found.lipschitz,
        # Theorem 1's h is not of this run.
        newton_kantorovich=found.newton_kantorovich if certified else UNSET,
        displacement=found.displacement,
        limit_distance=found.limit,
        distance_ratio=ratio,
        kernel_drift=drift,
        relative_kernel_drift=drift / largest if largest > 0 else math.inf,
        linearisation_distance=found.predictions,
        linearisation_parameter_distance=found.parameters,
        tube_radius=found.tube,
        handover=found.handover,
    )


def _at(hypotheses: Hypotheses, radius: float) -> Majorant:
    """omega at one radius, all that Theorem 5' asks for; nothing where nothing is certified."""
    if not radius < math.inf:
        return Majorant(hypotheses.sigma, np.empty(0), np.empty(0))
    modulus = hypotheses.bounds.modulus(radius)
    return Majorant(hypotheses.sigma, np.array([radius]), np.array([modulus]))
