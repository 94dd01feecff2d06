"""A slow, obvious network in NumPy: forward pass and dense Jacobian, sharing no code with ours.

Parameters are one flat vector: layer after layer the matrix (W | b) row by row.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import erf, expit, ndtr

from overparam import MLP, Measure

NORMAL = np.sqrt(2 * np.pi)


def _gelu_argument(z):
    """kappa (z + a z^3) and its derivative."""
    kappa, cubic = np.sqrt(2 / np.pi), 0.044715
    return kappa * (z + cubic * z**3), kappa * (1 + 3 * cubic * z**2)


ACTIVATIONS = {
    "tanh": (np.tanh, lambda z: np.cosh(z) ** -2.0),
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
    "gelu": (lambda z: z * ndtr(z), lambda z: ndtr(z) + z * np.exp(-(z**2) / 2) / NORMAL),
    "softplus": (lambda z: np.logaddexp(0, z), expit),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda z: -np.sin(z)),
    "gaussian": (lambda z: np.exp(-(z**2) / 2), lambda z: -z * np.exp(-(z**2) / 2)),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) + z * expit(z) * expit(-z)),
    "gelu_tanh": (
        lambda z: z / 2 * (1 + np.tanh(_gelu_argument(z)[0])),
        lambda z: (
            (1 + np.tanh(_gelu_argument(z)[0])) / 2
            + z / 2 * _gelu_argument(z)[1] / np.cosh(_gelu_argument(z)[0]) ** 2
        ),
    ),
    "sigmoid": (expit, lambda z: expit(z) * expit(-z)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "identity": (lambda z: z, np.ones_like),
}
SMOOTH = tuple(name for name in ACTIVATIONS if name != "relu")


@dataclass(frozen=True)
class DenseNetwork:
    """The network of an ``MLP`` on the points of a measure."""

    model: MLP
    measure: Measure

    def flat(self, params) -> np.ndarray:
        blocks = [np.column_stack([w, b]).ravel() for w, b in zip(*params, strict=True)]
        return np.concatenate(blocks).astype(np.float64)

    def params(self, theta: np.ndarray):
        matrices = self.matrices(theta)
        return tuple(m[:, :-1] for m in matrices), tuple(m[:, -1] for m in matrices)

    def matrices(self, theta: np.ndarray) -> list[np.ndarray]:
        sizes = [(m, n + 1) for n, m in zip(self.model.widths, self.model.widths[1:], strict=False)]
        ends = np.cumsum([a * b for a, b in sizes])[:-1]
        return [part.reshape(s) for part, s in zip(np.split(theta, ends), sizes, strict=True)]

    def observe(self, theta: np.ndarray):
        """Outputs (n, k), inputs a^{l-1} = (c_l h^{l-1}, s_b), and G^l, U^l of (n, k, m_l)."""
        act, slope = ACTIVATIONS[self.model.activation]
        matrices, h = self.matrices(theta), self.measure.x
        inputs, slopes = [], []
        for matrix, width in zip(matrices, self.model.widths, strict=False):
            factor = self.model.weight_scale / np.sqrt(width)
            inputs.append(np.column_stack([factor * h, np.full(len(h), self.model.bias_scale)]))
            z = inputs[-1] @ matrix.T
            h, slopes = act(z), [*slopes, slope(z)]
        g = np.tile(self.model.output_scale * np.eye(self.model.out_dim), (len(h), 1, 1))
        backward, upstream = [g], []
        for layer in range(len(matrices) - 1, 0, -1):
            factor = self.model.weight_scale / np.sqrt(self.model.widths[layer])
            upstream.insert(0, factor * backward[0] @ matrices[layer][:, :-1])
            backward.insert(0, upstream[0] * slopes[layer - 1][:, None, :])
        return self.model.output_scale * z, inputs, backward, upstream

    def values(self, theta: np.ndarray) -> np.ndarray:
        return self.observe(theta)[0]

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """(n k, p), in the orthonormal coordinates sqrt(w_i) of L2(mu; R^k)."""
        output, inputs, backward, _ = self.observe(theta)
        blocks = [
            (g[:, :, :, None] * a[:, None, None, :]).reshape(output.size, -1)
            for g, a in zip(backward, inputs, strict=True)
        ]
        roots = np.repeat(np.sqrt(self.measure.weights), self.model.out_dim)
        return roots[:, None] * np.concatenate(blocks, axis=1)


def operator_norm(matrix: np.ndarray) -> float:
    return float(np.linalg.norm(matrix, 2))
