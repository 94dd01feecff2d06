"""Steps of gradient descent in the re-check's balls: midpoints of many bits, radii that bound."""

import math

import numpy as np
from flint import arb, arb_mat

from overparam.numbers.balls import norm_of_radii
from overparam.verification.balls import scale_rows, to_balls
from overparam.verification.losses import BallLoss
from overparam.verification.network import Network, forward
from overparam.verification.subject import Parameters, Subject


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
        self.ghat: list[arb] = []
        """grad f(F), point by point, where ``gradient`` was called last."""
        self.offset: arb_mat | None = None
        if subject.center is not None:
            center = Network.of(subject.architecture, subject.center)
            self.offset = forward(center, subject.x).output

    def step(self, weights: list[arb] | None = None) -> float:
        """Step; how far at most the new midpoints are from the exact step from the old ones.

        Args:
            weights: What each point counts in the step's batch; w_i without.
        """
        error = 0.0
        for layer, (slope, shift) in enumerate(self.gradient(weights)):
            ahead = self.weights[layer] - slope * self.eta
            shifted = self.biases[layer] - shift * self.eta
            for matrix in (ahead, shifted):
                error = math.hypot(error, norm_of_radii(matrix))
            self.weights[layer], self.biases[layer] = ahead.mid(), shifted.mid()
        return error * (1 + 2.0**-20)

    def gradient(self, counted: list[arb] | None = None) -> list[tuple[arb_mat, arb_mat]]:
        """Of the objective, weight decay included, in the weights and biases of each layer."""
        inputs, slopes = [self.x], []
        act = self.network.activation.value_and_slope
        last = len(self.weights) - 1
        for layer in range(last):
            pairs = [act(z) for z in self._affine(layer, inputs[-1]).entries()]
            shape = self.x.nrows(), self.weights[layer].nrows()
            inputs.append(arb_mat(*shape, [value for value, _ in pairs]))
            slopes.append([slope for _, slope in pairs])
        scale, found = self.network.output_scale, list[tuple[arb_mat, arb_mat]]()
        output = self._affine(last, inputs[-1]) * scale
        output = output if self.offset is None else output - self.offset
        back = self._weighted(output, counted) * scale
        for layer in range(last, -1, -1):
            factor, weights = self.network.factors[layer], self.weights[layer]
            transposed = back.transpose()
            ones = arb_mat(back.nrows(), 1, [arb(1)] * back.nrows())
            slope = transposed * inputs[layer] * factor
            shift = transposed * ones * self.network.bias_scale
            found.insert(0, self._of_what_moves(layer, *self._decayed(layer, slope, shift)))
            if layer:
                up = (back * weights * factor).entries()
                xi = [u * s for u, s in zip(up, slopes[layer - 1], strict=True)]
                back = arb_mat(back.nrows(), weights.ncols(), xi)
        return found

    def _of_what_moves(self, layer: int, slope: arb_mat, shift: arb_mat) -> tuple[arb_mat, arb_mat]:
        weights, biases = self.subject.architecture.moves(layer)
        return slope if weights else slope * 0, shift if biases else shift * 0

    def _decayed(self, layer: int, slope: arb_mat, shift: arb_mat) -> tuple[arb_mat, arb_mat]:
        decay, towards = arb(self.subject.decay), self.subject.decay_to
        if not self.subject.decay:
            return slope, shift
        weights, biases = self.weights[layer], self.biases[layer]
        if towards is not None:
            weights = weights - to_balls(towards.weights[layer])
            biases = biases - to_balls(towards.biases[layer][:, None])
        return slope + weights * decay, shift + biases * decay

    def rounded(self) -> Parameters:
        """The float64 parameters nearest to the midpoints."""
        weights = [_floats(w).reshape(w.nrows(), w.ncols()) for w in self.weights]
        return Parameters(tuple(weights), tuple(map(_floats, self.biases)), "float64")

    def _affine(self, layer: int, h: arb_mat) -> arb_mat:
        product = h * self.weights[layer].transpose() * self.network.factors[layer]
        shift = [self.network.bias_scale * b for b in self.biases[layer].entries()]
        return product + arb_mat(h.nrows(), len(shift), shift * h.nrows())

    def _weighted(self, output: arb_mat, counted: list[arb] | None) -> arb_mat:
        """w_i ghat_i."""
        k, entries, self.ghat = output.ncols(), output.entries(), []
        for i, targets in enumerate(self.subject.y.tolist()):
            self.ghat += self.loss.gradient(entries[i * k : (i + 1) * k], targets)
        weights = counted or [arb(float(w)) for w in self.subject.weights]
        return scale_rows(arb_mat(output.nrows(), k, self.ghat), weights)


def _floats(matrix: arb_mat) -> np.ndarray:
    return np.array([float(e) for e in matrix.entries()])
