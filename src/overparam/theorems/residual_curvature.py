"""The curvature of the residual of two hidden layers, from what one pass has found.

R = D^2 <F, ghat> is a symmetric form in the parameters of three layers. Between blocks that no
matrix of weights couples it goes neuron by neuron; where A^2 stands in between, slopes are split
into a mean over the points, whose terms cancel like the residual's do, and a rest. How strongly A^2
couples neurons of given weights is measured once for many steps. Statement and proof, with these
symbols: docs/trajectory.md, Lemma C7.
"""

from typing import NamedTuple

from overparam.numbers import Number

SAFE = 1 + 1e-9
"""Covers the rounding of some hundred operations on numbers >= 0."""

RAISE = 64
"""Roundings of a sum's terms beyond those of the sum."""

UNIT = 2.0**-53


class Couplings(NamedTuple):
    """How A^2 couples neurons: norms of diag(P) A^2 diag(Q), upper bounds for all steps they serve.

    Attributes:
        rows: P_j > 0, (m_2,).
        columns: Q_k > 0, (m_1,).
        plain: |A|.
        right: |A diag(Q)|.
        left: |diag(P) A|.
        both: |diag(P) A diag(Q)|.
        half: |diag(P)^(1/2) A|.
        half_right: |diag(P)^(1/2) A diag(Q)|.
    """

    rows: Number
    columns: Number
    plain: Number
    right: Number
    left: Number
    both: Number
    half: Number
    half_right: Number


class Off(NamedTuple):
    """How far what a pass has found may be off, relative to bounds on it.

    Attributes:
        relative: kappa: slopes and bends are off by at most kappa times ``steepest``, a^{l-1}_i by
            kappa times its size, upsilon^l_i and xi^2_i by kappa |gamma_i| times theirs.
        steepest: At least 1, |act'| and |act''|.
        inputs: At least |a^{l-1}_i|, l = 1, 2.
        upstream: At least |upsilon^l_i| / |gamma_i|, l = 1, 2.
        turned: At least |xi^2_i| / |gamma_i|.
    """

    relative: Number
    steepest: Number
    inputs: tuple[Number, Number]
    upstream: tuple[Number, Number]
    turned: Number


class Seen(NamedTuple):
    """What a forward and a backward pass have found at n points.

    Attributes:
        inputs: a^{l-1}_i = (c_l h^{l-1}, s_b), l = 1, 2: (n, m_{l-1} + 1).
        slopes: act'(z^l_i), (n, m_l).
        bends: act''(z^l_i), (n, m_l).
        upstream: upsilon^l_i, (n, m_l).
        turned: xi^2_i = upsilon^2_i act'(z^2_i), (n, m_2).
        gamma: w_i ghat_i, (n, k).
        sizes: lambda_i > 0, at least |gamma_i|, (n,).
        last: c c_3 W^3, (k, m_2).
        factor: c_2.
        top: c c_3.
    """

    inputs: tuple[Number, Number]
    slopes: tuple[Number, Number]
    bends: tuple[Number, Number]
    upstream: tuple[Number, Number]
    turned: Number
    gamma: Number
    sizes: Number
    last: Number
    factor: Number
    top: Number


