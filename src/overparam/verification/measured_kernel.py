"""What the theorem's hypotheses say about given data and parameters, measured in ball arithmetic.

One forward and one backward pass; from them the tangent kernel, proved bounds on its spectrum, the
residual, and the norms from which the modulus starts.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from flint import arb, arb_mat

from overparam.jacobian.starting_norms import StartingNorms
from overparam.progress import Progress
from overparam.verification.balls import (
    diagonal,
    exact,
    midpoints,
    scale_rows,
    squared,
    total,
    upper_of,
)
from overparam.verification.duals import Duals, duals_of
from overparam.verification.losses import BallLoss
from overparam.verification.measured_partials import with_partials
from overparam.verification.network import Backward, Forward, Network, backward, forward
from overparam.verification.partial_jacobians import spectral_norm
from overparam.verification.spectrum import (
    inverse_form,
    largest_eigenvalue,
    operator_norm,
    spectrum_of,
)
from overparam.verification.subject import Subject


@dataclass(frozen=True, kw_only=True)
class MeasuredKernel:
    """Proved numbers at theta_0, of any network.

    Attributes:
        min_eigenvalue: Lower bound on lambda_min(K), possibly negative.
        max_eigenvalue: Upper bound on lambda_max(K) = |J|^2.
        kernel_norm: Lower bound on lambda_max(K) = |K|.
        kernel_radius: How far K is known only, in norm: the sum of the radii of its balls.
        excess: A ball around Delta_0.
        loss: The loss, with M and alpha.
        least_weight: min w_i.
        target_norm: A ball around rho_K = sqrt(r^T K^-1 r); None if K is not proved positive.
        terms: Root mean square, in L2(mu), of the terms that are summed up in the residual. A
            float64 figure that only a tolerance uses.
        layers: D.
        duals: Vectors for Theorem 4; None if the residual is 0 or the loss has several minimisers.
        points: Upper bounds on w_i |J_i|^2; none if they were not asked for.
    """

    min_eigenvalue: arb
    max_eigenvalue: arb
    kernel_norm: arb
    kernel_radius: arb
    excess: arb
    loss: BallLoss
    least_weight: arb
    target_norm: arb | None
    terms: float
    layers: int
    duals: Duals | None = None
    points: tuple[arb, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measured(MeasuredKernel):
    """The same of a perceptron.

    Attributes:
        norms: What the modulus starts from.
        whole: The same with the layers' inputs as they are, whatever moves: what rounding is about.
    """

    norms: StartingNorms
    whole: StartingNorms


class ResidualBalls(NamedTuple):
    """Delta_0; h* - F, flat, for the minimiser h* of f nearest to F; the size of its terms."""

    excess: arb
    to_minimiser: list[arb]
    terms: float


LARGE = 64
"""Weights with more rows and columns have their norms bounded in float64, its rounding included."""


def centre_of(subject: Subject) -> Forward | None:
    """The forward pass at the centre of a centred model."""
    if subject.center is None:
        return None
    return forward(Network.of(subject.architecture, subject.center), subject.x)


def measure(
    subject: Subject, say: Progress, centre: Forward | None = None, *, points: bool = False
) -> Measured:
    """Measure the hypotheses of Theorem 1.

    Args:
        subject: Data, parameters, model and loss.
        say: Told what is being computed.
        centre: What :func:`centre_of` gives, if it is at hand.
        points: Whether to bound the Jacobian at each point, too.

    Returns:
        The numbers, at the precision of the current FLINT context.
    """
    network = Network.of(subject.architecture, subject.params)
    n = len(subject.x)
    say("network", 0, 0)
    ahead = forward(network, subject.x)
    behind = backward(network, ahead.slopes, n)
    loss = subject.architecture.loss_for(network.outputs)
    residual = _residual(subject, loss, network, ahead, centre)
    roots = [arb(w).sqrt() for w in subject.weights.tolist()]
    say("kernel", 0, 0)
    input_grams = [_input_gram(network, layer, h) for layer, h in enumerate(ahead.inputs)]
    output_grams = [g * g.transpose() for g in behind.gradient]
    kernel = _kernel(network, input_grams, output_grams, roots)
    norms = _norms(subject, network, ahead, behind, input_grams, output_grams, roots, say)
    del input_grams, output_grams, behind
    say("spectrum of the kernel", 0, 0)
    return Measured(
        **of_kernel(kernel, subject.weights, residual, loss, network.outputs),
        norms=norms,
        whole=_whole(subject, network, ahead, norms),
        layers=network.layers,
        points=at_points(kernel, network.outputs) if points else (),
    )


def of_kernel(
    kernel: arb_mat, weights: np.ndarray, residual: ResidualBalls, loss: BallLoss, k: int
) -> dict[str, Any]:
    """What kernel and residual say, by the names of :class:`MeasuredKernel`.

    Args:
        kernel: K.
        weights: w_i.
        residual: The way to a minimiser, and how long it is.
        loss: The loss.
        k: Outputs.
    """
    spectrum = spectrum_of(kernel)
    roots = [arb(w).sqrt() for w in weights.tolist()]
    weighted = [roots[i // k] * r for i, r in enumerate(residual.to_minimiser)]
    form = inverse_form(kernel, weighted, spectrum)
    return {
        "min_eigenvalue": spectrum.smallest,
        "max_eigenvalue": spectrum.largest,
        "kernel_norm": spectrum.attained,
        "kernel_radius": total(entry.rad() for entry in kernel.entries()),
        "excess": residual.excess,
        "loss": loss,
        "least_weight": arb(float(weights.min())),
        "target_norm": None if form is None else form.nonnegative_part().sqrt(),
        "terms": residual.terms,
        "duals": duals_of(kernel, weighted) if loss.unique else None,
    }


def _whole(
    subject: Subject, network: Network, ahead: Forward, norms: StartingNorms
) -> StartingNorms:
    """The norms with c_l and |(c_l h_i, s_b)| of all layers."""
    if subject.architecture.trainable is None:
        return norms
    inputs = []
    for factor, h in zip(network.factors, ahead.inputs, strict=True):
        entries, m = h.entries(), h.ncols()
        rows = (entries[i * m : i * m + m] for i in range(h.nrows()))
        squares = map(squared, rows)
        lengths = [(factor**2 * square + network.bias_scale**2).sqrt() for square in squares]
        inputs.append(upper_of(lengths))
    return replace(norms, factors=[upper_of(c) for c in network.factors], inputs=inputs)


def at_points(kernel: arb_mat, k: int) -> tuple[arb, ...]:
    """The largest eigenvalues of the kernel's diagonal blocks."""
    found = []
    for i in range(0, kernel.nrows(), k):
        block = [[kernel[i + a, i + b] for b in range(k)] for a in range(k)]
        found.append(largest_eigenvalue(arb_mat(block)))
    return tuple(found)


