"""The main job, phase by phase.

From initialisation: the certificate, the optimiser's steps, the linearised prediction of them. Then
an anchor: Gauss-Newton (or the optimiser alone) until the anchored certificate can hold, the
certificate, and gradient descent from the anchor held against it. Where Gauss-Newton does not get
there, the network that stopping early gives takes the anchor's place.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float
from scipy.linalg import eigvalsh

from overparam.certificate.certificate import Certificate, Start
from overparam.certificate.certify import certificate_from
from overparam.certificate.hypotheses import measure_hypotheses
from overparam.certificate.trajectory import or_by_running
from overparam.data import Dataset
from overparam.kernel.empirical import require_memory
from overparam.kernel.tangent import tangent_kernel
from overparam.linearised.prediction import LinearisedDescent, linearised_descent
from overparam.model.mlp import MLP, Params
from overparam.pipeline.consequences import Consequences, Trained, measure_consequences
from overparam.pipeline.fitting import FITTED, Stopped, find_obstacle, stop_early
from overparam.pipeline.regularisation import parameter_distance
from overparam.pipeline.result import Anchored, JobResult, Spectrum
from overparam.pipeline.settings import JobSettings
from overparam.precision import as_float64
from overparam.problem.problem import Problem
from overparam.threads import threads_for
from overparam.train.checkpoint import steps_saved
from overparam.train.early_stopping import LinearFit, linear_fit
from overparam.train.gauss_newton import GaussNewtonResult, gauss_newton
from overparam.train.gradient_descent import TrainResult, gradient_descent, train

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total); total is 0 where it is not known."""

Verdict = Callable[[JobResult], None]
"""Called with the result as far as it is known: all but the consequences."""

FULL_SPECTRUM = 4096
"""Largest kernel whose whole spectrum is computed."""

