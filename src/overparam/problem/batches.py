"""How the points of a batch are drawn: anew each step, or every point once an epoch."""

from typing import Annotated, Any, get_args

import numpy as np
from jaxtyping import Float, Int
from msgspec import UNSET, Meta, Struct, UnsetType

from overparam.choices import Sampling
from overparam.errors import InputError
from overparam.limits import require_choice, require_whole
from overparam.problem.measure import Measure


class Batches(Struct, frozen=True, forbid_unknown_fields=True):
    """Batches of b points, and how they are drawn.

    Attributes:
        size: b.
        sampling: See ``overparam.choices.Sampling``.
        seed: Of the first batches of a run, where a claim is about these.
    """

    size: Annotated[int, Meta(ge=1)]
    sampling: Sampling = "subsets"
    seed: Annotated[int, Meta(ge=0)] | UnsetType = UNSET

    def factors(self, measure: Measure) -> Float[np.ndarray, " n"]:
        """v_i: a batch's gradient is the mean of v_i times those of its points."""
        if self.sampling == "replacement":
            return np.ones(measure.n)
        return measure.n * measure.weights

    def in_an_epoch(self, measure: Measure) -> int:
        """m, the batches that hold every point once."""
        return measure.n // self.size

    def drawn(self, measure: Measure, seed: int, step: int) -> Int[np.ndarray, " b"]:
        """The points of a step's batch; the same ones whenever they are asked for."""
        if self.sampling == "epochs":
            epoch, place = divmod(step, self.in_an_epoch(measure))
            order = np.random.default_rng([seed, epoch]).permutation(measure.n)
            return order[place * self.size : (place + 1) * self.size]
        rng = np.random.default_rng([seed, step])
        if self.sampling == "replacement":
            return rng.choice(measure.n, self.size, p=measure.weights)
        return rng.choice(measure.n, self.size, replace=False)


def get_batches(measure: Measure, batch_size: Any, sampling: Any = "subsets") -> Batches:
    """The batches that arguments of these names describe.

    Raises:
        InputError: The size is no whole number from 1 to n, or epochs would leave points over.
    """
    require_choice("sampling", sampling, get_args(Sampling))
    size = require_whole("batch_size", batch_size, 1)
    if size > measure.n:
        raise InputError(f"batch_size must be at most the {measure.n} points, not {size}")
    if sampling == "epochs" and measure.n % size:
        raise InputError(
            f"batches of {size} leave {measure.n % size} of the {measure.n} points over in an "
            f"epoch: choose a batch_size that divides {measure.n}, or another sampling"
        )
    return Batches(size, sampling)
