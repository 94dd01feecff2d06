"""Certificates from a problem and parameters: at initialisation, or anchored at trained ones."""

from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from overparam.certificate.along_path import certify_along_path, check_path, worth_a_path
from overparam.certificate.certificate import Certificate
from overparam.certificate.conclude import certificate_from
from overparam.certificate.constants import Theorem
from overparam.certificate.decayed_run import certify_decayed_run
from overparam.certificate.hypotheses import Rigor, measure_hypotheses
from overparam.certificate.stochastic import check_batches, with_batches
from overparam.certificate.stochastic_run import certify_batch_run
from overparam.certificate.trajectory import (
    BUDGET,
    can_run,
    certify_by_running,
    check_trajectory,
    or_by_running,
)
from overparam.certificate.trajectory_attempt import COARSER
from overparam.certificate.trajectory_points import needs_kernel
from overparam.certificate.weight_decay import anchor_decayed, check_decayed
from overparam.choices import Sampling
from overparam.errors import InputError
from overparam.kernel.empirical.expansion import Expansion
from overparam.limits import require_choice, require_positive, require_seconds
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.precision import on_host
from overparam.problem.batches import Batches, get_batches
from overparam.problem.problem import Problem, require_no_decay
from overparam.progress import Progress
from overparam.randomness import seed_of
from overparam.rounding.float64 import check_excess
from overparam.rounding.probes import where_probed
from overparam.threads import threads_by


def _step(step_size: object) -> float | None:
    return None if step_size is None else require_positive("step_size", step_size)


def _batches(
    problem: Problem, batch_size: object, sampling: Sampling, theorem: object = None
) -> Batches | None:
    """The mini-batches, if any were asked for, of which Theorem S can speak.

    Raises:
        InputError: It cannot, or another theorem was asked for, or Theorem S without batches.
    """
    if batch_size is None:
        if theorem == "S":
            raise InputError("Theorem S is about mini-batches: give batch_size, such as 32")
        return None
    if theorem not in (None, "S"):
        raise InputError(
            f"Theorem {theorem} is about full batches: leave theorem or batch_size out"
        )
    check_batches(problem)
    return get_batches(problem.measure, batch_size, sampling)


