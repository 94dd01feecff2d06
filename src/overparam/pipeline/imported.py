"""The job from a network trained elsewhere: the certificate there, or at an anchor nearby.

Training by minibatches ends at small gradients, not at a small residual, and a certificate at
trained weights needs one; ``polish`` then moves the weights by Gauss-Newton steps towards an
anchor, and the result says how far.
"""

import numpy as np

from overparam.certificate.certificate import Certificate
from overparam.certificate.certify import anchor
from overparam.data import Dataset
from overparam.importers.imported_network import ImportedNetwork
from overparam.model.function import parameter_distance
from overparam.model.mlp import Params
from overparam.pipeline.job import Job
from overparam.pipeline.result import Anchored, JobResult
from overparam.pipeline.settings import AnchorSettings
from overparam.problem.problem import Problem
from overparam.progress import Progress


class Imported(Job[AnchorSettings]):
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
        self.network = network

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
        return self.result(
            initial=initial,
            descent=descent,
            anchored=anchored,
            errors=before if anchored is None else self.errors(anchored.params),
            errors_before={} if anchored is None else before,
            imported=self.network,
            outputs=(float(outputs.min()), float(outputs.max())),
        )

    def anchor(self, params: Params, phase: str) -> Certificate:
        """The certificate at some weights."""
        with self.phase(phase):
            return anchor(self.problem, params, rigor=self.rigor, progress=self.within(phase))
