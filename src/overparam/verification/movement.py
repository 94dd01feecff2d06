"""What the re-check's own run moves: its kernel, and itself beside the linearised run."""

import numpy as np

from overparam.numbers import Interval, safe_upper
from overparam.numbers.eigenvectors import eigh
from overparam.numbers.sums import summed
from overparam.theorems.drift_along_run import (
    Beside,
    HandOver,
    LastLook,
    LinearRun,
    Movement,
    kernel_noise,
)
from overparam.verification.balls import raised
from overparam.verification.float_pass import FloatNetwork, Passed, between, size_of
from overparam.verification.partial_jacobians import spectral_norm
from overparam.verification.subject import Parameters

SHARE = 0.02
"""Of what may go unseen between two looks: a quarter of what a certificate allows itself, so that
this run's bounds come out below."""


class Looks:
    """Looks at a run from theta_0 on.

    Args:
        network: In float64.
        start: theta_0.
        step_size: eta.
        jacobian_norm: |J(theta_0)|, from above.
        backward: |J* g as computed - J* g| / |g| there, at most.
    """

    def __init__(
        self,
        network: FloatNetwork,
        start: Parameters,
        step_size: float,
        jacobian_norm: float,
        backward: float,
    ) -> None:
        self.network, self.start = network, start
        self.steepest = step_size * jacobian_norm**2 * raised()
        k = network.y.shape[1]
        self.roots = np.repeat(np.sqrt(network.weights), k)
        self.origin = self._kernel(start)
        self.off = self.kernel_error(jacobian_norm, backward)
        linear = None
        if network.squared and self.steepest <= 2:
            residual = self.residual(network.passed(start))
            linear = LinearRun(
                *(self.origin, residual, step_size),
                error=self.off,
                jacobian_norm=jacobian_norm,
                backward=backward,
            )
        self.beside = Beside(linear, SHARE)

    def look(self, params: Parameters) -> None:
        """Compare a point of the run with theta_0."""
        drift = spectral_norm(self._kernel(params) - self.origin)
        apart = safe_upper(self._apart(params))
        self.beside.look(drift, between(params, self.start), apart)

    def residual(self, passed: Passed) -> np.ndarray:
        """y - F, in the coordinates of the kernel; the squared loss' gradient is F - y."""
        return -self.roots * passed.ghat.reshape(-1)

    def kernel_error(self, norm: float, backward: float) -> float:
        """|K^ - K| where |J| is at most ``norm``."""
        widths = [w.shape[0] for w in self.start.weights] + [w.shape[1] for w in self.start.weights]
        trace, k = len(self.roots) * norm**2, self.network.y.shape[1]
        return kernel_noise(trace, 2 * max(widths), k, backward, norm)

    def settle(
        self,
        deviations: list[float],
        noise: list[float],
        norm: float,
        lipschitz: float,
        backward: float,
    ) -> None:
        """The end of a cell; arguments as ``Beside.settle`` has them."""
        self.beside.settle(
            deviations=np.array(deviations),
            residual_noise=np.array(noise),
            kernel_error=self.off + self.kernel_error(norm, backward),
            jacobian_norm=norm,
            lipschitz=lipschitz,
        )

    def ends(self, point: Parameters, over: HandOver) -> Movement:
        """What is known of all steps, once Theorem 1 takes over at a point."""
        change = self._kernel(point) - self.origin
        drift = _at_least(change), spectral_norm(change)
        size = size_of(point) * raised(sum(w.size for w in (*point.weights, *point.biases)))
        return self.beside.ends(LastLook(drift, self._apart(point), size), over, self.steepest)

    def _apart(self, params: Parameters) -> Interval:
        linear = self.beside.linear
        if linear is None:
            return Interval.exact(0.0)
        J_alpha = self.network.pulled_back(self.start, self.roots * linear.alpha)
        weights = [a + b for a, b in zip(self.start.weights, J_alpha.weights, strict=True)]
        biases = [a + b for a, b in zip(self.start.biases, J_alpha.biases, strict=True)]
        apart = between(params, Parameters(tuple(weights), tuple(biases), "float64"))
        return summed(apart, sum(a.size for a in (*weights, *biases)))

    def _kernel(self, params: Parameters) -> np.ndarray:
        return self.network.kernel(params) * np.outer(self.roots, self.roots)


def _at_least(matrix: np.ndarray) -> float:
    """A lower bound on the norm of a symmetric matrix: what it does to one vector."""
    values, vectors = eigh((matrix + matrix.T) / 2)
    v = vectors[:, int(np.argmax(np.abs(values)))]
    rounding = 4 * (len(v) + 8) * 2.0**-53 * float(np.linalg.norm(matrix))
    return max(abs(float(v @ (matrix @ v))) / float(v @ v) * (2 - raised(len(v))) - rounding, 0.0)
