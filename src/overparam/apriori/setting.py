"""What Theorem 1 needs, as functions of the widths: everything but the widths is fixed here.

The failure probability is divided between the norms at theta_0 and the smallest eigenvalue, and
whatever does not depend on the widths (limits of the layers' norms, spectra of limiting matrices)
is computed once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from overparam.apriori.at_points import PointBounds
from overparam.apriori.eigenvalue import (
    LimitSpectra,
    Modes,
    limit_spectra,
    min_eigenvalue_bound,
)
from overparam.apriori.from_moments import moment_base_point, required_order
from overparam.apriori.inputs import Knowledge, lifted_norms, points_known
from overparam.apriori.moments import Moments
from overparam.apriori.one_layer import EVENTS
from overparam.apriori.two_layers import TwoLayers
from overparam.apriori.wide_limits import Limits, limits
from overparam.choices import Kind
from overparam.errors import InputError
from overparam.jacobian.layer_norms import LayerNorms
from overparam.limits import require_fraction, require_positive, require_whole
from overparam.model.function import require_all_trainable
from overparam.model.mlp import MLP
from overparam.problem.integrands import Integrand, get_integrand
from overparam.problem.measure import Measure

LARGEST = 1e150
"""A residual beyond has no square among floats."""

BINS = 24
"""Points of similar norms are one to the modulus, with the largest of their bounds."""


@dataclass(frozen=True)
class KernelBound:
    """A bound on K(theta_0) from below.

    Attributes:
        min_eigenvalue: At most lambda_min(K(theta_0)).
        modes: Those of a matrix M with K(theta_0) >= kappa M, kappa = min_eigenvalue over its
            smallest eigenvalue; None if nothing but lambda_min is known.
    """

    min_eigenvalue: float
    modes: Modes | None


@dataclass(frozen=True)
class Setting:
    """A problem before its network has widths; centred, so that F(theta_0) = 0.

    Attributes:
        data: What is known of the data.
        model: Scales, activation and number of layers; its widths do not matter.
        loss: The loss.
        residual: sqrt(2 Delta_0) of the zero function.
        failure_probability: delta, over the initialisation, of all that is bounded here.
        assumed: A value for lambda_min(K(theta_0)) that is taken on trust, or None.
        assumed_fails: The probability with which it is missed.
        sample_size: n, if it is known.
    """

    data: Knowledge
    model: MLP
    loss: Integrand
    residual: float
    failure_probability: float
    assumed: float | None = None
    assumed_fails: float = 0.0
    sample_size: int | None = None

    @property
    def total_failure_probability(self) -> float:
        """Of the bounds, the assumed lambda_min and the moments, by a union bound."""
        moments = self.data.failure_probability if isinstance(self.data, Moments) else 0.0
        return self.failure_probability + self.assumed_fails + moments

    @property
    def dim(self) -> int:
        """d."""
        return self.data.dim

    @cached_property
    def known(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]] | None:
        """Norms and weights of the points, if they are known."""
        return None if isinstance(self.data, Moments) else points_known(self.data)

    @cached_property
    def limits(self) -> Limits | None:
        """Limits of the layers' norms at the points, if their norms are known."""
        if self.known is None:
            return None
        model = self.model
        return limits(
            model, lifted_norms(self.known[0], self.dim, model.weight_scale, model.bias_scale)
        )

    @cached_property
    def spectra(self) -> LimitSpectra | None:
        """Spectra of limiting matrices, if the points are known."""
        if not isinstance(self.data, Measure):
            return None
        return limit_spectra(self.model, self.data)

    @property
    def eigenvalue_kind(self) -> Kind:
        """Whether lambda_min is assumed or a computed bound."""
        return "computed" if self.assumed is None else "assumed"

    @property
    def limiting_min_eigenvalue(self) -> float:
        """What the lower bound on lambda_min tends to as the widths grow."""
        return self.limiting_kernel.min_eigenvalue

    @cached_property
    def pl_constant(self) -> float:
        """Alpha on the sublevel set of the zero function."""
        excess = self.residual**2 / 2
        if self.known is not None:
            alpha = self.loss.functional_pl_constant(excess, self.known[1])
            mend = "lower the residual"
        else:
            alpha = self.loss.pl_constant(math.inf)
            mend = (
                "of moments no point's weight is known, and a single point may carry any share of "
                "the excess: give Norms or a Measure"
            )
        if not alpha > 0:
            raise InputError(
                f"the loss {self.loss.name} has no PL constant on the sublevel set of the zero "
                f"function; {mend}, or take squared or squared_hinge"
            )
        return alpha

    def at(self, hidden_widths: tuple[int, ...]) -> MLP:
        """The network of these widths."""
        return replace(self.model, hidden_widths=hidden_widths)

    def energies(self, modes: Modes) -> Float[np.ndarray, " n"] | None:
        """|r_0|^2 along each mode of a limit, r_0 the way from zero to the loss's one minimiser.

        None where that is not known: of other losses, of points or targets that are not, where
        lambda_min is assumed, or if the residual was given and is another.
        """
        if self.assumed is not None or not self.loss.unique or not self.residual:
            return None
        if not isinstance(self.data, Measure) or self.data.y is None:
            return None
        if not math.isclose(_residual(self.data, self.loss, None), self.residual, rel_tol=1e-9):
            return None
        y, roots = self.data.y, np.sqrt(self.data.weights)[:, None]
        away = roots * np.asarray(self.loss.nearest_minimiser(np.zeros_like(y), y))
        return np.sum((modes.vectors.T @ away) ** 2, axis=1)

    @cached_property
    def limiting_jacobian_norm(self) -> float:
        """What the bound on |J(theta_0)| falls to as the widths grow."""
        return jacobian_norm(self.base_point(self.at((10**15,) * len(self.model.hidden_widths))))

    @property
    def _share(self) -> float:
        """Delta of the norms, and of all events about kernels together."""
        return self.failure_probability / (2 if self.assumed is None else 1)

    @property
    def unit_share(self) -> float:
        """Delta of each event about the units of one hidden layer."""
        return self._share / (2 * EVENTS)

    def kernel_bound(self, model: MLP) -> KernelBound:
        """K(theta_0) from below at these widths: the best of what Theorem W3 and its like say."""
        if self.assumed is not None:
            return KernelBound(self.assumed, None)
        spectra, known, limits = self.spectra, self.known, self.limits
        assert spectra is not None
        assert known is not None
        assert limits is not None
        events = EVENTS * self.unit_share if model.layers == 2 else 0.0
        what = spectra, known[1], limits, self._share - events
        found = KernelBound(min_eigenvalue_bound(model, *what), spectra.topmost)
        if model.layers == 3:
            top, share = TwoLayers(model, *what).bounds()
            others = (
                KernelBound(top, spectra.topmost),
                KernelBound(share * spectra.kernel, spectra.whole),
            )
            found = max(found, *others, key=lambda bound: bound.min_eigenvalue)
        return found

    @property
    def limiting_kernel(self) -> KernelBound:
        """What the bound on the kernel tends to as the widths grow."""
        if self.assumed is not None:
            return KernelBound(self.assumed, None)
        assert self.spectra is not None, "without points lambda_min is assumed"
        modes = self.spectra.whole if self.model.layers == 3 else self.spectra.topmost
        return KernelBound(float(modes.values[0]), modes)

    def min_eigenvalue(self, model: MLP) -> float:
        """The lower bound on lambda_min(K(theta_0)) at these widths."""
        return self.kernel_bound(model).min_eigenvalue

    def base_point(self, model: MLP, *, binned: bool = True) -> LayerNorms:
        """The norms at theta_0, with probability 1 - delta (half of it, if lambda_min needs some).

        Args:
            model: Architecture and widths.
            binned: Whether points of similar norms are merged, for speed.
        """
        if isinstance(self.data, Moments):
            return moment_base_point(model, self.data, self._share)
        assert self.known is not None
        assert self.limits is not None
        largest = None if self.spectra is None else self.spectra.largest
        top = None if largest is None else (largest[0], largest[1])
        bounds = PointBounds(model, self.known[1], self.limits, self._share, top)
        return _binned(bounds.base_point(), self.known[0]) if binned else bounds.base_point()


