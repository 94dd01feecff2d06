"""A loss of one's own: its value in JAX, and the constants that its author declares.

What is declared is spot-checked, not proved: at random points, and at the worst that an optimiser
finds. A certificate that rests on it calls the constants ``assumed``.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.precision import in_float64
from overparam.problem.integrands.integrand import INTEGRANDS, Integrand, Pointwise, Values
from overparam.problem.integrands.minimiser import find_minimisers
from overparam.problem.integrands.safe_constants import require_positive
from overparam.problem.integrands.spot_check import spot_check

Value = Callable[[Float[Array, " k"], Float[Array, " k"]], Any]

UNITS = 2**14
"""Units of the last place below which value - infimum is rounding, to a part in 2^14."""

NEAR = 1e-2
"""Excess whose alpha stands for all smaller ones."""

CHECKED_ROWS = 16
"""Targets of a problem that a loss is spot-checked at."""


class CustomIntegrand(Integrand):
    """A loss whose constants are declared.

    Args:
        name: What certificates call it; not one of the built-in names.
        value: l(z, y) of one point, z and y of shape (k,); a JAX function that returns a scalar.
        smoothness: M: the gradient in z is M-Lipschitz.
        pl_constant: alpha, a number, or a nonincreasing function of the excess e with
            ``1/2 |grad l|^2 >= alpha(e) (l - infimum)`` where ``l - infimum <= e``.
        infimum: inf_z l(z, y), a number or a JAX function of one target; it must be attained.
        nearest_minimiser: A JAX function of (z, y) of one point to the minimiser nearest to z. If
            None a minimiser near z is searched for by Newton's method.
        nonconvexity: kappa >= 0 with l + kappa/2 |z|^2 convex in z, a number, or a nondecreasing
            function of the excess e for convex sets where ``l - infimum <= e``; 0 for a convex
            loss. What certificates of runs need; None if it is not known.
        targets: Targets, shape (m, k), to check the declaration at; -1, 0 and 1 by default.

    Raises:
        InputError: The name is taken, a constant is out of range, or a declared inequality fails at
            a point that the check finds; the message shows the point.
    """

    constants_kind: ClassVar[Literal["proved", "assumed"]] = "assumed"

    def __init__(
        self,
        name: str,
        value: Value,
        smoothness: float,
        pl_constant: float | Callable[[float], float],
        *,
        infimum: float | Callable[[Float[Array, " k"]], Any] = 0.0,
        nearest_minimiser: Callable[..., Any] | None = None,
        nonconvexity: float | Callable[[float], float] | None = None,
        targets: Any = ((-1.0,), (0.0,), (1.0,)),
    ) -> None:
        if not name or name in INTEGRANDS or ":" in name:
            raise InputError(f"the name {name!r} of the loss is taken or unusable: choose another")
        require_positive(smoothness, name, "smoothness")
        if not callable(pl_constant):
            require_positive(pl_constant, name, "pl_constant")
        if not callable(infimum) and not math.isfinite(infimum):
            raise InputError(f"the infimum of the loss {name} is {infimum}: it must be a number")
        self.name = name  # type: ignore[misc]  # one class serves many names
        self._smoothness = float(smoothness)
        self._pl_constant = pl_constant
        self._nonconvexity = math.inf if nonconvexity is None else nonconvexity
        self.convex = nonconvexity == 0  # type: ignore[misc]
        self._value = jax.jit(jax.vmap(value))
        self._gradient = jax.jit(jax.vmap(jax.grad(value)))
        self._hessian = jax.jit(jax.vmap(jax.hessian(value)))
        least = infimum if callable(infimum) else lambda y: jnp.asarray(infimum, y.dtype)
        self._infimum = jax.jit(jax.vmap(least))
        self._excess = jax.jit(self._excess_of)
        self._nearest = None if nearest_minimiser is None else jax.vmap(nearest_minimiser)
        self._checked: set[bytes] = set()
        self._check(np.array(targets, dtype=np.float64))

    @property
    def smoothness(self) -> float:
        """M as declared."""
        return self._smoothness

    def pl_constant(self, excess: float) -> float:
        """Return alpha as declared.

        Raises:
            InputError: The declared function returns no positive number.
        """
        alpha = self._pl_constant(excess) if callable(self._pl_constant) else self._pl_constant
        require_positive(float(alpha), self.name, f"pl_constant({excess:.3g})")
        return float(alpha)

    def nonconvexity(self, excess: float) -> float:
        """Return kappa as declared; infinite if nothing was.

        Raises:
            InputError: It is negative or not a number.
        """
        kappa = self._nonconvexity
        kappa = float(kappa(excess) if callable(kappa) else kappa)
        if not kappa >= 0:
            raise InputError(
                f"nonconvexity({excess:.3g}) of the loss {self.name} is {kappa}: it "
                "must be 0 or more"
            )
        return kappa

    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate l at each point, shape (n,)."""
        return _evaluate(self._value, z, y)

    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate the gradient at each point, shape (n, k)."""
        return _evaluate(self._gradient, z, y)

    def infimum(self, y: Values) -> Pointwise:
        """Evaluate the declared infimum at each point, shape (n,)."""
        return _evaluate(self._infimum, y)

    def excess(self, z: Values, y: Values) -> Pointwise:
        """Evaluate value less infimum; where that is rounding, |gradient|^2 / (2 alpha) bounds it.

        The gradient of the result is that of the value either way.
        """
        return _evaluate(self._excess, z, y)

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return the declared minimiser, or one that Newton's method finds from z; shape (n, k).

        Raises:
            InputError: None is found.
        """
        if self._nearest is not None:
            return _evaluate(self._nearest, z, y)
        found = find_minimisers(
            *(self.value, self.gradient, self._curvature),
            *(np.asarray(z), np.asarray(y), self.smoothness),
        )
        if found is None:
            raise InputError(
                f"no minimiser of the loss {self.name} was found: declare nearest_minimiser"
            )
        return found

    def validate_targets(self, y: Float[np.ndarray, "n k"]) -> None:
        """Accept finite targets at some of which the declaration passes a spot check.

        Raises:
            InputError: A target is not finite, or a declared inequality fails.
        """
        super().validate_targets(y)
        rows = np.linspace(0, len(y) - 1, min(len(y), CHECKED_ROWS)).astype(int)
        self._check(np.unique(y[rows], axis=0))

    def _check(self, targets: np.ndarray) -> None:
        if targets.ndim != 2 or not targets.size or not np.isfinite(targets).all():
            raise InputError(
                f"targets of the loss {self.name} have shape {targets.shape}: give some to check "
                "it at, finite and of shape (m, k)"
            )
        mark = repr(targets.shape).encode() + targets.tobytes()
        if mark not in self._checked:
            spot_check(self, targets)
            self._checked.add(mark)

    def _excess_of(self, z: Array, y: Array) -> Array:
        value, infimum = self._value(z, y), self._infimum(y)
        difference = value - infimum
        unit = float(jnp.finfo(value.dtype).eps)
        vanishing = difference < UNITS * unit * (1 + jnp.abs(value) + jnp.abs(infimum))
        bound = (self._gradient(z, y) ** 2).sum(axis=-1) / (2 * self.pl_constant(NEAR))
        correction = jnp.where(vanishing, bound - difference, 0.0)
        return difference + jax.lax.stop_gradient(correction)

    def _curvature(self, z: Values, y: Values) -> Float[np.ndarray, "n k k"]:
        return np.asarray(_evaluate(self._hessian, z, y))


def _evaluate(function: Callable[..., Any], *arrays: Values) -> Any:
    """NumPy arrays on the host in float64; JAX arrays, and what is traced, as they are."""
    if all(isinstance(a, np.ndarray) for a in arrays):
        return np.asarray(in_float64(function, *arrays))
    return function(*map(jnp.asarray, arrays))
