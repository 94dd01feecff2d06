"""A step of gradient descent in float64, in the re-check's own text: NumPy, point by point.

What it may be off by is bounded in ``float_rounding.py``; activations and losses are trusted to
their margin, 64 u of max(1, |exact|), and second derivatives to 2^-40 (docs/proved.md).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf, expit, ndtr, softmax

from overparam.verification.subject import Architecture, Parameters, Subject

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]

_ROOT = np.sqrt(2 / np.pi)


def _gelu(z: np.ndarray) -> Triple:
    below, bell = ndtr(z), np.exp(-z * z / 2) * (_ROOT / 2)
    return z * below, below + z * bell, bell * (2 - z * z)


def _tanh(z: np.ndarray) -> Triple:
    t, e = np.tanh(z), np.exp(-2 * np.abs(z))
    slope = 4 * e / (1 + e) ** 2  # 1 - t^2 would lose what is left of it
    return t, slope, -2 * t * slope


def _erf(z: np.ndarray) -> Triple:
    slope = 2 / np.sqrt(np.pi) * np.exp(-z * z)
    return erf(z), slope, -2 * z * slope


def _softplus(z: np.ndarray) -> Triple:
    s = expit(z)
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z))), s, s * expit(-z)


def _sigmoid(z: np.ndarray) -> Triple:
    s, rest = expit(z), expit(-z)
    return s, s * rest, s * rest * (rest - s)


def _silu(z: np.ndarray) -> Triple:
    s, slope, bend = _sigmoid(z)
    return z * s, s + z * slope, 2 * slope + z * bend


def _sin(z: np.ndarray) -> Triple:
    return np.sin(z), np.cos(z), -np.sin(z)


def _cos(z: np.ndarray) -> Triple:
    return np.cos(z), -np.sin(z), -np.cos(z)


def _gaussian(z: np.ndarray) -> Triple:
    bell = np.exp(-z * z / 2)
    return bell, -z * bell, (z * z - 1) * bell


def _identity(z: np.ndarray) -> Triple:
    return z, np.ones_like(z), np.zeros_like(z)


@dataclass(frozen=True)
class FloatActivation:
    """Value, slope and second derivative; beta_3, a Lipschitz constant of the last, rounded up."""

    derivatives: Callable[[np.ndarray], Triple]
    third: float


FLOAT_ACTIVATIONS = {
    "gelu": FloatActivation(_gelu, 0.7787697),
    "tanh": FloatActivation(_tanh, 2.0),
    "erf": FloatActivation(_erf, 2.2567584),
    "softplus": FloatActivation(_softplus, 0.0962251),
    "sigmoid": FloatActivation(_sigmoid, 0.125),
    "silu": FloatActivation(_silu, 0.3081816),
    "sin": FloatActivation(_sin, 1.0),
    "cos": FloatActivation(_cos, 1.0),
    "gaussian": FloatActivation(_gaussian, 1.3801191),
    "identity": FloatActivation(_identity, 0.0),
}
"""By name, those of which a run can be followed."""


def _huber(r: np.ndarray, delta: float) -> np.ndarray:
    return np.clip(r, -delta, delta)


def _expectile(r: np.ndarray, tau: float) -> np.ndarray:
    return 2 * np.where(r > 0, 1 - tau, tau) * r


def _cross_entropy(z: np.ndarray, y: np.ndarray, smoothing: float = 0.1) -> np.ndarray:
    """P - q; one output is the logit of two classes' odds."""
    k = z.shape[1]
    low = smoothing / max(k, 2)
    q = np.where(y > 0, 1 - (max(k, 2) - 1) * low, low)
    if k == 1:
        return expit(z) - q
    return softmax(z, axis=1) - q


GRADIENTS: dict[str, Callable] = {
    "squared": lambda z, y: z - y,
    "squared_hinge": lambda z, y: -y * np.maximum(1 - y * z, 0.0),
    "huber": lambda z, y, delta: _huber(z - y, delta),
    "pseudo_huber": lambda z, y, delta: (z - y) / np.hypot(1.0, (z - y) / delta),
    "log_cosh": lambda z, y: np.tanh(z - y),
    "expectile": lambda z, y, tau: _expectile(z - y, tau),
    "smoothed_cross_entropy": _cross_entropy,
    "cross_entropy": lambda z, y: _cross_entropy(z, y, 0.0),
}
"""grad l(., y) by the loss' name, and what stands behind the colon in its spelling."""

