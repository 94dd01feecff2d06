"""Norms of composed layer Jacobians, at theta_0 and on the ball around it.

A chain is a stack of matrices at one point that grows towards the inputs, a link for every layer:

    Y^l = X^{l+1} A_0^{l+1},        X^l = [B^l; Y^l diag(s^l)].

With X^q = I and no B^l it is the transport P^{ql} = dz^q / dz^l; with B^l = diag(|U_{0,j}^l|)^{1/2}
for all l it collects what a change of z^l does to every layer above, weighted as the second
derivative weights it. Norms at theta_0 (s^l = act'(z_0^l)) are measured; :func:`chain_norms` bounds
them for all slopes that a perturbation allows. Proofs: docs/modulus.md, Lemma 4.
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
class Link(Generic[Vector]):
    """What one layer adds to a chain; norms are spectral, one number for each point.

    Attributes:
        head: |B^l|.
        head_moved: |B^{l+1} A_0^{l+1}|.
        before: |Y^l| at theta_0; None, like what follows, if not measured.
        after: |X^l| at theta_0.
        column: The longest column of Y^l.
        skipped: |Y^{l+1} A_0^{l+1}|; None for the first link.
        flips: Bounds on |Y^q diag(d) P^{ql}| over unit d, P^{ql} the transport, for the layers
            q = l + 1, ... between this link and the chain's top.
    """

    head: Vector
    head_moved: Vector
    before: Vector | None = None
    after: Vector | None = None
    column: Vector | None = None
    skipped: Vector | None = None
    flips: tuple[Vector, ...] = ()

    def each(self, function: Callable[[Vector], Other]) -> "Link[Other]":
        """A function of all norms."""

        def known(norm: Vector | None) -> Other | None:
            return None if norm is None else function(norm)

        return Link(
            head=function(self.head),
            head_moved=function(self.head_moved),
            before=known(self.before),
            after=known(self.after),
            column=known(self.column),
            skipped=known(self.skipped),
            flips=tuple(map(function, self.flips)),
        )


@dataclass(frozen=True)
class Chain(Generic[Vector]):
    """A chain from its top layer downwards.

    Attributes:
        top: The layer it starts from, counted from 0.
        start: |X| of that layer.
        links: For the layers top - 1, ..., 0.
    """

    top: int
    start: Vector
    links: tuple[Link[Vector], ...]

    def each(self, function: Callable[[Vector], Other]) -> "Chain[Other]":
        """A function of all norms."""
        links = tuple(link.each(function) for link in self.links)
        return Chain(self.top, function(self.start), links)


@dataclass(frozen=True)
class Slopes:
    """What is known of the slopes s^l on the ball, for all layers together or one by one.

    Attributes:
        bound: beta_1 >= |s^l_j|.
        middle: |mu|, mu the middle of the interval that holds all slopes.
        half: Half its length.
        errors: Bounds on the distance of act'(z_0^l) from the slopes that chains were measured
            with, by hidden layer.
        moved: Bounds on |s^l - those slopes|_2, by hidden layer; None where nothing is known.
    """

    bound: Upper
    middle: Upper
    half: Upper
    errors: list[Upper]
    moved: list[Upper] | None

    def spread(self, layer: int) -> Upper:
        """Bound on |s^l_j - those of the chains|, whatever j."""
        assert self.moved is not None
        return self.moved[layer].minimum(2 * self.half + self.errors[layer])


@dataclass(frozen=True)
class Reach:
    """Bounds on |X^l| on the ball and on how far X^l is from that at theta_0, l = 0..top."""

    norms: list[Upper]
    changes: list[Upper]


def chain_norms(
    chain: Chain[Upper], weight_norms: list[Upper], slopes: Slopes, below: list[Reach]
) -> Reach:
    """Bounds on the ball for a chain of A_0 and any slopes allowed: docs/modulus.md, Lemma 4.

    Args:
        chain: Norms at theta_0.
        weight_norms: |A_0^l|, all layers.
        slopes: How far the slopes may be from those at theta_0.
        below: The transports from the layers below the chain's top, for the same slopes.
    """
    nothing = Upper(np.zeros_like(chain.start.values))
    found, dy = Reach([chain.start], [nothing]), nothing
    y: Upper | None = None  # |Y|, and |dY| at theta_0's, of the last link
    turned: list[Upper] = []  # |Y_0^q diag(ds^q)|, from this layer upwards
    for layer, link in zip(range(chain.top - 1, -1, -1), chain.links, strict=True):
        a = weight_norms[layer + 1]
        y = _norm_before(link, a, y, dy, slopes).minimum(found.norms[0] * a)
        x = hypot(link.head, slopes.bound * y)
        if link.before is None or slopes.moved is None:
            found.norms.insert(0, x)
            found.changes.insert(0, Upper(np.full_like(nothing.values, np.inf)))
            continue
        assert link.after is not None
        assert link.column is not None
        dy = found.changes[0] * a
        y = y.minimum(link.before + dy)
        turn = (link.column * slopes.moved[layer]).minimum(link.before * slopes.spread(layer))
        turned.insert(0, turn)
        dx = (turn + slopes.bound * dy).minimum(_telescoped(layer, link, slopes, turned, below))
        found.changes.insert(0, dx)
        found.norms.insert(0, hypot(link.head, slopes.bound * y).minimum(link.after + dx))
    return found


def _norm_before(link: Link[Upper], a: Upper, y: Upper | None, dy: Upper, slopes: Slopes) -> Upper:
    """Bound on |Y^l|, of [B A; Y diag(s) A] with Y = Y^{l+1} and s = mu + at most half."""
    if y is None:
        return link.head_moved
    through = slopes.bound * (y * a)
    if link.skipped is not None and slopes.moved is not None:
        straight = (link.skipped + dy * a).minimum(y * a)
        through = through.minimum(slopes.middle * straight + slopes.half * (y * a))
    return hypot(link.head_moved, through)


def _telescoped(
    layer: int, link: Link[Upper], slopes: Slopes, turned: list[Upper], below: list[Reach]
) -> Upper:
    """Bound on |dX^l|, one layer's slopes changed at a time from the top."""
    assert slopes.moved is not None
    shift = turned[0]
    for q, (flip, turn) in enumerate(zip(link.flips, turned[1:], strict=True), layer + 1):
        first = flip * slopes.moved[q] + turn * below[q].changes[layer]
        shift = shift + first.minimum(turn * below[q].norms[layer])
    return shift
