"""What the phases of all jobs share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from overparam.certificate.certificate import Certificate
from overparam.data import Dataset
from overparam.model.mlp import Params
from overparam.pipeline.result import JobResult
from overparam.pipeline.settings import AnchorSettings, JobSettings
from overparam.precision import as_float64
from overparam.problem.problem import Problem
from overparam.progress import Progress, silent
from overparam.train.gauss_newton import GaussNewtonResult, gauss_newton
from overparam.train.gradient_descent import TrainResult, gradient_descent

Settings = TypeVar("Settings", JobSettings, AnchorSettings)


class Job(Generic[Settings]):
    """A job on a data set, phase by phase."""

    def __init__(
        self,
        dataset: Dataset,
        problem: Problem,
        start: Params,
        settings: Settings,
        progress: Progress | None,
    ) -> None:
        self.dataset, self.problem, self.start = dataset, problem, start
        self.rigor, self.report = settings.rigor, progress or silent
        self.settings: Settings = settings
        self.seconds: dict[str, float] = {}

    def result(self, **found: Any) -> JobResult:
        """What was asked, and what was found."""
        return JobResult(
            settings=self.settings,
            dataset=self.dataset,
            model=self.problem.mlp,
            initial_params=self.start,
            seconds=self.seconds,
            **found,
        )

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
