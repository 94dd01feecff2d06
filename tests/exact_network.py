"""A multilayer perceptron and its tangent kernel in 40-digit arithmetic, entry by entry."""

from dataclasses import dataclass

import mpmath as mp
import numpy as np

DIGITS = 40


def _phi(s):
    return mp.exp(-s * s / 2) / mp.sqrt(2 * mp.pi)


def _gelu_argument(s):
    return mp.sqrt(2 / mp.pi) * (s + mp.mpf("0.044715") * s**3)


ACTIVATIONS = {
    "tanh": (mp.tanh, lambda s: mp.sech(s) ** 2),
    "erf": (mp.erf, lambda s: 2 / mp.sqrt(mp.pi) * mp.exp(-s * s)),
    "gelu": (lambda s: s * mp.ncdf(s), lambda s: mp.ncdf(s) + s * _phi(s)),
    "softplus": (
        lambda s: mp.log1p(mp.exp(-abs(s))) + max(s, mp.mpf(0)),
        lambda s: 1 / (1 + mp.exp(-s)),
    ),
    "sin": (mp.sin, mp.cos),
    "cos": (mp.cos, lambda s: -mp.sin(s)),
    "gaussian": (lambda s: mp.exp(-s * s / 2), lambda s: -s * mp.exp(-s * s / 2)),
    "silu": (
        lambda s: s / (1 + mp.exp(-s)),
        lambda s: (1 + mp.exp(-s) + s * mp.exp(-s)) / (1 + mp.exp(-s)) ** 2,
    ),
    "identity": (lambda s: s, lambda s: mp.mpf(1)),
    "gelu_tanh": (
        lambda s: s / 2 * (1 + mp.tanh(_gelu_argument(s))),
        lambda s: (
            (1 + mp.tanh(_gelu_argument(s))) / 2
            + s / 2 * mp.diff(_gelu_argument, s) * mp.sech(_gelu_argument(s)) ** 2
        ),
    ),
    "sigmoid": (
        lambda s: 1 / (1 + mp.exp(-s)),
        lambda s: mp.exp(-s) / (1 + mp.exp(-s)) ** 2,
    ),
}
"""The built-in smooth activations and their slopes, as mathematics defines them."""


@dataclass
class ExactPass:
    """Lists over points of lists over layers of mpmath matrices.

    Attributes:
        inputs: h^0 .. h^{D-1}, columns.
        preactivations: z^1 .. z^D, columns.
        upstream: U^1 .. U^{D-1}.
        backward: G^1 .. G^D.
        outputs: N(theta, x).
    """

    inputs: list
    preactivations: list
    upstream: list
    backward: list
    outputs: list


def exact_pass(model, params, x) -> ExactPass:
    found = ExactPass([], [], [], [], [])
    value, slope = ACTIVATIONS[model.activation]
    s_w, s_b, c = (mp.mpf(v) for v in (model.weight_scale, model.bias_scale, model.output_scale))
    affine = [
        (mp.matrix(w.tolist()) * (s_w / mp.sqrt(w.shape[1])), mp.matrix(b.tolist()) * s_b)
        for w, b in zip(*params, strict=True)
    ]
    for point in np.asarray(x):
        h, zs = [mp.matrix(point.tolist())], []
        for layer, (a, b) in enumerate(affine):
            zs.append(a * h[-1] + b)
            if layer + 1 < len(affine):
                h.append(zs[-1].apply(value))
        g, us = [mp.eye(model.out_dim) * c], []
        for layer in range(len(affine) - 1, 0, -1):
            us.insert(0, g[0] * affine[layer][0])
            g.insert(0, us[0] * mp.diag(list(zs[layer - 1].apply(slope))))
        found.inputs.append(h)
        found.preactivations.append(zs)
        found.upstream.append(us)
        found.backward.append(g)
        found.outputs.append(zs[-1] * c)
    return found


def norm(m) -> mp.mpf:
    """Frobenius norm."""
    return mp.sqrt(mp.fsum(v * v for v in m))


def spectral(m) -> mp.mpf:
    return mp.svd_r(m, compute_uv=False)[0]


def augmented(model, seen: ExactPass, i: int, layer: int):
    """(c_l h^{l-1}, s_b) at point i."""
    h = seen.inputs[i][layer]
    scale = mp.mpf(model.weight_scale) / mp.sqrt(len(h))
    return mp.matrix([*(h * scale), mp.mpf(model.bias_scale)])


def exact_kernel(model, measure, seen: ExactPass):
    """K as an mpmath matrix, sample-major."""
    n, k = measure.n, model.out_dim
    roots = [mp.sqrt(mp.mpf(float(w))) for w in measure.weights]
    kernel = mp.zeros(n * k)
    for i in range(n):
        for j in range(n):
            block = mp.zeros(k)
            for layer in range(model.layers):
                a = augmented(model, seen, i, layer), augmented(model, seen, j, layer)
                gram = seen.backward[i][layer] * seen.backward[j][layer].T
                block += gram * (a[0].T * a[1])[0]
            for p in range(k):
                for q in range(k):
                    kernel[i * k + p, j * k + q] = roots[i] * roots[j] * block[p, q]
    return kernel
