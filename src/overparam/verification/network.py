"""The multilayer perceptron and its backward pass in ball arithmetic.

    z^l = c_l W^l h^{l-1} + s_b b^l,   h^l = act(z^l),   c_l = s_w / sqrt(m_{l-1}),
    N = c z^D,   G^D = c I,   U^l = G^{l+1} c_{l+1} W^{l+1},   G^l = U^l diag(act'(z^l)).

Weights, data and scales are floats taken exactly; everything computed from them is a ball.
"""

from dataclasses import dataclass
from itertools import cycle

import numpy as np
from flint import arb, arb_mat

from overparam.verification.activations import ACTIVATIONS, BallActivation
from overparam.verification.balls import to_balls
from overparam.verification.subject import Architecture, Parameters


@dataclass(frozen=True)
class Network:
    """A perceptron with its parameters.

    Attributes:
        weights: W^l, (m_l, m_{l-1}) each.
        biases: b^l, (m_l,) each.
        factors: c_l.
        bias_scale: s_b.
        output_scale: c.
        activation: Value and slope in balls.
        trained: (c_l, s_b) with 0 for weights and for biases that are frozen.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    factors: tuple[arb, ...]
    bias_scale: arb
    output_scale: arb
    activation: BallActivation
    trained: tuple[tuple[arb, arb], ...]

    @staticmethod
    def of(architecture: Architecture, params: Parameters) -> "Network":
        """The network that an architecture and parameters describe."""
        scale, shift, none = arb(architecture.weight_scale), arb(architecture.bias_scale), arb(0)
        factors = tuple(scale / arb(w.shape[1]).sqrt() for w in params.weights)
        moves = [architecture.moves(layer) for layer in range(len(factors))]
        return Network(
            weights=params.weights,
            biases=params.biases,
            factors=factors,
            bias_scale=shift,
            output_scale=arb(architecture.output_scale),
            activation=ACTIVATIONS[architecture.activation],
            trained=tuple(
                (factor if w else none, shift if b else none)
                for factor, (w, b) in zip(factors, moves, strict=True)
            ),
        )

    @property
    def layers(self) -> int:
        """D."""
        return len(self.weights)

    @property
    def outputs(self) -> int:
        """k."""
        return self.weights[-1].shape[0]


@dataclass(frozen=True)
class Forward:
    """Inputs h^{l-1} of every layer, (n, m_{l-1}); slopes act'(z^l), l < D, flat; output (n, k)."""

    inputs: tuple[arb_mat, ...]
    slopes: tuple[list[arb], ...]
    output: arb_mat


@dataclass(frozen=True)
class Backward:
    """U^l and G^l for l = 1..D-1, rows sample-major: (n k, m_l)."""

    upstream: tuple[arb_mat, ...]
    gradient: tuple[arb_mat, ...]


def forward(network: Network, x: np.ndarray) -> Forward:
    """Run the network on points x, shape (n, d)."""
    inputs, slopes = [to_balls(x)], []
    for layer in range(network.layers - 1):
        pairs = [network.activation.value_and_slope(z) for z in _affine(network, layer, inputs[-1])]
        inputs.append(arb_mat(len(x), len(network.biases[layer]), [value for value, _ in pairs]))
        slopes.append([slope for _, slope in pairs])
    last = _affine(network, network.layers - 1, inputs[-1])
    output = arb_mat(len(x), network.outputs, [network.output_scale * z for z in last])
    return Forward(tuple(inputs), tuple(slopes), output)


def backward(network: Network, slopes: tuple[list[arb], ...], n: int) -> Backward:
    """Derivatives of the outputs at n points with respect to the hidden layers."""
    k = network.outputs
    upstream: list[arb_mat] = []
    gradient: list[arb_mat] = []
    for layer in range(network.layers - 2, -1, -1):
        factor, weights = network.factors[layer + 1], network.weights[layer + 1]
        if gradient:
            u = [factor * e for e in (gradient[0] * to_balls(weights)).entries()]
        else:
            scale = network.output_scale * factor
            u = [scale * arb(w) for w in weights.ravel().tolist()] * n
        m = weights.shape[1]
        upstream.insert(0, arb_mat(n * k, m, u))
        slope = slopes[layer]
        xi = [
            e * s
            for i in range(n)
            for a in range(i * k, i * k + k)
            for e, s in zip(u[a * m : a * m + m], slope[i * m : i * m + m], strict=True)
        ]
        gradient.insert(0, arb_mat(n * k, m, xi))
    return Backward(tuple(upstream), tuple(gradient))


def _affine(network: Network, layer: int, h: arb_mat) -> list[arb]:
    """z^{layer + 1} = c W h + s_b b, flat, point by point."""
    factor = network.factors[layer]
    shift = [network.bias_scale * arb(b) for b in network.biases[layer].tolist()]
    product = h * to_balls(network.weights[layer].T)
    return [factor * e + t for e, t in zip(product.entries(), cycle(shift), strict=False)]
