"""Gradient descent in mpmath, and how far it is from points in float64."""

import jax
import mpmath as mp
import numpy as np

from exact_network import exact_pass


def slope(loss, z, y):
    """The derivative of a loss of one output, as mathematics defines it."""
    name, _, number = loss.partition(":")
    r = z - y
    if name == "squared":
        return r
    if name == "squared_hinge":
        return r if y * z < 1 else mp.mpf(0)
    if name == "pseudo_huber":
        return r / mp.sqrt(1 + (r / mp.mpf(float(number))) ** 2)
    if name == "asinh_squared":
        return mp.asinh(r) / mp.sqrt(1 + r * r)
    assert name == "log_cosh"
    return mp.tanh(r)


def exact_run(tiny, problem, start, loss, eta, steps, first=None, counted=None):
    """Gradient descent in mpmath; the iterates, as pairs of lists of matrices.

    It begins at ``first``, such an iterate, or at ``start``, where a centred model is centred.
    ``counted(t)`` is what each point counts in the t-th step; the measure's weights without it.
    """
    weights = [mp.matrix(w.tolist()) for w in start[0]]
    biases = [mp.matrix(b.tolist()) for b in start[1]]
    s_w, s_b = mp.mpf(tiny.weight_scale), mp.mpf(tiny.bias_scale)
    factors = [s_w / mp.sqrt(w.cols) for w in weights]
    found, offset, step = [], None, mp.mpf(eta)
    pulled = step * mp.mpf(problem.weight_decay)
    towards = problem.decay_to or jax.tree.map(np.zeros_like, start)
    towards = [[mp.matrix(a.tolist()) for a in arrays] for arrays in towards]
    if first is not None:
        assert problem.centered_at is not None
        shown = exact_pass(tiny.model, (Exact.of(weights), Exact.of(biases)), problem.measure.x)
        (weights, biases), offset = first, shown.outputs
    for t in range(steps + 1):
        shares = problem.measure.weights if counted is None else counted(t)
        found.append(([w.copy() for w in weights], [b.copy() for b in biases]))
        seen = exact_pass(tiny.model, (Exact.of(weights), Exact.of(biases)), problem.measure.x)
        if offset is None:
            offset = seen.outputs if problem.centered_at is not None else None
            offset = offset or [mp.zeros(tiny.outputs, 1)] * tiny.points
        new = tuple(
            [a - pulled * (a - b) for a, b in zip(arrays, references, strict=True)]
            for arrays, references in zip((weights, biases), towards, strict=True)
        )
        for i in range(tiny.points):
            shown = seen.outputs[i] - offset[i]
            ghat = mp.matrix(
                [slope(loss, shown[a], mp.mpf(problem.targets[i, a])) for a in range(tiny.outputs)]
            )
            rate = step * mp.mpf(shares[i])
            for layer in range(len(weights)):
                gamma = seen.backward[i][layer].T * ghat
                new[0][layer] -= rate * factors[layer] * gamma * seen.inputs[i][layer].T
                new[1][layer] -= rate * s_b * gamma
        weights, biases = new
    return found


class Exact:
    """A matrix of mpmath numbers in the place where ``exact_pass`` expects an array."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, (matrix.rows, matrix.cols)

    def tolist(self):
        return self.matrix.tolist()

    @staticmethod
    def of(matrices):
        return [Exact(m) for m in matrices]


def distance(exact, params):
    total = mp.mpf(0)
    for ours, theirs in zip(exact, params, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            total += mp.fsum((x - y) ** 2 for x, y in zip(a, mp.matrix(b.tolist()), strict=True))
    return float(mp.sqrt(total))
