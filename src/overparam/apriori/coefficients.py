"""Every coefficient of training as a function of the widths, before any network is drawn.

With probability at least 1 - delta over the initialisation all of them hold at once, at the widths
given: the norms at theta_0 bound the modulus of the Jacobian (docs/modulus.md), that and lambda_min
are the hypotheses of Theorem 1 (docs/convergence.md), and the consequences follow as they do for a
network that was measured. Nothing is instantiated. A bound on the risk is not among them: built on
s* it could never say anything (docs/apriori.md, Proposition W12).
"""

import math
from dataclasses import dataclass

import numpy as np

from overparam.apriori.conditions import DEFAULT, NODES, Conditions, Step, conditions_at
from overparam.apriori.consequences import consequences
from overparam.apriori.inputs import Knowledge
from overparam.apriori.setting import Setting, build_setting
from overparam.certificate.constants import Constant
from overparam.choices import Kind
from overparam.jacobian.layer_norms import LayerNorms
from overparam.model.mlp import MLP
from overparam.results import brief

SOURCES = {
    "jacobian_norm": "|J(theta_0)|; docs/apriori.md, Corollary",
    "min_eigenvalue": "lambda_min(K(theta_0)); docs/apriori.md, Theorem W3",
    "modulus": "omega at the reference radius; docs/modulus.md, Theorem 2",
    "lipschitz": "L on the ball of the reference radius; docs/modulus.md, Theorem 3",
    "margin": "max Psi / rho, or sigma_0 over the change of J; docs/apriori.md, Theorem W4 or W5",
    "radius": "s*; docs/convergence.md, Theorem 1",
    "sigma_end": "sigma_*; docs/convergence.md, Theorem 1",
    "smoothness": "L_phi on the ball; docs/convergence.md, Theorem 1",
    "step_size": "eta = 2 (1 - q) / L_phi; docs/convergence.md, Theorem 1",
    "rate": "docs/convergence.md, Theorem 1",
    "limit_distance": "|theta_inf - theta_0|; docs/regularisation.md, Theorem 5",
    "distance_ratio": "the same over the closest minimiser's; docs/apriori.md, Theorem W9",
    "kernel_drift": "|K_t - K_0| at every step; docs/lazy.md, Theorem 6; docs/apriori.md, W8",
    "linearisation_distance": "|F - F_lin| at every step; docs/lazy.md, Theorem 7",
}
"""The coefficients, and where each is proved."""


@brief
@dataclass(frozen=True)
class APrioriCoefficients:
    """What holds with probability 1 - delta at given widths.

    Attributes:
        hidden_widths: m_1, ..., m_{D-1}.
        failure_probability: Of all coefficients together: delta over the initialisation, and what
            an assumed lambda_min or the moments of a sample bring along.
        certified: Whether gradient descent converges to a global minimiser.
        reason: One sentence: why it holds or by which factor it fails.
        theorem: Whose numbers these are: W5 (along the linearised run) where it certifies, or W4.
        constants: All coefficients by name, each with its kind and source; infinite (or 1, of the
            rate) where no theorem certifies.
        reference_radius: Where ``modulus`` and ``lipschitz`` are evaluated, the same at all widths.
        base: The bounds on the norms at theta_0.
    """

    hidden_widths: tuple[int, ...]
    failure_probability: float
    certified: bool
    reason: str
    theorem: str
    constants: dict[str, Constant]
    reference_radius: float
    base: LayerNorms

    def __getitem__(self, name: str) -> float:
        """The value of a coefficient."""
        return self.constants[name].value