def build_setting(
    data: Knowledge,
    model: MLP,
    loss: object = "squared",
    *,
    residual: float | None = None,
    min_eigenvalue: float | None = None,
    eigenvalue_failure_probability: float = 0.0,
    failure_probability: float = 0.05,
    sample_size: int | None = None,
) -> Setting:
    """Check the arguments of ``required_width``, which describes them.

    Raises:
        InputError: An argument is unusable.
    """
    require_all_trainable(model, "the a-priori width")
    delta = require_fraction("failure_probability", failure_probability)
    layers = len(model.hidden_widths)
    if layers < 1:
        raise InputError("the model has no hidden layer, and so no width: give 1 or more")
    if not isinstance(data, Knowledge):
        raise InputError(
            f"data is a {type(data).__name__}: give Moments, Norms or a Measure of the points"
        )
    if data.dim != model.in_dim:
        raise InputError(f"the points have dimension {data.dim}, the model takes {model.in_dim}")
    if isinstance(data, Moments):
        data.require(required_order(layers))
    targets = data.y if isinstance(data, Measure) else None
    if targets is not None and model.out_dim != targets.shape[1]:
        raise InputError(
            f"the model has {model.out_dim} outputs, the targets have {targets.shape[1]} columns"
        )
    integrand = get_integrand(loss).for_outputs(model.out_dim)
    model = replace(model, hidden_widths=(1,) * layers)
    residual = _residual(data, integrand, residual)
    assumed = min_eigenvalue, _assumption_fails(min_eigenvalue, eigenvalue_failure_probability)
    points = _points(data, sample_size)
    setting = Setting(data, model, integrand, residual, delta, *assumed, points)
    _check_total(setting)
    _check_activation(model)
    _check_eigenvalue(setting)
    return setting


