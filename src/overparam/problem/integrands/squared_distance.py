"""Losses that are half the squared distance to a closed convex set of right answers.

    l(z, y) = 1/2 dist(z, C_y)^2,    gradient z - P(z),    P the projection onto C_y.

Least squares (C_y is a point) and the squared hinge (C_y is an orthant) are of this form. For all
of them M = alpha = 1 globally: z - P(z) is 1-Lipschitz because projections onto convex sets are
firmly nonexpansive, and 1/2 |gradient|^2 equals the loss. Proofs: ``docs/integrands.md``.
"""

from typing import ClassVar

from overparam.problem.integrands.integrand import FromZero, Pointwise, Values


class HalfSquaredDistance(FromZero):
    """Half the squared distance to C_y; a subclass says what ``nearest_minimiser`` P is."""

    convex: ClassVar[bool] = True
    smoothness = 1.0  # M

    def pl_constant(self, excess: float) -> float:
        """Return alpha = 1, on every sublevel set."""
        del excess
        return 1.0

    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate 1/2 |z_i - P(z_i)|^2, shape (n,)."""
        gradient = self.gradient(z, y)
        return 0.5 * (gradient * gradient).sum(axis=-1)

    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate z_i - P(z_i), shape (n, k)."""
        return z - self.nearest_minimiser(z, y)
