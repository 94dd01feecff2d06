"""Bounds on the risk of a trained network, on a user's data: G1 to G4, G6 and G7 in one table.

Theorems and proofs are in docs/generalisation.md. What needs training happens here: the sample is
split in two, a network is trained on the first part from the same initialisation, and bounds around
it are evaluated on the second part, of which it knows nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from overparam.certificate.certificate import Certificate
from overparam.errors import InputError
from overparam.model.mlp import Params
from overparam.pipeline.bounds_around import FIXED_START, IID, BoundsAround, Centre
from overparam.pipeline.prior_training import PriorTraining, on_data, split_rows, train_prior
from overparam.precision import as_float64
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.progress import Progress, silent
from overparam.randomness import seed_of
from overparam.risk.bounded_loss import BoundedLoss, ClippedSquared, ZeroOne, require_bounded
from overparam.risk.requirements import require_confidence, require_iid, require_sample_size
from overparam.risk.risk_bound import RiskBound

FRACTIONS = (0.0, 0.25, 0.5, 1.0)
"""Where between the first part's network and its continuation the posterior's centre may lie."""


def risk_bounds(
    problem: Problem,
    start: Params,
    trained: Params,
    *,
    test: Measure | None = None,
    sample: Measure | None = None,
    caveats: Sequence[str] = (),
    confidence: float = 0.95,
    loss: object = None,
    certificate: Certificate | None = None,
    prior: PriorTraining | None = None,
    key: Array | None = None,
    fresh: Measure | None = None,
    progress: Progress | None = None,
) -> list[RiskBound]:
    """All bounds on the risk that apply, the yardstick first.

    Args:
        problem: The learning problem; its network may be centred at parameters that do not depend
            on the sample, such as ``start``.
        start: theta_0, independent of the sample.
        trained: The trained parameters.
        test: Rows that took no part in training, for G4; None leaves it out.
        sample: The training rows as drawn (``Dataset.sample``); None means the problem's measure.
        caveats: What was fitted to the sample before training (``Dataset.fitted_to``); it labels
            the bounds evaluated on the sample.
        confidence: Of each bound by itself.
        loss: A ``BoundedLoss``; None means the 0-1 error for targets that code classes, and the
            squared loss clipped at 2 an output for all others.
        certificate: From initialisation; gives rho_K if it has it. Its radius s* is of no use for a
            bound on the risk (docs/apriori.md, Proposition W12).
        prior: How the data-dependent prior is trained.
        key: A JAX key for the split and the Monte Carlo parts; None stands for
            ``jax.random.key(0)``.
        fresh: Rows in no bound at all; each bound's own predictor has its mean loss on them in
            ``details["fresh_risk"]``, to compare the bound with.
        progress: Called as the work advances.

    Returns:
        One :class:`RiskBound` each: G4 (with a test part), G1, G2, G7 and G6, the same around the
        network of the first part, and the reference value G3 if the kernel can be factored.

    Raises:
        InputError: Confidence outside (0, 1), a loss that is not bounded, weights that differ, a
            part of the split that is empty, or a certificate that is not from initialisation.
    """
    sought = SoughtBounds.prepare(
        *(problem, start),
        sample=sample,
        caveats=caveats,
        confidence=confidence,
        loss=loss,
        certificate=certificate,
        prior=prior,
        key=key,
        fresh=fresh,
        progress=progress,
    )
    problem.validate(trained)
    network = as_float64(trained)
    return [
        *sought.around_initialisation(network, test),
        *sought.around_first_part(network),
        *sought.reference(certificate),
    ]


@dataclass(frozen=True)
class SoughtBounds:
    """The bounds in three parts, of which only the first one needs the trained network.

    Attributes:
        job: What all bounds share.
        sample: The training rows as drawn.
        prior: How the data-dependent prior is trained.
        parts: The rows of the first part, and of the second.
        seed: Of the draws.
        report: Called as the work advances.
    """

    job: BoundsAround
    sample: Measure
    prior: PriorTraining
    parts: tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]
    seed: int
    report: Progress

    @classmethod
    def prepare(
        cls,
        problem: Problem,
        start: Params,
        *,
        sample: Measure | None = None,
        caveats: Sequence[str] = (),
        confidence: float = 0.95,
        loss: object = None,
        certificate: Certificate | None = None,
        prior: PriorTraining | None = None,
        key: Array | None = None,
        fresh: Measure | None = None,
        progress: Progress | None = None,
    ) -> "SoughtBounds":
        """Arguments and errors are those of :func:`risk_bounds`."""
        require_confidence(confidence)
        sample = problem.measure if sample is None else sample
        require_iid(sample, "the sample")
        prior, seed = prior or PriorTraining(), seed_of(key)
        parts = split_rows(sample.n, prior.fraction, seed)
        bounded = require_bounded(default_loss(sample) if loss is None else loss)
        if certificate is not None and certificate.start != "initialisation":
            raise InputError(
                "the certificate is anchored at trained parameters, which depend on the sample: "
                "pass the one from initialisation"
            )
        problem.validate(start)
        notes = fitted_caveats(caveats)
        job = BoundsAround(problem, as_float64(start), confidence, bounded, notes, seed, fresh)
        return cls(job, sample, prior, parts, seed, progress or silent)

    def around_initialisation(self, trained: Params, test: Measure | None) -> list[RiskBound]:
        """G4, if there is a test part, and G1, G2, G7 and G6 around theta_0."""
        job, bounds = self.job, []
        if test is not None:
            bounds.append(job.held_out(trained, test))
        self.report("bounds around the initialisation", 0, 0)
        problem = on_data(job.problem, self.sample)
        whole = Centre(job.start, problem, "the initialisation", (IID, FIXED_START))
        bounds += job.rademacher(whole, [(1.0, trained)], "the trained network")
        around = "a network drawn around the trained one"
        bounds.append(job.pac_bayes(whole, [(1.0, trained)], around))
        bounds.append(job.one_draw(whole, trained, bounds[-1], "the trained network"))
        return bounds + job.derandomised(whole, trained, "the trained network")

    def around_first_part(self, trained: Params | None = None) -> list[RiskBound]:
        """G1, G2, G7 and G6 around the first part's network; about ``trained`` with a recipe."""
        job, seen = self.job, _rows(self.sample, self.parts[0])
        self.report("training on the first part", 0, 0)
        centre, trained = train_prior(job.problem, job.start, seen, self.prior, self.seed)
        self.report("bounds around the first part's network", 0, 0)
        about = "network trained on the first part, then on all rows"
        candidates = [(t, _between(centre, trained, t)) for t in FRACTIONS]
        if self.prior.recipe is not None:
            assert trained is not None
            about, candidates = "trained network", [(1.0, trained)]
        problem = on_data(job.problem, _rows(self.sample, self.parts[1]))
        part = Centre(centre, problem, "the first part's network", (IID,), seen)
        chosen = job.rademacher(part, candidates, f"the {about}")
        chosen.append(job.pac_bayes(part, candidates, f"a network drawn around the {about}"))
        mean = dict(candidates)[chosen[-1].details["fraction"]]
        chosen.append(job.one_draw(part, mean, chosen[-1], f"the {about}"))
        bounds = list(map(_as_chosen, chosen))
        return bounds + job.derandomised(part, candidates[-1][1], f"the {about}")

    def reference(self, certificate: Certificate | None) -> list[RiskBound]:
        """G3, if the kernel can be factored."""
        found = self.job.kernel_regime(self.sample, certificate)
        return [] if found is None else [found]