def _residual(data: Knowledge, loss: Integrand, given: float | None) -> float:
    """sqrt(2 Delta_0) of the zero function: from the targets, or given."""
    if given is not None:
        if not 0 <= given <= LARGEST:
            raise InputError(
                f"residual is {given!r}: give sqrt(2 Delta_0), from 0 to {LARGEST:g}, where floats "
                "hold its square; or scale the targets down"
            )
        return float(given)
    if not isinstance(data, Measure) or data.y is None:
        raise InputError(
            "the targets are not known: give residual, the norm sqrt(E|y|^2) for the squared loss"
        )
    loss.validate_targets(data.y)
    zero = np.zeros_like(data.y)
    excess = np.asarray(loss.excess(zero, data.y))
    return math.sqrt(2 * max(float(data.weights @ excess), 0.0))


def _assumption_fails(assumed: float | None, probability: float) -> float:
    """The probability with which an assumed lambda_min is missed."""
    if not (isinstance(probability, float | int | np.floating) and 0 <= probability < 1):
        raise InputError(
            f"eigenvalue_failure_probability is {probability!r}: give the probability with which "
            "min_eigenvalue is missed, from 0 (never) to below 1"
        )
    if assumed is None and probability:
        raise InputError(
            "eigenvalue_failure_probability belongs to an assumed min_eigenvalue: give that, too, "
            "or leave both out; what is computed has its share of failure_probability"
        )
    return float(probability)


def _points(data: Knowledge, given: int | None) -> int | None:
    """How many points there are, if it is known."""
    known = None if isinstance(data, Moments) else len(points_known(data)[0])
    if given is None:
        return known
    require_whole("sample_size", given, 1)
    if known not in (None, given):
        raise InputError(f"sample_size is {given}, but the data have {known} points: leave it out")
    return int(given)


def _check_total(setting: Setting) -> None:
    total = setting.total_failure_probability
    if total >= 1:
        raise InputError(
            f"the failure probabilities of the bounds, the assumed min_eigenvalue and the moments "
            f"add up to {total:g}, which leaves nothing: make them smaller"
        )


