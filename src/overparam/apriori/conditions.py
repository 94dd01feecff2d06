"""The hypotheses of the two theorems at given widths, and what they say: W4 and W5.

The norms at theta_0 bound the modulus of the Jacobian (docs/modulus.md), that and lambda_min are
the hypotheses of Theorem 1; least squares on known points has the linearised run besides.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from overparam.apriori.along_run import Change, WorstChange, descent_follows_linear_run
from overparam.apriori.linear_run import LinearRun
from overparam.apriori.one_layer import DrawnLayer
from overparam.apriori.setting import KernelBound, Setting, jacobian_norm
from overparam.jacobian.layer_norms import LayerNorms
from overparam.jacobian.mlp_bounds import MLPBounds
from overparam.limits import require_fraction, require_positive
from overparam.model.mlp import MLP
from overparam.theorems.convergence import Convergence, gradient_descent_converges
from overparam.theorems.majorant import Majorant
from overparam.theorems.path import PathConvergence

NODES = np.geomspace(1 / 64, 16, 160)
"""Radii of the majorant, relative to the reference radius rho / sigma of the limit."""


@dataclass(frozen=True)
class Step:
    """The step size: a share of what the theorem allows, or given.

    Attributes:
        fraction: q = 1 - eta L_phi / 2.
        size: eta, or None.
    """

    fraction: float = 0.9
    size: float | None = None

    @classmethod
    def checked(cls, fraction: float, size: float | None) -> "Step":
        """Refuse what is no step.

        Raises:
            InputError: The fraction is not in (0, 1), or the step not positive and finite.
        """
        if size is not None:
            require_positive("step_size", size)
        return cls(require_fraction("step_fraction", fraction), size)


DEFAULT = Step()


@dataclass(frozen=True)
class Conditions:
    """What the theorems say at given widths.

    Attributes:
        model: The network.
        base: The norms at theta_0.
        kernel: The bound on K(theta_0).
        majorant: sigma_0 and omega.
        lipschitz: L at the majorant's nodes.
        level: sqrt(2 Delta_0 / alpha) / q.
        jacobian_norm: The bound on |J(theta_0)|.
        at_worst: Theorem 1's answer.
        run: Bounds on the linearised run, where there are any.
        along: Theorem W5's answer, where it applies.
        layer: The one hidden layer, where there is one and the points are known.
    """

    model: MLP
    base: LayerNorms
    kernel: KernelBound
    majorant: Majorant
    lipschitz: Float[np.ndarray, " nodes"]
    level: float
    jacobian_norm: float
    at_worst: Convergence
    run: LinearRun | None
    along: PathConvergence | None
    layer: DrawnLayer | None

    @property
    def result(self) -> Convergence:
        """Of the two theorems, the sharper one's where it certifies."""
        certified = self.along is not None and self.along.converges.certified
        return self.along.converges if self.along and certified else self.at_worst

    @property
    def margin(self) -> float:
        """Above 1 where a theorem certifies.

        Of Theorem W4 it is max Psi / rho. Of Theorem W5, sigma_0 over the largest change of J on
        the way; where it does not certify, max Psi / rho behind the path as far as it was kept.
        """
        margins = [self.at_worst.margin, 0.0]
        if self.at_worst.step_fraction == 1.0 or self.at_worst.certified:  # the step is free
            margins[0] = self.majorant.maximum / self.level if self.level else math.inf
        if self.along is not None:
            found, sigma = self.along.converges, float(self.majorant.sigma)
            changed = max(sigma - float(found.sigma_end), 2.0**-52 * sigma)  # what floats tell
            margins[1] = sigma / changed if found.certified else float(found.margin)
        return float(max(margins))


def reference_radius(setting: Setting, step_fraction: float) -> float:
    """rho / sigma for the residual and the limiting eigenvalue: the scale of all radii."""
    level = setting.residual / math.sqrt(setting.pl_constant) / step_fraction
    return (level or 1.0) / math.sqrt(setting.limiting_min_eigenvalue)


