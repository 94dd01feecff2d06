"""The composite problem: a loss functional of a model observed on a measure, and weight decay.

F : Theta -> H = L2(mu; R^K) maps parameters to what is observed of the model on the data (its
values, or also its derivatives in the input), f integrates a pointwise loss, and gradient descent
minimises phi = f o F. The model may be *centred*: what is observed at fixed parameters is
subtracted, so that F vanishes there and the residual is the target. With weight decay lambda the
objective is phi_lambda = f o F + lambda / 2 |theta - theta_ref|^2.
"""

import math
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.model.composed import Composed
from overparam.model.function import (
    Function,
    Network,
    ParamTree,
    as_function,
    compiled,
    covering_network,
    observe_function,
    partly_trained,
    squared_norm,
    train_only,
)
from overparam.model.mlp import MLP
from overparam.model.observation import Observation, Value, get_observation, observed
from overparam.model.trainable import PartlyTrained, Trainable
from overparam.precision import as_float64, evaluate, in_float64, on_host, widened
from overparam.problem.integrands import Integrand, get_integrand, require_attained
from overparam.problem.integrands.labels import how_to_encode
from overparam.problem.measure import Measure


class Problem:
    """The objective phi(theta) = sum_i w_i l(F(theta)(x_i), y_i) and its excess phi - f*.

    Args:
        model: The network N: an ``MLP``, or any JAX function N(params, x) of shape (n, k).
        measure: The data, with targets: K columns, in the layout of the observation.
        loss: An integrand or its name.
        centered_at: Parameters theta_0; if given, F(theta) = g(theta, .) - g(theta_0, .).
        weight_decay: lambda >= 0; 0 for none.
        trainable: What moves, of an ``MLP`` "last layer", "layers.1:", "weights", ... (see
            :class:`~overparam.model.mlp.MLP`), of a function names as in the path to an array
            ("dense", "dense.kernel"), of both a pytree of booleans; None for what the model says.
            Everything is then about these parameters: the others keep their values, and are no part
            of the Jacobian, of distances, or of the weight decay.
        decay_to: theta_ref; None stands for ``centered_at``, and for 0 where the model is not
            centred.
        observe: What the loss sees of the model at a point, g: "value", "jet" (value and input
            gradient), "laplacian" (value, gradient, Laplacian), or an ``Observation``.

    Raises:
        InputError: Shapes of model and data differ, targets are missing or unfit for the loss, the
            activation lacks a derivative that the observation needs, the weight decay is negative
            or no number, or ``trainable`` names what is not there, or nothing.

    References:
        docs/observations.md; docs/weight_decay.md; docs/trainable.md.
    """

    @on_host
    def __init__(
        self,
        model: Network,
        measure: Measure,
        loss: Integrand | str = "squared",
        centered_at: ParamTree | None = None,
        weight_decay: float | int = 0.0,
        trainable: Trainable | None = None,
        *,
        decay_to: ParamTree | None = None,
        observe: Observation | str = "value",
    ) -> None:
        if not isinstance(model, MLP) and not callable(model):
            raise InputError(f"model must be an MLP or a function f(params, x), not {model!r}")
        self.model = model if trainable is None else train_only(model, trainable)
        self.measure = measure
        self.observation = get_observation(observe)
        self.observed = observed(self.model, self.observation)
        _check_shapes(self)
        self.loss = get_integrand(loss).for_outputs(measure.outputs)
        self.loss.validate_targets(self.targets)
        if centered_at is not None:
            self.validate(centered_at)
            centered_at = as_float64(centered_at)
        self.centered_at = centered_at
        self.weight_decay = require_decay(weight_decay)
        require_attained(self.loss, self.weight_decay)
        self.decay_to = centered_at
        if decay_to is not None:
            if not self.weight_decay:
                raise InputError("decay_to is given but no weight_decay: give one above 0, too")
            self.validate(decay_to)
            self.decay_to = as_float64(decay_to)

    def __repr__(self) -> str:
        more = "" if self.centered_at is None else ", centred"
        more += f", weight_decay={self.weight_decay!r}" if self.weight_decay else ""
        return f"Problem({self.model!r}, {self.measure!r}, {self.loss!r}{more})"

    @property
    def outputs(self) -> int:
        """K, the number of columns that the loss sees: the model's outputs if it sees values."""
        return self.measure.outputs

    @property
    def mlp(self) -> MLP:
        """The model, for what is known of an ``MLP`` whose values are observed; see below."""
        return plain_network(self, "this")

    @property
    def network(self) -> MLP | Composed:
        """The model, for what is known of all networks whose layers are, see below."""
        return layered_network(self, "this")

    @cached_property
    def function(self) -> Function:
        """g(params, x), shape (n, K): what is observed of the model, not centred."""
        return as_function(self.observed)

    def validate(self, params: ParamTree) -> None:
        """Check that parameters fit the model, and what it shows the targets.

        Raises:
            InputError: They do not.
        """
        if isinstance(self.model, MLP):
            self.model.validate(params)
            return
        if isinstance(self.model, Composed):
            self.model.validate(params)
        if isinstance(self.model, PartlyTrained):
            self.model.mask(params)  # whose complaint is clearer than the function's
        columns, _ = observe_function(self.function, params, x=self.measure.x)
        if columns != self.outputs:
            seen = _wrong_columns(self, f"the loss sees {columns}")
            raise InputError(f"{seen}{how_to_encode(self.targets, columns)}")

    @property
    def targets(self) -> Float[np.ndarray, "n k"]:
        """Targets y, float64."""
        assert self.measure.y is not None
        return self.measure.y

    @cached_property
    def offset(self) -> Float[np.ndarray, "n k"] | None:
        """g(theta_0, x_i) of a centred model in float64, None if the model is not centred."""
        if self.centered_at is None:
            return None
        return evaluate(self._apply, self.centered_at, self.measure.x)

    @cached_property
    def infimum(self) -> float:
        """f* = sum_i w_i inf l_i, exact for losses with infimum zero."""
        return float(self.measure.weights @ np.asarray(self.loss.infimum(self.targets)))

    @property
    def _apply(self) -> Any:
        return compiled(self.function)  # kept there, not here: a compiled program has no pickle

    def predict(
        self, params: ParamTree, x: Float[Array | np.ndarray, "m d"] | None = None
    ) -> Float[Array | np.ndarray, "m k"]:
        """F(theta): what is observed of the (centred) model.

        Args:
            params: Parameters.
            x: Other points than the measure's, shape (m, d).

        Returns:
            Shape (n, k), or (m, k) at given points. NumPy float64, unless ``params`` is traced by
            a JAX transformation: then a traced array in the precision JAX computes in.
        """
        values = evaluate(self._apply, params, self.measure.x if x is None else x)
        offset = self._offset_at(x)
        return values if offset is None else values - offset

    def objective(self, params: ParamTree) -> Any:
        """phi(theta), a float computed in float64; a traced scalar under JAX transformations."""
        return self._functional("value", params) + self.penalty(params)

    def excess(self, params: ParamTree) -> Any:
        """Delta(theta) = phi(theta) - f*, with the infimum f* of the functional, not of a run.

        Computed without the cancellation of the difference; types as for :meth:`objective`. With
        weight decay no parameters have an objective below f*, and mostly none reach it.
        """
        return self._functional("excess", params) + self.penalty(params)

    def displacement(self, params: ParamTree) -> ParamTree:
        """Theta - theta_ref, of what moves, which weight decay makes small: float64, or traced."""
        away = widened(self.moving(params))
        if self.decay_to is None:
            return away
        return jax.tree.map(lambda a, b: a - b, away, self.moving(self.decay_to))

    @property
    def all_move(self) -> bool:
        """Whether nothing is frozen."""
        return not partly_trained(self.model)

    def moving(self, params: ParamTree) -> ParamTree:
        """Zeros in place of what is frozen, in a pytree like ``params``; traceable."""
        model: Any = self.model
        return params if self.all_move else model.moving(params)

    def penalty(self, params: ParamTree) -> Any:
        """lambda / 2 |theta - theta_ref|^2, a float; a traced scalar under JAX transformations."""
        if not self.weight_decay:
            return 0.0
        away = self.displacement(params)
        return self.weight_decay / 2 * squared_norm(away)

    def _functional(self, what: Literal["value", "excess"], params: ParamTree) -> Any:
        values = self.predict(params)
        if not isinstance(values, np.ndarray):  # but traced
            traced = {"value": self.loss_functional, "excess": self.excess_functional}
            return traced[what](values)
        # All rows, and no others: a loss may have a weight for each.
        pointwise = in_float64(_pointwise, self.loss, what, values, self.targets)
        return float(self.measure.weights @ pointwise)

    def loss_functional(self, values: Float[Array | np.ndarray, "n k"]) -> Float[Array, ""]:
        """f(h) = sum_i w_i l(h_i, y_i) for values h, shape (n, k); traceable."""
        pointwise = self.loss.value(values, jnp.asarray(self.targets))
        return jnp.asarray(self.measure.weights) @ pointwise

    def excess_functional(self, values: Float[Array | np.ndarray, "n k"]) -> Float[Array, ""]:
        """f(h) - f* for values h, shape (n, k); traceable."""
        pointwise = self.loss.excess(values, jnp.asarray(self.targets))
        return jnp.asarray(self.measure.weights) @ pointwise

    @on_host
    def residual(self, params: ParamTree) -> Float[np.ndarray, "n k"]:
        """From F(theta) to the nearest minimiser of f: y - F(theta) for the squared loss."""
        return self.to_minimiser(np.asarray(self.predict(params)))

    def to_minimiser(self, values: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """From values h to the nearest minimiser of f, point by point."""
        return np.asarray(self.loss.nearest_minimiser(values, self.targets)) - values

    def _offset_at(self, x: Any) -> Any:
        if x is None or self.centered_at is None:
            return self.offset
        return evaluate(self._apply, self.centered_at, x)


WEIGHT_DECAYS = 1e-30, 1e30
"""The least and the largest weight decay, beside none."""


@partial(jax.jit, static_argnums=(0, 1))
def _pointwise(loss: Integrand, what: str, values: Array, targets: Array) -> Float[Array, " n"]:
    """A loss at each point, one program for all of its operations."""
    return getattr(loss, what)(values, targets)


def require_decay(weight_decay: object) -> float:
    """A weight decay as a float, 0 for none.

    Raises:
        InputError: It is negative, infinite, no number, or so small or large that float64 cannot
            tell it from none, or from all there is.
    """
    try:
        is_flag = isinstance(weight_decay, bool | np.bool_ | str)
        value = math.nan if is_flag else float(weight_decay)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if value and not WEIGHT_DECAYS[0] <= value <= WEIGHT_DECAYS[1]:
        least, most = WEIGHT_DECAYS
        raise InputError(
            "weight_decay must be a number, 0 (none) or more and finite, from "
            f"{least:g} to {most:g}, not {str(weight_decay)[:40]}"
        )
    return value


def require_no_decay(problem: Problem, purpose: str) -> None:
    """Raise where weight decay would be passed over.

    Args:
        problem: The problem.
        purpose: What is known without weight decay only, for the message.

    Raises:
        InputError: There is weight decay.
    """
    if problem.weight_decay:
        raise InputError(
            f"{purpose} is about problems without weight decay, and this one has weight_decay="
            f"{problem.weight_decay:g}: build it without, or see certify and anchor (Theorem R)"
        )


def plain_network(problem: Problem, purpose: str) -> MLP:
    """The problem's model, for what is known of an ``MLP`` whose values are observed only.

    Args:
        problem: The problem.
        purpose: What needs it, for the message.

    Raises:
        InputError: The model is another function, or more than its values are observed.
    """
    if isinstance(problem.model, MLP) and isinstance(problem.observation, Value):
        return problem.model
    what = (
        f"the observation {problem.observation.name!r}"
        if isinstance(problem.model, MLP)
        else f"the function {model_name(problem.model)}"
    )
    raise InputError(f"{purpose} is known for an MLP observed by its values, not for {what}")


def layered_network(problem: Problem, purpose: str) -> MLP | Composed:
    """The problem's model, for what is known of an ``MLP`` or a ``Composed`` observed by values.

    Arguments and errors are those of :func:`plain_network`.
    """
    if isinstance(problem.model, Composed) and isinstance(problem.observation, Value):
        return problem.model
    return plain_network(problem, purpose)


def model_name(model: Network) -> str:
    """What to call a model in files and messages."""
    if isinstance(model, MLP):
        return "MLP"
    if isinstance(model, Composed):
        return repr(model)[:400]
    if covering_network(model) is not None:
        return "MLP with frozen entries"
    if isinstance(model, PartlyTrained):
        return model_name(model.function)
    return getattr(model, "__qualname__", None) or type(model).__qualname__


def _check_shapes(problem: Problem) -> None:
    model, measure = problem.model, problem.measure
    if measure.y is None:
        raise InputError("the measure has no targets: build it as Measure(x, y)")
    if not isinstance(model, MLP | Composed):
        return  # its parameters will tell
    if measure.dim != model.in_dim:
        raise InputError(
            f"the data have {measure.dim} features but the model takes in_dim={model.in_dim}"
        )
    columns = problem.observation.outputs(model.out_dim, model.in_dim)
    if measure.outputs == columns:
        return
    if isinstance(problem.observation, Value):
        raise InputError(
            f"the targets have {measure.outputs} columns but the model out_dim={model.out_dim}"
            f"{how_to_encode(problem.targets, model.out_dim)}"
        )
    seen = f"the loss sees {columns} of {model.out_dim} outputs in {model.in_dim} dimensions"
    raise InputError(_wrong_columns(problem, seen))


def _wrong_columns(problem: Problem, seen: str) -> str:
    name = problem.observation.name
    layout = {
        "jet": ", output by output its value, then its gradient: build them with Jet().pack",
        "laplacian": (
            ", output by output its value, gradient, Laplacian: build them with Laplacian().pack"
        ),
    }
    return (
        f"the targets have {problem.outputs} columns, but with observe={name!r} {seen}"
        f"{layout.get(name, ': give one target for each')}"
    )
