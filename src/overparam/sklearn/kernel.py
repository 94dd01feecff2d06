r"""The tangent kernel for scikit-learn's Gaussian processes, kernel ridge and support vectors.

Its hyperparameters are the logarithms of the scales s_w and s_b, in which the recursion over layers
is differentiated by JAX: no finite differences.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.gaussian_process.kernels import Hyperparameter, Kernel

from overparam.errors import InputError
from overparam.kernel.infinite.infinite_ntk import infinite_ntk, infinite_ntk_diagonal
from overparam.limits import require_whole
from overparam.model.mlp import MLP

BOUNDS = (1e-2, 1e2)
"""Between which an optimiser looks for a scale, unless told otherwise."""


@dataclass(repr=False, eq=False)
class NTKKernel(Kernel):
    """The kernel of the infinitely wide network, or the covariance of its output at the start.

    An instance is what ``GaussianProcessRegressor`` takes as ``kernel``, with its scales as
    hyperparameters, and just as well ``KernelRidge`` and ``SVC``, with the scales given. Inputs are
    best standardised before. A factor on the output is ``ConstantKernel() * NTKKernel()``.

    Args:
        depth: Number of hidden layers.
        activation: A name, such as ``relu``, ``gelu``, ``erf``, ``tanh``, or an ``Activation``.
        weight_scale: s_w > 0.
        bias_scale: s_b > 0; or 0 with ``bias_scale_bounds="fixed"``.
        weight_scale_bounds: Between which it is looked for, or ``fixed``.
        bias_scale_bounds: The same for s_b.
        kind: ``ntk``, or ``nngp`` for the covariance.
    """

    depth: int = 2
    activation: Any = "gelu"
    weight_scale: float = 1.0
    bias_scale: float = 0.5
    weight_scale_bounds: Any = BOUNDS
    bias_scale_bounds: Any = BOUNDS
    kind: str = "ntk"

    @property
    def hyperparameter_weight_scale(self) -> Hyperparameter:
        """s_w, as scikit-learn looks for it."""
        return Hyperparameter("weight_scale", "numeric", self.weight_scale_bounds)

    @property
    def hyperparameter_bias_scale(self) -> Hyperparameter:
        """s_b, as scikit-learn looks for it."""
        return Hyperparameter("bias_scale", "numeric", self.bias_scale_bounds)

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        """The kernel between rows.

        Args:
            X: Shape (n, d).
            Y: Shape (p, d); None means ``X``.
            eval_gradient: Whether to differentiate it, for ``Y=None``.

        Returns:
            Shape (n, p); with ``eval_gradient`` the pair of it and of its derivatives in the
            logarithms of the scales that are not fixed, (n, n, scales).

        Raises:
            InputError: Derivatives between two sets of rows were asked for, or the arguments of the
                kernel are unusable.
        """
        x = _rows(X)
        if not eval_gradient:
            pair = infinite_ntk(self._model(x), x, None if Y is None else _rows(Y))
            return np.asarray(getattr(pair, self.kind))
        if Y is not None:
            raise InputError("the kernel is differentiated with Y=None only")
        scales = np.array([self.bias_scale, self.weight_scale])  # in scikit-learn's order
        with jax.enable_x64(True):
            plain = replace(self._model(x), weight_scale=1.0, bias_scale=1.0)
            value, slopes = map(np.asarray, _with_slopes(plain, self.kind, scales, x))
        free = [not each.fixed for each in self.hyperparameters]
        return value, (slopes * scales)[:, :, free]

    def diag(self, X: Any) -> Float[np.ndarray, " n"]:
        """The kernel of each row with itself.

        Args:
            X: Shape (n, d).
        """
        x = _rows(X)
        return np.asarray(getattr(infinite_ntk_diagonal(self._model(x), x), self.kind))

    def is_stationary(self) -> bool:
        """Whether it depends on differences alone: it does not."""
        return False

    def _model(self, x: np.ndarray) -> MLP:
        if self.kind not in ("ntk", "nngp"):
            raise InputError(f"kind must be ntk or nngp, not {self.kind!r}")
        widths = (1,) * require_whole("depth", self.depth, 0)
        scales = float(self.weight_scale), float(self.bias_scale)
        return MLP(x.shape[1], widths, 1, self.activation, *scales)


@partial(jax.jit, static_argnums=(0, 1))
def _with_slopes(model: MLP, kind: str, scales: Array, x: Array) -> tuple[Array, Array]:
    """The kernel (n, n), and its derivatives in (s_b, s_w), (n, n, 2)."""

    def kernel(scales: Array) -> Array:
        traced: Any = {"bias_scale": scales[0], "weight_scale": scales[1]}
        scaled = replace(model, **traced)
        return getattr(infinite_ntk(scaled, x), kind)

    return kernel(scales), jnp.asarray(jax.jacfwd(kernel)(scales))


def _rows(X: Any) -> Float[np.ndarray, "n d"]:
    return np.atleast_2d(np.asarray(X, dtype=np.float64))
