"""The hypotheses of Theorem 1, measured at given parameters.

Everything expensive (the tangent kernel, its extreme eigenvalues, the norms at theta_0) is asked
for here, once (``facts.py``); the theorems are then cheap functions of these numbers.
"""

import math
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from overparam.certificate.facts import ComputedFacts, Facts, ProvedFacts
from overparam.choices import Rigor
from overparam.enclosures import Enclosure
from overparam.enclosures.rounding import sqrt_down, sqrt_up
from overparam.jacobian.by_radius import JacobianBounds
from overparam.kernel.empirical.expansion import Expansion
from overparam.numbers import Number
from overparam.numbers.on_demand import OnDemand
from overparam.precision import on_host
from overparam.problem.problem import require_no_decay
from overparam.rounding.dual import Duals
from overparam.rounding.probes import ArithmeticFault, arithmetic_fault, inner_dimensions, on_cpu
from overparam.rounding.provable import check_provable
from overparam.theorems.descent import objective_smoothness
from overparam.theorems.majorant import Majorant
from overparam.threads import one_thread

NODES = 160
"""Radii at which omega and L are evaluated."""

AFAR = 64
"""Radii beyond those of Theorem 1, to where no minimiser is excluded any more."""

FAR = 1e12
"""A radius no network travels; its inverse is one nobody can tell from zero."""