def conditions_at(
    setting: Setting,
    model: MLP,
    step: Step,
    base: LayerNorms | None = None,
    kernel: KernelBound | None = None,
    *,
    quick: bool = False,
    nodes: Float[np.ndarray, " nodes"] = NODES,
) -> Conditions:
    """What the theorems say at a model's widths, or with other norms or kernels than hold there.

    ``quick`` is enough to know whether they certify; with fewer ``nodes`` bounds are less sharp.
    """
    base = setting.base_point(model) if base is None else base
    kernel = setting.kernel_bound(model) if kernel is None else kernel
    smallest = kernel.min_eigenvalue
    q = step.fraction if step.size is None else 1.0
    radii = reference_radius(setting, q) * nodes
    modulus, lipschitz = MLPBounds(base).on_balls(radii).T
    majorant = Majorant(math.sqrt(smallest), radii, np.maximum.accumulate(modulus))
    norm = jacobian_norm(base)
    at_worst = gradient_descent_converges(
        majorant=majorant,
        lipschitz=lipschitz,
        jacobian_norm=norm,
        smoothness=setting.loss.smoothness,
        pl_constant=setting.pl_constant,
        excess=setting.residual**2 / 2,
        step_size=step.size,
        step_fraction=step.fraction,
    )
    run = _linear_run(setting, step, kernel, norm)
    layer = layer_of(setting, model, base) if kernel.modes is not None else None
    along = None
    if run is not None:
        change: Change = layer.motion(run) if layer else WorstChange(majorant, lipschitz)
        along = descent_follows_linear_run(
            run, change, sigma=math.sqrt(smallest), jacobian_norm=norm, quick=quick
        )
    level = setting.residual / math.sqrt(setting.pl_constant) / q
    bounds = base, kernel, majorant, lipschitz, level, norm
    return Conditions(model, *bounds, at_worst, run, along, layer)


def _linear_run(
    setting: Setting, step: Step, kernel: KernelBound, jacobian_norm: float
) -> LinearRun | None:
    """Lemma W14, where it applies; a free step is that of q in the limit of all widths."""
    energies = None if kernel.modes is None else setting.energies(kernel.modes)
    if not setting.loss.quadratic or kernel.modes is None or energies is None:
        return None
    if not kernel.min_eigenvalue > 0:
        return None
    eta = step.size
    if eta is None:
        eta = 2 * (1 - step.fraction) / setting.limiting_jacobian_norm**2
    largest = jacobian_norm**2
    if not eta * largest < 1:
        return None
    share = kernel.min_eigenvalue / float(kernel.modes.values[0])
    return LinearRun(kernel.modes.values, energies, share, eta, largest)


def layer_of(setting: Setting, model: MLP, base: LayerNorms) -> DrawnLayer | None:
    """The one hidden layer, as Propositions W15, W16 and W18 see it; None of deeper networks."""
    if model.layers != 2:
        return None
    spectra, limits, known = setting.spectra, setting.limits, setting.known
    assert spectra is not None
    assert limits is not None
    assert known is not None
    column = max(float(columns.max()) for columns in base.upstream_columns)
    return DrawnLayer(
        model=model,
        factor=model.output_scale * base.weight_factors[1],
        gram_norm=spectra.largest[0],
        quartic=spectra.quartic,
        feature_norm=math.sqrt(float(limits.values[-1] ** 2 @ known[1])),
        largest=column / (model.output_scale * model.weight_factors[1]),
        longest=float(limits.deviations[0].max()),
        failure_probability=setting.unit_share,
    )


def without_term(base: LayerNorms, term: str, layer: int) -> LayerNorms:
    """The norms if one term of the modulus were zero; for asking how much it matters.

    Args:
        base: The norms.
        term: ``bending`` (columns of U^l, through which act'' acts) or ``motion`` (the factor c_l
            of what a perturbation of the weights does to what passes through them).
        layer: l, from 1.
    """
    if term == "bending":
        columns = list(base.upstream_columns)
        columns[layer - 1] = np.zeros_like(columns[layer - 1])
        return replace(base, upstream_columns=tuple(columns))
    factors = list(base.weight_factors)
    factors[layer - 1] = 0.0
    return replace(base, weight_factors=tuple(factors))
