"""The settings of the main job, validated in one place."""

import math
from dataclasses import dataclass

import optax

from overparam.choices import FINISHES, OPTIMIZERS, RIGOURS, Rigor
from overparam.errors import InputError
from overparam.kernel.memory import available_memory
from overparam.limits import (
    MOST_STEPS,
    MOST_WIDTH,
    require_depth,
    require_scales,
    require_seed,
    require_whole,
)
from overparam.model.activation import Activation, get_activation
from overparam.problem.integrands import get_integrand
from overparam.risk.requirements import require_confidence


@dataclass(frozen=True)
class JobSettings:
    """What ``overparam certify`` does to a data set.

    Attributes:
        width: Units of each hidden layer.
        depth: Number of hidden layers; 0 is a linear model.
        activation: Name of the activation.
        loss: Spelling of the integrand, such as ``huber:0.5``.
        seed: Of the initialisation.
        output_scale: c, the factor on the network's output.
        weight_scale: s_w.
        bias_scale: s_b.
        centered: Whether the network's initial value is subtracted.
        steps: Steps of the optimiser from the initialisation.
        optimizer: ``gd`` (the theorem's), or an optax optimiser's name.
        learning_rate: Its step size; None means the theorem's for ``gd``, 1e-3 for the others.
        dtype: Precision of these steps; None means float32, or float64 with ``finish="none"``,
            since an anchor needs a smaller residual than float32 can show.
        until_certified: Whether to go on to an anchor.
        finish: ``gauss-newton``, or ``none``: only the optimiser, in rounds of doubling length.
        max_steps: Bound on the optimiser's steps with ``finish="none"``.
        anchor_steps: Steps of gradient descent from the anchor, held against its certificate.
        rigor: ``computed``, or ``proved``: certificates with rounding included.
        consequences: Whether to measure what follows from convergence: implicit regularisation,
            laziness, learning-rate transfer, bounds on the risk.
        confidence: Of each bound on the risk, between 0 and 1.
        memory: Bytes the job may use; None means what is free.

    Raises:
        InputError: A setting is unusable; the message names it.
    """

    width: int = 512
    depth: int = 2
    activation: str | Activation = "gelu"
    loss: str = "squared"
    seed: int = 0
    output_scale: float = 1.0
    weight_scale: float = 1.0
    bias_scale: float = 0.1
    centered: bool = True
    steps: int = 100
    optimizer: str = "gd"
    learning_rate: float | None = None
    dtype: str | None = None
    until_certified: bool = True
    finish: str = "gauss-newton"
    max_steps: int = 100_000
    anchor_steps: int = 25
    rigor: Rigor = "computed"
    consequences: bool = True
    confidence: float = 0.95
    memory: int | None = None

    def __post_init__(self) -> None:
        self._whole("width", 1, MOST_WIDTH)
        require_depth(self.depth)
        require_seed(self.seed)
        self._whole("steps", 0, MOST_STEPS)
        self._whole("max_steps", 1, MOST_STEPS)
        self._whole("anchor_steps", 0, MOST_STEPS)
        require_scales(
            self.depth + 1,
            weight_scale=self.weight_scale,
            bias_scale=self.bias_scale,
            output_scale=self.output_scale,
        )
        if self.dtype is not None:
            self._one_of("dtype", ("float32", "float64"))
        self._one_of("finish", FINISHES)
        self._one_of("rigor", RIGOURS)
        self._one_of("optimizer", OPTIMIZERS)
        require_confidence(self.confidence)
        get_integrand(self.loss)
        rate = self.learning_rate
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InputError(f"learning_rate must be positive and finite, not {rate!r}")
        act = get_activation(self.activation)
        if act.curvature_bound is None and self.depth and self.optimizer == "gd" and rate is None:
            raise InputError(
                f"the activation {act.name} has no bound on act'', its second derivative, so no "
                "theorem gives gradient descent a step: choose a smooth one such as gelu, "
                "softplus, silu or tanh, or give learning_rate"
            )

    @property
    def step(self) -> float | None:
        """eta asked for with ``gd``; None leaves it to the theorem."""
        return self.learning_rate if self.optimizer == "gd" else None

    @property
    def training_dtype(self) -> str:
        """The precision the optimiser's steps run in."""
        alone = self.until_certified and self.finish == "none"
        return self.dtype or ("float64" if alone else "float32")

    @property
    def budget(self) -> int:
        """Bytes the job may use."""
        return available_memory() if self.memory is None else self.memory

    def optax_optimizer(self) -> optax.GradientTransformation:
        """The optax transformation of an optimiser other than ``gd``."""
        rate = 1e-3 if self.learning_rate is None else self.learning_rate
        if self.optimizer == "momentum":
            return optax.sgd(rate, momentum=0.9)
        return getattr(optax, self.optimizer)(rate)

    def _whole(self, name: str, least: int, most: int | None = None) -> None:
        require_whole(name, getattr(self, name), least, most)

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise InputError(
                f"unknown {name} {getattr(self, name)!r}: choose from {', '.join(choices)}"
            )
