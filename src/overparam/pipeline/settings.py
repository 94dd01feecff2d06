"""The settings of the two jobs, validated in one place."""

from dataclasses import dataclass
from typing import get_args

import optax

from overparam.certificate.certificate import Theorem
from overparam.choices import AUTO, DECAYS, FINISHES, OPTIMIZERS, RIGOURS, Rigor, Sampling
from overparam.errors import InputError
from overparam.limits import (
    MOST_STEPS,
    MOST_WIDTH,
    require_choice,
    require_depth,
    require_positive,
    require_scales,
    require_seconds,
    require_seed,
    require_whole,
)
from overparam.memory import available_memory
from overparam.model.activation import Activation, get_activation
from overparam.model.trainable import trained_arrays
from overparam.problem.integrands import get_integrand, require_attained
from overparam.problem.problem import require_decay
from overparam.risk.requirements import require_confidence


@dataclass(frozen=True)
class JobSettings:
    """What ``overparam certify`` does to a data set.

    Attributes:
        width: Units of each hidden layer.
        depth: Number of hidden layers; 0 is a linear model.
        activation: Name of the activation.
        loss: Spelling of the integrand, such as ``huber:0.5``.
        weight_decay: lambda, towards the initialisation of a centred network, else towards 0; 0
            for none. With it the job goes to the objective's minimum, and Theorem R speaks.
            ``auto`` chooses it by the leave-one-out error, see ``training.choose_decay``.
        trainable: What moves: "all", "last layer", "layers.1:", "weights", ..., see ``MLP``.
        batch_size: Points of a mini-batch, of which Theorem S speaks; None for all of them.
        sampling: How they are drawn, as in ``gradient_descent``.
        seed: Of the initialisation.
        output_scale: c, the factor on the network's output.
        weight_scale: s_w.
        bias_scale: s_b.
        centered: Whether the network's initial value is subtracted.
        budget: Seconds that Theorem C may take from the initialisation, with float64 steps of its
            own, where Theorem 1 does not certify; 0 for none.
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
        theorem: The only one to certify the initialisation with; None tries one after the other.
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
    weight_decay: float | int | str = 0.0
    trainable: str = "all"
    batch_size: int | None = None
    sampling: Sampling = "subsets"
    seed: int = 0
    output_scale: float = 1.0
    weight_scale: float = 1.0
    bias_scale: float = 0.1
    centered: bool = True
    budget: float | int = 0.0
    steps: int = 100
    optimizer: str = "gd"
    learning_rate: float | None = None
    dtype: str | None = None
    until_certified: bool = True
    finish: str = "gauss-newton"
    max_steps: int = 100_000
    anchor_steps: int = 25
    rigor: Rigor = "computed"
    theorem: Theorem | None = None
    consequences: bool = True
    confidence: float = 0.95
    memory: int | None = None

    def __post_init__(self) -> None:
        require_whole("width", self.width, 1, MOST_WIDTH)
        require_depth(self.depth)
        require_seed(self.seed)
        for name, least in (("steps", 0), ("max_steps", 1), ("anchor_steps", 0)):
            require_whole(name, getattr(self, name), least, MOST_STEPS)
        require_scales(
            self.depth + 1,
            weight_scale=self.weight_scale,
            bias_scale=self.bias_scale,
            output_scale=self.output_scale,
        )
        if self.dtype is not None:
            require_choice("dtype", self.dtype, ("float32", "float64"))
        require_choice("finish", self.finish, FINISHES)
        require_choice("rigor", self.rigor, RIGOURS)
        if self.theorem is not None:
            require_choice("theorem", self.theorem, get_args(Theorem))
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        require_confidence(self.confidence)
        require_attained(get_integrand(self.loss), self.decay)
        if self.theorem is not None and (self.theorem == "R") != bool(self.weight_decay):
            about = "with" if self.theorem == "R" else "without"
            raise InputError(f"Theorem {self.theorem} is about problems {about} weight_decay")
        if self.batch_size is not None and self.weight_decay:
            raise InputError("Theorem S (batch_size) knows no weight_decay: leave one of them out")
        if self.theorem is not None and (self.theorem == "S") != (self.batch_size is not None):
            about = "with" if self.theorem == "S" else "without"
            raise InputError(f"Theorem {self.theorem} is about descent {about} batch_size")
        require_seconds("budget", self.budget)
        rate = self.learning_rate
        if rate is not None:
            require_positive("learning_rate", rate)
        act = get_activation(self.activation)
        bends = any(map(any, trained_arrays(self.trainable, self.depth + 1)[:-1]))
        if act.curvature_bound is None and bends and self.optimizer == "gd" and rate is None:
            raise InputError(
                f"the activation {act.name} has no bound on act'', its second derivative, so no "
                "theorem gives gradient descent a step: choose a smooth one such as gelu, "
                "softplus, silu or tanh, or give learning_rate"
            )

    @property
    def chooses_decay(self) -> bool:
        """Whether the job chooses the weight decay."""
        return self.weight_decay == AUTO

    @property
    def decay(self) -> float:
        """lambda; the largest of those to be tried where the job chooses."""
        return max(DECAYS) if self.chooses_decay else require_decay(self.weight_decay)

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
    def available(self) -> int:
        """Bytes the job may use."""
        return available_memory() if self.memory is None else self.memory

    def optax_optimizer(self) -> optax.GradientTransformation:
        """The optax transformation of an optimiser other than ``gd``."""
        rate = 1e-3 if self.learning_rate is None else self.learning_rate
        if self.optimizer == "momentum":
            return optax.sgd(rate, momentum=0.9)
        return getattr(optax, self.optimizer)(rate)


@dataclass(frozen=True)
class AnchorSettings:
    """What ``overparam anchor`` does to a network.

    Attributes:
        loss: Spelling of the integrand, such as ``smoothed_cross_entropy:0.1``.
        trainable: What moves: "all", "last layer", "layers.1:", "weights", ..., see ``MLP``.
        polish: Gauss-Newton steps at most towards an anchor; 0 leaves the weights alone.
        check_steps: Steps of gradient descent from the anchor, held against its certificate.
        rigor: ``computed``, or ``proved``: certificates with rounding included.

    Raises:
        InputError: A setting is unusable; the message names it.
    """

    loss: str = "squared"
    trainable: str = "all"
    polish: int = 0
    check_steps: int = 100
    rigor: Rigor = "computed"

    def __post_init__(self) -> None:
        for name in ("polish", "check_steps"):
            require_whole(name, getattr(self, name), 0, MOST_STEPS)
        require_choice("rigor", self.rigor, get_args(Rigor))
        get_integrand(self.loss)
