"""Physics-informed problems: a differential operator's residual and boundary values as one measure.

To solve A u = g in a box with u = b on its boundary, a network u is observed at collocation points:
through (A u)(x) inside and through u(x) on the boundary, one number at each. The targets are g and
b, the loss half the squared error, and the measure spreads its mass over both kinds of points. So

    phi = sum_inside w_i 1/2 (A u - g)(x_i)^2 + sum_boundary w_i 1/2 (u - b)(x_i)^2

is an integral functional like any other, with M = alpha = 1, and zero loss means that the equation
holds at every collocation point. What that says about u between the points is another matter: see
``overparam.applications.poisson_equation``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.applications.application import Application, fitting_model
from overparam.errors import InputError
from overparam.limits import require_fraction, require_whole
from overparam.model.function import Function, ParamTree
from overparam.model.mlp import MLP
from overparam.model.observation import Laplacian, Observation
from overparam.precision import in_float64
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem

Field = Callable[[Array], Array]
"""A scalar function of a point (d,), written in JAX."""

Operator = Callable[[Field, Array], Array]
"""(u, x) -> (A u)(x), a number: linear or not, with derivatives up to the second order."""


def laplacian(u: Field, x: Array) -> Array:
    """The Laplacian of u at x."""
    return jnp.trace(jax.hessian(u)(x))


def minus_laplacian(u: Field, x: Array) -> Array:
    """The negative Laplacian of u at x."""
    return -laplacian(u, x)


@dataclass(frozen=True)
class Box:
    """The box [lower_1, upper_1] x ... x [lower_d, upper_d].

    Attributes:
        lower: Lower corner: d numbers, or one in one dimension; kept as a tuple of floats.
        upper: Upper corner.

    Raises:
        InputError: The corners do not span a box.
    """

    lower: Any
    upper: Any

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            corner = tuple(map(float, np.atleast_1d(np.asarray(getattr(self, name)))))
            object.__setattr__(self, name, corner)
        spans = len(self.lower) == len(self.upper) and np.all(np.isfinite(self.lower + self.upper))
        if not spans or not np.all(np.less(self.lower, self.upper)):
            raise InputError(
                f"the corners {self.lower} and {self.upper} span no box: give lower < upper in "
                "each dimension"
            )

    @property
    def dim(self) -> int:
        """d."""
        return len(self.lower)

    @property
    def sides(self) -> Float[np.ndarray, " d"]:
        """The lengths of the sides."""
        return np.subtract(self.upper, self.lower)

    def on_boundary(self, x: Any) -> Any:
        """Whether points (n, d) have a coordinate that is exactly a corner's; NumPy or JAX."""
        xp = x.__array_namespace__()
        lower, upper = (xp.asarray([corner], dtype=x.dtype) for corner in (self.lower, self.upper))
        return xp.any((x == lower) | (x == upper), axis=1)

    def cell_centres(self, cells: int) -> Float[np.ndarray, "n d"]:
        """The centres of a grid of ``cells`` cells along each side, shape (cells^d, d)."""
        places = (np.arange(cells) + 0.5) / cells
        axes = [low + side * places for low, side in zip(self.lower, self.sides, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.dim)

    def faces(self) -> list[tuple[int, float]]:
        """The 2 d faces as (axis, the coordinate on it)."""
        return [(axis, end[axis]) for axis in range(self.dim) for end in (self.lower, self.upper)]

    def face_centres(self, cells: int) -> Float[np.ndarray, "n d"]:
        """The centres of the cells of all faces; in one dimension the two ends."""
        if self.dim == 1:
            return np.array([[self.lower[0]], [self.upper[0]]])
        points = []
        for axis, place in self.faces():
            rest = [i for i in range(self.dim) if i != axis]
            face = Box(tuple(self.lower[i] for i in rest), tuple(self.upper[i] for i in rest))
            points.append(np.insert(face.cell_centres(cells), axis, place, axis=1))
        return np.concatenate(points)


@dataclass(frozen=True)
class EquationResidual(Observation):
    """The operator applied to the model inside a box, the model's value on its boundary.

    Attributes:
        operator: A, written in JAX.
        box: The domain.
    """

    operator: Operator
    box: Box
    name: ClassVar[str] = "residual"
    order: ClassVar[int] = 2

    def part_of(self) -> Observation | None:
        """Value, gradient and Laplacian, if the operator is the Laplacian or its negative."""
        return Laplacian() if self.operator in (laplacian, minus_laplacian) else None

    def outputs(self, k: int, d: int) -> int:
        """One column.

        Raises:
            InputError: The model has several outputs, or another dimension than the box.
        """
        if k != 1 or d != self.box.dim:
            raise InputError(
                f"the model has {k} outputs in {d} dimensions: the equation is for one function in "
                f"a box of dimension {self.box.dim}"
            )
        return 1

    def observe(self, function: Function, params: ParamTree, x: Any) -> Any:
        """Evaluate (A u)(x) inside and u(x) on the boundary, shape (n, 1)."""

        def field(point: Array) -> Array:
            return function(params, jnp.expand_dims(point, 0))[0, 0]

        x = jnp.asarray(x)
        inside = jax.vmap(lambda point: self.operator(field, point))(x)
        values = function(params, x)[:, 0]
        return jnp.expand_dims(jnp.where(self.box.on_boundary(x), values, inside), 1)


@dataclass(frozen=True)
class PhysicsInformed(Application):
    """A boundary value problem that is ready to train.

    Attributes:
        box: The domain.
        model: The network.
    """

    box: Box
    model: MLP

    def solution(self, params: ParamTree, x: Any) -> Float[np.ndarray, " m"]:
        """The network's u at points (m, d), float64."""
        seen = Problem(self.model, self.problem.measure, "squared", self.problem.centered_at)
        return np.asarray(seen.predict(params, np.asarray(x, np.float64)))[:, 0]

    def largest_error(self, params: ParamTree, exact: Field, cells: int = 100) -> float:
        """The largest |u - exact| over a grid of cell centres and the boundary's; measured."""
        points = np.concatenate([self.box.cell_centres(cells), self.box.face_centres(cells)])
        truth = in_float64(jax.jit(jax.vmap(exact)), points)
        return float(np.abs(self.solution(params, points) - truth).max())


def physics_informed(
    operator: Operator,
    box: Box,
    source: Field,
    boundary: Field,
    key: Array,
    *,
    points: int = 16,
    boundary_mass: float = 0.5,
    model: MLP | None = None,
) -> PhysicsInformed:
    """Build a boundary value problem in a box on a grid of collocation points.

    Args:
        operator: A, such as :func:`laplacian`; written in JAX.
        box: The domain.
        source: g, what A u is to be inside.
        boundary: b, what u is to be on the boundary.
        key: For the initial parameters.
        points: Collocation points along each side.
        boundary_mass: Share of the measure on the boundary, between 0 and 1.
        model: A network with a smooth activation; with one hidden layer, the modulus of a Laplacian
            is a bound. None takes 512 units of ``sin`` with s_w = s_b = 6: the scales set the
            frequencies of the features, so the larger the better lambda_min and the worse u between
            the points.

    Returns:
        The :class:`PhysicsInformed` application, centred at its initial parameters, which keeps the
        features' random values out of u.

    Raises:
        InputError: A number is out of range, or a function gives no finite number at a point.

    References:
        Raissi, Perdikaris and Karniadakis, Physics-informed neural networks (2019);
        docs/applications.md.
    """
    require_fraction("boundary_mass", boundary_mass)
    require_whole("points", points, 1)
    inside, edge = box.cell_centres(points), box.face_centres(points)
    targets = np.concatenate(
        [_evaluate("source", source, inside), _evaluate("boundary", boundary, edge)]
    )
    masses = np.repeat(
        [(1 - boundary_mass) / len(inside), boundary_mass / len(edge)], [len(inside), len(edge)]
    )
    model = fitting_model(model, box.dim, 1, "sin", weight_scale=6.0, bias_scale=6.0)
    params = model.init(key)
    measure = Measure(np.concatenate([inside, edge]), targets, masses)
    problem = Problem(model, measure, "squared", params, observe=EquationResidual(operator, box))
    return PhysicsInformed(problem, params, box, model)


def _evaluate(name: str, field: Field, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    try:
        values = np.asarray(in_float64(jax.jit(jax.vmap(field)), x))
    except (TypeError, ValueError) as error:
        message = " ".join(str(error).split())[:150]
        raise InputError(f"{name} does not take a point of shape ({x.shape[1]},): {message}") from (
            error
        )
    if values.shape != (len(x),) or not np.isfinite(values).all():
        raise InputError(f"{name} must give one finite number at a point (d,)")
    return values.astype(np.float64)