def _residual(
    subject: Subject,
    loss: BallLoss,
    network: Network,
    ahead: Forward,
    centre: Forward | None,
) -> ResidualBalls:
    """How far the network is from fitting, and what that is made of."""
    values = ahead.output.entries()
    squares = _squared_terms(network, ahead)
    offset = [arb(0)] * len(values)
    there = centre or centre_of(subject)
    if subject.center is not None and there is not None:
        offset = there.output.entries()
        squares += _squared_terms(Network.of(subject.architecture, subject.center), there)
    values = [v - o for v, o in zip(values, offset, strict=True)]
    return residual_of(loss, values, subject.y, subject.weights, squares)


def residual_of(
    loss: BallLoss, values: list[arb], y: np.ndarray, weights: np.ndarray, squares: np.ndarray
) -> ResidualBalls:
    """From outputs to the nearest minimiser.

    Args:
        loss: The loss.
        values: F, flat, point by point.
        y: Targets, (n, k).
        weights: w_i.
        squares: Of the terms that the outputs are sums of, (n, k); for a tolerance.
    """
    excess, residual = arb(0), list[arb]()
    for i, (targets, weight) in enumerate(zip(y.tolist(), weights, strict=True)):
        here = values[i * len(targets) : (i + 1) * len(targets)]
        excess += arb(float(weight)) * loss.excess(here, targets)
        residual += loss.to_minimiser(here, targets)
    minimiser = [float(v + r) for v, r in zip(values, residual, strict=True)]
    with np.errstate(over="raise"):  # an infinite noise would excuse anything
        squares = squares + np.array(minimiser).reshape(squares.shape) ** 2
    return ResidualBalls(excess, residual, math.sqrt(float(weights @ squares.sum(axis=1))))


def _squared_terms(network: Network, ahead: Forward) -> np.ndarray:
    """Sums of the squared terms c c_D W_aj h_j and c s_b b_a of the outputs, (n, k), float64."""
    weights, biases = network.weights[-1] ** 2, network.biases[-1] ** 2
    products = float(network.factors[-1] ** 2) * midpoints(ahead.inputs[-1]) ** 2 @ weights.T
    return float(network.output_scale**2) * (products + float(network.bias_scale**2) * biases)


def _input_gram(network: Network, layer: int, h: arb_mat) -> arb_mat:
    """<a_i, a_j> for a = (c_l h, s_b), of what moves, (n, n)."""
    factor, shift = (number**2 for number in network.trained[layer])
    gram = h * h.transpose()
    return arb_mat(gram.nrows(), gram.ncols(), [factor * e + shift for e in gram.entries()])