def a_priori_coefficients(
    data: Knowledge,
    model: MLP,
    loss: object = "squared",
    *,
    residual: float | None = None,
    min_eigenvalue: float | None = None,
    eigenvalue_failure_probability: float = 0.0,
    failure_probability: float = 0.05,
    step_fraction: float = 0.9,
    step_size: float | None = None,
    sample_size: int | None = None,
) -> APrioriCoefficients:
    """Every coefficient at given widths; the model is centred at its initialisation.

    Args:
        data: ``Moments``, ``Norms`` or a ``Measure``.
        model: The network, with one hidden layer or more, as wide as may be, and an activation that
            has a bound on its second derivative.
        loss: An integrand or its name; it needs a PL constant on the sublevel set of the zero
            function, as ``squared`` and ``squared_hinge`` have.
        residual: sqrt(2 Delta_0) of the zero function, sqrt(E|y|^2) for the squared loss; from the
            targets if they are known.
        min_eigenvalue: An assumed value of lambda_min(K(theta_0)), the weights w_i included. None
            computes a lower bound from the points.
        eigenvalue_failure_probability: The probability, over the initialisation, with which the
            assumed ``min_eigenvalue`` is missed: 0 if it is assumed of every draw. It is added.
        failure_probability: delta, over the initialisation, in (0, 1).
        step_fraction: q = 1 - eta L_phi / 2 in (0, 1): near 1 for small steps, from a smaller
            width on.
        step_size: eta > 0; None takes the one that belongs to ``step_fraction``.
        sample_size: n, where only moments are known: what ``min_eigenvalue`` is held against, as
            n k lambda_min is at most the kernel's trace.

    Returns:
        The :class:`APrioriCoefficients`.

    Raises:
        InputError: An argument is unusable, the moments stop too early, contradict each other or do
            not exist, or no kernel of so many points has such a lambda_min.

    References:
        docs/apriori.md.
    """
    setting = build_setting(
        data,
        model,
        loss,
        residual=residual,
        min_eigenvalue=min_eigenvalue,
        eigenvalue_failure_probability=eigenvalue_failure_probability,
        failure_probability=failure_probability,
        sample_size=sample_size,
    )
    return coefficients_at(setting, model.hidden_widths, Step.checked(step_fraction, step_size))


def coefficients_at(
    setting: Setting, hidden_widths: tuple[int, ...], step: Step = DEFAULT
) -> APrioriCoefficients:
    """Every coefficient at given widths; see :func:`a_priori_coefficients`."""
    found = conditions_at(setting, setting.at(hidden_widths), step)
    result = found.result
    at = int(np.searchsorted(NODES, 1.0))
    values = {name: getattr(result, name) for name in ("radius", "sigma_end", "rate")} | {
        "jacobian_norm": found.jacobian_norm,
        **{"min_eigenvalue": found.kernel.min_eigenvalue, "margin": found.margin},
        **{"modulus": found.majorant.modulus[at], "lipschitz": found.lipschitz[at]},
        "smoothness": result.smoothness if result.certified else math.inf,
        "step_size": result.step_size if result.certified else 0.0,
        **consequences(setting, found),
    }
    delta, radius = setting.total_failure_probability, float(found.majorant.radii[at])
    theorem = "W5" if result is not found.at_worst else "W4"
    said = result.certified, _reason(found, delta), theorem, _named(setting, values)
    return APrioriCoefficients(hidden_widths, delta, *said, radius, found.base)


def _reason(found: Conditions, delta: float) -> str:
    sure, result = f"with probability {1 - delta:g} over the initialisation", found.result
    why = f"max Psi / rho = {found.margin:.4g}"
    if result is not found.at_worst:
        why = f"sigma_0 over the change of J near the linearised run = {found.margin:.4g}"
    if result.certified:
        return (
            f"{why} > 1: {sure} gradient descent with step size {result.step_size:.4g} converges "
            f"within distance {result.radius:.4g}"
        )
    if not found.kernel.min_eigenvalue:
        return f"{sure} nothing is known of lambda_min at these widths: they are too small"
    return f"max Psi / rho = {found.margin:.4g} is not above 1 {sure}: the widths are too small"


_WITHOUT_EIGENVALUE = {"jacobian_norm", "modulus", "lipschitz"}
"""Coefficients that do not depend on lambda_min, but for the radius they are evaluated at."""


def _named(setting: Setting, values: dict[str, float]) -> dict[str, Constant]:
    bounds = "assumed" if setting.model.act.bounds_kind == "assumed" else "computed"
    constants = {}
    for name, source in SOURCES.items():
        rests_on = bounds if name in _WITHOUT_EIGENVALUE else setting.eigenvalue_kind
        kind: Kind = "assumed" if "assumed" in (rests_on, bounds) else "computed"
        constants[name] = Constant(float(values[name]), kind, source)
    return constants
