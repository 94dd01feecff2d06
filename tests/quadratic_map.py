"""F(theta) = A theta + <theta, Q theta> / 2 from R^p to R^k: its modulus is known, nearly exactly.

On networks the modulus is several times too large and hides much; here the theorems meet maps for
which it is sharp.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from overparam.theorems.convergence import Convergence, gradient_descent_converges
from overparam.theorems.distance import distance_to_minimisers
from overparam.theorems.implicit_bias import descent_limit, distance_ratio
from overparam.theorems.lazy import linearisation_distance
from overparam.theorems.majorant import Majorant


@dataclass(frozen=True)
class QuadraticMap:
    """Least squares for F, from theta_0 = 0, where F is 0.

    Attributes:
        slope: A, shape (k, p).
        bend: Q, shape (k, p, p), symmetric.
        target: y.
    """

    slope: np.ndarray
    bend: np.ndarray
    target: np.ndarray

    def value(self, theta):
        return self.slope @ theta + 0.5 * np.einsum("kpq,p,q->k", self.bend, theta, theta)

    def jacobian(self, theta):
        return self.slope + self.bend @ theta

    @property
    def curvature(self) -> float:
        """omega(s) = curvature * s; exact for one output."""
        return float(np.linalg.norm(np.concatenate(list(self.bend)), 2))

    def majorant(self, nodes: int = 800) -> Majorant:
        sigma = float(np.linalg.svd(self.slope, compute_uv=False)[-1])
        radii = np.geomspace(1e-6, 1, nodes) * sigma / self.curvature
        return Majorant(sigma, radii, self.curvature * radii)

    def converges(self, step_size: float | None = None) -> Convergence:
        majorant = self.majorant()
        return gradient_descent_converges(
            majorant=majorant,
            lipschitz=np.full(len(majorant.radii), self.curvature),
            jacobian_norm=float(np.linalg.norm(self.slope, 2)),
            smoothness=1.0,
            pl_constant=1.0,
            excess=0.5 * float(self.target @ self.target),
            step_size=step_size,
        )

    def consequences(self, result: Convergence) -> dict[str, Any]:
        """The bounds of Theorems 4, 5, 5' and 7."""
        majorant, norm = self.majorant(), float(np.linalg.norm(self.slope, 2))
        rho = float(np.linalg.norm(np.linalg.pinv(self.slope) @ self.target))
        residual = float(np.linalg.norm(self.target))
        apart = linearisation_distance(
            majorant=majorant,
            path=result.radius,
            jacobian_norm=norm,
            residual=residual,
            target_norm=rho,
            step_size=result.step_size,
        )
        limit = descent_limit(
            majorant=majorant,
            path=result.radius,
            displacement=apart.displacement,
            target_norm=rho,
        )
        closest = distance_to_minimisers(
            majorant=majorant,
            jacobian_norm=norm,
            smoothness=1.0,
            excess=0.5 * residual**2,
            target_norm=rho,
        )
        ratio = distance_ratio(majorant=majorant, limit=limit, closest=closest, unique=True)
        return {"apart": apart, "limit": limit, "closest": closest, "ratio": ratio}


def random_map(seed: int, margin: float) -> QuadraticMap:
    """One or two outputs, two to five parameters; max Psi / |r_0| is ``margin``."""
    rng = np.random.default_rng(seed)
    outputs = int(rng.integers(1, 3))
    p = outputs + int(rng.integers(1, 4))
    bend = rng.standard_normal((outputs, p, p))
    bend = bend + np.swapaxes(bend, 1, 2)
    slope = rng.standard_normal((outputs, p)) * 10.0 ** rng.uniform(-1, 0, (outputs, 1))
    target = rng.standard_normal(outputs)
    start = QuadraticMap(slope, bend, target)
    scale = start.majorant().maximum / (margin * np.linalg.norm(target))
    return QuadraticMap(slope, bend, scale * target)
