"""The job from a network drawn anew, without weight decay.

The certificate, the optimiser's steps, the linearised prediction of them. Then an anchor:
Gauss-Newton (or the optimiser alone) until the anchored certificate can hold, the certificate, and
gradient descent from the anchor held against it. Where Gauss-Newton does not get there, the network
that stopping early gives takes the anchor's place, unless where Gauss-Newton ended is nearer to a
certificate. With mini-batches the phases are the same, but
for what follows from gradient descent over all points.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
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
from overparam.data import Dataset
from overparam.kernel.empirical.expansion import Expansion
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.linearised.predicted_descent import LinearisedDescent, linearised_descent
from overparam.memory import require_memory
from overparam.model.function import parameter_distance
from overparam.model.mlp import MLP, Params
from overparam.pipeline.consequences import Trained, look_ahead, measure_consequences
from overparam.pipeline.fitting import FITTED, Stopped, enough_decay, find_obstacle, stop_early
from overparam.pipeline.job import Job
from overparam.pipeline.result import Anchored, JobResult, Spectrum
from overparam.pipeline.settings import JobSettings
from overparam.pipeline.side_by_side import beside
from overparam.precision import as_float64
from overparam.problem.batches import get_batches
from overparam.problem.problem import Problem
from overparam.progress import Progress
from overparam.train.early_stopping import LinearFit, linear_fit
from overparam.train.gauss_newton import GaussNewtonResult
from overparam.train.gradient_descent import TrainResult, gradient_descent, train
from overparam.train.run_checkpoint import steps_saved

Verdict = Callable[[JobResult], None]
"""Called with the result as far as it is known: all but the consequences."""

FULL_SPECTRUM = 4096
"""Largest kernel whose whole spectrum is computed."""

HISTORY = 100
"""Bytes that a step leaves in the records of a run and of its linearised prediction."""

NEWTON_STEPS = 12
"""Most steps towards an anchor: where it is within reach, five to eight get there."""

LEFT = 0.01
"""Share of the residual with which the training rows count as fitted, if not to the last digit."""


def certified_run(checkpoint: str | Path) -> Path:
    """Where the run that is made to be certified is saved, beside the optimiser's."""
    return Path(checkpoint).with_name("checkpoint-certified.npz")


class Drawn(Job[JobSettings]):
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
        if not settings.consequences or settings.batch_size is not None:
            return self._train(verdict)[0]
        how: dict[str, Any] = {"seed": settings.seed, "phase": self.phase}
        (known, networks), ahead = beside(
            self.problem.measure.n * self.problem.outputs,
            lambda _: self._train(verdict),
            lambda report: look_ahead(
                *(self.dataset, self.problem, self.start),
                confidence=settings.confidence,
                progress=report,
                **how,
            ),
            self.report,
            "learning-rate transfer",
        )
        consequences = measure_consequences(
            self.dataset, self.problem, networks(), ahead, progress=self.report, **how
        )
        return replace(known, consequences=consequences)

    def _train(self, verdict: Verdict | None) -> tuple[JobResult, Callable[[], Trained]]:
        """All phases but the consequences, and what these need."""
        settings = self.settings
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
        if not settings.until_certified:
            descent = self._descend(initial, settings.steps)
        elif settings.finish == "none":
            descent, anchored = self._train_until_certified(initial)
        else:
            descent, newton, stopped = self._towards_the_data(initial, fit)
            anchored = self._best_anchor(newton, stopped)
            if fit is not None and not newton.converged:
                obstacle = find_obstacle(self.dataset, fit, initial.step_size)
            if stopped is not None and not anchored.certificate.certified:
                with self.phase("weight decay that would do"):
                    enough = enough_decay(self.problem, stopped)
        final = descent.params if anchored is None else anchored.params
        fitted = anchored is not None and anchored.gauss_newton is not None
        known = self.result(
            initial=initial,
            initial_spectrum=spectrum,
            descent=descent,
            linearised=None if linearised is None else linearised.excess,
            anchored=anchored,
            stopped=stopped,
            obstacle=obstacle,
            consequences=None,
            errors=self.errors(final),
            errors_before=self.errors(descent.params) if fitted else {},
            enough_decay=enough,
        )
        if verdict is not None:
            verdict(known)
        return known, partial(self._networks, initial, descent, linearised, anchored)

    def _networks(
        self,
        initial: Certificate,
        descent: TrainResult,
        linearised: LinearisedDescent | None,
        anchored: Anchored | None,
    ) -> Trained:
        steps = len(descent.history) - 1
        # The linearised run stands for the same number of steps, unless it diverged.
        beside = (
            linearised is not None
            and steps == len(linearised.excess) - 1
            and bool(np.isfinite(linearised.excess).all())
        )
        return Trained(
            start=self.start,
            initial=initial,
            descended=as_float64(descent.params) if steps else None,
            linearised=linearised.params(self.problem, self.start)
            if linearised is not None and beside
            else None,
            anchor=None if anchored is None else anchored.params,
            anchored=None if anchored is None else anchored.certificate,
        )

    def _towards_the_data(
        self, initial: Certificate, fit: LinearFit | None
    ) -> tuple[TrainResult, GaussNewtonResult, Stopped | None]:
        """Descent and Gauss-Newton, and beside them the network stopped early."""

        def fitted(_: Progress) -> tuple[TrainResult, GaussNewtonResult]:
            descent = self._descend(initial, self.settings.steps)
            return descent, self.gauss_newton(descent.params, NEWTON_STEPS)

        rows = self.problem.measure.n * self.problem.outputs
        stopped: Callable[[Progress], Stopped | None] = partial(self._stopped, fit)
        both = beside(rows, fitted, stopped, self.report, "network stopped early")
        return (*both[0], both[1])

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

    def _stopped(self, fit: LinearFit | None, report: Progress) -> Stopped | None:
        with self.phase("network stopped early", report):
            params = None if fit is None else stop_early(self.problem, self.start, fit)
            if fit is None or fit.price is None or params is None:
                return None
            return Stopped(fit.price, params, self.errors(params))

    def _best_anchor(self, newton: GaussNewtonResult, stopped: Stopped | None) -> Anchored:
        """Where Gauss-Newton ended, or the network stopped early: what is certified, or nearer to.

        The latter alone where much of the residual is left: then nothing was fitted.
        """
        if stopped is None:
            return self._anchored(newton.params, newton)
        if not newton.converged and newton.residuals[-1] > LEFT * newton.residuals[0]:
            return self._anchored(stopped.params, newton)
        found = self._anchored(newton.params, newton)
        if found.certificate.certified:
            return found
        early = self._anchored(stopped.params, newton)
        return max(found, early, key=lambda each: each.certificate.margin)

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
        distance = parameter_distance(self.start, params)
        return Anchored(newton, params, distance, certificate, run, spectrum)

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