def two_layer_curvature(seen: Seen, couplings: Couplings, off: Off) -> Number:
    """An upper bound on |D^2 <F, ghat>| of a network with two hidden layers.

    Args:
        seen: What the passes have found.
        couplings: Of A^2.
        off: How far that may be from the exact numbers.

    Returns:
        A scalar of the arrays' own kind.

    References:
        docs/trajectory.md, Lemma C7.
    """
    (a, b), (s1, s2), (bend1, bend2), (u1, u2), xi, gamma, lam, last, c2, top = seen
    mean = lam / lam.sum()
    mean1, mean2, level = ((mean @ table)[None, :] for table in (s1, s2, bend2))
    d1, d2 = s1 - mean1, s2 - mean2
    t1, t2, rest = u1 * bend1, u2 * bend2, u2 * (bend2 - level)
    ga, gb, gg, gx = a @ a.T, b @ b.T, gamma @ gamma.T, xi @ xi.T
    na, nb, ng = (a * a).sum(1), (b * b).sum(1), (gamma * gamma).sum(1)
    kappa, beta, (alpha1, alpha2), (reach1, reach2), reach_x = off
    P, Q = couplings.rows, couplings.columns

    def form(s: Number, left: Number, right: Number, size: Number) -> Number:
        """|sum_i s_ij p_i tensor q_i|_F for each j, from the Gram matrices of p and q.

        ``size`` times |gamma_i| bounds a term: of its four factors at most each is off by kappa.
        """
        gram = left * right
        square = (s * (gram @ s)).sum(0)
        raised = 4 * (len(s) + RAISE) * UNIT * (gram.diagonal() ** 0.5 @ abs(s)) ** 2
        found = ((square + abs(square)) / 2 + raised) ** 0.5
        return found + 5 * kappa * size * lam.sum()

    def energy(squares: Number, s: Number, size: Number) -> Number:
        """(sum_i q_i s_ij^2)^(1/2) for each j; ``size`` bounds a term's root over lambda's."""
        return (squares @ (s * s)) ** 0.5 * SAFE + 5 * kappa * size * lam.sum() ** 0.5

    high1, high2 = abs(mean1).max(), abs(mean2).max()
    spread = energy(na * lam, d1, 2 * beta * alpha1)
    wide = (spread / Q).max()
    # W^3 with W^2, and W^2 with itself: neuron by neuron.
    n32 = top * form(s2, gg, gb, beta * alpha2).max()
    n22 = form(t2, gb, gb, reach2 * beta * alpha2**2).max()
    # W^3 with W^1, through A^2.
    n31 = couplings.plain * high2 * form(s1, gg, ga, beta * alpha1).max()
    n31 = n31 + couplings.plain * high1 * form(d2, gg, ga, 2 * beta * alpha1).max()
    n31 = n31 + couplings.right * wide * energy(ng / lam, d2, 2 * beta).max()
    # W^2 with W^1: the forward factor, then the curvature of the second layer.
    n21 = c2 * form(s1, gx, ga, beta * reach_x * alpha1).max()
    bent = reach2 * beta * alpha1
    n21 = n21 + couplings.left * high1 * (form(t2, gb, ga, bent * alpha2) / P).max()
    rough = energy(nb / lam, rest, 2 * reach2 * beta * alpha2)
    n21 = n21 + couplings.both * wide * (rough / P).max()
    # W^1 with itself: its own curvature, then that of the second layer.
    half, half_right = couplings.half, couplings.half_right * wide
    n11 = form(t1, ga, ga, reach1 * beta * alpha1**2).max()
    n11 = n11 + half**2 * high1**2 * (form(t2, ga, ga, bent * alpha1) / P).max()
    rough = energy(na / lam, rest, 2 * bent)
    n11 = n11 + 2 * high1 * half * half_right * (rough / P).max()
    largest = abs(t2 / lam[:, None]).max(0) + 5 * kappa * reach2 * beta
    n11 = n11 + half_right**2 * (largest / P).max()
    for j in range(gamma.shape[1]):
        weight = (abs(last[j] * level[0]) / P).max()
        turned = d1 * gamma[:, j : j + 1]
        mixed = form(turned, gb, ga, 2 * beta * alpha1 * alpha2).max()
        n21 = n21 + couplings.left * weight * mixed
        own = form(turned, ga, ga, 2 * beta * alpha1**2).max()
        n11 = n11 + 2 * half**2 * weight * high1 * own
    return _block_norm(n11, n21, top * n31, n22, n32) * SAFE


def _block_norm(a: Number, b: Number, c: Number, d: Number, e: Number) -> Number:
    """At least the spectral radius of [[a, b, c], [b, d, e], [c, e, 0]], entries >= 0.

    For every positive vector y it is at most max_i (N y)_i / y_i (Collatz); y comes from a few
    steps of the power method, shifted so that no second eigenvalue is as large.
    """
    shift = (a + b + c + d + e) / 4 + 1e-290
    y = (1.0, 0.5, 0.5)
    for _ in range(12):
        z = (a * y[0] + b * y[1] + c * y[2], b * y[0] + d * y[1] + e * y[2], c * y[0] + e * y[1])
        z = tuple(u + shift * v for u, v in zip(z, y, strict=True))
        size = z[0] + z[1] + z[2]
        y = (z[0] / size, z[1] / size, z[2] / size)
    rows = (
        (a * y[0] + b * y[1] + c * y[2]) / y[0],
        (b * y[0] + d * y[1] + e * y[2]) / y[1],
        (c * y[0] + e * y[1]) / y[2],
    )
    larger = (rows[0] + rows[1] + abs(rows[0] - rows[1])) / 2
    return (larger + rows[2] + abs(larger - rows[2])) / 2