HISTORY = 100
"""Bytes that a step leaves in the records of a run and of its linearised prediction."""

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
        checkpoint: A file from which the optimiser's run resumes after a kill.

    Returns:
        The :class:`JobResult`.

    Raises:
        InputError: Data and settings do not fit, or memory does not suffice.
        TheoremViolatedError: A certified claim did not hold in a run.
    """
    with threads_for(dataset.train.n * dataset.train.outputs):
        return _Job(dataset, settings or JobSettings(), progress, checkpoint).run(verdict)


class _Job:
    """Holds what the phases share."""

    def __init__(
        self,
        dataset: Dataset,
        settings: JobSettings,
        progress: Progress | None,
        checkpoint: str | Path | None,
    ) -> None:
        self.dataset, self.settings, self.checkpoint = dataset, settings, checkpoint
        self.report = progress or (lambda phase, done, total: None)
        self.seconds: dict[str, float] = {}
        self.model = MLP(
            in_dim=dataset.train.dim,
            hidden_widths=(settings.width,) * settings.depth,
            out_dim=dataset.train.outputs,
            activation=settings.activation,
            weight_scale=settings.weight_scale,
            bias_scale=settings.bias_scale,
            output_scale=settings.output_scale,
        )
        self._require_memory()
        self.start = jax.tree.map(np.asarray, self.model.init(jax.random.key(settings.seed)))
        center = self.start if settings.centered else None
        self.problem = Problem(self.model, dataset.train, settings.loss, center)

    def run(self, verdict: Verdict | None) -> JobResult:
        settings = self.settings
        with self._phase("kernel at initialisation"):
            kernel = self._kernel(self.start)
            fit = self._fit(kernel)
            spectrum = self._spectrum(kernel, None if fit is None else fit.eigenvalues)
        with self._phase("certificate from initialisation"):
            initial = self._certificate(self.start, kernel, "initialisation", settings.step)
        linearised = None
        if settings.optimizer == "gd":
            with self._phase("linearised prediction"):
                linearised = self._linearised(kernel, initial.step_size)
        del kernel
        anchored = stopped = obstacle = None
        if settings.until_certified and settings.finish == "none":
            descent, anchored = self._train_until_certified(initial)
        else:
            descent = self._descend(initial, settings.steps)
            if settings.until_certified:
                newton = self._gauss_newton(descent.params)
                stopped = self._stopped(fit)
                anchored = self._best_anchor(newton, stopped)
                if fit is not None and not newton.converged:
                    obstacle = find_obstacle(self.dataset, fit, initial.step_size)
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
            errors=self._errors(final),
            seconds=self.seconds,
            errors_before=self._errors(descent.params) if fitted else {},
        )
        if verdict is not None:
            verdict(known)
        consequences = self._consequences(initial, descent, linearised, anchored)
        return replace(known, consequences=consequences)

    def _linearised(self, kernel: np.ndarray, step_size: float) -> LinearisedDescent:
        return linearised_descent(
            self.problem,
            self.start,
            kernel,
            step_size,
            self.settings.steps,
            lambda done, total: self.report("linearised prediction", done, total),
        )

    def _consequences(
        self,
        initial: Certificate,
        descent: TrainResult,
        linearised: LinearisedDescent | None,
        anchored: Anchored | None,
    ) -> Consequences | None:
        if not self.settings.consequences:
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
            phase=self._phase,
            progress=self.report,
        )

    def _descend(self, initial: Certificate, steps: int) -> TrainResult:
        """The optimiser from theta_0; a longer call continues a shorter one's checkpoint."""
        settings = self.settings
        shared: dict = {
            "dtype": settings.training_dtype,
            "checkpoint": self.checkpoint,
            "progress": lambda done, total: self.report("descent", done, total),
        }
        with self._phase("descent"):
            if settings.optimizer == "gd":
                return gradient_descent(
                    self.problem,
                    self.start,
                    initial.step_size,
                    steps,
                    certificate=initial,
                    **shared,
                )
            label = f"{settings.optimizer}, learning rate {settings.learning_rate}"
            optimizer = settings.optax_optimizer()
            return train(self.problem, self.start, optimizer, steps, label=label, **shared)

    def _gauss_newton(self, params: Params) -> GaussNewtonResult:
        with self._phase("Gauss-Newton"):
            return gauss_newton(
                self.problem,
                params,
                max_steps=NEWTON_STEPS,
                progress=lambda step, residual, damping: self.report("Gauss-Newton", step, 0),
            )

    def _fit(self, kernel: np.ndarray) -> LinearFit | None:
        """How the linearised model fits, where that is asked for and no work to speak of."""
        settings = self.settings
        asked = settings.until_certified and settings.finish == "gauss-newton"
        if not asked or len(kernel) > FITTED:
            return None
        return linear_fit(self.problem, self.start, kernel)

    def _stopped(self, fit: LinearFit | None) -> Stopped | None:
        with self._phase("network stopped early"):
            params = None if fit is None else stop_early(self.problem, self.start, fit)
            if fit is None or fit.price is None or params is None:
                return None
            return Stopped(fit.price, params, self._errors(params))

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
        """Gradient descent from a certified anchor, held against its certificate."""
        run = None
        if certificate.certified:
            with self._phase("descent from the anchor"):
                run = gradient_descent(
                    self.problem,
                    params,
                    certificate.step_size,
                    self.settings.anchor_steps,
                    certificate=certificate,
                    dtype="float64",
                    progress=lambda d, t: self.report("descent from the anchor", d, t),
                )
        moved = parameter_distance(self.start, params)
        return Anchored(newton, params, moved, certificate, run, spectrum)

    def _anchor(self, params: Params) -> tuple[Certificate, Spectrum]:
        with self._phase("kernel at the anchor"):
            kernel = self._kernel(params)
            spectrum = self._spectrum(kernel)
        with self._phase("anchored certificate"):
            return self._certificate(params, kernel, "anchor", None), spectrum

    def _kernel(self, params: Params) -> Float[np.ndarray, "nk nk"]:
        return tangent_kernel(
            self.problem, params, progress=lambda done, total: self.report("kernel", done, total)
        )

    def _certificate(
        self, params: Params, kernel: np.ndarray, start: Start, step: float | None
    ) -> Certificate:
        # rho_K sharpens the existence radius, for a Cholesky factor: not of a large kernel.
        target_norm = len(kernel) <= FULL_SPECTRUM
        hypotheses = measure_hypotheses(
            self.problem,
            params,
            kernel=kernel,
            target_norm=target_norm,
            rigor=self.settings.rigor,
        )
        found = certificate_from(self.problem, params, hypotheses, start, step)
        if start == "anchor":
            return found
        return or_by_running(
            *(self.problem, params, hypotheses, kernel, found, step),
            budget=self.settings.running,
            progress=lambda done, total: self.report("gradient descent in float64", done, total),
        )

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

    def _errors(self, params: Params) -> dict[str, dict]:
        dataset = self.dataset
        errors = {"train": dataset.error(self.problem.predict(params), dataset.train)}
        if dataset.test is not None:
            predictions = self.problem.predict(params, dataset.test.x)
            errors["test"] = dataset.error(predictions, dataset.test)
        return errors

    def _require_memory(self) -> None:
        n, k = self.dataset.train.n, self.model.out_dim
        size = n * k
        # The kernel, one more of its size for factors, the layers' arrays, the parameters.
        layers = 8 * n * (2 * k + 2) * sum(self.model.widths)
        # A proved certificate computes the kernel again, where its rounding is known.
        matrices = 3 if self.settings.rigor == "proved" else 2
        needed = matrices * 8 * size**2 + layers + 6 * 8 * self.model.parameter_count
        what = f"a certificate for {n} points with {k} outputs (a kernel of {size} x {size})"
        require_memory(needed, what, self.settings.budget)
        steps = max(self.settings.steps, self.settings.anchor_steps)
        require_memory(HISTORY * steps, f"the history of {steps:,} steps", self.settings.budget)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self.report(name, 0, 0)
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - begin
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