EXACT = ("squared", "squared_hinge")
"""Losses whose gradient is a difference, whose squared norm is twice the excess."""


@dataclass(frozen=True)
class Passed:
    """One forward and one backward pass.

    Attributes:
        inputs: a^{l-1} = (c_l h^{l-1}, s_b) of what moves, l = 1..D, (n, m_{l-1} + 1).
        slopes: act'(z^l), l < D.
        bends: act''(z^l), l < D.
        upstream: upsilon^l, l < D: what z^l's slopes are multiplied with, (n, m_l).
        turned: xi^l, l = 1..D: derivatives of <F, ghat> in z^l, (n, m_l).
        values: F, (n, k).
        ghat: grad f(F), (n, k).
        weights: What each point counts: w_i, or in a batch.
    """

    inputs: list[np.ndarray]
    slopes: list[np.ndarray]
    bends: list[np.ndarray]
    upstream: list[np.ndarray]
    turned: list[np.ndarray]
    values: np.ndarray
    ghat: np.ndarray
    weights: np.ndarray

    def gradient_norm(self) -> float:
        """|ghat|, as the points count."""
        return float(np.sqrt(self.weights @ (self.ghat**2).sum(1)))


class FloatNetwork:
    """The network and its loss in float64.

    Args:
        architecture: Scales, activation and loss.
        x: Points, (n, d).
        y: Targets, (n, k).
        weights: w_i.
        center: Where a centred model vanishes, or None.
    """

    def __init__(
        self,
        architecture: Architecture,
        x: np.ndarray,
        y: np.ndarray,
        weights: np.ndarray,
        center: Parameters | None,
    ) -> None:
        self.architecture, self.x, self.y, self.weights = architecture, x, y, weights
        self.activation = FLOAT_ACTIVATIONS[architecture.activation]
        name, _, text = architecture.loss.partition(":")
        numbers = [float(part) for part in text.split(",")] if text else []
        self.gradient = lambda z: GRADIENTS[name](z, y, *numbers)
        self.exact, self.squared = name in EXACT, name == "squared"
        self.offset = np.zeros((1, y.shape[1]))
        if center is not None:
            self.offset = self._forward(center)[-1]

    def passed(self, params: Parameters, weights: np.ndarray | None = None) -> Passed:
        """Run forward and backward at parameters, with the points' weights or those of a batch."""
        return self.against(params, None, weights)

    def against(
        self, params: Parameters, ghat: np.ndarray | None, weights: np.ndarray | None = None
    ) -> Passed:
        """The same with a gradient ghat of f, (n, k), that is known otherwise."""
        weights = self.weights if weights is None else weights
        inputs, slopes, bends, output = self._forward(params)
        values = output - self.offset
        ghat = self.gradient(values) if ghat is None else ghat
        upstream, xi = self._backward(params, slopes, weights[:, None] * ghat)
        moving = self._moving(inputs)
        return Passed(moving, slopes, bends, upstream, xi, values, ghat, weights)

    def pulled_back(self, params: Parameters, g: np.ndarray) -> Parameters:
        """sum_i DN(x_i)* g_i, g of shape (n k,)."""
        inputs, slopes, _, _ = self._forward(params)
        _, xi = self._backward(params, slopes, g.reshape(self.y.shape))
        parts = [g.T @ a for g, a in zip(xi, self._moving(inputs), strict=True)]
        weights, biases = tuple(p[:, :-1] for p in parts), tuple(p[:, -1] for p in parts)
        return Parameters(weights, biases, "float64")

    def kernel(self, params: Parameters) -> np.ndarray:
        """<DN_a(x_i), DN_b(x_j)>, (n k, n k), sample-major."""
        inputs, slopes, _, _ = self._forward(params)
        n, k = self.y.shape
        grams = [a @ a.T for a in self._moving(inputs)]
        columns = [np.tile(row, (n, 1)) for row in np.eye(k)]
        of_outputs = [self._backward(params, slopes, column)[1] for column in columns]
        total = np.zeros((n, k, n, k))
        for layer, gram in enumerate(grams):
            g = np.stack([xi[layer] for xi in of_outputs], axis=1).reshape(n * k, -1)
            total += gram[:, None, :, None] * (g @ g.T).reshape(n, k, n, k)
        return total.reshape(n * k, n * k)

    def _backward(
        self, params: Parameters, slopes: list[np.ndarray], g: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """upsilon^l and xi^l for derivatives g of the values."""
        upstream, xi = list[np.ndarray](), [self.architecture.output_scale * g]
        for layer in range(len(slopes) - 1, -1, -1):
            w = params.weights[layer + 1]
            u = self._factor(w) * (xi[0] @ w)
            upstream.insert(0, u)
            xi.insert(0, u * slopes[layer])
        return upstream, xi

    def _forward(self, params: Parameters) -> tuple:
        h, inputs, slopes, bends = self.x, list[np.ndarray](), list[np.ndarray](), []
        last = len(params.weights) - 1
        for layer, (w, b) in enumerate(zip(params.weights, params.biases, strict=True)):
            bias = self.architecture.bias_scale
            inputs.append(np.hstack([self._factor(w) * h, np.full((len(h), 1), bias)]))
            z = inputs[-1] @ np.hstack([w, b[:, None]]).T
            if layer < last:
                h, slope, bend = self.activation.derivatives(z)
                slopes.append(slope)
                bends.append(bend)
        return inputs, slopes, bends, self.architecture.output_scale * z

    def _moving(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """(c_l h^{l-1}, s_b) with zeros for weights and for biases that are frozen."""
        if self.architecture.trainable is None:
            return inputs
        found = []
        for layer, a in enumerate(inputs):
            weights, biases = self.architecture.moves(layer)
            found.append(np.hstack([a[:, :-1] * weights, a[:, -1:] * biases]))
        return found

    def _factor(self, w: np.ndarray) -> float:
        return self.architecture.weight_scale / np.sqrt(w.shape[1])


def stepped(subject: Subject, passed: Passed, step_size: float) -> tuple[Parameters, float]:
    """The parameters after a step of gradient descent, and the step's length.

    Args:
        subject: With the parameters, and their weight decay.
        passed: What a pass there has found.
        step_size: eta.
    """
    weights, biases, squares, params = [], [], 0.0, subject.params
    away = displacement(subject) if subject.decay else None
    for layer, (w, b) in enumerate(zip(params.weights, params.biases, strict=True)):
        slope = passed.turned[layer].T @ passed.inputs[layer]
        if away is not None:
            gap = np.hstack([away.weights[layer], away.biases[layer][:, None]])
            slope = slope + subject.decay * gap
        step = step_size * slope
        weights.append(w - step[:, :-1])
        biases.append(b - step[:, -1])
        squares += float((step**2).sum())
    return Parameters(tuple(weights), tuple(biases), "float64"), float(np.sqrt(squares))


def displacement(subject: Subject) -> Parameters:
    """Theta - theta_ref, of what moves; zeros for what is frozen."""
    params, towards, found = subject.params, subject.decay_to, subject.architecture
    weights, biases = list(params.weights), list(params.biases)
    if towards is not None:
        weights = [w - v for w, v in zip(weights, towards.weights, strict=True)]
        biases = [b - c for b, c in zip(biases, towards.biases, strict=True)]
    moves = [found.moves(layer) for layer in range(len(weights))]
    weights = [w * moving for w, (moving, _) in zip(weights, moves, strict=True)]
    biases = [b * moving for b, (_, moving) in zip(biases, moves, strict=True)]
    return Parameters(tuple(weights), tuple(biases), "float64")


def between(p: Parameters, q: Parameters) -> float:
    """|p - q|."""
    pairs = zip((*p.weights, *p.biases), (*q.weights, *q.biases), strict=True)
    return float(np.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in pairs)))


def size_of(p: Parameters) -> float:
    """|p|."""
    return float(np.sqrt(sum(float((a**2).sum()) for a in (*p.weights, *p.biases))))