def _kernel(
    network: Network, input_grams: list[arb_mat], output_grams: list[arb_mat], roots: list[arb]
) -> arb_mat:
    """sqrt(w_i w_j) sum_l <a_i, a_j> G_i G_j^T, rows sample-major."""
    n, k = len(roots), network.outputs
    top = network.output_scale**2
    total = arb_mat(n * k, n * k)
    for layer in range(network.layers):
        inputs = input_grams[layer].entries()
        entries: list[arb] = []
        if layer == network.layers - 1:
            zero = arb(0)
            for i in range(n):
                for a in range(k):
                    for j in range(n):
                        value = top * inputs[i * n + j]
                        entries += [value if a == b else zero for b in range(k)]
        else:
            outputs = output_grams[layer].entries()
            for row in range(n * k):
                i = row // k
                shared = inputs[i * n : i * n + n]
                if k > 1:
                    shared = [v for v in shared for _ in range(k)]
                own = outputs[row * n * k : (row + 1) * n * k]
                entries += [u * v for u, v in zip(shared, own, strict=True)]
        total = total + arb_mat(n * k, n * k, entries)
    repeated = [root for root in roots for _ in range(k)]
    return scale_rows(scale_rows(total, repeated).transpose(), repeated)


def _norms(
    subject: Subject,
    network: Network,
    ahead: Forward,
    behind: Backward,
    input_grams: list[arb_mat],
    output_grams: list[arb_mat],
    roots: list[arb],
    say: Progress,
) -> StartingNorms:
    n, k = len(roots), network.outputs
    activation = network.activation
    curvature = activation.curvature_bound
    say("norms of the layers", 0, 0)
    weight_norms = [
        factor * _norm(w) for factor, w in zip(network.factors, network.weights, strict=True)
    ]
    collective = [
        _collective(network, layer, h, gram, roots)
        for layer, (h, gram) in enumerate(zip(ahead.inputs, input_grams, strict=True))
    ]
    gradient = [upper_of(_block_norms(gram, n, k)) for gram in output_grams]
    gradient.append(upper_of([network.output_scale] * n))
    pairs = [
        _upstream_norms(u, n, k, i == len(behind.upstream) - 1)
        for i, u in enumerate(behind.upstream)
    ]
    norms = StartingNorms(
        weights=exact(subject.weights),
        factors=[upper_of(c) for c, _ in network.trained],
        weight_norms=[upper_of(a) for a in weight_norms],
        slope=upper_of(activation.slope_bound()),
        curvature=None if curvature is None else upper_of(curvature()),
        inputs=[upper_of([e.sqrt() for e in diagonal(gram)]) for gram in input_grams],
        collective=[upper_of(c) for c in collective],
        backward=gradient,
        upstream=[upper_of(norms) for norms, _ in pairs],
        columns=[upper_of([max(c).sqrt() for c in columns]) for _, columns in pairs],
        **_unmeasured(network),
    )
    if network.layers == 1:
        return norms
    say("composed norms", 0, 0)
    return with_partials(norms, network, ahead, [c for _, c in pairs], input_grams, roots)


def _norm(matrix: np.ndarray) -> arb:
    """Upper bound on |W|."""
    if min(matrix.shape) > LARGE:
        return arb(spectral_norm(matrix))
    return operator_norm(arb_mat(matrix.tolist()))


def _unmeasured(network: Network) -> dict:
    """The interval of the slopes, and no partial Jacobians yet."""
    steepest = network.activation.slope_bound()
    lowest = network.activation.lowest(steepest)
    return {
        "middle": upper_of(abs(lowest + steepest) / 2),
        "half": upper_of(((steepest - lowest) / 2).nonnegative_part()),
        **{"slopes": [], "slope_errors": [], "transports": [], "energy": None},
        **{"mixed": {}, "curved": {}},
    }


def _collective(network: Network, layer: int, h: arb_mat, gram: arb_mat, roots: list[arb]) -> arb:
    """calK_l: the norm of the matrix with rows sqrt(w_i) (c_l h_i, s_b)."""
    n, m = h.nrows(), h.ncols()
    if n <= m + 1:
        weighted = scale_rows(scale_rows(gram, roots).transpose(), roots)
        return largest_eigenvalue(weighted).sqrt()
    entries, rows = h.entries(), []
    for i, root in enumerate(roots):
        factor, shift = (root * number for number in network.trained[layer])
        rows += [factor * e for e in entries[i * m : i * m + m]]
        rows.append(shift)
    return operator_norm(arb_mat(n, m + 1, rows))


def _block_norms(gram: arb_mat, n: int, k: int) -> list[arb]:
    """|G_i| from the diagonal (k, k) blocks of G G^T."""
    if k == 1:
        return [e.sqrt() for e in diagonal(gram)]
    return [
        largest_eigenvalue(
            arb_mat([[gram[i * k + a, i * k + b] for b in range(k)] for a in range(k)])
        ).sqrt()
        for i in range(n)
    ]


def _upstream_norms(
    upstream: arb_mat, n: int, k: int, same: bool
) -> tuple[list[arb], list[list[arb]]]:
    """|U_i| and the squared norms of its columns, i = 1..n; ``same`` if all U_i are equal."""
    m, entries = upstream.ncols(), upstream.entries()
    norms, columns = [], []
    for i in range(1 if same else n):
        block = entries[i * k * m : (i + 1) * k * m]
        rows = arb_mat(k, m, block)
        norms.append(largest_eigenvalue(rows * rows.transpose()).sqrt())
        squares = [squared(block[j::m]).abs_upper() for j in range(m)]
        columns.append(squares)
    return (norms * n, columns * n) if same else (norms, columns)
