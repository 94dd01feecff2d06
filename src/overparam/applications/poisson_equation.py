"""Poisson's equation -Laplacian u = g in a box, u = b on its boundary, with a bound on the error.

Training makes the residual r = -Laplacian u - g vanish at the collocation points. The maximum
principle turns a bound on r and on the boundary error into one on u itself, everywhere:

    sup |u - u_exact| <= sup_boundary |u - b| + ell^2 / 8 sup_inside |r|,    ell the shortest side.

Between the points of a grid r is bounded by its Taylor polynomial at the centre of each cell and
the third derivative: of a network with one hidden layer of sines, all derivatives are sums of sines
themselves. Neither the collocation points nor the exact solution enter. Proof:
docs/applications.md.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.applications.physics import (
    Box,
    Field,
    PhysicsInformed,
    minus_laplacian,
    physics_informed,
)
from overparam.applications.waves import Waves, waves_of
from overparam.model.function import ParamTree
from overparam.model.mlp import MLP
from overparam.precision import in_float64

BATCH = 8192
"""Cells evaluated at once."""


@dataclass(frozen=True)
class ErrorBound:
    """A bound on the distance to the exact solution, and what it is made of.

    Attributes:
        bound: Of sup |u - u_exact| over the closed box; ``computed`` in float64.
        residual: Bound on sup |-Laplacian u - g| inside.
        boundary: Bound on sup |u - b| on the boundary.
        stability: ell^2 / 8.
        resolution: How much of ``residual`` is due to the third derivative between the cells'
            centres; more cells make it smaller.
    """

    bound: float
    residual: float
    boundary: float
    stability: float
    resolution: float


@dataclass(frozen=True)
class Poisson(PhysicsInformed):
    """Poisson's equation, ready to train.

    Attributes:
        source: g.
        boundary: b.
        source_bound: Bound on the third derivative of g in the box, in operator norm; declared.
        boundary_bound: The same of b.
    """

    source: Field
    boundary: Field
    source_bound: float
    boundary_bound: float

    def error_bound(self, params: ParamTree, cells: int = 200) -> ErrorBound:
        """Bound sup |u - u_exact| for the network at ``params``; more cells, a sharper bound.

        Args:
            params: Parameters of the network, trained or not.
            cells: Cells along each side of the grid on which the residual is looked at.

        Raises:
            InputError: The network is not one hidden layer of sines or cosines.

        References:
            docs/applications.md, Theorem A2.
        """
        (u,) = waves_of(self.model, params, self.problem.centered_at)
        inside, resolution = _largest(
            *(u.minus_laplacian(), self.source, self.source_bound),
            *(self.box.cell_centres(cells), self.box.sides / cells),
        )
        edge = 0.0
        for axis, place in self.box.faces():
            sides = np.where(np.arange(self.box.dim) == axis, 0.0, self.box.sides / cells)
            centres = self.box.face_centres(cells)
            centres = centres[centres[:, axis] == place]
            edge = max(edge, _largest(u, self.boundary, self.boundary_bound, centres, sides)[0])
        stability = float(np.min(self.box.sides)) ** 2 / 8
        return ErrorBound(edge + stability * inside, inside, edge, stability, resolution)


def poisson(
    box: Box,
    source: Field,
    key: Array,
    *,
    boundary: Field | None = None,
    source_bound: float = np.inf,
    boundary_bound: float = np.inf,
    points: int = 16,
    boundary_mass: float = 0.9,
    model: MLP | None = None,
) -> Poisson:
    """Build Poisson's equation -Laplacian u = g in a box, u = b on its boundary.

    Args:
        box: The domain.
        source: g, in JAX.
        key: For the initial parameters.
        boundary: b, in JAX; None for 0.
        source_bound: Bound on the third derivative of g in operator norm, for ``error_bound``.
        boundary_bound: The same of b; not needed for 0, nor in one dimension.
        points: Collocation points along each side.
        boundary_mass: Share of the measure on the boundary. The residual is a second derivative
            and larger than the values by the square of the features' frequency.
        model: See :func:`physics_informed`; one hidden layer of ``sin`` or ``cos`` for
            ``error_bound``.

    Returns:
        The :class:`Poisson` application.

    Raises:
        InputError: See :func:`physics_informed`.
    """
    zero = boundary is None
    b = _zero if boundary is None else boundary
    app = physics_informed(
        *(minus_laplacian, box, source, b, key),
        points=points,
        boundary_mass=boundary_mass,
        model=model,
    )
    edge = 0.0 if zero or box.dim == 1 else boundary_bound
    return Poisson(app.problem, app.params, box, app.model, source, b, source_bound, edge)


def _zero(x: Array) -> Array:
    return 0.0 * jnp.sum(x)


def _largest(
    waves: Waves,
    field: Field,
    field_bound: float,
    centres: Float[np.ndarray, "n d"],
    sides: Float[np.ndarray, " d"],
) -> tuple[float, float]:
    """Bound sup |waves - field| over cells around centres; and the third derivative's share."""
    half = sides / 2
    radius = float(np.linalg.norm(half))
    jet = jax.jit(jax.vmap(lambda x: (field(x), jax.grad(field)(x), jax.hessian(field)(x))))
    largest = 0.0
    for start in range(0, len(centres), BATCH):
        x = centres[start : start + BATCH]
        theirs = in_float64(jet, x)
        value, gradient, hessian = (
            a - np.asarray(b) for a, b in zip(waves.taylor(x), theirs, strict=True)
        )
        # On a cell |x - centre|_a <= half_a, so each term is bounded entry by entry.
        first = np.abs(gradient) @ half
        second = np.einsum("nab,a,b->n", np.abs(hessian), half, half) / 2
        largest = max(largest, float(np.max(np.abs(value) + first + second)))
    if radius == 0:
        return largest, 0.0
    third = (waves.derivative_bound(3) + field_bound) * radius**3 / 6
    return largest + third, third
