"""Steps of gradient descent in the re-check's balls: midpoints of many bits, radii that bound."""

import math

import numpy as np
from flint import arb, arb_mat

from overparam.verification.balls import scale_rows, to_balls
from overparam.verification.float_pass import EXACT
from overparam.verification.losses import BallLoss
from overparam.verification.network import Network, forward
from overparam.verification.subject import Parameters, Subject


def has_steps(subject: Subject) -> bool:
    """Whether the loss' gradient is the way to its nearest minimiser, the other way round."""
    return subject.architecture.loss in EXACT


class BallDescent:
    """Gradient descent from theta_0.

    Args:
        subject: What it is about.
        step_size: eta.
    """

    def __init__(self, subject: Subject, step_size: float) -> None:
        self.subject, self.eta = subject, arb(step_size)
        self.network = Network.of(subject.architecture, subject.params)
        self.loss: BallLoss = subject.architecture.loss_for(self.network.outputs)
        self.weights = [to_balls(w) for w in subject.params.weights]
        self.biases = [to_balls(b[:, None]) for b in subject.params.biases]
        self.x = to_balls(subject.x)
        self.offset: arb_mat | None = None
        if subject.center is not None:
            center = Network.of(subject.architecture, subject.center)
            self.offset = forward(center, subject.x).output

    def step(self) -> float:
        """Step; how far at most the new midpoints are from the exact step from the old ones."""
        inputs, slopes = [self.x], []
        act = self.network.activation.value_and_slope
        last = len(self.weights) - 1
        for layer in range(last):
            pairs = [act(z) for z in self._affine(layer, inputs[-1]).entries()]
            shape = self.x.nrows(), self.weights[layer].nrows()
            inputs.append(arb_mat(*shape, [value for value, _ in pairs]))
            slopes.append([slope for _, slope in pairs])
        scale = self.network.output_scale
        output = self._affine(last, inputs[-1]) * scale
        output = output if self.offset is None else output - self.offset
        back, error = self._weighted(output) * scale, 0.0
        for layer in range(last, -1, -1):
            factor, old = self.network.factors[layer], self.weights[layer]
            transposed = back.transpose()
            ahead = old - transposed * inputs[layer] * (self.eta * factor)
            ones = arb_mat(back.nrows(), 1, [arb(1)] * back.nrows())
            moved = transposed * ones * (self.eta * self.network.bias_scale)
            shifted = self.biases[layer] - moved
            if layer:
                up = (back * old * factor).entries()
                turned = [u * s for u, s in zip(up, slopes[layer - 1], strict=True)]
                back = arb_mat(back.nrows(), old.ncols(), turned)
            weights, biases = self.subject.architecture.moves(layer)
            ahead = ahead if weights else old
            shifted = shifted if biases else self.biases[layer]
            for matrix in (ahead, shifted):
                radii = np.array([float(e.rad()) for e in matrix.entries()])
                error = math.hypot(error, float(np.linalg.norm(radii)))
            self.weights[layer], self.biases[layer] = ahead.mid(), shifted.mid()
        return error * (1 + 2.0**-20)

    def rounded(self) -> Parameters:
        """The float64 parameters nearest to the midpoints."""
        weights = [_floats(w).reshape(w.nrows(), w.ncols()) for w in self.weights]
        return Parameters(tuple(weights), tuple(map(_floats, self.biases)), "float64")

    def _affine(self, layer: int, h: arb_mat) -> arb_mat:
        product = h * self.weights[layer].transpose() * self.network.factors[layer]
        shift = [self.network.bias_scale * b for b in self.biases[layer].entries()]
        return product + arb_mat(h.nrows(), len(shift), shift * h.nrows())

    def _weighted(self, output: arb_mat) -> arb_mat:
        """w_i ghat_i: the gradient is the negative way to the nearest minimiser."""
        k, entries, found = output.ncols(), output.entries(), []
        for i, targets in enumerate(self.subject.y.tolist()):
            here = entries[i * k : (i + 1) * k]
            found += [-way for way in self.loss.to_minimiser(here, targets)]
        weights = [arb(float(w)) for w in self.subject.weights]
        return scale_rows(arb_mat(output.nrows(), k, found), weights)


def _floats(matrix: arb_mat) -> np.ndarray:
    return np.array([float(e) for e in matrix.entries()])
