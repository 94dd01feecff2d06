"""A certificate from Theorem P: gradient descent followed along its linearised run."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate, Constant
from overparam.certificate.hypotheses import Hypotheses
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import to_coordinates
from overparam.linearised.path import LinearisedPath, look_along
from overparam.linearised.path_theorem import PathConvergence, descent_follows_path
from overparam.model.mlp import MLP, Params
from overparam.model.observation import Value
from overparam.problem.problem import Problem, plain_network
from overparam.theorems.lazy import jacobian_to_kernel_drift

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
        not first.certified
        and HOPELESS < first.margin < 1  # at 1 the rate of this step rounds to 1 (`stands`)
        and size <= LARGEST
        and problem.loss.name == "squared"
        and first.rigor == "computed"
        and isinstance(problem.model, MLP)
        and isinstance(problem.observation, Value)
        and math.isfinite(first.constants["lipschitz_on_ball"].value)
    )


def certify_along_path(
    problem: Problem,
    params: Params,
    hypotheses: Hypotheses,
    kernel: Float[np.ndarray, "nk nk"],
    first: Certificate,
    step_size: float | None = None,
) -> Certificate:
    """What Theorem P certifies, beside what Theorem 1 said.

    Args:
        problem: The learning problem, with the squared loss.
        params: theta_0.
        hypotheses: Measured there.
        kernel: K(theta_0).
        first: Theorem 1's certificate, for all that does not depend on the theorem.
        step_size: eta, or None to choose it.

    References:
        docs/path.md, Theorem P.
    """
    residual = to_coordinates(problem, problem.residual(params))
    if step_size is None:
        bend = hypotheses.bounds.lipschitz(0.0) * hypotheses.residual
        step_size = 2 * (1 - FRACTION) / (hypotheses.jacobian_norm**2 + bend)
    path = LinearisedPath.of(kernel, residual, step_size)
    found = descent_follows_path(path=path, points=look_along(problem, params, path))
    result = found.converges
    if not result.certified:
        return replace(
            first,
            **{name: getattr(result, name) for name in ("certified", "radius", "rate", "margin")},
            step_size=step_size,
            exists=math.isfinite(first.constants["existence_radius"].value),
            existence_radius=first.constants["existence_radius"].value,
            reason=_failure(path, found),
            remedies={},
            constants=_constants(hypotheses, first, found),
            theorem="P",
        )
    return replace(
        first,
        certified=True,
        exists=True,
        reason=(
            f"within {found.tube:.4g} of the linearised run for {found.handover} steps (Theorem "
            f"P), then max Psi / rho = {result.margin:.4g} > 1: gradient descent with step size "
            f"{result.step_size:.4g} converges within distance {result.radius:.4g}"
        ),
        radius=result.radius,
        existence_radius=min(first.existence_radius, found.limit),
        step_size=result.step_size,
        rate=result.rate,
        margin=result.margin,
        remedies={},
        constants=_constants(hypotheses, first, found),
        theorem="P",
    )


def _failure(path: LinearisedPath, found: PathConvergence) -> str:
    if not path.monotone:
        return (
            f"the step size {path.step_size:.4g} is above 1 / lambda_max(K) = "
            f"{1 / path.eigenvalues[-1]:.4g}, or lambda_min(K) is not positive: Theorem P asks for "
            "a smaller step and a positive kernel"
        )
    return (
        f"the linearised run could be followed for {found.handover} steps only (Theorem P), where "
        f"max Psi / rho = {found.converges.margin:.4g} is not above 1: widen the network"
    )


def _constants(
    hypotheses: Hypotheses, first: Certificate, found: PathConvergence
) -> dict[str, Constant]:
    result, source = found.converges, "docs/path.md, Theorem P"
    drift = jacobian_to_kernel_drift(found.change, hypotheses.jacobian_norm)
    largest = hypotheses.max_eigenvalue.lower
    closest = first.constants["distance_lower_bound"].value
    values: dict[str, tuple[float, str]] = {
        "step_size": (result.step_size, "eta"),
        "step_fraction": (result.step_fraction, "q = 1 - eta L_phi / 2"),
        "objective_smoothness": (result.smoothness, "L_phi in the tube and on the ball behind it"),
        "ball": (result.ball, "the ball's radius behind the path"),
        "level": (result.level, "rho behind the path"),
        "radius": (result.radius, "length of the whole path"),
        "sigma_end": (result.sigma_end, "sigma_*"),
        "rate": (result.rate, "1 - 2 eta q sigma_*^2"),
        "margin": (result.margin, "max Psi / rho behind the path"),
        "modulus_at_ball": (found.change, "|J_t - J_0| at every step"),
        "lipschitz_on_ball": (found.lipschitz, "L in the tube and on the ball behind it"),
        "displacement": (found.displacement, "|theta_t - theta_0| at every step"),
        "limit_distance": (found.limit, "|theta_inf - theta_0|"),
        "distance_ratio": (
            found.limit / closest if closest else math.inf,
            "the same over the closest global minimiser's",
        ),
        "kernel_drift": (drift, "|K_t - K_0| at every step"),
        "relative_kernel_drift": (
            drift / largest if largest > 0 else math.inf,
            "the same over |K_0|",
        ),
        "linearisation_distance": (
            found.predictions,
            "|F(theta_t) - F_lin(theta_t^lin)| at every step",
        ),
        "linearisation_parameter_distance": (
            found.parameters,
            "|theta_t - theta_t^lin| at every step",
        ),
        "tube_radius": (found.tube, "the largest E_t before Theorem 1 takes over"),
        "handover": (float(found.handover), "the step from which on Theorem 1 holds"),
    }
    constants: dict[str, Any] = dict(first.constants)
    constants.pop("newton_kantorovich", None)  # Theorem 1's
    if result.certified:
        text = "h = L rho / sigma^2 behind the path; below 1/2 suffices there"
        values["newton_kantorovich"] = (found.newton_kantorovich, text)
    else:
        del values["modulus_at_ball"]  # nothing is known of it; Theorem 1's stays
    for name, (value, text) in values.items():
        constants[name] = Constant(float(value), hypotheses.rigor, f"{text}; {source}")
    return constants
