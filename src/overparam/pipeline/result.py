"""What the main job gives: certificates, runs and errors, in the order they came about."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate
from overparam.data import Dataset
from overparam.model.mlp import MLP, Params
from overparam.pipeline.consequences import Consequences
from overparam.pipeline.fitting import Obstacle, Stopped
from overparam.pipeline.settings import JobSettings
from overparam.problem.integrands import get_integrand
from overparam.train.gauss_newton import GaussNewtonResult
from overparam.train.gradient_descent import TrainResult


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a tangent kernel.

    Attributes:
        eigenvalues: In decreasing order.
        points: Number of points they belong to: all, or a random subset where the full spectrum is
            out of reach; then they are those of K on the subset, scaled like the full kernel.
        total: Number of points of the full kernel.
    """

    eigenvalues: Float[np.ndarray, " m"]
    points: int
    total: int


@dataclass(frozen=True)
class Anchored:
    """The anchored half of a job.

    Attributes:
        gauss_newton: How Gauss-Newton went, if it was to reach the anchor. The anchor is where it
            ended, unless that is not certified and there is a network stopped early: then that.
        params: The anchor's parameters, float64.
        distance: |theta_anchor - theta_0|.
        certificate: The anchored certificate.
        run: Gradient descent from the anchor in float64, held against the certificate; None if
            that does not certify.
        spectrum: Of the kernel at the anchor.
    """

    gauss_newton: GaussNewtonResult | None
    params: Params
    distance: float
    certificate: Certificate
    run: TrainResult | None
    spectrum: Spectrum


@dataclass(frozen=True)
class JobResult:
    """The main job's result.

    Attributes:
        settings: What was asked for.
        dataset: The data.
        model: The network.
        initial_params: theta_0.
        initial: The certificate from initialisation.
        initial_spectrum: Of the kernel at theta_0.
        descent: The optimiser's run from theta_0.
        linearised: The linearised model's excess at the same steps; None unless the optimiser was
            gradient descent.
        anchored: None if no anchor was asked for.
        stopped: The network that does not fit every row, whether or not it is the final one; None
            if Gauss-Newton was not asked for, if fitting everything is best leave-one-out, or if
            the kernel is too large to tell.
        obstacle: What stood in the way; None if Gauss-Newton fitted the data or was not asked.
        consequences: What follows from convergence; None if it was not asked for.
        errors: Errors by part: ``train`` and ``test`` (if there is a test part), each as
            ``Dataset.test_error`` gives them, of the final network.
        seconds: Seconds by phase, in order.
        errors_before: The same before Gauss-Newton fitted the training points; empty if it did not.
    """

    settings: JobSettings
    dataset: Dataset
    model: MLP
    initial_params: Params
    initial: Certificate
    initial_spectrum: Spectrum
    descent: TrainResult
    linearised: Float[np.ndarray, " t"] | None
    anchored: Anchored | None
    stopped: Stopped | None
    obstacle: Obstacle | None
    consequences: Consequences | None
    errors: dict[str, dict]
    seconds: dict[str, float]
    errors_before: dict[str, dict] = field(default_factory=dict)

    @property
    def zero_loss(self) -> bool:
        """Whether a minimum of the loss fits all the data."""
        return zero_is_attained(self.settings.loss, self.dataset)

    @property
    def final_params(self) -> Params:
        """The anchor's parameters, or the optimiser's last ones without an anchor."""
        return self.descent.params if self.anchored is None else self.anchored.params

    @property
    def certificate(self) -> Certificate:
        """The certificate about the final parameters, else the one from initialisation."""
        return self.initial if self.anchored is None else self.anchored.certificate


def zero_is_attained(loss: str, dataset: Dataset) -> bool:
    """Whether the infimum of a loss is zero, so that a minimum fits all the training points.

    Args:
        loss: Its spelling.
        dataset: The data.
    """
    targets = dataset.train.y
    assert targets is not None, "a job has targets"
    return bool(np.all(np.asarray(get_integrand(loss).infimum(targets)) == 0))
