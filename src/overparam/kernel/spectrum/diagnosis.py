"""Why a kernel is nearly singular: which samples, and what about them.

Every culprit is held against the kernel itself: for a set S of samples,

    lambda_min(K) <= lambda_min(K_SS)      (Cauchy's interlacing theorem),

so the principal submatrix of a pair of samples, or of a few, says how much of the trouble they
explain by themselves, whatever pointed at them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from overparam.kernel.spectrum.close_pairs import (
    PAIRS_LISTED,
    ClosePairs,
    close_pairs,
)
from overparam.model.mlp import MLP
from overparam.problem.measure import equal_rows

Kind = Literal[
    "unresolved",
    "indefinite",
    "rank",
    "zero rows",
    "duplicates",
    "near duplicates",
    "collinear",
    "antipodal",
    "group",
    "spread",
]

EXPLAINS = 2.0
"""A set of samples explains lambda_min if its own smallest eigenvalue is within this factor."""

LARGEST_GROUP = 64
"""Samples in the largest set that is tried as an explanation."""

TOLD_APART = 1e-3
"""Samples on a line are hardly told apart if lambda_min of their submatrix is below this fraction
of its smallest diagonal entry."""


@dataclass(frozen=True)
class Finding:
    """One reason why a kernel is, or must be, nearly singular.

    Attributes:
        kind: What was found.
        groups: The samples concerned, counted from 0, group by group, the worst group first.
        bound: An upper bound on lambda_min that the worst group (or the fact) implies; *computed*.
        sentence: What it means and what mends it.
    """

    kind: Kind
    groups: tuple[tuple[int, ...], ...]
    bound: float
    sentence: str


def principal_bound(K: Float[np.ndarray, "m m"], samples: Sequence[int], outputs: int) -> float:
    """lambda_min of the principal submatrix of some samples: an upper bound on lambda_min(K)."""
    rows = (np.asarray(samples)[:, None] * outputs + np.arange(outputs)).ravel()
    return float(np.linalg.eigvalsh(K[np.ix_(rows, rows)])[0])


def explaining_group(
    K: Float[np.ndarray, "m m"],
    weights: Float[np.ndarray, " n"],
    target: float,
    outputs: int,
) -> tuple[tuple[int, ...], float] | None:
    """A small set of samples whose principal submatrix alone is as singular as the kernel.

    Args:
        K: The kernel, sample-major.
        weights: Weight of each sample in the smallest eigenvector; they are tried in that order.
        target: What lambda_min of the submatrix has to come down to.
        outputs: k.

    Returns:
        The set, from which no member can be dropped, and its bound; or None if no set of at most
        ``LARGEST_GROUP`` samples that the weights point at explains lambda_min.
    """
    order = [int(i) for i in np.argsort(weights, kind="stable")[::-1][:LARGEST_GROUP]]
    size, bound = 1, principal_bound(K, order[:1], outputs)
    while bound > target and size < len(order):
        size = min(max(size + 1, size * 4 // 3), len(order))
        bound = principal_bound(K, order[:size], outputs)
    if bound > target:
        return None
    group = order[:size]
    for member in group[::-1]:  # the least suspicious first
        rest = [i for i in group if i != member]
        if rest and (without := principal_bound(K, rest, outputs)) <= target:
            group, bound = rest, without
    return tuple(sorted(group)), bound


def rank_bound(model: MLP) -> tuple[int, str]:
    """A bound on the rank of the tangent kernel of a network at any parameters and any data.

    The rank is at most the number of parameters that the output depends on. If the activation is
    affine, every directional derivative of the network is an affine function of x with k
    components, so the rank is at most k (d + 1), and k d if there are no constants at all.

    Args:
        model: The network.

    Returns:
        The bound, and where it comes from.
    """
    sizes = zip(model.widths[:-1], model.widths[1:], model.trained_factors, strict=True)
    parameters = sum(m * (n * bool(c) + bool(s)) for n, m, (c, s) in sizes)
    if model.act.curvature_bound == 0.0 or not model.hidden_widths:
        constant = model.bias_scale > 0 or (model.hidden_widths and _at(model, 0.0) != 0)
        affine = model.out_dim * (model.in_dim + bool(constant))
        if affine <= parameters:
            return affine, "an affine network has derivatives that are affine in x"
    return parameters, f"the network has {parameters} parameters that matter"


def diagnose(
    K: Float[np.ndarray, "m m"],
    lower: float,
    upper: float,
    weights: Float[np.ndarray, " n"],
    *,
    outputs: int = 1,
    points: Float[np.ndarray, "n d"] | None = None,
    model: MLP | None = None,
    tolerance: float = 1e-3,
) -> tuple[Finding, ...]:
    """Findings that explain the smallest eigenvalue of a kernel.

    Args:
        K: The kernel, symmetric, sample-major, of order n k.
        lower: A lower bound on lambda_min.
        upper: An upper bound on lambda_min.
        weights: Squared components of the smallest eigenvector, summed over outputs.
        outputs: k.
        points: The inputs, if known.
        model: The network, if known.
        tolerance: As in `close_pairs`.

    Returns:
        The findings, facts that force a singular kernel first.
    """
    resolution = 2.0**-50 * abs(float(K.diagonal().sum()))
    target = EXPLAINS * max(upper, 0.0) + resolution
    findings = [*_about_bounds(lower, upper, K), *_about_rank(model, len(K))]
    findings += _zero_rows(K, outputs)
    if points is not None:
        pairs = close_pairs(points, tolerance=tolerance)
        findings += _duplicates(K, points, outputs)
        findings += _pairs(K, pairs, outputs, target, model, tolerance)
    group = explaining_group(K, weights, target, outputs)
    if group is not None:
        members, bound = group
        known = {pair for finding in findings for pair in finding.groups}
        if members not in known:
            findings.append(_group(K, members, bound))
    else:
        findings.append(_spread(weights))
    return tuple(findings)


def _about_bounds(lower: float, upper: float, K: np.ndarray) -> Iterable[Finding]:
    rounding = 2.0**-53 * len(K) * abs(float(K.diagonal().sum()))  # of Gram matrices in float64
    if upper < -rounding:
        sentence = (
            f"lambda_min <= {upper:.3g} < 0, more than rounding in float64 explains: K is no Gram "
            "matrix; compute it in float64, or look for what made it"
        )
        yield Finding("indefinite", (), upper, sentence)
    elif lower <= 0:
        sentence = (
            f"lambda_min is between {lower:.3g} and {upper:.3g}: not proved positive, so K is "
            "singular as far as float64 can tell, and the condition number has no finite bound"
        )
        yield Finding("unresolved", (), upper, sentence)


def _about_rank(model: MLP | None, order: int) -> Iterable[Finding]:
    if model is None:
        return
    rank, reason = rank_bound(model)
    if rank < order:
        sentence = (
            f"rank at most {rank} for a kernel of order {order}: {reason}, so lambda_min = 0; "
            "take a wider network, another activation or fewer samples"
        )
        yield Finding("rank", (), 0.0, sentence)


def _zero_rows(K: np.ndarray, outputs: int) -> Iterable[Finding]:
    samples = np.unique(np.flatnonzero(K.diagonal() == 0) // outputs)
    if len(samples):
        groups = tuple((int(i),) for i in samples)
        sentence = (
            f"{_samples(groups)}: a zero on the diagonal of K, so lambda_min <= 0; the network "
            "does not react to its parameters there (a zero input without biases?): drop them"
        )
        yield Finding("zero rows", groups, 0.0, sentence)


def _duplicates(K: np.ndarray, points: np.ndarray, outputs: int) -> Iterable[Finding]:
    groups = equal_rows(points)
    if groups:
        bound = min(principal_bound(K, group[:2], outputs) for group in groups[:PAIRS_LISTED])
        sentence = (
            f"{_samples(groups)}: identical inputs have identical rows of K, so lambda_min = 0 "
            "for any network; merge them (Measure does)"
        )
        yield Finding("duplicates", groups, max(bound, 0.0), sentence)


def _pairs(
    K: np.ndarray,
    pairs: ClosePairs,
    outputs: int,
    target: float,
    model: MLP | None,
    tolerance: float,
) -> Iterable[Finding]:
    """Near duplicates always; pairs on a line only if the kernel hardly tells them apart."""
    by_kind: dict[Kind, list[tuple[float, tuple[int, int]]]] = {}
    for (i, j), cosine, distance in zip(pairs.pairs, pairs.cosines, pairs.distances, strict=True):
        pair = int(i), int(j)
        near = bool(distance <= tolerance)
        kind: Kind = "near duplicates" if near else "collinear" if cosine > 0 else "antipodal"
        bound = principal_bound(K, pair, outputs)
        rows = K.diagonal()[[row * outputs + a for row in pair for a in range(outputs)]]
        if near or bound <= min(10 * target, TOLD_APART * float(rows.min())):
            by_kind.setdefault(kind, []).append((bound, pair))
    causes = {
        "near duplicates": "nearly equal inputs; merge them, or say that they are one sample",
        "collinear": "inputs on one ray from the origin" + _symmetry(model, "collinear"),
        "antipodal": "inputs opposite to each other" + _symmetry(model, "antipodal"),
    }
    for kind, found in by_kind.items():
        found.sort()
        groups, bound = tuple(pair for _, pair in found), found[0][0]
        forced = f"the first pair alone forces {_at_most(K, bound)}"
        yield Finding(kind, groups, bound, f"{_samples(groups)}: {causes[kind]}; {forced}")


def _symmetry(model: MLP | None, kind: str) -> str:
    """What the activation's symmetry makes of points on a line, if there are no biases."""
    if model is None or model.bias_scale > 0 or not model.hidden_widths:
        return ", hardly told apart"
    t = np.linspace(0.1, 3.0, 30)
    right, left, twice = _at(model, t), _at(model, -t), _at(model, 2 * t)
    homogeneous = np.allclose(twice, 2 * right) and np.allclose(_at(model, -2 * t), 2 * left)
    if kind == "collinear" and homogeneous:
        return ", which a homogeneous activation without biases cannot tell apart: set bias_scale"
    if kind == "antipodal" and np.allclose(left, -right):
        return ", which an odd activation without biases cannot tell apart: set bias_scale"
    if kind == "antipodal" and np.allclose(left, right):
        return ", which an even activation without biases cannot tell apart: set bias_scale"
    return ", hardly told apart"


