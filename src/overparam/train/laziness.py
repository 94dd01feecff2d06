"""How lazy a training run was: what moved, what the kernel did, what the linearised model missed.

Training is *lazy* if the network stays close to its first-order expansion at the start: then its
kernel hardly changes, and the closed forms of ``linearised/training_curve.py`` describe it.
Everything here is measured on a run that has happened; the bounds that hold before it are the
certificate's.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import eigvalsh

from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.jacobian_change import jacobian_change_gram
from overparam.limits import require_whole
from overparam.model.function import (
    as_function,
    compiled,
    parameter_distance,
    parameter_norm,
)
from overparam.model.linearize import LinearizedModel
from overparam.model.mlp import MLP, Params
from overparam.precision import as_float64, in_float64, on_host, row_by_row
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem, plain_network, require_no_decay
from overparam.randomness import seed_of

Verdict = Literal["lazy", "partly lazy", "not lazy"]

LAZY = 0.1
"""Up to this kernel drift and linearisation error a run is lazy."""

PARTLY_LAZY = 0.5
"""Up to this it is partly lazy."""

ROWS = 1024
"""Largest kernels that are compared; of more points a random part is drawn."""


@dataclass(frozen=True)
class Laziness:
    """Measured laziness; every number is 0 for a linear model.

    Attributes:
        weight_movement: |W_T - W_0| / |W_0| (Frobenius) for each layer.
        bias_movement: The same for the biases of each layer.
        movement: The same for all parameters together.
        jacobian_drift: |J_T - J_0| / |J_0| in the operator norm from parameters to L2(mu): how far
            the tangent features moved, which is what the certificate's omega bounds.
        kernel_drift: |K_T - K_0| / |K_0| in the operator norm, the norm of the certified bound.
        kernel_alignment: <K_0, K_T> / (|K_0| |K_T|) in the Frobenius inner product: the cosine of
            the angle between the kernels, which does not see a change of scale.
        linearisation_error: |F(theta_T) - F_lin(theta_T)| / |F(theta_T) - F(theta_0)| in L2(mu):
            the part of the change of the function that the expansion at theta_0 misses.
        linearisation_error_test: The same on test points (uniform weights), if any were given.
        trajectory_error: |F(theta_T) - F_lin(theta_T^lin)| / |F(theta_T) - F(theta_0)|, where
            theta_T^lin was trained as a linearised model, if such parameters were given.
        trajectory_error_test: The same on test points.
        points: How many points the kernels were compared on.
        verdict: ``lazy`` if the kernel drift and every linearisation error are at most ``LAZY`` =
            0.1, ``partly lazy`` if they are at most ``PARTLY_LAZY`` = 0.5, else ``not lazy``.
        reason: One line: which number decided.
    """

    weight_movement: tuple[float, ...]
    bias_movement: tuple[float, ...]
    movement: float
    jacobian_drift: float
    kernel_drift: float
    kernel_alignment: float
    linearisation_error: float
    linearisation_error_test: float | None
    trajectory_error: float | None
    trajectory_error_test: float | None
    points: int
    verdict: Verdict
    reason: str


@on_host
def measure_laziness(
    problem: Problem,
    start: Params,
    trained: Params,
    *,
    linearised: Params | None = None,
    test_x: Float[Array | np.ndarray, "m d"] | None = None,
    rows: int = ROWS,
    key: Array | None = None,
) -> Laziness:
    """Measure in float64 how lazy the way from ``start`` to ``trained`` was.

    Args:
        problem: The learning problem.
        start: theta_0.
        trained: theta_T, from any optimiser.
        linearised: theta_T^lin, the parameters of the linearised model after the same training:
            ``linearised_params(problem, start, dual)`` with the dual coefficients of
            ``linearised_descent`` or of a ``TrainingCurve``.
        test_x: Points to measure the linearisation on, too, shape (m, d).
        rows: Kernels are compared on as many points as give at most this many rows.
        key: A JAX key for the draw of those points, if they are not all; None stands for
            ``jax.random.key(0)``.

    Returns:
        The :class:`Laziness`.

    Raises:
        InputError: Parameters do not fit the model, or ``rows`` is not positive.
    """
    require_no_decay(problem, "the measure of laziness")
    plain_network(problem, "how lazily a network trained, layer by layer,")
    for params in (start, trained) if linearised is None else (start, trained, linearised):
        problem.validate(params)
    require_whole("rows", rows, 1)
    start, trained = as_float64(start), as_float64(trained)
    measure = _part(problem, rows, seed_of(key))
    jacobian, drift, alignment = _compare_kernels(problem, measure, start, trained)
    errors = _Errors(problem, start, trained, test_x)
    train, test = errors.relative(trained)
    path, path_test = (None, None) if linearised is None else errors.relative(linearised)
    verdict, reason = _judge(drift, train, test)
    return Laziness(
        weight_movement=tuple(map(_relative, trained[0], start[0])),
        bias_movement=tuple(map(_relative, trained[1], start[1])),
        movement=_relative(trained, start),
        jacobian_drift=jacobian,
        kernel_drift=drift,
        kernel_alignment=alignment,
        linearisation_error=train,
        linearisation_error_test=test,
        trajectory_error=path,
        trajectory_error_test=path_test,
        points=measure.n,
        verdict=verdict,
        reason=reason,
    )


def _judge(drift: float, train: float, test: float | None) -> tuple[Verdict, str]:
    """The worst of the numbers decides."""
    numbers = {"the kernel drift": drift, "the linearisation error on the training points": train}
    if test is not None:
        numbers["the linearisation error on the test points"] = test
    name, worst = max(numbers.items(), key=lambda item: item[1])
    if worst <= LAZY:
        return "lazy", f"{name} is the largest measure, {worst:.3g}, and at most {LAZY}"
    if worst <= PARTLY_LAZY:
        return "partly lazy", f"{name} is {worst:.3g}, between {LAZY} and {PARTLY_LAZY}"
    return "not lazy", f"{name} is {worst:.3g}, above {PARTLY_LAZY}"


def _part(problem: Problem, rows: int, seed: int) -> Measure:
    """All points, or as many random ones as give the rows."""
    points = max(rows // problem.outputs, 1)
    measure = problem.measure
    return measure if measure.n <= points else measure.subsample(points, seed)


def _compare_kernels(
    problem: Problem, measure: Measure, start: Params, trained: Params
) -> tuple[float, float, float]:
    """Drift of the Jacobian, drift of the kernel and its alignment, on a measure's points."""
    model, x = problem.mlp, measure.x
    roots = np.repeat(np.sqrt(measure.weights), model.out_dim)
    weights = np.outer(roots, roots)
    before, after = (weights * empirical_ntk(model, params, x) for params in (start, trained))
    change = weights * jacobian_change_gram(model, start, trained, x)
    top = len(before) - 1
    norm = _eigenvalue(before, top)
    drift = max(_eigenvalue(after - before, top), -_eigenvalue(after - before, 0))
    norms = np.linalg.norm(before) * np.linalg.norm(after)
    alignment = float(np.vdot(before, after) / norms) if norms else 1.0
    jacobian = math.sqrt(_ratio(max(_eigenvalue(change, top), 0.0), norm))
    return jacobian, _ratio(drift, norm), min(alignment, 1.0)


