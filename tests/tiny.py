"""Small problems that the tests of this folder attack: weights not uniform, several outputs."""

from dataclasses import dataclass

import jax
import numpy as np

from overparam import MLP, Measure, Problem


@dataclass(frozen=True)
class Tiny:
    """A network on a few random points."""

    hidden: tuple[int, ...]
    activation: str
    outputs: int
    points: int = 5
    in_dim: int = 3
    weight_scale: float = 1.0
    bias_scale: float = 0.1
    output_scale: float = 1.0

    @property
    def model(self) -> MLP:
        return MLP(
            self.in_dim,
            self.hidden,
            self.outputs,
            activation=self.activation,
            weight_scale=self.weight_scale,
            bias_scale=self.bias_scale,
            output_scale=self.output_scale,
        )

    def __str__(self) -> str:
        return f"{self.activation}-{'x'.join(map(str, self.hidden)) or 'linear'}-{self.outputs}"

    def measure(self, seed: int) -> Measure:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((self.points, self.in_dim))
        y = np.where(rng.standard_normal((self.points, self.outputs)) < 0, -1.0, 1.0)
        return Measure(x, y, rng.uniform(0.2, 3.0, self.points))

    def start(self, seed: int):
        """Initial parameters in float64."""
        params = self.model.init(jax.random.key(seed))
        return jax.tree.map(lambda a: np.asarray(a, np.float64), params)

    def problem(
        self, seed: int, loss: str = "squared", *, centred: bool = False, target_scale: float = 1.0
    ) -> Problem:
        measure, centre = self.measure(seed), self.start(seed) if centred else None
        measure = Measure(measure.x, target_scale * measure.y, measure.weights)
        return Problem(self.model, measure, loss, centered_at=centre)
