"""Norms of composed layer Jacobians, at theta_0 and on the ball around it.

A stack of matrices at one point grows towards the inputs, a partial Jacobian for every layer:

    Y^l = X^{l+1} A_0^{l+1},        X^l = [B^l; Y^l diag(s^l)].

With X^q = I and no B^l it is the transport P^{ql} = dz^q / dz^l; with B^l = diag(|U_{0,j}^l|)^{1/2}
for all l it collects what a change of z^l does to every layer above, weighted as the second
derivative weights it. Norms at theta_0 (s^l = act'(z_0^l)) are measured;
:func:`partial_jacobian_norms` bounds them for all slopes that a perturbation allows.
Proofs: docs/modulus.md, Lemma J4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from overparam.numbers.upper import Upper, hypot

Other = TypeVar("Other")
Vector = TypeVar("Vector")
"""One number for each point, or for all of them: an array, or an :class:`Upper`."""


@dataclass(frozen=True)
class PartialJacobian(Generic[Vector]):
    """What one layer adds to a stack; norms are spectral, one number for each point.

    Attributes:
        head: |B^l|.
        head_moved: |B^{l+1} A_0^{l+1}|.
        before: |Y^l| at theta_0; None, like what follows, if not measured.
        after: |X^l| at theta_0.
        column: The longest column of Y^l.
        skipped: |Y^{l+1} A_0^{l+1}|; None for the first partial.
        slope_responses: Bounds on |Y^q diag(d) P^{ql}| over unit d, P^{ql} the transport, for the
            layers q = l + 1, ... between this one and the stack's top.
    """

    head: Vector
    head_moved: Vector
    before: Vector | None = None
    after: Vector | None = None
    column: Vector | None = None
    skipped: Vector | None = None
    slope_responses: tuple[Vector, ...] = ()

    def each(self, function: Callable[[Vector], Other]) -> "PartialJacobian[Other]":
        """A function of all norms."""

        def known(norm: Vector | None) -> Other | None:
            return None if norm is None else function(norm)

        return PartialJacobian(
            head=function(self.head),
            head_moved=function(self.head_moved),
            before=known(self.before),
            after=known(self.after),
            column=known(self.column),
            skipped=known(self.skipped),
            slope_responses=tuple(map(function, self.slope_responses)),
        )


@dataclass(frozen=True)
class PartialJacobians(Generic[Vector]):
    """A stack from its top layer downwards: partial Jacobians of the top layer in those below.

    Attributes:
        top: The layer it starts from, counted from 0.
        start: |X| of that layer.
        layers_below: For the layers top - 1, ..., 0.
    """

    top: int
    start: Vector
    layers_below: tuple[PartialJacobian[Vector], ...]

    def each(self, function: Callable[[Vector], Other]) -> "PartialJacobians[Other]":
        """A function of all norms."""
        layers_below = tuple(partial.each(function) for partial in self.layers_below)
        return PartialJacobians(self.top, function(self.start), layers_below)


@dataclass(frozen=True)
class Slopes:
    """What is known of the slopes s^l on the ball, for all layers together or one by one.

    Attributes:
        bound: beta_1 >= |s^l_j|.
        middle: |mid|, mid the middle of the interval that holds all slopes.
        half: Half its length.
        errors: Bounds on the distance of act'(z_0^l) from the slopes that stacks were measured
            with, by hidden layer.
        distances: Bounds on |s^l - those slopes|_2, by hidden layer; None where nothing is known.
    """

    bound: Upper
    middle: Upper
    half: Upper
    errors: list[Upper]
    distances: list[Upper] | None

    def spread(self, layer: int) -> Upper:
        """Bound on |s^l_j - those of the stacks|, whatever j."""
        assert self.distances is not None
        return self.distances[layer].minimum(2 * self.half + self.errors[layer])


@dataclass(frozen=True)
class PartialBounds:
    """Bounds on |X^l| on the ball and on how far X^l is from that at theta_0, l = 0..top."""

    norms: list[Upper]
    changes: list[Upper]


def partial_jacobian_norms(
    stack: PartialJacobians[Upper],
    weight_norms: list[Upper],
    slopes: Slopes,
    below: list[PartialBounds],
) -> PartialBounds:
    """Bounds on the ball for a stack of A_0 and any slopes allowed: docs/modulus.md, Lemma J4.

    Args:
        stack: Norms at theta_0.
        weight_norms: |A_0^l|, all layers.
        slopes: How far the slopes may be from those at theta_0.
        below: The transports from the layers below the stack's top, for the same slopes.
    """
    nothing = Upper(np.zeros_like(stack.start.values))
    found, dy = PartialBounds([stack.start], [nothing]), nothing
    y: Upper | None = None  # |Y|, and |dY| at theta_0's, of the last partial
    turns: list[Upper] = []  # |Y_0^q diag(ds^q)|, from this layer upwards
    for layer, partial in zip(range(stack.top - 1, -1, -1), stack.layers_below, strict=True):
        a = weight_norms[layer + 1]
        y = _norm_before(partial, a, y, dy, slopes).minimum(found.norms[0] * a)
        x = hypot(partial.head, slopes.bound * y)
        if partial.before is None or slopes.distances is None:
            found.norms.insert(0, x)
            found.changes.insert(0, Upper(np.full_like(nothing.values, np.inf)))
            continue
        assert partial.after is not None
        assert partial.column is not None
        dy = found.changes[0] * a
        y = y.minimum(partial.before + dy)
        e, spread = slopes.distances[layer], slopes.spread(layer)
        turn = (partial.column * e).minimum(partial.before * spread)
        turns.insert(0, turn)
        dx = (turn + slopes.bound * dy).minimum(_telescoped(layer, partial, slopes, turns, below))
        found.changes.insert(0, dx)
        found.norms.insert(0, hypot(partial.head, slopes.bound * y).minimum(partial.after + dx))
    return found


def _norm_before(
    partial: PartialJacobian[Upper], a: Upper, y: Upper | None, dy: Upper, slopes: Slopes
) -> Upper:
    """Bound on |Y^l|, of [B A; Y diag(s) A] with Y = Y^{l+1} and s = mid + at most half."""
    if y is None:
        return partial.head_moved
    through = slopes.bound * (y * a)
    if partial.skipped is not None and slopes.distances is not None:
        straight = (partial.skipped + dy * a).minimum(y * a)
        through = through.minimum(slopes.middle * straight + slopes.half * (y * a))
    return hypot(partial.head_moved, through)


def _telescoped(
    layer: int,
    partial: PartialJacobian[Upper],
    slopes: Slopes,
    turns: list[Upper],
    below: list[PartialBounds],
) -> Upper:
    """Bound on |dX^l|, one layer's slopes changed at a time from the top."""
    assert slopes.distances is not None
    shift = turns[0]
    for q, (response, turn) in enumerate(
        zip(partial.slope_responses, turns[1:], strict=True), layer + 1
    ):
        first = response * slopes.distances[q] + turn * below[q].changes[layer]
        shift = shift + first.minimum(turn * below[q].norms[layer])
    return shift
