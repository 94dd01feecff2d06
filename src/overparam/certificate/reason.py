"""What a certificate says in words: why it holds or does not, and what would close the gap."""

import math

import numpy as np

from overparam.certificate.description import parameter_count
from overparam.certificate.hypotheses import Hypotheses
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.problem.problem import Problem
from overparam.theorems.convergence import Convergence, Existence

ESTIMATED = "estimated, the modulus of J was searched for and not bounded: "
"""How the reason of such a certificate begins."""

ROUNDS_TO_ONE = (
    "the rate 1 - 2 eta q alpha sigma_*^2 rounds to 1, which float64 cannot tell from no "
    "convergence: take a longer step, or remove nearly equal points"
)
"""Where the condition holds and what follows from it is below float64's resolution."""


def reason_of(
    problem: Problem,
    params: ParamTree,
    hypotheses: Hypotheses,
    result: Convergence,
    existence: Existence,
    step_size: float | None,
) -> str:
    """Why gradient descent is certified to converge, or why not and what to do, in a sentence."""
    if result.certified:
        return (
            f"max Psi / rho = {result.margin:.4g} > 1: gradient descent with step size "
            f"{result.step_size:.4g} converges within distance {result.radius:.4g}"
        )
    if hypotheses.sigma == 0:
        return _singular(problem, params, hypotheses)
    model, searched = problem.model, hypotheses.rigor == "estimated"
    act = model.act if isinstance(model, MLP) and model.hidden_widths else None
    if act is not None and act.curvature_bound is None and not searched:
        return (
            f"the activation {act.name} has no bound on its second derivative, which the "
            "modulus of the Jacobian needs: choose a smooth one such as gelu or softplus"
        )
    if result.step_fraction <= 0:
        return (
            f"the step size {result.step_size:.4g} is not below 2 / L_phi = "
            f"{2 / result.smoothness:.4g}: take a smaller one, or none to have it chosen"
        )
    if result.margin == 0 and result.level == math.inf:
        return (
            f"the loss {problem.loss.name} has no PL constant at an excess of "
            f"{hypotheses.excess:.4g}, where it may have other stationary points: train first, "
            "then anchor"
        )
    if result.margin >= 1:
        return ROUNDS_TO_ONE
    nearby = (
        f"; yet a global minimiser exists within {existence.radius:.4g} (Theorem 1')"
        if existence.exists
        else ""
    )
    return (
        f"max Psi / rho = {result.margin:.4g} is not above 1: short by a factor "
        f"{1 / result.margin:.4g}{nearby}"
    )


def newton_kantorovich_text(h: float, result: Convergence) -> str:
    """What the number h says about a result: it is sufficient on a ball that s* stays within."""
    if h < 0.5 and not result.certified:
        return (
            "h = L rho / sigma_0^2 on a ball too small for it: below 1/2 is enough only where the "
            "ball reaches 2 rho / sigma_0"
        )
    return "h = L rho / sigma_0^2; below 1/2 suffices"


def _singular(problem: Problem, params: ParamTree, hypotheses: Hypotheses) -> str:
    groups = problem.measure.duplicates()
    if groups:
        rows = ", ".join(str(int(i) + 1) for i in groups[0])
        return f"lambda_min(K) is 0: rows {rows} are the same point; merge them (Measure.merged)"
    size, count = problem.measure.n * problem.outputs, parameter_count(params)
    if count < size:
        return f"lambda_min(K) is 0: {count} parameters cannot fit {size} values; widen the network"
    return (
        "lambda_min(K) is not certified positive (lower bound "
        f"{hypotheses.min_eigenvalue.lower:.3g}): widen the network, or remove nearly equal points"
    )


def remedies_of(
    problem: Problem,
    params: ParamTree,
    hypotheses: Hypotheses,
    result: Convergence,
    free_step: bool,
) -> dict[str, float]:
    """What alone would close the gap, if everything else stayed or scaled as in the theory."""
    if not 0 < result.margin < math.inf or result.step_fraction <= 0:
        return {}
    factor = 1 / result.margin
    remedies = {"residual": hypotheses.residual / factor}
    model = problem.model
    if not isinstance(model, MLP):
        return remedies
    if free_step and not np.any(problem.predict(params)):
        # K, J and omega scale with c; the residual does not where the model is centred here.
        remedies["output_scale"] = model.output_scale * factor * 1.25
    if model.hidden_widths:
        # omega falls like 1 / sqrt(width), the limiting kernel stays.
        remedies["width"] = math.ceil(min(model.hidden_widths) * factor**2)
    return remedies
