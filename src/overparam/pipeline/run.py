"""The jobs, phase by phase: one from a network drawn anew, one from a network trained elsewhere.

From initialisation: the certificate, the optimiser's steps, the linearised prediction of them. Then
an anchor: Gauss-Newton (or the optimiser alone) until the anchored certificate can hold, the
certificate, and gradient descent from the anchor held against it. Where Gauss-Newton does not get
there, the network that stopping early gives takes the anchor's place. With weight decay the anchor
is the objective's minimum, where Newton's method leads. With mini-batches the phases are the same,
but for what follows from gradient descent over all points.

From imported weights: the certificate there. Training by minibatches ends at small gradients, not
at a small residual, and a certificate at trained weights needs one; ``polish`` then moves the
weights by Gauss-Newton steps towards an anchor, and the result says how far.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import eigvalsh

from overparam.certificate.certificate import Certificate
from overparam.certificate.certify import anchor, certify
from overparam.certificate.stochastic import check_batches
from overparam.certificate.trajectory_points import LARGE
from overparam.certificate.weight_decay import check_decayed
from overparam.choices import DECAYS
from overparam.data import Dataset
from overparam.importers.imported_network import ImportedNetwork
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.linearised.descent import LinearisedDescent, linearised_descent
from overparam.memory import require_memory
from overparam.model.function import parameter_distance
from overparam.model.mlp import MLP, Params
from overparam.pipeline.consequences import (
    Consequences,
    Trained,
    bound_risk,
    measure_consequences,
)
from overparam.pipeline.fitting import FITTED, Stopped, enough_decay, find_obstacle, stop_early
from overparam.pipeline.prior_training import PriorTraining
from overparam.pipeline.result import Anchored, JobResult, Spectrum
from overparam.pipeline.settings import AnchorSettings, JobSettings
from overparam.precision import as_float64
from overparam.problem.batches import get_batches
from overparam.problem.problem import Problem
from overparam.progress import Progress, silent
from overparam.threads import threads_for
from overparam.train.changed_rows import on_other_data
from overparam.train.choose_decay import ChosenDecay, choose_decay
from overparam.train.decayed_minimum import decayed_minimum
from overparam.train.early_stopping import LinearFit, linear_fit
from overparam.train.gauss_newton import GaussNewtonResult, gauss_newton
from overparam.train.gradient_descent import TrainResult, gradient_descent, train
from overparam.train.leave_one_out import LeftOut, leave_one_out
from overparam.train.run_checkpoint import steps_saved

Verdict = Callable[[JobResult], None]
"""Called with the result as far as it is known: all but the consequences."""

FULL_SPECTRUM = 4096
"""Largest kernel whose whole spectrum is computed."""

HISTORY = 100
"""Bytes that a step leaves in the records of a run and of its linearised prediction."""

LEAVING_OUT = 60.0
"""Seconds that leaving each row out may take, if no budget allows more."""

NEWTON_STEPS = 12
"""Most steps towards an anchor: where it is within reach, five to eight get there."""


def run_job(
    dataset: Dataset,
    settings: JobSettings | None = None,
    *,
    progress: Progress | None = None,
    verdict: Verdict | None = None,
    checkpoint: str | Path | None = None,
) -> JobResult:
    """Certify a network on a data set, train it to an anchor and check the theory against the run.

    Args:
        dataset: From ``overparam.data.load``.
        settings: What to do; None means the defaults.
        progress: Called as the job advances.
        verdict: Called once the certificates are known, before the consequences are measured.
        checkpoint: A file from which the optimiser's run resumes after a kill; one beside it
            (``certified_run``) is for the run that Theorem C makes.

    Returns:
        The :class:`JobResult`.

    Raises:
        InputError: Data and settings do not fit, or memory does not suffice.
        TheoremViolatedError: A certified claim did not hold in a run.
    """
    with threads_for(dataset.train.n * dataset.train.outputs):
        return Drawn(dataset, settings or JobSettings(), progress, checkpoint).run(verdict)


def anchor_network(
    dataset: Dataset,
    network: ImportedNetwork,
    settings: AnchorSettings | None = None,
    *,
    progress: Progress | None = None,
) -> JobResult:
    """Anchor a certificate at a network that was trained elsewhere.

    Args:
        dataset: The data it was trained on, prepared as they were for the training.
        network: From one of the importers.
        settings: What to do; None means the defaults.
        progress: Called as the job advances.

    Returns:
        The :class:`JobResult`, certified or not.

    Raises:
        InputError: Data, network and settings do not fit together.
        TheoremViolatedError: A certified claim did not hold in a run.
    """
    with threads_for(dataset.train.n * dataset.train.outputs):
        return Imported(dataset, network, settings or AnchorSettings(), progress).run()


class Job:
    """What the phases of both jobs share."""

    def __init__(
        self,
        dataset: Dataset,
        problem: Problem,
        start: Params,
        settings: JobSettings | AnchorSettings,
        progress: Progress | None,
    ) -> None:
        self.dataset, self.problem, self.start = dataset, problem, start
        self.rigor, self.report = settings.rigor, progress or silent
        self.seconds: dict[str, float] = {}

    def gauss_newton(self, params: Params, steps: int) -> GaussNewtonResult:
        """At most so many steps towards an anchor."""
        with self.phase("Gauss-Newton"):
            return gauss_newton(
                self.problem,
                params,
                max_steps=steps,
                progress=self.report,
            )

    def check(self, params: Params, certificate: Certificate, steps: int) -> TrainResult | None:
        """Gradient descent from a certified anchor, held against its certificate.

        Not with mini-batches, of which a certificate speaks in the mean.
        """
        if not (certificate.certified and steps) or certificate.theorem == "S":
            return None
        with self.phase("descent from the anchor"):
            return gradient_descent(
                self.problem,
                as_float64(params),
                certificate.step_size,
                steps,
                certificate=certificate,
                dtype="float64",
                progress=self.within("descent from the anchor"),
            )

    def errors(self, params: Params) -> dict[str, dict]:
        """Of a network, by part of the data."""
        parts = {"train": self.dataset.train, "test": self.dataset.test}
        return {
            name: self.dataset.error(self.problem.predict(params, part.x), part)
            for name, part in parts.items()
            if part is not None
        }

    @contextmanager
    def phase(self, name: str, report: Progress | None = None) -> Iterator[None]:
        """Announce a phase, and time it."""
        (report or self.report)(name, 0, 0)
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def within(self, phase: str) -> Progress:
        """Report all that is told as of one phase."""
        return lambda _, done, total: self.report(phase, done, total)


class Imported(Job):
    """The job at weights trained elsewhere."""

    def __init__(
        self,
        dataset: Dataset,
        network: ImportedNetwork,
        settings: AnchorSettings,
        progress: Progress | None,
    ) -> None:
        problem = Problem(
            *(network.model, dataset.train, settings.loss, network.centered_at),
            trainable=settings.trainable,
        )
        super().__init__(dataset, problem, network.params, settings, progress)
        self.network, self.settings = network, settings

    def run(self) -> JobResult:
        """All phases."""
        settings, start = self.settings, self.start
        with self.phase("outputs"):
            outputs = np.asarray(self.problem.predict(start))
            before = self.errors(start)
        initial = self.anchor(start, "certificate at the imported weights")
        anchored = descent = None
        if settings.polish and not initial.certified:
            newton = self.gauss_newton(start, settings.polish)
            certificate = self.anchor(newton.params, "certificate at the moved weights")
            distance = parameter_distance(start, newton.params)
            run = self.check(newton.params, certificate, settings.check_steps)
            anchored = Anchored(newton, newton.params, distance, certificate, run, None)
        else:
            descent = self.check(start, initial, settings.check_steps)
        return JobResult(
            settings=settings,
            dataset=self.dataset,
            model=self.problem.mlp,
            initial_params=start,
            initial=initial,
            descent=descent,
            anchored=anchored,
            errors=before if anchored is None else self.errors(anchored.params),
            errors_before={} if anchored is None else before,
            seconds=self.seconds,
            imported=self.network,
            outputs=(float(outputs.min()), float(outputs.max())),
        )

    def anchor(self, params: Params, phase: str) -> Certificate:
        """The certificate at some weights."""
        with self.phase(phase):
            return anchor(self.problem, params, rigor=self.rigor, progress=self.within(phase))


def certified_run(checkpoint: str | Path) -> Path:
    """Where the run that is made to be certified is saved, beside the optimiser's."""
    return Path(checkpoint).with_name("checkpoint-certified.npz")


