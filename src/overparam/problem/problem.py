"""The composite problem: a loss functional of a model observed on a measure.

F : Theta -> H = L2(mu; R^k) maps parameters to the model's values on the data, f integrates a
pointwise loss, and gradient descent minimises phi = f o F. The model may be *centred*: its value
at fixed parameters is subtracted, so that F vanishes there and the residual is the target.
"""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64, in_float64, is_traced
from overparam.problem.integrands import Integrand, get_integrand
from overparam.problem.measure import Measure


class Problem:
    """The objective phi(theta) = sum_i w_i l(F(theta)(x_i), y_i) and its excess phi - f*.

    Args:
        model: The network N.
        measure: The data, with targets.
        loss: An integrand or its name.
        centered_at: Parameters theta_0; if given, F(theta) = N(theta, .) - N(theta_0, .).

    Raises:
        InputError: Shapes of model and data differ, targets are missing or unfit for the loss.
    """

    def __init__(
        self,
        model: MLP,
        measure: Measure,
        loss: Integrand | str = "squared",
        centered_at: Params | None = None,
    ) -> None:
        self.model = model
        self.measure = measure
        self.loss = get_integrand(loss)
        _check_shapes(model, measure)
        self.loss.validate_targets(self.targets)
        if centered_at is not None:
            model.validate(centered_at)
            centered_at = as_float64(centered_at)
        self.centered_at = centered_at

    @property
    def targets(self) -> Float[np.ndarray, "n k"]:
        """Targets y, float64."""
        assert self.measure.y is not None
        return self.measure.y

    @cached_property
    def offset(self) -> Float[np.ndarray, "n k"] | None:
        """N(theta_0, x_i) of a centred model in float64, None if the model is not centred."""
        if self.centered_at is None:
            return None
        with jax.ensure_compile_time_eval():  # its first use may be inside a transformation
            return in_float64(self._apply, self.centered_at, self.measure.x)

    @cached_property
    def infimum(self) -> float:
        """f* = sum_i w_i inf l_i, exact for losses with infimum zero."""
        return float(self.measure.weights @ np.asarray(self.loss.infimum(self.targets)))

    @cached_property
    def _apply(self) -> Any:
        return jax.jit(self.model.apply)

    def predict(
        self, params: Params, x: Float[Array | np.ndarray, "m d"] | None = None
    ) -> Float[Array | np.ndarray, "m k"]:
        """F(theta): the (centred) model's values.

        Args:
            params: Parameters.
            x: Other points than the measure's, shape (m, d).

        Returns:
            Shape (n, k), or (m, k) at given points. NumPy float64, unless ``params`` is traced by
            a JAX transformation: then a traced array in the precision JAX computes in.
        """
        points = self.measure.x if x is None else x
        if is_traced((params, points)):
            return self._values(params, points, self._offset_at(x))
        return in_float64(self._values, params, points, self._offset_at(x))

    def objective(self, params: Params) -> Any:
        """phi(theta), a float computed in float64; a traced scalar under JAX transformations."""
        if is_traced(params):
            return self.loss_functional(self.predict(params))
        return float(in_float64(self._objective, params))

    def excess(self, params: Params) -> Any:
        """Delta(theta) = phi(theta) - f*, with the infimum f* of the functional, not of a run."""
        return self.objective(params) - self.infimum

    def loss_functional(self, values: Float[Array | np.ndarray, "n k"]) -> Float[Array, ""]:
        """f(h) = sum_i w_i l(h_i, y_i) for values h, shape (n, k); traceable."""
        pointwise = self.loss.value(values, jnp.asarray(self.targets))
        return jnp.asarray(self.measure.weights) @ pointwise

    def residual(self, params: Params) -> Float[np.ndarray, "n k"]:
        """From F(theta) to the nearest minimiser of f: y - F(theta) for the squared loss."""
        values = self.predict(params)
        return np.asarray(self.loss.nearest_minimiser(values, self.targets)) - np.asarray(values)

    @cached_property
    def _objective(self) -> Any:
        return jax.jit(lambda params: self.loss_functional(self.predict(params)))

    def _values(self, params: Params, x: Any, offset: Any) -> Any:
        values = self._apply(params, x)
        return values if offset is None else values - jnp.asarray(offset)

    def _offset_at(self, x: Any) -> Any:
        if x is None or self.centered_at is None:
            return self.offset
        with jax.ensure_compile_time_eval():
            return in_float64(self._apply, self.centered_at, x)


def _check_shapes(model: MLP, measure: Measure) -> None:
    if measure.y is None:
        raise InputError("the measure has no targets: build it as Measure(x, y)")
    if measure.dim != model.in_dim:
        raise InputError(
            f"the data have {measure.dim} features but the model takes in_dim={model.in_dim}"
        )
    if measure.y.shape[1] != model.out_dim:
        raise InputError(
            f"the targets have {measure.y.shape[1]} columns but the model out_dim={model.out_dim}"
        )