def _at(model: MLP, t: float | np.ndarray) -> np.ndarray:
    return np.asarray(model.act(np.asarray(t, dtype=np.float32)))


def _group(K: np.ndarray, members: tuple[int, ...], bound: float) -> Finding:
    alone = "by itself forces" if len(members) == 1 else "by themselves force"
    sentence = f"{_samples((members,))}: {alone} {_at_most(K, bound)}"
    return Finding("group", (members,), bound, sentence)


def _at_most(K: np.ndarray, bound: float) -> str:
    """A bound in words; what is below the rounding of a small submatrix is a zero."""
    if bound <= 2.0**-48 * float(K.diagonal().max()):
        return "lambda_min <= 0, up to rounding"
    return f"lambda_min <= {bound:.3g}"


def _spread(weights: np.ndarray) -> Finding:
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    first = tuple(int(i) for i in np.argsort(weights, kind="stable")[::-1][:5])
    sentence = (
        f"no {LARGEST_GROUP} samples alone make lambda_min this small: the smallest eigenvector is "
        f"spread over about {effective:.0f} samples, {_listed(first)} first"
    )
    return Finding("spread", (first,), np.inf, sentence)


def _samples(groups: Sequence[Sequence[int]]) -> str:
    """``samples 3 and 17 (and 4 more groups)``."""
    first = groups[0]
    text = f"sample {first[0]}" if len(first) == 1 else f"samples {_listed(first)}"
    return text if len(groups) == 1 else f"{text} (and {len(groups) - 1} more like them)"


def _listed(samples: Iterable[int]) -> str:
    names = [str(i) for i in samples]
    if len(names) > 6:
        names = [*names[:5], f"{len(names) - 5} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
