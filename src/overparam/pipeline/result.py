"""What a job gives: certificates, runs and errors, in the order they came about."""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from overparam.certificate.certificate import Certificate
from overparam.data import Dataset
from overparam.importers.imported_network import ImportedNetwork
from overparam.model.function import parameter_norm
from overparam.model.mlp import MLP, Params
from overparam.pipeline.consequences import Consequences
from overparam.pipeline.fitting import Obstacle, Stopped
from overparam.pipeline.settings import AnchorSettings, JobSettings
from overparam.problem.integrands import get_integrand
from overparam.risk.risk_bound import RiskBound
from overparam.train.choose_decay import ChosenDecay
from overparam.train.decayed_minimum import DecayedMinimum
from overparam.train.gauss_newton import GaussNewtonResult
from overparam.train.gradient_descent import TrainResult
from overparam.train.leave_one_out import LeftOut


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
    """Where a job went on to an anchor.

    Attributes:
        gauss_newton: How Gauss-Newton went, if it was to reach the anchor. The anchor is where it
            ended, unless that is not certified and the network stopped early, if there is one, is
            nearer to it, or is the only one that was trained to its end.
        params: The anchor's parameters, float64.
        distance: |theta_anchor - theta_0|, with the weights as they were imported for theta_0.
        certificate: The anchored certificate.
        run: Gradient descent from the anchor in float64, held against the certificate; None if
            that does not certify.
        spectrum: Of the kernel at the anchor; None of an imported network.
    """

    gauss_newton: GaussNewtonResult | None
    params: Params
    distance: float
    certificate: Certificate
    run: TrainResult | None
    spectrum: Spectrum | None


@dataclass(frozen=True)
class JobResult:
    """A job's result.

    Attributes:
        settings: What was asked for.
        dataset: The data.
        model: The network.
        initial_params: theta_0, or the weights as imported.
        initial: The certificate there.
        descent: The optimiser's run from there; of an imported network gradient descent held
            against its certificate, and None without one.
        anchored: None if no anchor was asked for, or needed.
        errors: Errors by part: ``train`` and ``test`` (if there is a test part), each as
            ``Dataset.test_error`` gives them, of the final network.
        seconds: Seconds by phase, in order.
        errors_before: The same before Gauss-Newton fitted the training points; empty if it did not.
        initial_spectrum: Of the kernel at theta_0; None of an imported network.
        linearised: The linearised model's excess at the same steps; None unless the optimiser was
            gradient descent.
        stopped: The network that does not fit every row, whether or not it is the final one; None
            if Gauss-Newton was not asked for, if fitting everything is best leave-one-out, or if
            the kernel is too large to tell.
        obstacle: What stood in the way; None if Gauss-Newton fitted the data or was not asked.
        consequences: What follows from convergence; None if it was not asked for.
        imported: The network that the job began with; None if it drew one.
        outputs: The imported network's least and largest output on the training points.
        minimum: With weight decay, how Newton's method went to the anchor.
        enough_decay: About the least weight decay that could be certified, where the training rows
            could not be fitted; None if they could, or if it is not known.
        left_out: With weight decay, each training row's prediction by a network without it; the
            seconds that they would take, if those are many; None where nothing is certified.
        decays: The weight decays that were tried, if the job was to choose one.
        risks: With weight decay, bounds on the expected loss of the network.
    """

    settings: JobSettings | AnchorSettings
    dataset: Dataset
    model: MLP
    initial_params: Params
    initial: Certificate
    descent: TrainResult | None
    anchored: Anchored | None
    errors: dict[str, dict]
    seconds: dict[str, float]
    errors_before: dict[str, dict] = field(default_factory=dict)
    initial_spectrum: Spectrum | None = None
    linearised: Float[np.ndarray, " t"] | None = None
    stopped: Stopped | None = None
    obstacle: Obstacle | None = None
    consequences: Consequences | None = None
    imported: ImportedNetwork | None = None
    outputs: tuple[float, float] | None = None
    minimum: DecayedMinimum | None = None
    enough_decay: float | None = None
    left_out: LeftOut | float | None = None
    decays: ChosenDecay | None = None
    risks: tuple[RiskBound, ...] = ()

    @property
    def zero_loss(self) -> bool:
        """Whether the infimum of the loss is zero, so that a minimum fits all the data."""
        targets = self.dataset.train.y
        assert targets is not None, "a job has targets"
        return bool(np.all(np.asarray(get_integrand(self.settings.loss).infimum(targets)) == 0))

    @property
    def final_params(self) -> Params:
        """The anchor's parameters; without one the optimiser's last ones, or as imported."""
        if self.anchored is not None:
            return self.anchored.params
        if self.descent is None or self.imported is not None:
            return self.initial_params
        return self.descent.params

    @property
    def certificate(self) -> Certificate:
        """The certificate about the final parameters, else the first one."""
        return self.initial if self.anchored is None else self.anchored.certificate

    @property
    def certificates(self) -> list[Certificate]:
        """All of them, in the order they came about."""
        return [self.initial] + ([] if self.anchored is None else [self.anchored.certificate])

    @property
    def keeps_stopped(self) -> bool:
        """Whether the final network is the one stopped early."""
        return self.stopped is not None and self.final_params is self.stopped.params

    @property
    def moved(self) -> float:
        """How far the anchor of imported weights is from them, relative to their norm."""
        assert self.anchored is not None
        size = parameter_norm(self.initial_params)
        return self.anchored.distance / size if size else math.inf