def _eigenvalue(matrix: Float[np.ndarray, "m m"], index: int) -> float:
    """Of a symmetric matrix, counted from the smallest."""
    return float(eigvalsh(matrix, subset_by_index=[index, index], check_finite=False)[0])


class _Errors:
    """What the expansion at ``start`` misses of the function at ``trained``.

    Training and test points are expanded as one array, by one program.
    """

    def __init__(self, problem: Problem, start: Params, trained: Params, test_x: Any) -> None:
        self.model, self.start = problem.mlp, start
        self.roots = np.sqrt(problem.measure.weights)[:, None]
        self.tested = test_x is not None
        parts = [problem.measure.x, *([np.asarray(test_x)] * self.tested)]
        self.x = np.concatenate(parts)
        apply = compiled(as_function(problem.mlp))
        self.before, self.values = (
            np.concatenate([row_by_row(partial(in_float64, apply, params), part) for part in parts])
            for params in (start, trained)
        )

    def relative(self, linearised: Params) -> tuple[float, float | None]:
        """|F(trained) - F_lin(linearised)| / |F(trained) - F(start)|; centring cancels.

        On the training points, and on the test points if there are any.
        """
        at_rows = partial(in_float64, _expanded, self.model, self.start, linearised)
        expanded = np.asarray(row_by_row(at_rows, self.x))
        missed, change = self.values - expanded, self.values - self.before
        n, norm = len(self.roots), np.linalg.norm
        train = _ratio(*(float(norm(self.roots * part[:n])) for part in (missed, change)))
        test = _ratio(*(float(norm(part[n:])) for part in (missed, change)))
        return train, test if self.tested else None


@partial(jax.jit, static_argnums=0)
def _expanded(model: MLP, base: Params, params: Params, x: Array) -> Array:
    # The base as an argument: as a constant of the program the compiler would copy it.
    return LinearizedModel(model, base, model.apply).apply(params, x)


def _relative(params: Any, base: Any) -> float:
    return _ratio(parameter_distance(params, base), parameter_norm(base))


def _ratio(part: float, whole: float) -> float:
    """part / whole, where nothing of nothing is 0."""
    if whole == 0:
        return 0.0 if part == 0 else float("inf")
    return part / whole
