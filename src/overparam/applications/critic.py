"""The critic of a Wasserstein generative adversarial network, with gradient penalty.

A critic is trained to be large on one sample and small on another, while a penalty holds its input
gradient down where it is looked at: at both samples, and at random points on the segments between
them. The measure is on all these points, a third of the mass on each kind, and the critic is seen
through its 1-jet.

The loss is an integral: the penalty holds at its points and nowhere else. A wide critic can have
any values and any gradients at distinct points, so the global minimum is v = -c / eps at the
samples with gradients no longer than one at every point, however close the samples are. Its value
says nothing about the Wasserstein distance; ``Critic`` computes both for comparison.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from overparam.applications.application import Application, fitting_model, require_distinct
from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.model.observation import Jet
from overparam.problem.integrands.critic import CriticLoss
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.randomness import require_key


@dataclass(frozen=True)
class Critic(Application):
    """A critic that is ready to train.

    Attributes:
        real: Number of real points; the first rows of the measure.
        generated: Number of generated points; the rows after them.
    """

    real: int
    generated: int

    def estimate(self, params: ParamTree) -> float:
        """Mean critic over the real sample less that over the generated one."""
        values = np.asarray(self.problem.predict(params))[:, 0]
        end = self.real + self.generated
        return float(values[: self.real].mean() - values[self.real : end].mean())

    def gradient_norms(self, params: ParamTree) -> Float[np.ndarray, " n"]:
        """|grad v| at every point of the measure."""
        return np.linalg.norm(np.asarray(self.problem.predict(params))[:, 1:], axis=1)

    def wasserstein(self) -> float:
        """The exact 1-Wasserstein distance of the two samples, by optimal assignment.

        Raises:
            InputError: The samples differ in size.
        """
        if self.real != self.generated:
            raise InputError(
                f"the samples have {self.real} and {self.generated} points: the assignment needs "
                "as many"
            )
        x = self.problem.measure.x
        costs = cdist(x[: self.real], x[self.real : self.real + self.generated])
        rows, columns = linear_sum_assignment(costs)
        return float(costs[rows, columns].mean())


def wasserstein_critic(
    real: Float[np.ndarray, "n d"],
    generated: Float[np.ndarray, "m e"],
    key: Array,
    *,
    model: MLP | None = None,
    penalty: float = 10.0,
    drift: float = 1.0,
    two_sided: bool = False,
    between: int | None = None,
) -> Critic:
    """Build a critic with one hidden layer on two samples.

    Args:
        real: Points where the critic should be large, shape (n, d).
        generated: Points where it should be small, shape (m, d).
        key: For the points between and the initial parameters.
        model: A network with a smooth activation; with one hidden layer, the modulus of the 1-jet
            is a bound. None takes 512 units of ``tanh``.
        penalty: lambda, the weight of the gradient penalty.
        drift: eps, the weight of the drift term that gives the loss its minimum.
        two_sided: Whether gradients shorter than one are penalised, too.
        between: Points between the samples; None takes as many as the smaller sample has.

    Returns:
        The :class:`Critic`.

    Raises:
        InputError: A point is in both samples, the shapes differ, or a number is out of range.

    References:
        Gulrajani et al., Improved Training of Wasserstein GANs (2017), for the penalty; Karras et
        al., Progressive Growing of GANs (2018), for the drift; docs/applications.md.
    """
    loss = CriticLoss(penalty, drift, two_sided)
    high, low = Measure(real).x, Measure(generated).x
    if high.shape[1] != low.shape[1]:
        raise InputError(
            f"real points have {high.shape[1]} features and generated ones {low.shape[1]}"
        )
    init_key, end_key, place_key = jax.random.split(require_key(key), 3)
    count = min(len(high), len(low)) if between is None else between
    require_whole("between", count, 1)
    ends = [
        np.asarray(jax.random.choice(k, len(sample), (count,), replace=count > len(sample)))
        for k, sample in zip(jax.random.split(end_key), (high, low), strict=True)
    ]
    place = np.asarray(jax.random.uniform(place_key, (count, 1)), dtype=np.float64)
    middle = place * high[ends[0]] + (1 - place) * low[ends[1]]
    sizes = (len(high), len(low), count)
    coefficients = np.repeat([-1.0, 1.0, 0.0], sizes)
    masses = np.repeat([1 / size for size in sizes], sizes)
    model = fitting_model(model, high.shape[1], 1, "tanh")
    x = np.concatenate([high, low, middle])
    measure = Measure(x, Jet().pack(coefficients, np.zeros_like(x)), masses)
    require_distinct(
        measure,
        "of the real, the generated and those between them, in this order; the critic has one jet "
        "there, so J is not onto; drop one of them",
    )
    problem = Problem(model, measure, loss, observe="jet")
    return Critic(problem, model.init(init_key), len(high), len(low))
