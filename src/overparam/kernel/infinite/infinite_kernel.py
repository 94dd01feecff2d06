"""The kernels of the infinitely wide network tile by tile."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from overparam.kernel.infinite import fast
from overparam.kernel.infinite.closed_forms import closed_form
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.kernel.infinite.quadrature import MOST_TERMS
from overparam.kernel.tiles import Computer, TiledKernel, Tiling, describe_inputs
from overparam.limits import require_choice
from overparam.model.mlp import MLP


class InfiniteKernel(TiledKernel):
    """The infinite network's kernel, not computed yet: what :func:`write_kernel` takes.

    One number a pair of inputs, whatever the number of outputs: see ``infinite_ntk``.

    Args:
        model: The network; its widths are ignored, their number is the depth.
        x1: Inputs of the rows, shape (n1, d).
        x2: Inputs of the columns, shape (n2, d); None means ``x1``.
        kind: ``ntk`` or ``nngp``.
        dtype: float32 or float64 for the result; by default float64 if an input is, else float32.

    Raises:
        InputError: Shapes do not fit the model, or an entry is not finite.
    """

    outputs = 1

    def __init__(
        self,
        model: MLP,
        x1: Float[Array | np.ndarray, "n1 d"],
        x2: Float[Array | np.ndarray, "n2 _"] | None = None,
        *,
        kind: str = "ntk",
        dtype: str | None = None,
    ) -> None:
        require_choice("kind", kind, ("ntk", "nngp"))
        super().__init__(model, x1, x2, dtype)
        self.kind = kind
        self.x1, self.x2 = self.x1.astype(np.float64), self.x2.astype(np.float64)

    def describe(self) -> dict[str, Any]:
        """The kind, the network with the number of its hidden layers, and digests of the points."""
        return {
            "kernel": f"infinite {self.kind.upper()}",
            "depth": len(self.model.hidden_widths),
            **describe_inputs(self),
        }

    def working_bytes(self, side: int) -> int:
        """Both kernels in float64, a copy of the one asked for, and what the points need."""
        most = MOST_TERMS * len(self.model.hidden_widths)
        terms = most if closed_form(self.model.act) is None else 0
        pairs = (2 * self.x1.itemsize + 2 * self.dtype.itemsize) * side**2
        return pairs + fast.working_memory(self.model, terms, side, side)

    def computer(
        self, tiling: Tiling, working_memory: int, devices: Sequence[jax.Device] | None
    ) -> Computer:
        """On the host, in threads: it needs no device, and remembers nothing."""

        def compute(rows: tuple[slice, ...], column: slice) -> Sequence[np.ndarray]:
            (block,) = rows
            same = self.symmetric and block == column
            pair = infinite_ntk(self.model, self.x1[block], None if same else self.x2[column])
            return (np.asarray(getattr(pair, self.kind), self.dtype),)

        return Computer(compute)