def _check_activation(model: MLP) -> None:
    if model.act.curvature_bound is None:
        raise InputError(
            f"the activation {model.act.name} has no bound on its second derivative, and no width "
            "is enough without one: choose a smooth one such as gelu or softplus"
        )


def _check_eigenvalue(setting: Setting) -> None:
    """Refuse a lambda_min that no kernel has, or that nothing is known of."""
    value = setting.assumed
    if value is None:
        if not isinstance(setting.data, Measure):
            raise InputError(
                "the points are not known, so lambda_min cannot be computed: give min_eigenvalue"
            )
        if setting.limiting_min_eigenvalue <= 0:
            raise InputError(
                "the limiting kernel is singular on these points: merge equal points "
                "(Measure.merged), remove nearly equal ones, or set bias_scale"
            )
        return
    require_positive("min_eigenvalue", value)
    most = _largest_min_eigenvalue(setting)
    if value > most * (1 + 1e-9):
        what = "the mean of the kernel's diagonal"
        if setting.known is not None or setting.sample_size is None:
            what = "the kernel's diagonal"
        raise InputError(
            f"min_eigenvalue is {value:g}, above {what}, {most:.4g}: no kernel has an eigenvalue "
            "below which its diagonal falls; it includes the points' weights"
        )


def _largest_min_eigenvalue(setting: Setting) -> float:
    """The smallest diagonal entry of the limiting kernel, or bounds if no point is known.

    The diagonal sum_l q_l^2 prod_{k >= l} s_w^2 s'(q_k)^2 needs norms only. Of moments only the
    trace is known, which n k eigenvalues share.
    """
    model = setting.model
    if setting.known is None:
        base = setting.base_point(setting.at((10**15,) * len(model.hidden_widths)))
        return min(jacobian_norm(base) ** 2, mean_square(base) / (setting.sample_size or 1))
    found = setting.limits
    assert found is not None
    kernel = found.deviations[0] ** 2
    for q, s in zip(found.deviations[1:], found.slopes, strict=True):
        kernel = q**2 + (model.weight_scale * s) ** 2 * kernel
    return float(np.min(model.output_scale**2 * kernel * setting.known[1]))


def mean_square(base: LayerNorms) -> float:
    """A bound on the kernel's trace over k, sum_l |(|G_0^l| kappa_l)|_{L2(mu)}^2."""
    return sum(apart for apart, _ in _blocks(base))


def jacobian_norm(base: LayerNorms) -> float:
    """|J(theta_0)| <= sqrt(sum_l |J_l|^2) from the norms at theta_0."""
    return math.sqrt(sum(min(bounds) for bounds in _blocks(base)))


def _blocks(base: LayerNorms) -> Iterator[tuple[float, float]]:
    """Two bounds on |J_l|^2 for each layer: point by point, and of all points together."""
    backward = (*base.backward_norms, np.full_like(base.weights, base.output_scale))
    for g, kappa, shared in zip(
        backward, base.input_norms, base.collective_input_norms, strict=True
    ):
        yield float((g * kappa) ** 2 @ base.weights), float(g.max() * shared) ** 2


def _binned(base: LayerNorms, norms: Float[np.ndarray, " n"]) -> LayerNorms:
    """Merge points of similar norms: weights add up, of each bound the largest counts."""
    groups = _groups(norms)
    if len(groups) == len(norms):
        return base

    def largest(rows: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        return tuple(np.array([row[group].max() for group in groups]) for row in rows)

    return replace(
        base,
        weights=np.array([base.weights[group].sum() for group in groups]),
        input_norms=largest(base.input_norms),
        backward_norms=largest(base.backward_norms),
        upstream_norms=largest(base.upstream_norms),
        upstream_columns=largest(base.upstream_columns),
    )


def _groups(norms: Float[np.ndarray, " n"]) -> list[np.ndarray]:
    order = np.argsort(norms, kind="stable")
    if len(norms) > BINS or np.ptp(norms) <= 1e-12 * norms.max():
        count = 1 if np.ptp(norms) <= 1e-12 * norms.max() else BINS
        return [part for part in np.array_split(order, count) if len(part)]
    return [np.array([i]) for i in order]
