"""Adapters of low rank: W + B A / sqrt(r) in place of W, where A and B move and W is kept.

Only r (m + n) numbers move in a layer of m n. B starts at 0, so that training starts from the given
network, and A from N(0, 1). How much the Jacobian can change is docs/trainable.md, Proposition F5.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_whole
from overparam.model.mlp import MLP, Params
from overparam.model.trainable import KINDS, Trainable, trained_arrays
from overparam.precision import as_float64
from overparam.randomness import require_key

Adapters = dict[str, dict[str, Any]]
"""By the name of the weights: {"weights.0": {"a": (r, n), "b": (m, r)}, ...}."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """A perceptron whose adapters move; a function of them, as any that a ``Problem`` takes.

    Args:
        model: The network.
        params: Its parameters, which are kept.
        rank: r >= 1.
        adapted: Which weights have adapters, as for ``trainable``: "weights", "weights.1", ...

    Raises:
        InputError: The rank is no positive whole number, parameters do not fit the network, or
            ``adapted`` names no weights.
    """

    model: MLP
    params: Params
    rank: int
    adapted: Trainable = "weights"
    layers: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        require_whole("rank", self.rank, 1)
        self.model.validate(self.params)
        trained = trained_arrays(self.adapted, self.model.layers)
        layers = tuple(layer for layer, (weights, _) in enumerate(trained) if weights)
        if not layers:
            raise InputError(f"adapted={self.adapted!r} names no weights: say weights.0, say")
        names = [f"{KINDS[0]}.{layer}" for layer in layers]
        object.__setattr__(self, "model", replace(self.model, trainable=names))
        object.__setattr__(self, "params", as_float64(self.params))
        object.__setattr__(self, "layers", layers)

    def init(self, key: Array) -> Adapters:
        """Draw A ~ N(0, 1), float32, with B = 0."""
        found = {}
        keys = jax.random.split(require_key(key), len(self.layers))
        for layer, fresh in zip(self.layers, keys, strict=True):
            n, m = self.model.widths[layer : layer + 2]
            a = jax.random.normal(fresh, (self.rank, n), jnp.float32)
            found[f"{KINDS[0]}.{layer}"] = {"a": a, "b": jnp.zeros((m, self.rank), jnp.float32)}
        return found

    def merged(self, adapters: Adapters) -> Params:
        """The parameters of the network with its adapters; traceable."""
        dtype = jnp.result_type(*jax.tree.leaves(adapters))
        weights, biases = jax.tree.map(lambda a: jnp.asarray(a, dtype), self.params)
        changed = list(weights)
        for layer in self.layers:
            parts = adapters[f"{KINDS[0]}.{layer}"]
            changed[layer] = weights[layer] + (parts["b"] @ parts["a"]) / math.sqrt(self.rank)
        return tuple(changed), biases

    def __call__(self, adapters: Adapters, x: Float[Array | np.ndarray, "n d"]) -> Array:
        """The network's outputs, (n, k)."""
        return self.model.apply(self.merged(adapters), x)
