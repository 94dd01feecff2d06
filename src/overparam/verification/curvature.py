"""Bounds on |D^2 <F, ghat>| without random vectors, from what a float64 pass has found.

Neuron by neuron with one hidden layer (Lemma C4 of docs/trajectory.md), layer by layer with more
(Lemma C7); the rounding of sums and of the pass is counted.
"""

import math
from dataclasses import dataclass

import numpy as np

from overparam.theorems.trajectory_curvature import Couplings, Off, Seen, layered_curvature
from overparam.verification.balls import UNIT, raised
from overparam.verification.float_pass import Passed
from overparam.verification.partial_jacobians import spectral_norm
from overparam.verification.subject import Subject

_MORE = 64
"""Roundings of a term beyond those of its sums."""


@dataclass(frozen=True)
class Curvature:
    """Bounds for the parameters of a ball.

    Attributes:
        there: The problem, with the ball's centre as its parameters.
        off: How far what a pass finds on the ball may be off.
        couplings: Of the layers between hidden ones; None with fewer than two of them.
    """

    there: Subject
    off: Off
    couplings: Couplings | None

    @staticmethod
    def around(there: Subject, off: Off, passed: Passed, radius: float) -> "Curvature":
        """What serves all parameters of a ball.

        Args:
            there: As above.
            off: As above.
            passed: The pass at the centre: neurons get their shares from it, a guess that serves.
            radius: The ball's.
        """
        found = Curvature(there, off, None)
        if len(there.params.weights) <= 2:
            return found
        return Curvature(there, off, found._couplings(passed, radius))

    def bound(self, params_last: np.ndarray, passed: Passed) -> float | None:
        """An upper bound on |D^2 <F, ghat>|; None without hidden layers.

        Args:
            params_last: Weights of the output layer.
            passed: What a pass at the parameters has found.
        """
        if len(passed.slopes) == 1:
            return self._neurons(params_last, passed)
        if self.couplings is None:
            return None
        return float(layered_curvature(self._seen(passed), self.couplings, self.off)) * raised()

    def _neurons(self, w: np.ndarray, passed: Passed) -> float:
        """Lemma C4."""
        top = self.there.architecture.output_scale * self._factor(w)
        u, a = top * (passed.weights[:, None] * passed.ghat), passed.inputs[0]
        gram, lengths = a @ a.T, np.sqrt((a**2).sum(1))
        sizes = np.sqrt((u**2).sum(1))
        slope, inner = passed.slopes[0], (u @ w) * passed.bends[0]
        moves, _ = self.there.architecture.moves(1)
        (n, k), width = u.shape, a.shape[1]
        c = moves * _forms(slope, (u @ u.T) * gram, sizes * lengths, 2 * n + k + width)
        d = _forms(inner, gram * gram, lengths**2, 2 * (n + width))
        off = self.off
        total = float(sizes.sum()) * off.inputs[0]
        wrong = off.apart(4) * off.steepest * total
        c = c + wrong
        d = d + wrong * 2 * off.upstream[0] / top * off.inputs[0]
        return float(np.max(d + np.sqrt(d**2 + 4 * c**2))) / 2 * raised(n, width)

    def _seen(self, passed: Passed) -> Seen:
        """What Lemma C7 is about."""
        weights, params = passed.weights, self.there.params
        size = np.sqrt((passed.ghat**2).sum(1))
        mean = math.sqrt(float(weights @ size**2))
        return Seen(
            inputs=tuple(passed.inputs[:-1]),
            slopes=tuple(passed.slopes),
            bends=tuple(passed.bends),
            upstream=tuple(passed.upstream),
            turned=tuple(passed.turned[1:]),
            sizes=weights * (size * raised(passed.ghat.shape[1]) + 0.03 * mean) + 1e-290,
            factors=tuple(
                self._factor(w) * raised() * self.there.architecture.moves(layer)[0]
                for layer, w in enumerate(params.weights[1:], start=1)
            ),
        )

    def _couplings(self, passed: Passed, radius: float) -> Couplings:
        seen = self._seen(passed)
        neurons, plain, weighted = [], [], []
        for layer, w in enumerate(self.there.params.weights[1:-1], start=1):
            c = self._factor(w)
            share = abs(seen.upstream[layer] * seen.bends[layer] / seen.sizes[:, None]).max(0)
            share = np.maximum(share / max(float(share.max()), 1e-290), 0.3)
            share = share / share.max()
            drift = c * radius
            neurons.append(share)
            plain.append((spectral_norm(c * w) + drift) * raised())
            rooted = np.sqrt(share)[:, None] * (c * w)
            rounded = 8 * UNIT * float(np.linalg.norm(rooted))
            weighted.append((spectral_norm(rooted) + rounded + drift) * raised(w.size))
        return Couplings(tuple(neurons), tuple(plain), tuple(weighted))

    def _factor(self, w: np.ndarray) -> float:
        return self.there.architecture.weight_scale / math.sqrt(w.shape[1])


def _forms(s: np.ndarray, gram: np.ndarray, lengths: np.ndarray, summed: int) -> np.ndarray:
    """The roots of s_j^T G s_j, raised by the rounding of sums whose terms may cancel.

    Args:
        s: (n, m).
        gram: G, (n, n).
        lengths: Their products are at least the terms of G's entries, added up.
        summed: Terms of all sums, one inside the other, that a term goes through.
    """
    squares = np.maximum((s * (gram @ s)).sum(0), 0.0)
    raised = 2 * (summed + _MORE) * UNIT * (lengths @ np.abs(s)) ** 2
    return np.sqrt(squares + raised)