class Drawn(Job):
    """The job from a network drawn anew."""

    def __init__(
        self,
        dataset: Dataset,
        settings: JobSettings,
        progress: Progress | None = None,
        checkpoint: str | Path | None = None,
    ) -> None:
        self.settings, self.checkpoint = settings, checkpoint
        self.model = MLP(
            in_dim=dataset.train.dim,
            hidden_widths=(settings.width,) * settings.depth,
            out_dim=dataset.train.outputs,
            activation=settings.activation,
            weight_scale=settings.weight_scale,
            bias_scale=settings.bias_scale,
            output_scale=settings.output_scale,
            trainable=settings.trainable,
        )
        self.require_memory(dataset.train.n)
        start = jax.tree.map(np.asarray, self.model.init(jax.random.key(settings.seed)))
        center = start if settings.centered else None
        problem = Problem(self.model, dataset.train, settings.loss, center, settings.decay)
        if settings.weight_decay:
            check_decayed(problem, settings.rigor)
        if settings.batch_size is not None:
            check_batches(problem)
            get_batches(dataset.train, settings.batch_size, settings.sampling)
        self.batches: dict[str, Any] = {
            "batch_size": settings.batch_size,
            "sampling": settings.sampling,
        }
        super().__init__(dataset, problem, start, settings, progress)

    def run(self, verdict: Verdict | None = None) -> JobResult:
        """All phases."""
        settings = self.settings
        if settings.weight_decay:
            return self._run_decayed(verdict)
        with self.phase("kernel at initialisation"):
            point = Expansion(self.problem, self.start, self._kernel(self.start))
            kernel = point.kernel
            fit = self._fit(point)
            spectrum = self._spectrum(kernel, None if fit is None else fit.eigenvalues)
        with self.phase("certificate from initialisation"):
            initial = certify(
                self.problem,
                self.start,
                settings.step,
                kernel=point,
                rigor=self.rigor,
                budget=settings.budget,
                theorem=settings.theorem,
                target_norm=len(kernel) <= FULL_SPECTRUM,
                progress=self.report,
                **self.batches,
                checkpoint=None if self.checkpoint is None else certified_run(self.checkpoint),
            )
        linearised = None
        if settings.optimizer == "gd" and settings.batch_size is None:
            with self.phase("linearised prediction"):
                linearised = linearised_descent(
                    self.problem,
                    self.start,
                    kernel,
                    initial.step_size,
                    settings.steps,
                    self.within("linearised prediction"),
                )
        del kernel, point
        anchored = stopped = obstacle = enough = None
        if settings.until_certified and settings.finish == "none":
            descent, anchored = self._train_until_certified(initial)
        else:
            descent = self._descend(initial, settings.steps)
            if settings.until_certified:
                newton = self.gauss_newton(descent.params, NEWTON_STEPS)
                stopped = self._stopped(fit)
                anchored = self._best_anchor(newton, stopped)
                if fit is not None and not newton.converged:
                    obstacle = find_obstacle(self.dataset, fit, initial.step_size)
                if stopped is not None and not anchored.certificate.certified:
                    with self.phase("weight decay that would do"):
                        enough = enough_decay(self.problem, stopped)
        final = descent.params if anchored is None else anchored.params
        fitted = anchored is not None and anchored.gauss_newton is not None
        known = JobResult(
            settings=settings,
            dataset=self.dataset,
            model=self.model,
            initial_params=self.start,
            initial=initial,
            initial_spectrum=spectrum,
            descent=descent,
            linearised=None if linearised is None else linearised.excess,
            anchored=anchored,
            stopped=stopped,
            obstacle=obstacle,
            consequences=None,
            errors=self.errors(final),
            seconds=self.seconds,
            errors_before=self.errors(descent.params) if fitted else {},
            enough_decay=enough,
        )
        if verdict is not None:
            verdict(known)
        consequences = self._consequences(initial, descent, linearised, anchored)
        return replace(known, consequences=consequences)

    def _choose_decay(self) -> ChosenDecay:
        """Take the weight decay with the least leave-one-out error, estimated at each minimum."""
        with self.phase("weight decays"):
            chosen = choose_decay(self.problem, self.start, progress=self.report)
        decay = chosen.best.weight_decay
        self.problem = on_other_data(self.problem, self.problem.measure, decay)
        self.settings = replace(self.settings, weight_decay=decay)
        return chosen

    def _run_decayed(self, verdict: Verdict | None) -> JobResult:
        """All phases with weight decay: the consequences of interpolation are no part of it."""
        chosen = self._choose_decay() if self.settings.chooses_decay else None
        settings = self.settings
        with self.phase("certificate from initialisation"):
            initial = certify(
                self.problem,
                self.start,
                settings.step,
                budget=settings.budget,
                theorem=settings.theorem,
                progress=self.report,
            )
        descent, anchored, minimum = self._descend(initial, settings.steps), None, None
        left_out = None
        if settings.until_certified:
            with self.phase("Newton's method"):
                minimum = decayed_minimum(self.problem, self.start, progress=self.report)
            with self.phase("anchored certificate"):
                certificate = anchor(self.problem, minimum.params, rigor=settings.rigor)
            run = self.check(minimum.params, certificate, settings.anchor_steps)
            moved = parameter_distance(self.start, minimum.params)
            anchored = Anchored(None, minimum.params, moved, certificate, run, None)
            if certificate.certified and settings.consequences:
                left_out = self._left_out(minimum.params)
        known = JobResult(
            settings=settings,
            dataset=self.dataset,
            model=self.model,
            initial_params=self.start,
            initial=initial,
            descent=descent,
            anchored=anchored,
            errors=self.errors(descent.params if anchored is None else anchored.params),
            seconds=self.seconds,
            minimum=minimum,
            left_out=left_out,
            decays=chosen,
        )
        if verdict is not None:
            verdict(known)
        if anchored is None or not settings.consequences:
            return known
        networks = Trained(
            start=self.start,
            initial=initial,
            descended=None,
            linearised=None,
            anchor=anchored.params,
            anchored=anchored.certificate,
        )
        # A weight decay that was chosen knows all rows, and a prior must not.
        prior = None if chosen is None else PriorTraining(weight_decay=min(DECAYS))
        with self.phase("bounds on the risk"):
            risks = bound_risk(
                *(self.dataset, self.problem, networks),
                confidence=settings.confidence,
                seed=settings.seed,
                progress=self.report,
                prior=prior,
            )
        return replace(known, risks=risks)

    def _left_out(self, params: Params) -> LeftOut | float | None:
        """Every training row by a network without it; the seconds, if those are many."""
        n, most = self.problem.measure.n, max(LEAVING_OUT, self.settings.budget)
        expected = n * self.seconds["anchored certificate"]  # where much of it was compiling
        if n <= 2 or expected > 3 * most:
            return None if n <= 2 else expected
        with self.phase("leave-one-out"):
            leave_one_out(self.problem, params, rows=[0])
            begin = time.perf_counter()
            leave_one_out(self.problem, params, rows=[1])
            expected = n * (time.perf_counter() - begin)
            if expected > most:
                return expected
            return leave_one_out(self.problem, params, progress=self.report)

    def _consequences(
        self,
        initial: Certificate,
        descent: TrainResult,
        linearised: LinearisedDescent | None,
        anchored: Anchored | None,
    ) -> Consequences | None:
        if not self.settings.consequences or self.settings.batch_size is not None:
            return None
        steps = len(descent.history) - 1
        # The linearised run stands for the same number of steps, unless it diverged.
        beside = (
            linearised is not None
            and steps == len(linearised.excess) - 1
            and bool(np.isfinite(linearised.excess).all())
        )
        networks = Trained(
            start=self.start,
            initial=initial,
            descended=as_float64(descent.params) if steps else None,
            linearised=linearised.params(self.problem, self.start)
            if linearised is not None and beside
            else None,
            anchor=None if anchored is None else anchored.params,
            anchored=None if anchored is None else anchored.certificate,
        )
        return measure_consequences(
            self.dataset,
            self.problem,
            networks,
            confidence=self.settings.confidence,
            seed=self.settings.seed,
            phase=self.phase,
            progress=self.report,
        )

    def _descend(self, initial: Certificate, steps: int) -> TrainResult:
        """The optimiser from theta_0; a longer call continues a shorter one's checkpoint."""
        settings = self.settings
        shared: dict = {
            "dtype": settings.training_dtype,
            "checkpoint": self.checkpoint,
            "progress": self.report,
            "key": jax.random.key(settings.seed),
            **self.batches,
        }
        with self.phase("descent"):
            if settings.optimizer == "gd":
                return gradient_descent(
                    self.problem,
                    self.start,
                    initial.step_size,
                    steps,
                    certificate=initial if settings.batch_size is None else None,
                    **shared,
                )
            label = f"{settings.optimizer}, learning rate {settings.learning_rate}"
            optimizer = settings.optax_optimizer()
            return train(self.problem, self.start, optimizer, steps, label=label, **shared)

    def _fit(self, point: Expansion) -> LinearFit | None:
        """How the linearised model fits, where that is asked for and no work to speak of."""
        settings = self.settings
        asked = settings.until_certified and settings.finish == "gauss-newton"
        return linear_fit(point) if asked and len(point.kernel) <= FITTED else None

    def _stopped(self, fit: LinearFit | None) -> Stopped | None:
        with self.phase("network stopped early"):
            params = None if fit is None else stop_early(self.problem, self.start, fit)
            if fit is None or fit.price is None or params is None:
                return None
            return Stopped(fit.price, params, self.errors(params))

    def _best_anchor(self, newton: GaussNewtonResult, stopped: Stopped | None) -> Anchored:
        """Where Gauss-Newton ended, if it fits and certifies; else the network stopped early."""
        if stopped is None or newton.converged:
            found = self._anchored(newton.params, newton)
            if stopped is None or found.certificate.certified:
                return found
        return self._anchored(stopped.params, newton)

    def _train_until_certified(self, initial: Certificate) -> tuple[TrainResult, Anchored]:
        """The optimiser alone, each round twice as long, with an anchor after each."""
        steps = max(self.settings.steps, steps_saved(self.checkpoint))
        descent = self._descend(initial, steps)
        certificate, spectrum = self._anchor(descent.params)
        while not certificate.certified and steps < self.settings.max_steps:
            steps = min(max(2 * steps, 1), self.settings.max_steps)
            descent = self._descend(initial, steps)
            certificate, spectrum = self._anchor(descent.params)
        return descent, self._checked(as_float64(descent.params), None, certificate, spectrum)

    def _anchored(self, params: Params, newton: GaussNewtonResult | None) -> Anchored:
        return self._checked(params, newton, *self._anchor(params))

    def _checked(
        self,
        params: Params,
        newton: GaussNewtonResult | None,
        certificate: Certificate,
        spectrum: Spectrum,
    ) -> Anchored:
        run = self.check(params, certificate, self.settings.anchor_steps)
        moved = parameter_distance(self.start, params)
        return Anchored(newton, params, moved, certificate, run, spectrum)

    def _anchor(self, params: Params) -> tuple[Certificate, Spectrum]:
        with self.phase("kernel at the anchor"):
            kernel = self._kernel(params)
            spectrum = self._spectrum(kernel)
        with self.phase("anchored certificate"):
            # rho_K sharpens the existence radius, for a Cholesky factor: not of a large kernel.
            small = len(kernel) <= FULL_SPECTRUM
            given: dict[str, Any] = {"kernel": kernel, "target_norm": small, **self.batches}
            return anchor(self.problem, params, rigor=self.rigor, **given), spectrum

    def _kernel(self, params: Params) -> Float[np.ndarray, "nk nk"]:
        return tangent_kernel(self.problem, params, progress=self.report)

    def _spectrum(
        self,
        kernel: Float[np.ndarray, "nk nk"],
        eigenvalues: Float[np.ndarray, " nk"] | None = None,
    ) -> Spectrum:
        """All eigenvalues, or those of the kernel on a random subset of the points."""
        n, k = self.dataset.train.n, self.model.out_dim
        if eigenvalues is not None:
            return Spectrum(eigenvalues[::-1], n, n)
        if len(kernel) <= FULL_SPECTRUM:
            return Spectrum(eigvalsh(kernel, check_finite=False)[::-1], n, n)
        count = max(FULL_SPECTRUM // 2 // k, 1)
        points = np.sort(np.random.default_rng(0).choice(n, count, replace=False))
        rows = (points[:, None] * k + np.arange(k)).reshape(-1)
        part = kernel[np.ix_(rows, rows)] * (n / count)
        return Spectrum(eigvalsh(part, check_finite=False)[::-1], count, n)

    def require_memory(self, n: int) -> None:
        """Refuse what does not fit, before any work."""
        k = self.model.out_dim
        size = n * k
        # The kernel, one more of its size for factors, the layers' arrays, the parameters.
        layers = 8 * n * (2 * k + 2) * sum(self.model.widths)
        # A proved certificate computes the kernel again, where its rounding is known.
        matrices = 3 if self.settings.rigor == "proved" else 2
        if self.settings.decay and self.settings.rigor != "proved" and size > LARGE:
            matrices = 0  # weight decay asks nothing of a large one
        needed = matrices * 8 * size**2 + layers + 6 * 8 * self.model.parameter_count
        what = f"a certificate for {n} points with {k} outputs (a kernel of {size} x {size})"
        require_memory(needed, what, self.settings.available)
        steps = max(self.settings.steps, self.settings.anchor_steps)
        require_memory(HISTORY * steps, f"the history of {steps:,} steps", self.settings.available)
