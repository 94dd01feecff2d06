"""Norms of composed layer Jacobians, at theta_0 and on the ball around it.

A chain is a stack of matrices at one point that grows towards the inputs, a link for every layer:

    Y^l = X^{l+1} A_0^{l+1},        X^l = [B^l; Y^l diag(s^l)].

With X^q = I and no B^l it is the transport P^{ql} = dz^q / dz^l; with B^l = diag(|U_{0,j}^l|)^{1/2}
for all l it collects what a change of z^l does to every layer above, weighted as the second
derivative weights it. Norms at theta_0 (s^l = act'(z_0^l)) are measured; :func:`chain_norms` bounds
them for all slopes that a perturbation allows. Proofs: docs/modulus.md, Lemma 4.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, "..."]
"""One number for each point, or for all of them."""

Array = np.ndarray


@dataclass(frozen=True)
class Link:
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


@dataclass(frozen=True)
class Chain:
    """A chain from its top layer downwards.

    Attributes:
        top: The layer it starts from, counted from 0.
        start: |X| of that layer.
        links: For the layers top - 1, ..., 0.
    """

    top: int
    start: Vector
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Slopes:
    """What is known of the slopes s^l on the ball, for all layers together or one by one.

    Attributes:
        bound: beta_1 >= |s^l_j|.
        middle: |mu|, mu the middle of the interval that holds all slopes.
        half: Half its length.
        moved: Bounds on |s^l - act'(z_0^l)|_2, by hidden layer; None where nothing is known.
    """

    bound: float
    middle: float
    half: float
    moved: list[Array] | None

    def spread(self, layer: int) -> Array:
        """Bound on |s^l_j - act'(z^l_{0,j})|, whatever j."""
        assert self.moved is not None
        return np.minimum(2 * self.half, self.moved[layer])


@dataclass(frozen=True)
class Reach:
    """Bounds on |X^l| on the ball and on how far X^l is from that at theta_0, l = 0..top."""

    norms: list[Array]
    changes: list[Array]


def all_transports(
    chains: tuple[Chain, ...], weight_norms: tuple[float, ...], slopes: Slopes
) -> list[Reach]:
    """The transports dz^q / dz^l of all hidden layers q."""
    found: list[Reach] = []
    for chain in chains:
        found.append(chain_norms(chain, weight_norms, slopes, found))
    return found


def chain_norms(
    chain: Chain, weight_norms: tuple[float, ...], slopes: Slopes, below: list[Reach]
) -> Reach:
    """Bounds on the ball for a chain of A_0 and any slopes allowed: docs/modulus.md, Lemma 4.

    Args:
        chain: Norms at theta_0.
        weight_norms: |A_0^l|, all layers.
        slopes: How far the slopes may be from those at theta_0.
        below: The transports from the layers below the chain's top, for the same slopes.
    """
    found = Reach([np.asarray(chain.start)], [np.zeros(1)])
    y: Array | None = None  # |Y| of the last link
    y_change: Array = np.zeros(1)
    turned: list[Array] = []  # bounds on |Y_0^q diag(ds^q)|, from this layer upwards
    for layer, link in zip(range(chain.top - 1, -1, -1), chain.links, strict=True):
        a = weight_norms[layer + 1]
        crude = link.head_moved if y is None else np.hypot(link.head_moved, slopes.bound * (y * a))
        if y is not None and link.skipped is not None and slopes.moved is not None:
            straight = np.minimum(link.skipped + y_change * a, y * a)
            through = slopes.middle * straight + slopes.half * (y * a)
            crude = np.minimum(crude, np.hypot(link.head_moved, through))
        y = np.minimum(found.norms[0] * a, crude)
        x, x_change = np.hypot(link.head, slopes.bound * y), np.full(1, np.inf)
        if link.before is not None and slopes.moved is not None:
            assert link.after is not None
            assert link.column is not None
            y_change = found.changes[0] * a
            y = np.minimum(y, link.before + y_change)
            turned.insert(
                0,
                np.minimum(link.column * slopes.moved[layer], link.before * slopes.spread(layer)),
            )
            x_change = np.minimum(
                turned[0] + slopes.bound * y_change,
                _telescoped(layer, link, slopes, turned, below),
            )
            x = np.minimum(np.hypot(link.head, slopes.bound * y), link.after + x_change)
        found.norms.insert(0, x)
        found.changes.insert(0, x_change)
    return found


def _telescoped(
    layer: int, link: Link, slopes: Slopes, turned: list[Array], below: list[Reach]
) -> Array:
    """Bound on dX^l, one layer's slopes changed at a time from the top."""
    assert slopes.moved is not None
    total = turned[0]
    for q, (flip, turn) in enumerate(zip(link.flips, turned[1:], strict=True), layer + 1):
        passed = below[q]
        first = flip * slopes.moved[q] + turn * passed.changes[layer]
        total = total + np.minimum(first, turn * passed.norms[layer])
    return total
