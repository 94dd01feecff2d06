"""Vectors v for Theorem 4: (K + lambda I)^{-1} r for all lambda at once, in a Krylov space.

Any v gives a bound, and of all of them the best is of this form (docs/convergence.md, Theorem 4').
So how they are found needs no proof: here by Lanczos' iteration in float64, for certificates and
for their re-check. What v is worth is for the caller to measure, its rounding included.
"""

import numpy as np
from jaxtyping import Float

from overparam.numbers.eigenvectors import eigh

Vector = Float[np.ndarray, " m"]
Nodes = Float[np.ndarray, " nodes"]

KRYLOV = 128
"""Most dimensions of the Krylov space: products with K."""

LADDER, FINE = np.logspace(-14, 3, 35), np.logspace(-0.5, 0.5, 11)
"""lambda over the largest eigenvalue, first; and around the best of these."""


class RidgeDuals:
    """v = (K + lambda I)^{-1} r, as far as the Krylov space of K and r goes.

    Args:
        kernel: K, symmetric and positive semidefinite up to rounding.
        residual: r, not zero.
    """

    def __init__(self, kernel: Float[np.ndarray, "m m"], residual: Vector) -> None:
        largest = float(np.abs(residual).max())
        unit = residual / largest  # its square neither overflows nor vanishes
        length = float(np.linalg.norm(unit))
        self._size = largest * length
        self._basis, values, vectors = _lanczos(kernel, unit / length)
        self._values, self._vectors = np.maximum(values, 0.0), vectors

    def best(self, radii: Nodes, modulus: Nodes) -> tuple[Vector, float]:
        """The v of length 1 whose bound is largest, and the bound, at most the last radius.

        Args:
            radii: Nodes r_1 < ... < r_N.
            modulus: omega at them, nondecreasing.
        """
        nodes = np.append(0.0, radii)
        swept = np.append(0.0, np.cumsum(modulus * np.diff(nodes)))
        shift = self._values[-1]
        for ladder in (LADDER, FINE):
            shifts = shift * ladder
            bounds = [self._bound(s, nodes, swept) for s in shifts]
            shift, bound = shifts[int(np.argmax(bounds))], max(bounds)
        return self._basis @ (self._vectors @ self._coordinates(shift)), bound

    def _coordinates(self, shift: float) -> Float[np.ndarray, " s"]:
        """Of v in the Ritz vectors, of length 1."""
        found = self._vectors[0] / (self._values + shift)
        return found / np.linalg.norm(found)

    def _bound(self, shift: float, nodes: Nodes, swept: Nodes) -> float:
        v = self._coordinates(shift)
        alignment = self._size * float(v @ self._vectors[0])
        pull = float(np.sqrt(self._values @ v**2))
        return float(np.interp(alignment, pull * nodes + swept, nodes))


def _lanczos(
    kernel: Float[np.ndarray, "m m"], start: Vector
) -> tuple[Float[np.ndarray, "m s"], Float[np.ndarray, " s"], Float[np.ndarray, "s s"]]:
    """An orthonormal basis that begins with ``start``; K there: eigenvalues and eigenvectors."""
    most = min(KRYLOV, len(start))
    basis = np.empty((most, len(start)))
    diagonal, beside = np.zeros(most), np.zeros(most)
    q, size = start, 0
    for size in range(1, most + 1):
        basis[size - 1] = q
        image = kernel @ q
        diagonal[size - 1] = q @ image
        for _ in range(2):  # once is not enough where K is nearly singular
            image -= basis[:size].T @ (basis[:size] @ image)
        beside[size - 1] = np.linalg.norm(image)
        if not beside[size - 1] > 1e-14 * np.abs(diagonal).max():
            break
        q = image / beside[size - 1]
    between = beside[: size - 1]
    projected = np.diag(diagonal[:size]) + np.diag(between, 1) + np.diag(between, -1)
    values, vectors = eigh(projected)
    return basis[:size].T, values, vectors
