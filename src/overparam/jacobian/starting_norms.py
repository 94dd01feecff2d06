"""Norms at theta_0 as numbers that count their roundings: where the recursions start."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from overparam.jacobian.data_norms import Family
from overparam.jacobian.partial_jacobians import (
    PartialBounds,
    PartialJacobians,
    Slopes,
    partial_jacobian_norms,
)
from overparam.jacobian.point_groups import GROUPS, alike
from overparam.numbers.upper import Upper


@dataclass(frozen=True)
class StartingNorms:
    """Norms at theta_0; lists by layer, entry l - 1 for layer l = 1..D, or for l < D.

    Attributes:
        weights: The measure's weights w_i, (n,).
        factors: c_l = s_w / sqrt(m_{l-1}).
        weight_norms: a_l = |A_0^l|.
        slope: beta_1 >= |act'|.
        curvature: beta_2 >= |act''|, or None.
        middle: |mu|, mu the middle of the interval that holds all slopes.
        half: Half its length.
        inputs: kappa_l(x_i) = |a_0^{l-1}(x_i)|, (n,) each.
        collective: calK_l, the norm of V -> V a_0^{l-1} into L2(mu).
        backward: |G_0^l(x_i)|, (n,) each, l = 1..D.
        upstream: |U_0^l(x_i)|, l < D.
        columns: max_j |U_{0,j}^l(x_i)|, l < D.
        slopes: Bounds on max_j |act'(z_0^l)_j|, l < D.
        slope_errors: How far the slopes of the stacks are from act'(z_0^l), in norm, l < D.
        transports: Chains of dz^l / dz^j, l < D.
        energy: The stack weighted with the roots of |U_{0,j}^l|; None without hidden layers, or
            where nothing is measured at points.
        mixed: Families c_q |G^q| |act'| |dz^{q-1}/dz^l| |V a^l|, by (q, l), counted from 0.
        curved: Families N_l N_j |V a^l| |Y a^j|, by (l, j), l <= j.
    """

    weights: Upper
    factors: list[Upper]
    weight_norms: list[Upper]
    slope: Upper
    curvature: Upper | None
    middle: Upper
    half: Upper
    inputs: list[Upper]
    collective: list[Upper]
    backward: list[Upper]
    upstream: list[Upper]
    columns: list[Upper]
    slopes: list[Upper]
    slope_errors: list[Upper]
    transports: list[PartialJacobians[Upper]]
    energy: PartialJacobians[Upper] | None
    mixed: dict[tuple[int, int], Family[Upper]] = field(default_factory=dict)
    curved: dict[tuple[int, int], Family[Upper]] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """D."""
        return len(self.factors)

    @property
    def moving(self) -> list[int]:
        """The layers that a perturbation can move, from 0; the last one if nothing does."""
        pairs = zip(self.factors, self.inputs, strict=True)
        moves = [bool(c.values > 0 or (kappa.values > 0).any()) for c, kappa in pairs]
        return [layer for layer, any_moves in enumerate(moves) if any_moves] or [self.layers - 1]

    @property
    def bends(self) -> bool:
        """Whether J changes: it does not where nothing moves below the output layer."""
        return self.moving[0] < self.layers - 1

    @property
    def points(self) -> int:
        """n."""
        return len(self.weights.values)

    @cached_property
    def coarse(self) -> "StartingNorms":
        """Norms at a few points from which every bound is at least as large, up to rounding.

        Bounds are nondecreasing in the norms at each point, and collect the points by maxima and by
        sums with their weights. So a point with the weight of a group of them, and with the largest
        norms in it, may stand for them; of a profile, which divides, with the smallest entry.
        Where points are few these are the norms themselves.
        """
        if self.points <= 2 * GROUPS:
            return self
        groups = alike(self._features)

        def largest(number: Upper) -> Upper:
            if number.values.shape != (self.points,):  # of all points together
                return number
            return Upper(np.array([number.values[g].max() for g in groups]), number.roundings)

        def each(numbers: list[Upper]) -> list[Upper]:
            return [largest(number) for number in numbers]

        def least(family: Family[Upper]) -> Family[Upper]:
            return Family(np.array([family.profile[g].min() for g in groups]), family.norm)

        return replace(
            self,
            weights=Upper(np.array([self.weights.values[g].sum() for g in groups])),
            inputs=each(self.inputs),
            backward=each(self.backward),
            upstream=each(self.upstream),
            columns=each(self.columns),
            slopes=each(self.slopes),
            slope_errors=each(self.slope_errors),
            transports=[stack.each(largest) for stack in self.transports],
            energy=None if self.energy is None else self.energy.each(largest),
            mixed={layers: least(family) for layers, family in self.mixed.items()},
            curved={layers: least(family) for layers, family in self.curved.items()},
        )

    @property
    def _features(self) -> Float[np.ndarray, "n features"]:
        """Norms of single layers at each point, in units of the largest."""
        known = [*self.inputs, *self.backward, *self.upstream, *self.columns]
        rows = [np.asarray(number.values, dtype=np.float64) for number in known]
        rows = [row / row.max() for row in rows if np.isfinite(row).all() and np.ptp(row) > 0]
        return np.stack(rows, axis=1) if rows else np.zeros((self.points, 1))

    def l2(self, rows: Upper) -> Upper:
        """Norms in L2(mu) of rows of pointwise norms."""
        return (rows.squared() * self.weights).sum(1).sqrt()

    def slopes_within(self, moves: list[Upper], part: float) -> Slopes:
        """The slopes that pre-activations reach by moves of the given norms, times a part."""
        distances = None
        if self.curvature is not None:
            pairs = zip(moves, self.slope_errors, strict=False)
            distances = [(part * self.curvature) * move + error for move, error in pairs]
        return Slopes(self.slope, self.middle, self.half, self.slope_errors, distances)

    def steepness(self, layer: int, move: Upper, part: float) -> Upper:
        """Bound on the largest slope, or secant's slope, within a move of the pre-activation."""
        if self.curvature is None:
            return self.slope.spread(move.values.shape)
        return self.slope.minimum(self.slopes[layer] + (part * self.curvature) * move)

    def transports_within(self, slopes: Slopes) -> list[PartialBounds]:
        """|dz^q / dz^l| for given slopes of all hidden layers."""
        found: list[PartialBounds] = []
        for _ in self.transports:
            found.append(self.next_transport(slopes, found))
        return found

    def next_transport(self, slopes: Slopes, below: list[PartialBounds]) -> PartialBounds:
        """|dz^q / dz^l| of the layer q after those below, for slopes of the layers below it."""
        return partial_jacobian_norms(self.transports[len(below)], self.weight_norms, slopes, below)

    def energies_within(self, slopes: Slopes, transports: list[PartialBounds]) -> list[Upper]:
        """N^l for given slopes, l < D; none without the stack."""
        if self.energy is None:
            return []
        return partial_jacobian_norms(self.energy, self.weight_norms, slopes, transports).norms

    def at_rest(self) -> tuple[list[PartialBounds], list[Upper]]:
        """Bounds at theta_0 itself on all transports, and on the stack with heads."""
        distances = None if self.curvature is None else self.slope_errors
        slopes = Slopes(self.slope, self.middle, self.half, self.slope_errors, distances)
        transports = self.transports_within(slopes)
        return transports, self.energies_within(slopes, transports)
