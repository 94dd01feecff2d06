"""Chains and collective norms of given data: what the sharper half of the modulus starts from."""

from dataclasses import replace

import numpy as np
from flint import arb, arb_mat

from overparam.jacobian.data_norms import Family
from overparam.jacobian.starting_norms import StartingNorms
from overparam.numbers.upper import Upper
from overparam.verification.balls import bound_of, exact, scale_rows, upper_of
from overparam.verification.network import Forward, Network
from overparam.verification.partial_jacobians import all_partials, multiplied_out
from overparam.verification.spectrum import largest_eigenvalue

MOST_POINTS = 512
"""Collective norms of pairs of layers are taken for at most so many points."""


def with_partials(
    norms: StartingNorms,
    network: Network,
    ahead: Forward,
    columns: list[list[list[arb]]],
    input_grams: list[arb_mat],
    roots: list[arb],
) -> StartingNorms:
    """The norms with partial Jacobians and collective norms.

    Args:
        norms: Those of single layers.
        network: The network at theta_0.
        ahead: Its forward pass.
        columns: |U_j^l(x_i)|^2, [l][i][j].
        input_grams: <a_i, a_j>, all layers.
        roots: sqrt(w_i).
    """
    n, hidden = len(roots), network.layers - 1
    widths = [len(b) for b in network.biases[:hidden]]
    smooth = norms.curvature is not None
    measured = multiplied_out(n, widths, smooth)
    matrices = [float(c) * w for c, w in zip(network.factors, network.weights, strict=True)]
    sizes = [float(np.nextafter(float(bound_of(norm)), np.inf)) for norm in norms.weight_norms]
    heads = [
        np.array([[_root_up(square) for square in point] for point in layer]) for layer in columns
    ]
    slopes, steep = None, [norms.slope] * hidden
    errors = [exact(np.zeros(n))] * hidden
    if measured:
        slopes, steep, errors = _slopes(network, ahead, widths, norms)
    transports, energy = all_partials(matrices[:hidden], sizes, slopes, heads)
    found = replace(norms, slopes=steep, slope_errors=errors, transports=transports, energy=energy)
    if not smooth or n > MOST_POINTS:
        return found
    return _with_families(found, input_grams, roots)


def _root_up(square: arb) -> float:
    """An upper bound on the fourth root of a square: the root of |U_j|."""
    return float(np.nextafter(float(square.sqrt().sqrt().abs_upper()), np.inf))


def _slopes(
    network: Network, ahead: Forward, widths: list[int], norms: StartingNorms
) -> tuple[list[np.ndarray], list[Upper], list[Upper]]:
    """Slopes as floats, their largest and how far they are off, in norm."""
    tables, steep, errors = [], [], []
    for balls, m in zip(ahead.slopes, widths, strict=True):
        table = np.array([float(s) for s in balls]).reshape(-1, m)
        away = [float(abs(s - arb(float(s))).abs_upper()) for s in balls]
        error = np.linalg.norm(np.array(away).reshape(-1, m), axis=1) * (1 + 2.0**-30) + 2.0**-200
        errors.append(exact(error))
        largest = exact(np.abs(table).max(axis=1)) + errors[-1]
        steep.append(largest.minimum(norms.slope))
        tables.append(table)
    return tables, steep, errors


def _with_families(
    norms: StartingNorms, input_grams: list[arb_mat], roots: list[arb]
) -> StartingNorms:
    """Families of operators over the data, with the profiles that they have at theta_0."""
    hidden, n = norms.layers - 1, len(roots)
    transports, rest = norms.at_rest()
    passed = [reach.norms for reach in transports]
    curved, mixed = {}, {}
    for low in range(hidden):
        for high in range(low, hidden):
            profile = _profile(rest[low] * rest[high], n)
            curved[low, high] = _family(profile, [input_grams[low], input_grams[high]], roots)
    for q in range(1, hidden + 1):
        for low in range(q):
            size = norms.factors[q] * norms.backward[q] * norms.slopes[q - 1] * passed[q - 1][low]
            mixed[q, low] = _family(_profile(size, n), [input_grams[low]], roots)
    return replace(norms, curved=curved, mixed=mixed)


def _profile(size: Upper, n: int) -> np.ndarray:
    """Positive floats close to the given ones; any will do."""
    values = np.broadcast_to(np.asarray(size.values, dtype=np.float64), (n,))
    return np.maximum(values, 1e-9 * max(float(values.max()), 1e-100))


def _family(profile: np.ndarray, grams: list[arb_mat], roots: list[arb]) -> Family[Upper]:
    """The root of lambda_max of the entrywise product of Gram matrices, weighted."""
    n = len(roots)
    entries = grams[0].entries()
    for gram in grams[1:]:
        entries = [a * b for a, b in zip(entries, gram.entries(), strict=True)]
    factors = [root * arb(p) for root, p in zip(roots, profile.tolist(), strict=True)]
    weighted = scale_rows(arb_mat(n, n, entries), factors).transpose()
    top = largest_eigenvalue(scale_rows(weighted, factors))
    return Family(profile, upper_of(top.sqrt()))
