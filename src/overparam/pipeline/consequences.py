"""What follows from convergence, on a job's own networks: measured values beside certified ones.

Learning-rate transfer and the bounds around a network of a part of the rows know nothing of the
network that the job trains: they are measured ahead, beside its training.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import jax

from overparam.certificate.certificate import Certificate
from overparam.data import Dataset
from overparam.model.mlp import Params
from overparam.pipeline.generalisation import SoughtBounds, risk_bounds
from overparam.pipeline.prior_training import PriorTraining
from overparam.pipeline.regularisation import Regularisation, measure_regularisation
from overparam.pipeline.side_by_side import beside
from overparam.pipeline.transfer import TransferStudy, study_transfer
from overparam.precision import as_float64
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.risk.bounded_loss import BoundedLoss, ClippedSquared, ZeroOne
from overparam.risk.risk_bound import RiskBound
from overparam.train.laziness import Laziness, measure_laziness

Phase = Callable[[str, Progress], AbstractContextManager[None]]
"""Times and announces a phase of the job."""


@dataclass(frozen=True)
class Consequences:
    """The four consequences of the theory, for one trained network.

    Attributes:
        regularisation: How far it went, and how far it had to go.
        laziness: How lazy the way to it was, by where the way ends: ``descent`` (after the
            optimiser's steps, if it made any) and ``anchor`` (if there is one).
        transfer: Which step at which width; None for a model without hidden layers.
        risks: Bounds on its expected loss.
    """

    regularisation: Regularisation
    laziness: dict[str, Laziness]
    transfer: TransferStudy | None
    risks: tuple[RiskBound, ...]


@dataclass(frozen=True)
class Ahead:
    """What needs no trained network.

    Attributes:
        transfer: As in :class:`Consequences`.
        sought: The bounds on the risk, and
        around_first_part: those of them around a network of a part of the rows.
    """

    transfer: TransferStudy | None
    sought: SoughtBounds
    around_first_part: tuple[RiskBound, ...]


@dataclass(frozen=True)
class Trained:
    """The networks a job made, and what was certified of them.

    Attributes:
        start: theta_0.
        initial: The certificate from there.
        descended: The optimiser's last parameters; None if it made no step.
        linearised: The linearised model's parameters after the same steps, if known.
        anchor: The anchor's parameters, and
        anchored: its certificate; None without one.
    """

    start: Params
    initial: Certificate
    descended: Params | None
    linearised: Params | None
    anchor: Params | None
    anchored: Certificate | None

    @property
    def final(self) -> Params:
        """The network that the job leaves behind."""
        if self.anchor is not None:
            return self.anchor
        return self.start if self.descended is None else self.descended


def look_ahead(
    dataset: Dataset,
    problem: Problem,
    start: Params,
    *,
    confidence: float,
    seed: int,
    phase: Phase,
    progress: Progress,
) -> Ahead:
    """Measure what needs no trained network.

    Args:
        dataset: The data.
        problem: The learning problem.
        start: theta_0.
        confidence: Of each bound on the risk.
        seed: Of all draws.
        phase: Times a part of the work.
        progress: Called as the work advances.

    Returns:
        What is found :class:`Ahead`.

    Raises:
        InputError: The data do not fit what a bound assumes.
    """
    with phase("learning-rate transfer", progress):
        transfer = study_transfer(problem, seed, progress)
    with phase("bounds on the risk", progress):
        sought = SoughtBounds.prepare(
            *(problem, start),
            **_about(dataset),
            confidence=confidence,
            key=jax.random.key(seed),
            progress=progress,
        )
        return Ahead(transfer, sought, tuple(sought.around_first_part()))


def measure_consequences(
    dataset: Dataset,
    problem: Problem,
    networks: Trained,
    ahead: Ahead,
    *,
    seed: int,
    phase: Phase,
    progress: Progress,
) -> Consequences:
    """Measure everything that the theory says follows from convergence.

    Args:
        dataset: The data.
        problem: The learning problem.
        networks: What the job trained.
        ahead: What was measured before.
        seed: Of all draws.
        phase: Times a part of the work.
        progress: Called as the work advances.

    Returns:
        The :class:`Consequences`.
    """

    def of_the_distance(report: Progress) -> Regularisation:
        with phase("implicit regularisation", report):
            return measure_regularisation(
                *(problem, networks.start, networks.final),
                *(networks.initial, networks.anchored),
            )

    def of_the_way(report: Progress) -> dict[str, Laziness]:
        with phase("laziness", report):
            return _laziness(dataset, problem, networks, seed)

    def of_new_data(report: Progress) -> list[RiskBound]:
        with phase("bounds on the risk", report):
            network = as_float64(networks.final)
            sought = replace(ahead.sought, report=report)
            around = sought.around_initialisation(network, dataset.test)
            reference = sought.reference(networks.initial)
            return [*around, *ahead.around_first_part, *reference]

    def of_the_run(report: Progress) -> tuple[Regularisation, dict[str, Laziness]]:
        return beside(rows, of_the_distance, of_the_way, report, "laziness")

    rows = problem.measure.n * problem.outputs
    (regularisation, laziness), risks = beside(
        rows, of_the_run, of_new_data, progress, "bounds on the risk"
    )
    return Consequences(regularisation, laziness, ahead.transfer, tuple(risks))


def bound_risk(
    dataset: Dataset,
    problem: Problem,
    networks: Trained,
    *,
    confidence: float,
    seed: int,
    progress: Progress,
    prior: PriorTraining | None = None,
) -> tuple[RiskBound, ...]:
    """Bounds on the expected loss of the network that a job leaves behind.

    ``prior`` is as for ``risk_bounds``, all else as above.
    """
    found = risk_bounds(
        problem,
        networks.start,
        networks.final,
        test=dataset.test,
        **_about(dataset),
        confidence=confidence,
        certificate=networks.initial,
        prior=prior,
        key=jax.random.key(seed),
        progress=progress,
    )
    return tuple(found)


def _about(dataset: Dataset) -> dict[str, Any]:
    """What bounds on the risk ask about the data."""
    return {
        "sample": dataset.sample,
        "caveats": dataset.fitted_to(dataset.train_rows),
        "loss": _bounded_loss(dataset),
    }


def _bounded_loss(dataset: Dataset) -> BoundedLoss:
    """What the bounds are about: errors of a classifier, clipped squares of a regression."""
    if dataset.coding.kind == "classification":
        return ZeroOne()
    return ClippedSquared(2.0 * dataset.train.outputs)


def _laziness(
    dataset: Dataset, problem: Problem, networks: Trained, seed: int
) -> dict[str, Laziness]:
    """Of the way to where the optimiser stopped, and on to the anchor."""
    test = None if dataset.test is None else dataset.test.x
    ends = {"descent": networks.descended, "anchor": networks.anchor}
    return {
        name: measure_laziness(
            *(problem, networks.start, end),
            linearised=networks.linearised if name == "descent" else None,
            test_x=test,
            key=jax.random.key(seed),
        )
        for name, end in ends.items()
        if end is not None
    }