def fitted_caveats(what: Sequence[str]) -> tuple[str, ...]:
    """Caveats of constants that were fitted to the sample."""
    return tuple(f"{each} were fitted to the evaluated rows" for each in what)


def default_loss(sample: Measure) -> BoundedLoss:
    """The 0-1 error for targets that code classes, the clipped squared loss for all others."""
    assert sample.y is not None
    return ZeroOne() if codes_classes(sample.y) else ClippedSquared(2.0 * sample.outputs)


def codes_classes(y: Float[np.ndarray, "n k"]) -> bool:
    """Whether targets are -1 and +1 with, of several outputs, one +1 a row."""
    signs = bool(np.all(np.abs(y) == 1))
    return signs and (y.shape[1] == 1 or bool(np.all(np.sum(y > 0, axis=1) == 1)))


def _as_chosen(bound: RiskBound) -> RiskBound:
    """The bound, called what it is where the first part's network itself was the best choice."""
    if bound.details["fraction"] > 0:
        return bound
    return replace(bound, predictor=bound.predictor.replace(", then on all rows", " alone"))


def _rows(measure: Measure, rows: np.ndarray) -> Measure:
    require_sample_size(len(rows))
    assert measure.y is not None
    return Measure(measure.x[rows], measure.y[rows])


def _between(a: Params, b: Params, t: float) -> Params:
    return jax.tree.map(lambda u, v: u + t * (v - u), a, b)
