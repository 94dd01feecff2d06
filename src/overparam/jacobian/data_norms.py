"""Norms over all points together: how much a family of operators can do to the data in L2(mu).

A perturbation V of a layer's parameters cannot be large on every point at once: V a_i is a vector
for each of the inputs a_i, and their sum of squares is bounded by the inputs' Gram matrix. The same
holds for products of two such vectors with the entrywise product of two Gram matrices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from jaxtyping import Float

from overparam.numbers import safe_upper, sqrt, upper_of

Vector = Float[np.ndarray, "n"]
Matrix = Float[np.ndarray, "_ _"]


@dataclass(frozen=True)
class Arithmetic:
    """How norms are taken: in plain float64, or as upper bounds.

    Attributes:
        norm: Spectral norm of a matrix.
        top: Largest eigenvalue of a symmetric matrix whose error has the given norm.
        frobenius: Frobenius norm of a matrix.
        rounding: A sum of k products is off by at most rounding(k) |X|_F |Y|_F; of sums of such
            sums, with all their lengths.
        exact: A float as a number that rounds, or does not round, as bounds shall.
        tiny: More than all that underflow loses in a product.
    """

    norm: Callable[[Matrix], float]
    top: Callable[[Matrix, float], float]
    frobenius: Callable[[Matrix], float]
    rounding: Callable[..., float]
    exact: Callable[[Any], Any]
    tiny: float = 0.0


Number = TypeVar("Number")


@dataclass(frozen=True)
class Family(Generic[Number]):
    """A bound on the norm in L2(mu) of a family of operators, in units of a profile.

    If the operators at the points are bounded by f(x_i) instead of profile(x_i), the family's norm
    is at most max_i f / profile times ``norm``.

    Attributes:
        profile: Positive numbers, one for each point.
        norm: The bound for the profile itself.
    """

    profile: Vector
    norm: Number


@dataclass(frozen=True)
class Data:
    """The layers' inputs a_0^l over the data.

    Attributes:
        weights: w_i.
        grams: <a_i, a_j>, (n, n), for every hidden layer.
        norms: |a_i|.
        errors: Bounds on how far each a_i is off.
        terms: Most products that are summed up in an entry of a Gram matrix.
    """

    weights: Vector
    grams: tuple[Float[np.ndarray, "n n"], ...]
    norms: tuple[Vector, ...]
    errors: tuple[Vector, ...]
    terms: int

    def family(
        self, profile: Vector, layers: tuple[int, ...], arithmetic: Arithmetic
    ) -> Family[float]:
        """The family with operators bounded by profile times the product of |V_l a_i^l|.

        Its norm is the root of the largest eigenvalue of the entrywise product of the layers' Gram
        matrices (docs/modulus.md, Lemma J5).
        """
        exact = arithmetic.exact
        roots = np.sqrt(self.weights) * profile
        matrix, size = np.outer(roots, roots), roots
        for layer in layers:
            matrix = matrix * self.grams[layer]
            size = size * self.norms[layer]
        moved = exact(np.zeros_like(roots))
        for layer in layers:
            term = exact(self.errors[layer])
            for other in layers:
                if other != layer:
                    term = term * (exact(self.norms[other]) + self.errors[other])
            moved = moved + term
        length = exact(arithmetic.frobenius(size))
        rounding = arithmetic.rounding(*(self.terms,) * len(layers)) * length * length
        top = arithmetic.top((matrix + matrix.T) / 2, safe_upper(rounding))
        apart = arithmetic.frobenius(upper_of(sqrt(exact(self.weights)) * profile * moved))
        return Family(profile, safe_upper(sqrt(exact(max(top, 0.0))) + apart))
