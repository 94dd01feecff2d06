"""The curvature of the residual at any depth, layer by layer, from what one pass has found.

R = D^2 <F, ghat> is a symmetric form in the parameters of the layers. What belongs to one layer, or
to two that follow each other, goes neuron by neuron, where terms cancel like the residual's do.
Where matrices of weights stand in between, Cauchy and Schwarz separate them, with weights that
follow the residual over the points and the outgoing weights over the neurons. Statement and proof,
with these symbols: docs/trajectory.md, Lemma C7.
"""

from typing import NamedTuple

from overparam.numbers import Number
from overparam.numbers.sums import sum_error

LEAST = 1e-60
"""Of the largest lambda_i, the least one: fourth powers of their ratios are numbers."""


class Couplings(NamedTuple):
    """How A^l = c_l W^l couples neurons, l = 2 to D - 1: bounds for all steps that they serve.

    Attributes:
        neurons: beta^l_j > 0, (m_l,) each.
        plain: At least |A^l|.
        weighted: At least |diag(beta^l)^(1/2) A^l|.
    """

    neurons: tuple[Number, ...]
    plain: tuple[Number, ...]
    weighted: tuple[Number, ...]


class Off(NamedTuple):
    """How far what a pass has found may be off, relative to bounds on it.

    Attributes:
        relative: kappa: slopes and bends are off by at most kappa times ``steepest``, a^{l-1}_i by
            kappa times its size, upsilon^l_i and xi^l_i by kappa |zeta_i| times theirs.
        steepest: At least 1, |act'| and |act''|.
        inputs: At least |a^{l-1}_i|, l = 1 to D - 1.
        upstream: At least |upsilon^l_i| / |zeta_i|, l = 1 to D - 1.
        turned: At least |xi^l_i| / |zeta_i|, l = 2 to D.
    """

    relative: Number
    steepest: Number
    inputs: tuple[Number, ...]
    upstream: tuple[Number, ...]
    turned: tuple[Number, ...]

    def apart(self, factors: int) -> Number:
        """(1 + kappa)^p - 1: how far a product of p such factors may be off, relative to bounds."""
        powers, power = 0.0, 1.0
        for _ in range(factors):
            powers, power = powers + power, power * (1 + self.relative)
        return self.relative * powers


class Seen(NamedTuple):
    """What a forward and a backward pass have found at n points.

    Attributes:
        inputs: a^{l-1}_i = (c_l h^{l-1}, s_b), l = 1 to D - 1: (n, m_{l-1} + 1).
        slopes: act'(z^l_i), l = 1 to D - 1: (n, m_l).
        bends: act''(z^l_i), likewise.
        upstream: upsilon^l_i, the gradients in h^l_i, likewise.
        turned: xi^l_i, the gradients in z^l_i, l = 2 to D: (n, m_l).
        sizes: lambda_i > 0, at least |zeta_i| = |w_i ghat_i|, (n,).
        factors: c_l, l = 2 to D.
    """

    inputs: tuple[Number, ...]
    slopes: tuple[Number, ...]
    bends: tuple[Number, ...]
    upstream: tuple[Number, ...]
    turned: tuple[Number, ...]
    sizes: Number
    factors: tuple[Number, ...]


def exact(layers: int) -> Off:
    """Nothing is off, of a network with so many layers."""
    hidden = (0.0,) * (layers - 1)
    return Off(0.0, 1.0, hidden, hidden, hidden)