@dataclass(frozen=True)
class Hypotheses:
    """What Theorem 1 assumes, as numbers at theta_0.

    Attributes:
        point: theta_0.
        min_eigenvalue: Enclosure of lambda_min(K).
        max_eigenvalue: Enclosure of lambda_max(K) = |J|^2.
        excess: Delta_0 from above.
        residual: sqrt(2 Delta_0) from above.
        target_norm: rho_K = |J_0^+ r_0|, infinite if K is singular; None if not asked for. From
            above if proved; else the number that float64 gives.
        bounds: omega and L as functions of the radius.
        rigor: ``proved`` if every number is a bound on the real one, rounding included;
            ``estimated`` if ``bounds`` are, whatever the others.
        excess_lower: Delta_0 from below.
        target_norm_lower: rho_K from below.
        target_norm_upper: rho_K from above.
        downgrade: Why ``proved`` was asked for and not given.
        duals: Vectors for Theorem 4; None if they were not asked for, or say nothing.
        kernel_error: How far the computed kernel may be from K; None where that is not bounded.
    """

    point: Expansion
    min_eigenvalue: Enclosure
    max_eigenvalue: Enclosure
    excess: float
    residual: float
    target_norm: float | None
    bounds: JacobianBounds
    rigor: Rigor = "computed"
    excess_lower: float = 0.0
    target_norm_lower: float = 0.0
    target_norm_upper: float = math.inf
    downgrade: ArithmeticFault | None = None
    duals: Duals | None = None
    kernel_error: float | None = None

    @property
    def sigma(self) -> float:
        """sigma_0, the root of the lower bound on lambda_min(K); 0 if that is not positive."""
        return sqrt_down(max(self.min_eigenvalue.lower, 0.0))

    @property
    def jacobian_norm(self) -> float:
        """Upper bound on |J(theta_0)|."""
        return sqrt_up(self.max_eigenvalue.upper)

    def smoothness(self, modulus: Number, lipschitz: Number) -> Number:
        """L_phi on balls, from omega and L there."""
        return objective_smoothness(
            modulus=modulus,
            lipschitz=lipschitz,
            jacobian_norm=self.jacobian_norm,
            smoothness=self.point.problem.loss.smoothness,
            excess=self.excess,
        )

    @one_thread
    def grid(self, level: float, coarser: int = 1) -> tuple[Majorant, OnDemand]:
        """Psi, and L, at radii around the linearised path length, and on to where Psi peaks.

        Beyond that come a few more, as far as Theorem 4 excludes minimisers. There are so many
        times fewer as ``coarser`` says where little hangs on them.
        """
        nodes = max(NODES // coarser, 4)
        linearised = level / self.sigma if self.sigma else 0.0
        outer = self._peak_radius(linearised)
        inner = min(linearised or outer, outer) / 16
        middle = min(16 * linearised or outer, outer)
        radii = np.geomspace(inner, middle, nodes // 2)
        if middle < outer:
            radii = np.append(radii, np.geomspace(middle, outer, nodes // 2 + 1)[1:])
        modulus, lipschitz = self.bounds.on_nested_balls(radii)
        modulus = np.maximum.accumulate(modulus)
        if self.duals is not None and self.bounds.kind != "estimated":
            afar = self._where_minimisers_may_be(self.duals, radii, modulus, AFAR // coarser)
            if not len(afar):
                return Majorant(self.sigma, radii, modulus), lipschitz
            beyond, of_them = self.bounds.on_nested_balls(afar)
            finite = np.flatnonzero(np.isfinite(beyond))
            radii = np.append(radii, afar[finite])
            modulus = np.maximum.accumulate(np.append(modulus, beyond[finite]))
            lipschitz = lipschitz.followed_by(of_them, finite)
        return Majorant(self.sigma, radii, modulus), lipschitz

    def _where_minimisers_may_be(
        self,
        duals: Duals,
        radii: Float[np.ndarray, " nodes"],
        modulus: Float[np.ndarray, " nodes"],
        more: int,
    ) -> Float[np.ndarray, " more"]:
        """Radii beyond the last one, evenly to where Theorem 4 is about to end."""
        last = float(radii[-1])
        while True:
            _, bound = duals.ridge.best(radii, modulus)
            if bound < radii[-1] or radii[-1] >= FAR:
                break
            farther = 2 * radii[-1]
            omega = self.bounds.modulus(farther)
            if not math.isfinite(omega):
                break
            radii, modulus = np.append(radii, farther), np.append(modulus, max(modulus[-1], omega))
        if bound <= last:
            return np.empty(0)
        # On cells that double omega's integral is too large, and the bound too small, by up to a
        # third: a trapezoid comes closer.
        _, near = duals.ridge.best(radii, (modulus + np.append(0.0, modulus[:-1])) / 2)
        return np.linspace(last, max(1.03 * near, bound), more + 1)[1:]

    def _peak_radius(self, linearised: float) -> float:
        """Where omega reaches sigma_0, to a percent from above; or far out if it never does."""
        if self.bounds.modulus(FAR) <= self.sigma:
            farther = 256 * linearised  # where J hardly changes, however far a path may be
            return farther if farther > FAR and self.bounds.modulus(farther) <= self.sigma else FAR
        low, high = 0.0, min(max(linearised, 1.0), FAR)
        while self.bounds.modulus(high) <= self.sigma:
            low, high = high, min(4 * high, FAR)
        while high > 1.01 * low and high > 1 / FAR:
            middle = math.sqrt(low * high) if low else high / 256
            if self.bounds.modulus(middle) <= self.sigma:
                low = middle
            else:
                high = middle
        return high


@on_host
@np.errstate(all="ignore")  # whatever the caller's: an overflow is refused, or not certified
def measure_hypotheses(
    point: Expansion, *, target_norm: bool = True, rigor: Rigor = "computed"
) -> Hypotheses:
    """Measure the hypotheses of Theorem 1 at a point in float64.

    Args:
        point: theta_0. Under ``proved`` its kernel is computed anew, where its rounding is known.
        target_norm: Whether to compute rho_K, which costs one more Cholesky factor.
        rigor: ``proved`` makes every number a bound on the real one, rounding included; if the
            arithmetic at hand does not allow that, the result is ``computed`` and says why.
            ``estimated`` searches for the modulus even where a bound is known; where none is,
            ``computed`` does so too.

    Returns:
        The :class:`Hypotheses`.

    Raises:
        InputError: The kernel does not fit in memory, the parameters do not fit the model, or
            nothing can be proved with the activation or the loss.

    References:
        docs/proved.md.
    """
    problem = point.problem
    require_no_decay(problem, "Theorem 1")
    point.check()
    downgrade = None
    if rigor == "proved":
        check_provable(problem)
        downgrade = arithmetic_fault(inner_dimensions(problem))
    if rigor != "proved" or downgrade is not None:
        if point.given is None:
            point.require_memory()
        return _from_facts(ComputedFacts(point, rigor == "estimated"), target_norm, downgrade)
    point.require_memory()
    with jax.default_device(on_cpu()):
        return _from_facts(ProvedFacts(point.anew()), target_norm)


def _from_facts(
    facts: Facts, target_norm: bool, downgrade: ArithmeticFault | None = None
) -> Hypotheses:
    """All of them, each asked for once; what is cheap to refuse comes first."""
    excess, known = facts.excess, facts.known
    rho = facts.target_norm if target_norm else None
    rigor: Rigor = "estimated" if known.bounds.kind == "estimated" else "computed"
    return Hypotheses(
        point=facts.point,
        min_eigenvalue=known.smallest,
        max_eigenvalue=known.largest,
        excess=excess.upper,
        residual=facts.residual_norm,
        target_norm=None if rho is None else rho.value,
        bounds=known.bounds,
        rigor=rigor if known.layers is None else "proved",
        excess_lower=excess.lower,
        target_norm_lower=0.0 if rho is None else rho.lower,
        target_norm_upper=math.inf if rho is None else rho.upper,
        downgrade=downgrade,
        duals=facts.duals if target_norm else None,
        kernel_error=None if known.layers is None else known.layers.kernel_error,
    )
