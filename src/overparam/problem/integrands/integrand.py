"""What a loss has to say about itself: the interface of an integrand, and the register of them.

The loss functional f(h) = sum_i w_i l(h_i, y_i) is the integral of a pointwise loss, the integrand.
The convergence theorems ask two constants of it,

    M      grad f is M-Lipschitz,                       ``smoothness``
    alpha  1/2 |grad f|^2 >= alpha (f - f*),            ``pl_constant`` (Polyak-Lojasiewicz),

and both follow from the same inequalities for the integrand at each point, which is why they are
stated there; ``docs/integrands.md`` has the proofs. A new loss is one file with one subclass of
:class:`Integrand`, decorated with :func:`register` and imported by this package's ``__init__``.

Integrands are written with the operators of arrays: NumPy arrays give NumPy arrays, in float64 on
the host, and JAX arrays give JAX arrays, so that everything can be traced and differentiated.
"""

import inspect
import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeVar

import numpy as np
from jaxtyping import Array, Float

from overparam.errors import InputError
from overparam.limits import require_choice
from overparam.problem.integrands.refused import REFUSED

Values = Float[Array | np.ndarray, "n k"]
Pointwise = Float[Array | np.ndarray, " n"]


class Integrand(ABC):
    """A pointwise loss l(z, y) of a prediction z and a target y in R^k.

    Subclasses are immutable and hashable, best as frozen dataclasses. All methods act on the n
    points of a measure at once, row by row.

    Attributes:
        name: What it is called in files and on the command line.
        quadratic: Whether l(z, y) = 1/2 |z - y|^2, for statements about least squares.
        convex: Whether l(., y) is known to be convex for every admissible target.
        attained: Whether its infimum is attained; if not it is for problems with weight decay only.
        gradient_roundings: Units of rounding by which an entry of the gradient may be off beyond
            those of z and of its minimiser.
        constants_kind: ``proved`` if M and alpha are proved in docs/integrands.md and computed with
            their rounding on the safe side; ``assumed`` if somebody declared them.
    """

    name: ClassVar[str]
    quadratic: ClassVar[bool] = False
    convex: ClassVar[bool] = False
    attained: ClassVar[bool] = True
    gradient_roundings: ClassVar[float] = 0.0
    constants_kind: ClassVar[Literal["proved", "assumed"]] = "proved"

    @property
    def unique(self) -> bool:
        """Whether l(., y) has one minimiser only, for every admissible target and k."""
        return False

    @property
    def parameters(self) -> tuple[float, ...]:
        """What tells this loss from others of its name: numbers that its constructor takes."""
        return ()

    @property
    def spelling(self) -> str:
        """Name and parameters as on the command line, such as ``huber:0.5``."""
        numbers = ",".join(map(repr, self.parameters))
        return f"{self.name}:{numbers}" if numbers else self.name

    @property
    def title(self) -> str:
        """For people, such as ``huber loss (0.5)``."""
        numbers = ", ".join(f"{p:g}" for p in self.parameters)
        return f"{self.name.replace('_', ' ')} loss" + (f" ({numbers})" if numbers else "")

    @classmethod
    def from_numbers(cls, *numbers: float) -> "Integrand":
        """Build the loss that a spelling names; none stands for the defaults.

        Raises:
            InputError: There are too many numbers, or they are out of range.
        """
        try:
            inspect.signature(cls).bind(*numbers)
        except TypeError:
            raise InputError(f"the loss {cls.name} does not take {len(numbers)} numbers") from None
        return cls(*numbers)

    def for_outputs(self, outputs: int) -> "Integrand":
        """The same loss for functions with a given number k of outputs, if its constants need k."""
        del outputs
        return self

    @property
    @abstractmethod
    def smoothness(self) -> float:
        """M: z -> gradient of l(z, y) is M-Lipschitz on R^k for every admissible target y."""

    @abstractmethod
    def pl_constant(self, excess: float) -> float:
        """Return alpha with ``1/2 |grad l|^2 >= alpha (l - inf l)`` where ``l - inf l <= excess``.

        The inequality is about one point. Of a functional whose excess is Delta, a single point of
        weight w can take the share Delta / w: use :meth:`functional_pl_constant` there.

        Args:
            excess: Level of the sublevel set, >= 0.

        Returns:
            alpha > 0, nonincreasing in the level.
        """

    def nonconvexity(self, excess: float) -> float:
        """Return kappa >= 0 with l + kappa/2 |z|^2 convex wherever l - inf l <= excess.

        On every convex set of such z; infinite if none is known.

        Args:
            excess: Level of the sublevel set, >= 0.

        Returns:
            kappa, nondecreasing in the level.
        """
        del excess
        return 0.0 if self.convex else math.inf

    @abstractmethod
    def value(self, z: Values, y: Values) -> Pointwise:
        """Evaluate l(z_i, y_i) at each point, shape (n,)."""

    @abstractmethod
    def gradient(self, z: Values, y: Values) -> Values:
        """Evaluate the gradient of l(., y_i) at z_i, shape (n, k)."""

    @abstractmethod
    def infimum(self, y: Values) -> Pointwise:
        """Evaluate inf_z l(z, y_i) at each point, shape (n,)."""

    def excess(self, z: Values, y: Values) -> Pointwise:
        """Evaluate l(z_i, y_i) - inf l(., y_i) at each point, shape (n,).

        Near a minimiser the difference of two numbers of order one is rounding; a loss with a
        nonzero infimum should compute it another way.
        """
        return self.value(z, y) - self.infimum(y)

    @abstractmethod
    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Find the point closest to z_i at which l(., y_i) attains its infimum, shape (n, k)."""

    def functional_pl_constant(
        self, excess: float, weights: Float[Array | np.ndarray, " n"]
    ) -> float:
        """Return alpha with ``1/2 |grad f|^2 >= alpha (f - f*)`` where ``f - f* <= excess``.

        Each term of f - f* = sum_i w_i (l_i - inf l_i) is at most the whole, so the excess at point
        i is at most ``excess / w_i``. Nothing is lost by that: the whole excess may be at the point
        of least weight (docs/integrands.md, Proposition N2).

        Args:
            excess: Level of the sublevel set of f, >= 0.
            weights: The weights w_i > 0 of the measure, shape (n,).

        Returns:
            alpha > 0.
        """
        return self.pl_constant(excess / float(np.min(np.asarray(weights))))

    def validate_targets(self, y: Float[np.ndarray, "n k"]) -> None:
        """Accept the targets y, shape (n, k), or say what is wrong with them.

        Raises:
            InputError: If a target is not finite, or not one that this loss is defined for.
        """
        rows = np.flatnonzero(~np.all(np.isfinite(y), axis=1))
        if rows.size:
            raise InputError(f"the target in row {rows[0]} is not finite: drop or impute the row")


class FromZero(Integrand):
    """A loss whose infimum is 0 at every target."""

    def infimum(self, y: Values) -> Pointwise:
        """Return zeros, shape (n,)."""
        return y.__array_namespace__().zeros(y.shape[0], dtype=y.dtype)

    def excess(self, z: Values, y: Values) -> Pointwise:
        """Return the value, shape (n,)."""
        return self.value(z, y)


class AtTarget(FromZero):
    """A loss that is 0 at the target, and asks for it."""

    def nearest_minimiser(self, z: Values, y: Values) -> Values:
        """Return y, shape (n, k)."""
        del z
        return y


INTEGRANDS: dict[str, type[Integrand]] = {}
"""The registered integrands by name."""

IntegrandClass = TypeVar("IntegrandClass", bound=type[Integrand])


def register(integrand: IntegrandClass) -> IntegrandClass:
    """Make an integrand known by its name; a class decorator.

    Raises:
        InputError: If the name is taken.
    """
    if integrand.name in INTEGRANDS:
        raise InputError(f"the name {integrand.name!r} is taken by another loss: choose another")
    INTEGRANDS[integrand.name] = integrand
    return integrand


DECAYED: dict[str, type[Integrand]] = {}
"""Those for problems with weight decay only, by name."""


def register_decayed(integrand: IntegrandClass) -> IntegrandClass:
    """Make an integrand known that is for problems with weight decay only; a class decorator."""
    DECAYED[integrand.name] = integrand
    return integrand


def get_integrand(loss: object) -> Integrand:
    """Return a registered integrand by its spelling, or the instance given.

    Args:
        loss: A name in :data:`INTEGRANDS`, with its parameters after a colon unless they are the
            defaults (``huber``, ``huber:0.5``, ``weighted_quadratic:1,4``), or an
            :class:`Integrand`.

    Returns:
        The integrand.

    Raises:
        InputError: If the name is unknown, a parameter is no number or out of range, or the
            argument is something else.
    """
    if isinstance(loss, Integrand):
        return loss
    if not isinstance(loss, str):
        known = ", ".join(INTEGRANDS)
        raise InputError(
            f"loss is {loss!r}: give an instance such as SquaredLoss() or one of the names {known}"
        )
    name, _, numbers = loss.partition(":")
    if name in REFUSED and name not in DECAYED:
        raise InputError(f"no certificate can exist for the loss {name!r}: {REFUSED[name]}")
    known_losses = INTEGRANDS | DECAYED
    require_choice("loss", name, known_losses)
    return known_losses[name].from_numbers(*_numbers(name, numbers))


def require_attained(loss: Integrand, weight_decay: float) -> None:
    """Raise unless a loss attains its infimum, or there is weight decay.

    Raises:
        InputError: It does not, and there is none.
    """
    if not loss.attained and not weight_decay:
        raise InputError(
            f"no certificate can exist for the loss {loss.name!r} without weight decay: its "
            "infimum is not attained, so gradient descent has no limit to converge to; give "
            "weight_decay, or use smoothed_cross_entropy"
        )


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(
            f"the parameters {text!r} of the loss {name} are not numbers: write {name}:0.5, say"
        ) from None
