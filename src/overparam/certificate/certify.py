"""Certificates from a problem and parameters: at initialisation, or anchored at trained ones."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, SupportsFloat, get_args

import numpy as np
from jaxtyping import Float

from overparam.certificate.along_path import certify_along_path, check_path, worth_a_path
from overparam.certificate.certificate import Certificate, Constant, Start, Theorem
from overparam.certificate.description import describe
from overparam.certificate.hypotheses import Hypotheses, Rigor, measure_hypotheses
from overparam.certificate.reason import (
    ESTIMATED,
    newton_kantorovich_text,
    reason_of,
    remedies_of,
)
from overparam.certificate.trajectory import (
    BUDGET,
    certify_by_running,
    check_trajectory,
    or_by_running,
)
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.limits import require_choice
from overparam.memory import require_memory
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.numbers import Interval, Number, safe, safe_lower, safe_upper
from overparam.precision import on_host
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.theorems import conclusions
from overparam.theorems.convergence import Convergence, Existence, choose_step
from overparam.theorems.descent import objective_smoothness
from overparam.theorems.majorant import Majorant
from overparam.threads import threads_by


def _step(step_size: object) -> float | None:
    """A step size as a number of float64, whatever its type was.

    Raises:
        InputError: It is no number.
    """
    if step_size is None:
        return None
    if isinstance(step_size, bool | np.bool_) or not isinstance(step_size, SupportsFloat):
        raise InputError(f"step_size must be positive and finite, not {step_size!r}")
    return float(step_size)


def _largest_matrix(problem: Problem, *_: Any, **__: Any) -> int:
    """Rows of the largest matrix whose eigenvalues are taken: the kernel, or that of a layer."""
    layers = problem.model.widths if isinstance(problem.model, MLP) else ()
    return max(problem.measure.n * problem.outputs, *map(min, pairwise(layers)), 0)


@on_host
@threads_by(_largest_matrix)
@np.errstate(all="ignore")  # whatever the caller's: see measure_hypotheses
def certify(
    problem: Problem,
    params: ParamTree,
    step_size: float | None = None,
    *,
    kernel: Float[np.ndarray, "nk nk"] | None = None,
    progress: Progress | None = None,
    rigor: Rigor = "computed",
    theorem: Theorem | None = None,
    budget: float | int = BUDGET,
    target_norm: bool = True,
) -> Certificate:
    """From initialisation: does gradient descent from ``params`` converge?

    Theorem 1 says so before any training. Where it does not certify, Theorem P may, with far fewer
    units: it follows the linearised run, known in advance, and costs a few dozen kernels. It is
    tried for least squares where it is affordable and not hopeless. Where that fails, too, Theorem
    C makes gradient descent's steps, bounds what rounding has done to them, and hands over to
    Theorem 1; it is tried where the linearised run predicts that the budget suffices.

    Args:
        problem: The learning problem.
        params: The parameters gradient descent starts from.
        step_size: eta > 0; None picks the one that minimises the proved bound on the number of
            steps.
        kernel: K(theta_0) of shape (n k, n k), if it is already at hand (``tangent_kernel``).
        progress: Called while the kernel is computed, and while Theorem C's
            steps are made.
        rigor: ``proved`` bounds every rounding error (docs/proved.md), and computes the kernel
            anew for that; ``computed`` trusts float64; ``estimated`` searches for the modulus of
            J. Of what only a search is known, see :class:`Problem`, ``computed`` is ``estimated``.
        theorem: ``1``, ``P`` or ``C`` to hear that theorem alone; None tries one after the other.
        budget: Seconds that the steps of Theorem C may take; 0 for none at all.
        target_norm: Whether rho_K sharpens the existence radius, for one more Cholesky factor.

    Returns:
        The certificate, in float64, certified or not. Its ``rigor`` is ``proved`` only if every
        number is; if it was asked for and is not, ``reason`` says why.

    Raises:
        InputError: Parameters, step size or memory are unusable, or nothing can be proved with the
            activation or the loss. Kernel or excess leave float64's range. The parameters are being
            traced by jit, grad or vmap. Theorem P or C was asked for where it does not apply.

    References:
        docs/convergence.md, Theorems 1 and 1'; docs/modulus.md, Theorems 2 and 3; docs/path.md;
        docs/trajectory.md.
    """
    step_size = _step(step_size)
    if not (isinstance(budget, int | float) and budget >= 0):
        raise InputError(f"budget must be a number of seconds, 0 or more, not {budget!r}")
    if theorem is not None:
        require_choice("theorem", theorem, get_args(Theorem))
    if theorem == "P":
        check_path(problem, rigor)
    if theorem == "C":
        problem.validate(params)
        check_trajectory(problem, rigor)
    if kernel is None and theorem != "1" and rigor == "computed":
        size = problem.measure.n * problem.outputs
        problem.validate(params)
        require_memory(2 * 8 * size**2, f"the {size} x {size} kernel and its factor")
        kernel = tangent_kernel(problem, params, progress=progress)
    measured: dict[str, Any] = {"kernel": kernel, "progress": progress, "rigor": rigor}
    hypotheses = measure_hypotheses(problem, params, target_norm=target_norm, **measured)
    first = certificate_from(problem, params, hypotheses, "initialisation", step_size)
    if kernel is None or theorem == "1":
        return first
    if theorem == "P" or (theorem is None and worth_a_path(problem, first)):
        along = certify_along_path(problem, params, hypotheses, kernel, first, step_size)
        if along.certified or theorem == "P":
            return along
    given = (problem, params, hypotheses, kernel, first, step_size)
    run = certify_by_running if theorem == "C" else or_by_running
    return run(*given, budget=budget, progress=progress)


@on_host
@threads_by(_largest_matrix)
@np.errstate(all="ignore")  # whatever the caller's: see measure_hypotheses
def anchor(
    problem: Problem,
    params: ParamTree,
    step_size: float | None = None,
    *,
    kernel: Float[np.ndarray, "nk nk"] | None = None,
    progress: Progress | None = None,
    rigor: Rigor = "computed",
    target_norm: bool = True,
) -> Certificate:
    """Theorem 1 at trained parameters, reached by any optimiser.

    The same theorem as :func:`certify`; only the starting point's name differs. Arguments, result
    and errors are those of :func:`certify`.
    """
    measured: dict[str, Any] = {"kernel": kernel, "progress": progress, "rigor": rigor}
    hypotheses = measure_hypotheses(problem, params, target_norm=target_norm, **measured)
    return certificate_from(problem, params, hypotheses, "anchor", _step(step_size))


@np.errstate(all="ignore")
def certificate_from(
    problem: Problem,
    params: ParamTree,
    hypotheses: Hypotheses,
    start: Start,
    step_size: float | None = None,
) -> Certificate:
    """The certificate that measured hypotheses give; cheap.

    Args:
        problem: The learning problem.
        params: theta_0, for its fingerprint.
        hypotheses: Measured at ``params``.
        start: ``initialisation`` or ``anchor``.
        step_size: eta > 0, or None.

    Raises:
        InputError: The step size is not a positive number, or the loss has no usable PL constant.
    """
    if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
        raise InputError(f"step_size must be positive and finite, not {step_size!r}")
    alpha = problem.loss.functional_pl_constant(hypotheses.excess, problem.measure.weights)
    growth = math.sqrt(2 * hypotheses.excess / alpha) if alpha else math.inf
    majorant, lipschitz = hypotheses.grid(growth if math.isfinite(growth) else 0.0)
    premises = _premises(problem, hypotheses, majorant, lipschitz, alpha)
    smooth = objective_smoothness(
        modulus=majorant.modulus,
        lipschitz=lipschitz,
        jacobian_norm=hypotheses.jacobian_norm,
        smoothness=problem.loss.smoothness,
        excess=hypotheses.excess,
    )
    step, ball = choose_step(majorant, smooth, growth, step_size)
    result = conclusions.convergence(premises, step, ball)
    if step_size is None and not result.certified:
        ball = majorant.peak  # not for lack of a step, or by its rounding only
        result = conclusions.convergence(premises, None, ball)
    existence = conclusions.existence(premises)
    closest = conclusions.distance(premises)
    follows = safe(conclusions.consequences(premises, result, closest))
    h = safe_upper(conclusions.newton_kantorovich(premises, result, ball))
    result, existence, distance = safe(result), safe(existence), safe_lower(closest)
    return Certificate(
        certified=result.certified,
        exists=existence.exists or result.certified,
        start=start,
        reason=(ESTIMATED if hypotheses.rigor == "estimated" else "")
        + reason_of(problem, params, hypotheses, result, existence, step_size)
        + (f" (not proved: {hypotheses.downgrade})" if hypotheses.downgrade else ""),
        radius=result.radius,
        existence_radius=min(existence.radius, result.radius),
        step_size=result.step_size,
        rate=result.rate,
        min_eigenvalue=hypotheses.min_eigenvalue.lower,
        residual=hypotheses.residual,
        margin=result.margin,
        remedies=(
            {}
            if result.certified
            else remedies_of(problem, params, hypotheses, result, step_size is None)
        ),
        constants=_constants(problem, hypotheses, result, existence, alpha, distance, h)
        | _following(hypotheses, follows),
        problem=describe(problem, params),
        nodes=tuple(map(float, majorant.radii)),
        rigor=hypotheses.rigor,
        theorem="1",
    )


def _least_excess(problem: Problem, hypotheses: Hypotheses, alpha: float) -> float:
    """Delta_0 from below; of a declared loss it may be known up to a factor M / alpha only."""
    known = problem.loss.constants_kind == "proved"
    return hypotheses.excess_lower * (1.0 if known else alpha / problem.loss.smoothness)


def _premises(
    problem: Problem,
    hypotheses: Hypotheses,
    majorant: Majorant,
    lipschitz: Float[np.ndarray, " nodes"],
    alpha: float,
) -> conclusions.Premises:
    """The hypotheses as numbers that count their rounding, or do not."""
    proved = hypotheses.rigor == "proved"
    number: Callable[[Any], Number] = Interval.exact if proved else lambda value: value
    norm = hypotheses.target_norm
    measured = norm is not None and math.isfinite(norm)
    longest = hypotheses.target_norm_upper
    return conclusions.Premises(
        majorant=Majorant(number(majorant.sigma), number(majorant.radii), number(majorant.modulus)),
        lipschitz=number(lipschitz),
        jacobian_norm=number(hypotheses.jacobian_norm),
        smoothness=number(problem.loss.smoothness),
        pl_constant=number(alpha),
        excess=number(hypotheses.excess),
        least_excess=number(_least_excess(problem, hypotheses, alpha)),
        target_norm=number(longest) if math.isfinite(longest) else None,
        least_target_norm=number(hypotheses.target_norm_lower) if measured else None,
        kernel_norm=number(hypotheses.max_eigenvalue.lower),
        quadratic=problem.loss.quadratic,
        differentiable=bool(np.isfinite(lipschitz[0])),
    )


def _following(hypotheses: Hypotheses, follows: conclusions.Consequences) -> dict[str, Constant]:
    """The consequences as constants; infinite where Theorem 1 is not certified."""
    five, six = "docs/regularisation.md, Theorem 5", "docs/lazy.md, Theorem 6"
    seven = "docs/lazy.md, Theorem 7"
    sources = {
        "displacement": f"|theta_t - theta_0| at every step; {seven}",
        "limit_distance": f"|theta_inf - theta_0|; {five}",
        "distance_ratio": f"the same over the closest global minimiser's; {five}'",
        "kernel_drift": f"|K_t - K_0| at every step; {six}",
        "relative_kernel_drift": f"the same over |K_0|; {six}",
        "linearisation_distance": f"|F(theta_t) - F_lin(theta_t^lin)| at every step; {seven}",
        "linearisation_parameter_distance": f"|theta_t - theta_t^lin| at every step; {seven}",
    }
    return {
        name: Constant(float(getattr(follows, name)), hypotheses.rigor, source)
        for name, source in sources.items()
    }


def _constants(
    problem: Problem,
    hypotheses: Hypotheses,
    result: Convergence,
    existence: Existence,
    alpha: float,
    distance: float,
    h: float,
) -> dict[str, Constant]:
    loss, bounds = problem.loss, hypotheses.bounds
    kind = hypotheses.rigor
    measured = "computed" if kind == "estimated" else kind
    t1 = "docs/convergence.md, Theorem 1"
    declared = "docs/integrands.md" if loss.constants_kind == "proved" else "declared by the user"
    table: dict[str, tuple[float, Any, str]] = {
        "excess": (hypotheses.excess, measured, "phi(theta_0) - f*"),
        "residual": (hypotheses.residual, measured, "sqrt(2 Delta_0)"),
        "min_eigenvalue": (
            *(hypotheses.min_eigenvalue.lower, measured),
            "shifted Cholesky factor of K, lower bound; docs/verified.md",
        ),
        "max_eigenvalue": (
            *(hypotheses.max_eigenvalue.upper, measured),
            "|J(theta_0)|^2, upper bound; docs/verified.md",
        ),
        "smoothness": (loss.smoothness, loss.constants_kind, f"M of {loss.spelling}; {declared}"),
        "pl_constant": (
            *(alpha, loss.constants_kind),
            f"alpha of {loss.spelling} on the sublevel set of the excess; {declared}",
        ),
        "step_size": (result.step_size, kind, t1),
        "step_fraction": (result.step_fraction, kind, f"q = 1 - eta L_phi / 2; {t1}"),
        "objective_smoothness": (result.smoothness, kind, f"L_phi on the ball; {t1}"),
        "ball": (result.ball, kind, f"R; {t1}"),
        "level": (result.level, kind, f"rho; {t1}"),
        "radius": (result.radius, kind, f"s*; {t1}"),
        "sigma_end": (result.sigma_end, kind, f"sigma_*; {t1}"),
        "rate": (result.rate, kind, t1),
        "margin": (result.margin, kind, f"max Psi / rho; {t1}"),
        "modulus_at_ball": (bounds.modulus(result.ball), bounds.kind, bounds.source),
        "lipschitz_on_ball": (bounds.lipschitz(result.ball), bounds.kind, bounds.source),
        "existence_radius": (
            *(existence.radius, kind),
            "s_K; docs/convergence.md, Theorem 1'",
        ),
        "distance_lower_bound": (
            *(distance, kind),
            "no global minimiser is closer; docs/convergence.md, Theorem 4",
        ),
    }
    if isinstance(problem.model, MLP):
        act = problem.model.act
        source = f"of {act.name}; docs/activations.md"
        table["slope_bound"] = (act.slope_bound, act.bounds_kind, f"beta_1 {source}")
        if act.curvature_bound is not None:
            table["curvature_bound"] = (act.curvature_bound, act.bounds_kind, f"beta_2 {source}")
    if hypotheses.target_norm is not None:
        source = "rho_K = sqrt(r^T K^-1 r); docs/convergence.md, Theorem 1'"
        table["target_norm"] = (hypotheses.target_norm, measured, source)
    if hypotheses.sigma:
        table["newton_kantorovich"] = (h, kind, newton_kantorovich_text(h, result))
    return {
        name: Constant(float(value), how, source) for name, (value, how, source) in table.items()
    }