def _check_decayed(point: Expansion, rigor: Rigor, theorem: Theorem | None = None) -> None:
    """Raise unless Theorem R can speak, and was not asked for another.

    Raises:
        InputError: It cannot, or was.
    """
    if theorem not in (None, "R"):
        require_no_decay(point.problem, f"Theorem {theorem}")
    check_decayed(point.problem, rigor)
    point.check()
    check_excess(point.problem, point.params)
    if rigor == "proved" or needs_kernel(point.problem):
        point.require_memory()


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
    kernel: Float[np.ndarray, "nk nk"] | Expansion | None = None,
    progress: Progress | None = None,
    rigor: Rigor = "computed",
    theorem: Theorem | None = None,
    budget: float | int = BUDGET,
    batch_size: int | None = None,
    sampling: Sampling = "subsets",
    key: Any = None,
    target_norm: bool = True,
    checkpoint: str | Path | None = None,
) -> Certificate:
    """From initialisation: does gradient descent from ``params`` converge?

    With weight decay it is Theorem R that speaks, see :func:`anchor`, at the end of a run; with a
    batch size Theorem S, before any training or at the end of a run with the batches of a key.

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
        kernel: K(theta_0) of shape (n k, n k), if it is already at hand (``tangent_kernel``), or
            the whole expansion there.
        progress: Called while the kernel is computed, and while Theorem C's
            steps are made.
        rigor: ``proved`` bounds every rounding error (docs/proved.md), and computes the kernel
            anew for that; ``computed`` trusts float64; ``estimated`` searches for the modulus of
            J. Of what only a search is known, see :class:`Problem`, ``computed`` is ``estimated``.
        theorem: ``1``, ``P`` or ``C`` to hear that theorem alone; None tries one after the other.
            With weight decay there is ``R`` alone, with mini-batches ``S``.
        budget: Seconds that the steps of Theorem C may take; 0 for none at all.
        batch_size: b, from 1 to n, to hear Theorem S on mini-batches of so many points; None for
            full batches.
        sampling: How they are drawn: ``subsets``, ``replacement`` or ``epochs``, as in
            ``gradient_descent``.
        key: Of the batches of a run that is made to where Theorem S takes over; None stands for
            ``jax.random.key(0)``. The certificate is about runs that begin with these batches.
        target_norm: Whether rho_K sharpens the existence radius, for one more Cholesky factor.
        checkpoint: An .npz file in which the steps of Theorem C are saved now and then; if it is
            there, they go on from it, to the same bits. None saves nothing; nor are steps of
            mini-batches saved.

    Returns:
        The certificate, in float64, certified or not. Its ``rigor`` is ``proved`` only if every
        number is; if it was asked for and is not, ``reason`` says why.

    Raises:
        InputError: Parameters, step size or memory are unusable, or nothing can be proved with the
            activation or the loss. Kernel or excess leave float64's range. The parameters are being
            traced by jit, grad or vmap. Theorem P, C or R was asked for where it does not apply.
            The checkpoint is damaged, of another run, or cannot be written.

    References:
        docs/convergence.md, Theorems 1 and 1'; docs/modulus.md, Theorems 2 and 3; docs/path.md;
        docs/trajectory.md; docs/weight_decay.md; docs/stochastic.md.
    """
    step_size = _step(step_size)
    budget = require_seconds("budget", budget)
    if theorem is not None:
        require_choice("theorem", theorem, get_args(Theorem))
    batches = _batches(problem, batch_size, sampling, theorem)
    point = kernel
    if not isinstance(point, Expansion):
        point = Expansion(problem, params, point, progress)
    if problem.weight_decay or theorem == "R":
        _check_decayed(point, rigor, theorem)
        return certify_decayed_run(point, step_size, budget=budget, progress=progress, rigor=rigor)
    if theorem == "P":
        check_path(problem, rigor)
    if theorem == "C":
        point.check()
        check_trajectory(problem, rigor)
    hypotheses = measure_hypotheses(point, target_norm=target_norm, rigor=rigor)
    if batches is not None:
        first = certificate_from(hypotheses, "initialisation")
        found = with_batches(hypotheses, first, batches, step_size)
        runs = isinstance(problem.model, MLP) and can_run(problem, rigor)
        if found.certified or not budget or not runs:
            return found
        with where_probed(hypotheses.rigor == "proved"):
            return certify_batch_run(
                *(hypotheses, found, seed_of(key), step_size), budget=budget, progress=progress
            )
    coarser = COARSER if theorem == "C" else 1
    first = certificate_from(hypotheses, "initialisation", step_size, coarser)
    if theorem == "1" or rigor == "estimated":
        return first
    if theorem == "P" or (theorem is None and worth_a_path(problem, first)):
        along = certify_along_path(hypotheses, first, step_size)
        if along.certified or theorem == "P":
            return along
    run = certify_by_running if theorem == "C" else or_by_running
    how: dict[str, Any] = {"budget": budget, "progress": progress, "checkpoint": checkpoint}
    with where_probed(hypotheses.rigor == "proved"):
        return run(hypotheses, first, step_size, **how)


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
    batch_size: int | None = None,
    sampling: Sampling = "subsets",
    target_norm: bool = True,
) -> Certificate:
    """Theorem 1 at trained parameters, reached by any optimiser.

    With weight decay it is Theorem R, with a batch size Theorem S. The same theorem as in
    :func:`certify`; only the starting point's name differs. Arguments, result and errors are those
    of :func:`certify`. With weight decay the parameters have to be near a minimum of the objective,
    where ``decayed_minimum`` leads; of the kernel no eigenvalue is asked, and of the loss no PL
    constant.
    """
    step_size, batches = _step(step_size), _batches(problem, batch_size, sampling)
    point = Expansion(problem, params, kernel, progress)
    if problem.weight_decay:
        _check_decayed(point, rigor)
        return anchor_decayed(point, step_size, rigor)
    hypotheses = measure_hypotheses(point, rigor=rigor, target_norm=target_norm)
    if batches is not None:
        return with_batches(hypotheses, certificate_from(hypotheses, "anchor"), batches, step_size)
    return certificate_from(hypotheses, "anchor", step_size)
