"""Regression losses that are a sum over the outputs of a function of the residual r = z - y.

    l(z, y) = sum_k c(z_k - y_k),    c convex, c(0) = 0 its only minimum.

If c' is M-Lipschitz, so is the gradient of l; and if c satisfies the PL inequality with alpha(e) on
{c <= e}, nonincreasing in e, so does l, since each output's share of an excess e is at most e.
Proofs: ``docs/integrands.md``.
"""

from abc import abstractmethod
from typing import ClassVar

from overparam.problem.integrands.integrand import AtTarget, Pointwise, Values


class ResidualLoss(AtTarget):
    """A sum over outputs of c(z - y); a subclass says what ``cost`` c and ``slope`` c' are."""

    convex: ClassVar[bool] = True
    unique = True

    @property
    def parameters(self) -> tuple[float, ...]:
        """Its numbers, in their order."""
        return tuple(float(v) for v in vars(self).values() if isinstance(v, int | float))

    @abstractmethod
    def cost(self, r: Values) -> Values:
        """Evaluate c entry by entry, to a few units of its last place also where r is tiny."""

    @abstractmethod
    def slope(self, r: Values) -> Values:
        """Evaluate c' entry by entry."""

    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate sum_k c(z_ik - y_ik), shape (n,)."""
        return self.cost(z - y).sum(axis=-1)

    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate c'(z_ik - y_ik), shape (n, k)."""
        return self.slope(z - y)