def layered_curvature(seen: Seen, couplings: Couplings, off: Off) -> Number:
    """An upper bound on |D^2 <F, ghat>| of a network with hidden layers.

    Args:
        seen: What the passes have found.
        couplings: Of the layers between the hidden ones.
        off: How far what was found may be from the exact numbers.

    Returns:
        A scalar of the arrays' own kind.

    References:
        docs/trajectory.md, Lemma C7.
    """
    # Any lambda > 0 will do. Beside one that vanishes, as outside a batch, squares of what the
    # others are multiplied by would underflow.
    lam = seen.sizes + LEAST * seen.sizes.max()
    last = len(seen.slopes)  # the output layer's number, from 0
    kappa, beta, apart = off.relative, off.steepest, off.apart
    total = lam.sum() ** 0.5
    grams = [a @ a.T for a in seen.inputs]
    widest = max(a.shape[1] for a in (*seen.inputs, *seen.turned))
    sums = len(lam), len(lam), widest, widest
    roundings = sum_error(*sums)

    def signed(s: Number, left: Number, right: Number) -> Number:
        """max_j |sum_i s_ij p_i tensor q_i|_F, from the Gram matrices of p and q."""
        (s, by), (left, p), (right, q) = map(_scaled, (s, left, right))
        square = (s * ((left * right) @ s)).sum(0)
        size = (left.diagonal() * right.diagonal()) ** 0.5 @ abs(s)
        found = ((square + abs(square)) / 2 + roundings * size**2).max()
        return by * p**0.5 * q**0.5 * found**0.5

    def largest(weights: Number, gram: Number) -> Number:
        """max_j |diag(weights_j)^(1/2) p|, p of that Gram matrix, by the Schatten norm."""
        (weights, by), (gram, p) = _scaled(weights), _scaled(gram)
        square = (weights * ((gram * gram) @ weights)).sum(0)
        found = (square + roundings * (gram.diagonal() @ weights) ** 2).max()
        return by**0.5 * p**0.5 * found**0.25

    # From here on with the symbols of docs/trajectory.md: s_{l,m} of the layers below, then the
    # entries of E by d_l, o_l, t_l, b_{l,m}, and by f_l, e_l.
    s = [[0.0] * last for _ in range(last)]
    for m in range(last):
        own = largest(lam[:, None] * seen.slopes[m] ** 2, grams[m])
        s[m][m] = own + apart(2) * beta * off.inputs[m] * total
        for layer in range(m + 1, last):
            steepest = abs(seen.slopes[layer]).max() + kappa * beta
            s[layer][m] = steepest * couplings.plain[layer - 1] * s[layer - 1][m]

    blocks = [[0.0] * (last + 1) for _ in range(last + 1)]

    def add(i: int, j: int, norm: Number) -> None:
        blocks[i][j] = blocks[i][j] + norm
        if i != j:
            blocks[j][i] = blocks[j][i] + norm

    for layer in range(last):  # act'' of a layer
        reach, size = off.upstream[layer] * beta, off.inputs[layer]
        alpha = seen.upstream[layer] * seen.bends[layer]
        d = signed(alpha, grams[layer], grams[layer])
        add(layer, layer, d + apart(4) * reach * size**2 * lam.sum())
        if not layer:
            continue
        share = couplings.neurons[layer - 1]
        low = share.min()
        o = (
            largest(alpha / lam[:, None] * alpha / share[None], grams[layer])
            + apart(3) * reach * size * total / low**0.5
        )
        t = (abs(alpha / lam[:, None]) / share[None]).max() + apart(2) * reach / low
        b = [couplings.weighted[layer - 1] * s_m for s_m in s[layer - 1][:layer]]
        for m in range(layer):
            add(layer, m, o * b[m])
            for other in range(m + 1):
                add(m, other, t * b[m] * b[other])
    for layer in range(1, last + 1):  # a layer's weights with what comes from below
        xi, slope, c = seen.turned[layer - 1], seen.slopes[layer - 1], seen.factors[layer - 1]
        gram, size = xi @ xi.T, off.turned[layer - 1] * beta
        f = signed(slope, gram, grams[layer - 1])
        add(layer, layer - 1, c * (f + apart(3) * size * off.inputs[layer - 1] * lam.sum()))
        if layer == 1:
            continue
        e = largest(slope**2 / lam[:, None], gram) + apart(2) * size * total
        for m in range(layer - 1):
            add(layer, m, c * e * couplings.plain[layer - 2] * s[layer - 2][m])
    # All that is left are sums and products of numbers >= 0; each of E's entries takes a few.
    return _block_norm(blocks) * (1 + sum_error(*sums, *(0,) * len(blocks) ** 2))


def _scaled(a: Number) -> tuple[Number, Number]:
    """Entries of at most 1 in modulus, whose fourth powers are numbers, and what they are times."""
    size = abs(a).max() + 1e-290
    return a / size, size


def _block_norm(blocks: list[list[Number]]) -> Number:
    """At least the spectral radius of a symmetric matrix of numbers >= 0.

    For every positive vector y it is at most max_i (N y)_i / y_i (Collatz); y comes from a few
    steps of the power method.
    """
    floor = sum(sum(row) for row in blocks) * 1e-3 + 1e-290
    y = [1.0 + 0.0 * floor for _ in blocks]
    for _ in range(8):
        z = [sum(a * b for a, b in zip(row, y, strict=True)) + floor for row in blocks]
        size = sum(z)
        y = [a / size for a in z]
    found = 0.0
    for row, own in zip(blocks, y, strict=True):
        quotient = sum(a * b for a, b in zip(row, y, strict=True)) / own
        found = (found + quotient + abs(found - quotient)) / 2
    return found
