"""Steps of gradient descent in balls: each comes with a bound on its own rounding.

A ball's radius covers every rounding on the way to its midpoint. So a step from midpoints is
computed once, its midpoints are the next point, and the norm of its radii is eps_t of Theorem C.
"""

import math

import numpy as np
from flint import arb, arb_mat

from overparam.model.mlp import Params
from overparam.numbers.balls import balls, norm_of_radii
from overparam.problem.integrands import SquaredHinge, SquaredLoss
from overparam.problem.problem import Problem
from overparam.rounding.ball_activations import BALL_ACTIVATIONS


def has_balls(problem: Problem) -> bool:
    """Whether there are such steps: for some activations, and losses that are squared distances."""
    known = isinstance(problem.loss, SquaredLoss | SquaredHinge)
    return known and problem.mlp.act.name in BALL_ACTIVATIONS


class BallRun:
    """Gradient descent from theta_0, with midpoints of many bits.

    Layers are matrices (W^l, b^l) of shape (m_l, m_{l-1} + 1), which multiply (c_l h^{l-1}, s_b).

    Args:
        problem: One that :func:`has_balls` knows.
        params: theta_0, float64.
        step_size: eta.
        bits: Of the midpoints.
    """

    def __init__(self, problem: Problem, params: Params, step_size: float, bits: int) -> None:
        self.problem, self.bits = problem, bits
        model, measure = problem.mlp, problem.measure
        self._act = BALL_ACTIVATIONS[model.act.name]
        self._hinge = isinstance(problem.loss, SquaredHinge)
        with balls(bits):
            self._eta, self._scale = arb(step_size), arb(model.output_scale)
            scale = arb(model.weight_scale)
            self._factors = [scale / arb(m).sqrt() for m in model.widths[:-1]]
            self._bias = arb(model.bias_scale)
            self._first = self._with_bias(_matrix(measure.x), 0)
            self._targets = _matrix(problem.targets)
            self._weights = [arb(float(w)) for w in measure.weights]
            self._theta = _stacked(params)
            self._offset = None
            if problem.centered_at is not None:
                self._offset = self._forward(_stacked(problem.centered_at))[2]

    def step(self) -> float:
        """Make a step; return eps_t, the distance at most from the exact one."""
        with balls(self.bits):
            inputs, slopes, output = self._forward(self._theta)
            if self._offset is not None:
                output = output - self._offset
            xi = self._weighted(output)
            error = 0.0
            for layer in range(len(self._theta) - 1, -1, -1):
                theta = self._theta[layer]
                way = (xi.transpose() * inputs[layer]) * self._eta
                ahead = theta - _moving(way, *self.problem.mlp.trained[layer])
                if layer:
                    weights = _without_last(theta)
                    back = (xi * weights) * self._factors[layer]
                    scaled = zip(back.entries(), slopes[layer - 1], strict=True)
                    xi = arb_mat(back.nrows(), back.ncols(), [u * s for u, s in scaled])
                error = math.hypot(error, norm_of_radii(ahead))
                self._theta[layer] = ahead.mid()
            return error * (1 + 2.0**-20)

    def nearest(self) -> Params:
        """The float64 parameters nearest to where the run is."""
        weights, biases = [], []
        for theta in self._theta:
            flat = np.array([float(e) for e in theta.entries()])
            table = flat.reshape(theta.nrows(), theta.ncols())
            weights.append(np.ascontiguousarray(table[:, :-1]))
            biases.append(table[:, -1].copy())
        return tuple(weights), tuple(biases)

    def _forward(self, theta: list[arb_mat]) -> tuple[list[arb_mat], list[list[arb]], arb_mat]:
        inputs, slopes = [self._first], list[list[arb]]()
        for layer, matrix in enumerate(theta[:-1]):
            z = inputs[-1] * matrix.transpose()
            pairs = [self._act(e) for e in z.entries()]
            h = arb_mat(z.nrows(), z.ncols(), [value for value, _ in pairs])
            slopes.append([slope for _, slope in pairs])
            inputs.append(self._with_bias(h, layer + 1))
        return inputs, slopes, (inputs[-1] * theta[-1].transpose()) * self._scale

    def _with_bias(self, h: arb_mat, layer: int) -> arb_mat:
        """(c_l h, s_b), point by point."""
        scaled, m = (h * self._factors[layer]).entries(), h.ncols()
        rows = [[*scaled[i * m : (i + 1) * m], self._bias] for i in range(h.nrows())]
        return arb_mat(rows)

    def _weighted(self, output: arb_mat) -> arb_mat:
        """c w_i ghat_i, (n, k)."""
        k, found = output.ncols(), []
        pairs = zip(output.entries(), self._targets.entries(), strict=True)
        for place, (z, y) in enumerate(pairs):
            gap = z - y
            if self._hinge:
                gap = -y * (-y * gap).max(arb(0))
            found.append(gap * self._weights[place // k] * self._scale)
        return arb_mat(output.nrows(), k, found)


def _matrix(array: np.ndarray) -> arb_mat:
    return arb_mat(np.asarray(array, np.float64).tolist())


def _stacked(params: Params) -> list[arb_mat]:
    pairs = zip(*params, strict=True)
    return [_matrix(np.hstack([np.asarray(w), np.asarray(b)[:, None]])) for w, b in pairs]


def _moving(way: arb_mat, weights: bool, biases: bool) -> arb_mat:
    """Zeros in place of the columns that are frozen: all but the last, or the last."""
    if weights and biases:
        return way
    m, none = way.ncols(), arb(0)
    kept = [weights] * (m - 1) + [biases]
    pairs = zip(way.entries(), kept * way.nrows(), strict=True)
    return arb_mat(way.nrows(), m, [entry if keeps else none for entry, keeps in pairs])


def _without_last(matrix: arb_mat) -> arb_mat:
    entries, m = matrix.entries(), matrix.ncols()
    return arb_mat([entries[i * m : (i + 1) * m - 1] for i in range(matrix.nrows())])
