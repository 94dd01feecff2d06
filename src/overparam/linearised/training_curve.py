"""Closed-form training curves of least squares with a fixed kernel, at any step or time.

With r_0 = y - F_0 in the orthonormal coordinates of L2(mu; R^k), gradient descent on the linearised
model leaves the residual (I - eta K)^t r_0 after t steps, and gradient flow exp(-t K) r_0 at time
t. One eigendecomposition gives both, at all t and at new points. K is the tangent kernel of a
network, or that of the infinitely wide one. ``docs/linearised.md`` has the proofs.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real

from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.kernel.modes import KernelModes
from overparam.limits import require_positive
from overparam.model.function import ParamTree
from overparam.precision import on_host
from overparam.problem.problem import Problem, plain_network, require_no_decay
from overparam.results import pytree


@pytree("modes", "targets", "roots")
@dataclass(frozen=True, eq=False)
class TrainingCurve:
    """Least squares with a fixed kernel: what training predicts after any number of steps.

    Attributes:
        modes: Of K, (m, m), m = n k, or n for a kernel that is the same for every output, with
            r_0 = y - F_0 along them, (m, c) with m c = n k; negative eigenvalues are set to 0.
        targets: y, (n, k).
        roots: sqrt(w_i), (n,).
        step_size: eta, or None for gradient flow.
        ridge: mu, the price of the squared distance from theta_0; 0 for none.
    """

    modes: KernelModes
    targets: Float[np.ndarray, "n k"]
    roots: Float[np.ndarray, " n"]
    step_size: float | int | None
    ridge: float | int = 0.0

    @property
    def eigenvalues(self) -> Float[np.ndarray, " m"]:
        """Those of K, increasing, none below 0; rounding may leave a zero slightly off."""
        return self.modes.eigenvalues

    @property
    def largest_step(self) -> float:
        """2 / (lambda_max + mu): descent converges along every mode exactly for steps below."""
        top = float(self._rates[-1])
        return 2 / top if top > 0 else math.inf

    @property
    def stable(self) -> bool:
        """Whether training converges; the flow always does."""
        return self.step_size is None or bool(self.step_size < self.largest_step)

    @property
    def rank(self) -> int:
        """Number of eigenvalues that rounding in the eigensolver cannot have made of zeros."""
        return int(np.sum(self.eigenvalues > self._cutoff))

    @property
    def diagnosis(self) -> str:
        """One line: whether training converges, and if not along which eigenvalue."""
        if self.step_size is None:
            return "gradient flow converges"
        top, step = self._rates[-1], self.step_size
        if self.stable:
            name = "(lambda_max + mu)" if self.ridge else "lambda_max"
            return f"converges: the step {step:.6g} is below 2 / {name} = {self.largest_step:.6g}"
        count = int(np.sum(step * self._rates >= 2))
        modes = "1 eigenvalue" if count == 1 else f"{count} eigenvalues"
        return (
            f"diverges along {modes}: eta lambda = {step * top:.6g} is not below 2 for lambda = "
            f"{top:.6g}; take a step below {self.largest_step:.6g}"
        )

    @on_host
    def train(self, t: float | int) -> Float[np.ndarray, "n k"]:
        """The predictions on the training points.

        Args:
            t: Steps made (a whole number), or the time of the flow; infinity is the limit.

        Raises:
            InputError: ``t`` is negative or not whole, or there is no limit.
        """
        remaining, _ = self.factors(t)
        left = self.modes.vectors @ _scaled(remaining, self.modes.coefficients)
        return self.targets - left.reshape(self.targets.shape) / self.roots[:, None]

    @on_host
    def dual(self, t: float | int) -> Float[np.ndarray, " nk"]:
        """The coefficients a_t with theta_t = theta_0 + J_0* a_t: see ``linearised_params``.

        Args:
            t: As for :meth:`train`.

        Returns:
            K^{-1} (I - (I - eta K)^t) r_0 in the coordinates of L2(mu; R^k), shape (n k,); with a
            ridge K + mu in place of K.
        """
        _, learned = self.factors(t)
        return (self.modes.vectors @ _scaled(learned, self.modes.coefficients)).reshape(-1)

    @on_host
    def predict(
        self,
        t: float | int,
        cross_kernel: Float[np.ndarray, "rows columns"],
        initial: Float[np.ndarray, "p k"] | None = None,
    ) -> Float[np.ndarray, "p k"]:
        """The predictions at other points.

        Args:
            t: As for :meth:`train`.
            cross_kernel: The NTK between p new points (rows) and the training points (columns):
                ``empirical_ntk(model, params, x, problem.measure.x)`` of shape (p k, n k), or the
                (p, n) kernel ``infinite_ntk(model, x, problem.measure.x).ntk``.
            initial: F_0 at the new points, (p, k), from ``problem.predict(params, x)``; None means
                zeros.

        Raises:
            InputError: As for :meth:`train`, or a shape does not fit.
        """
        if np.ndim(t) or np.ndim(cross_kernel) != 2:
            raise InputError(
                f"t has shape {np.shape(t)} and cross_kernel {np.shape(cross_kernel)}: call "
                "predict(t, cross_kernel), a number and then a matrix"
            )
        (n, k), order = self.targets.shape, len(self.eigenvalues)
        per_output = order == n
        rows, columns = cross_kernel.shape
        if columns != order or (not per_output and rows % k):
            raise InputError(
                f"cross_kernel has shape {cross_kernel.shape}, the kernel of the training points "
                f"has order {order}: pass new points as rows, training points as columns"
            )
        points = rows if per_output else rows // k
        if initial is not None and initial.shape != (points, k):
            raise InputError(f"initial has shape {initial.shape}, the points need {(points, k)}")
        dual = self.dual(t).reshape(n, k) * self.roots[:, None]
        change = (cross_kernel @ dual.reshape(order, -1)).reshape(points, k)
        return change if initial is None else initial + change

    @on_host
    def excess(
        self, t: float | int | Real[np.ndarray, " T"]
    ) -> Float[np.ndarray, " T"] | Float[np.ndarray, ""]:
        """The excess 1/2 |y - F_t|^2 in L2(mu).

        Args:
            t: Steps or times, one or an array of them.

        Returns:
            Of the same shape; infinite where training has left the range of float64.
        """
        times = np.asarray(t, dtype=np.float64)
        energy = np.sum(self.modes.coefficients**2, axis=1, keepdims=True)
        left = (self.factors(time)[0] ** 2 for time in times.flat)
        return np.array([_scaled(mode, energy).sum() / 2 for mode in left]).reshape(times.shape)

    @property
    def _rates(self) -> Float[np.ndarray, " m"]:
        """lambda + mu, by which the modes decay."""
        return self.eigenvalues + self.ridge

    @property
    def _cutoff(self) -> float:
        return len(self.eigenvalues) * np.finfo(np.float64).eps * self.eigenvalues[-1]

    def factors(self, t: float | int) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """The share of each mode's residual that remains, and the part of it that is learnt.

        The latter is (1 - (1 - eta (lambda + mu))^t) / (lambda + mu): docs/posterior.md,
        Proposition L6.

        Args:
            t: As for :meth:`train`.

        Returns:
            Both, shape (m,).
        """
        if math.isnan(t) or t < 0:
            raise InputError(f"t must be 0 or more, not {t!r}")
        if t == math.inf:
            return self._limit()
        rates = self._rates
        if self.step_size is None:
            exponents, sign = -rates * t, np.ones(len(rates))
            horizon = t
        else:
            if t != math.floor(t):
                raise InputError(f"t must be a whole number of steps, not {t!r}")
            exponents, sign = _log_factors(self.step_size * rates, t)
            horizon = self.step_size * t
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            decayed = sign * np.exp(exponents)
            learned = np.where(decayed < 0, 1 - decayed, -np.expm1(exponents))
            # (1 - (1 - eta lambda)^t) / lambda tends to eta t as lambda -> 0.
            learned = np.where(rates > 0, learned / rates, horizon)
            if not self.ridge:
                return decayed, learned
            return (self.ridge + self.eigenvalues * decayed) / rates, learned

    def _limit(self) -> tuple[np.ndarray, np.ndarray]:
        """The minimum-norm interpolant; modes without an eigenvalue never move."""
        if not self.stable:
            raise InputError(f"training has no limit: it {self.diagnosis}")
        rates = self._rates
        moves = rates > (0.0 if self.ridge else self._cutoff)
        inverse = np.divide(1.0, rates, out=np.zeros(len(moves)), where=moves)
        left = self.ridge * inverse if self.ridge else 0.0
        return np.where(moves, left, 1.0), inverse


def _log_factors(products: np.ndarray, t: float | int) -> tuple[np.ndarray, np.ndarray]:
    """t log |1 - eta lambda|, and the sign of (1 - eta lambda)^t."""
    if t == 0:
        return np.zeros(len(products)), np.ones(len(products))
    over = products > 1
    with np.errstate(divide="ignore"):
        logs = np.log1p(np.where(over, products - 2, -products))
    return t * logs, np.where(over & (t % 2 == 1), -1.0, 1.0)


def _scaled(factors: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Their product, in which a mode that is absent stays absent even if it diverges."""
    with np.errstate(invalid="ignore"):
        return np.where(coefficients == 0, 0.0, factors[:, None] * coefficients)


@on_host
def training_curve(
    problem: Problem,
    params: ParamTree,
    *,
    step_size: float | int | None = None,
    kernel: Float[np.ndarray, "nk nk"] | None = None,
) -> TrainingCurve:
    """The training curve of the linearised network, in closed form.

    Args:
        problem: A least-squares problem.
        params: theta_0, where the network is linearised and training starts.
        step_size: eta of gradient descent; None is gradient flow.
        kernel: K(theta_0) from ``tangent_kernel`` if it is at hand; it is not changed.

    Returns:
        The :class:`TrainingCurve`.

    Raises:
        InputError: The loss is not the squared loss, the step is not positive, or the kernel is
            not symmetric or of another shape.

    References:
        docs/linearised.md, Theorem L1.
    """
    require_no_decay(problem, "the training curve")
    problem.validate(params)
    if kernel is None:
        kernel = tangent_kernel(problem, params)
    order = problem.measure.n * problem.outputs
    if kernel.shape != (order, order):
        raise InputError(f"kernel has shape {kernel.shape}, the problem needs {(order, order)}")
    return kernel_curve(problem, kernel, np.asarray(problem.predict(params)), step_size=step_size)


@on_host
def infinite_training_curve(
    problem: Problem, *, step_size: float | int | None = None, ridge: float | int = 0.0
) -> TrainingCurve:
    """The training curve of the infinitely wide network, in closed form.

    It is that of a centred model. Of one that is not centred, the predictions are means over the
    initialisation, and the excess that of the mean. New points come in by ``predict(t,
    infinite_ntk(model, x, problem.measure.x).ntk)``.

    Args:
        problem: A least-squares problem; the hidden widths of its model are ignored.
        step_size: eta of gradient descent; None is gradient flow.
        ridge: mu, the price of the squared distance from theta_0.

    Returns:
        The :class:`TrainingCurve`, with a kernel of order n.

    Raises:
        InputError: As for :func:`training_curve`, or an activation has no limiting kernel.

    References:
        docs/linearised.md, Theorem L1.
    """
    require_no_decay(problem, "the training curve")
    roots = np.sqrt(problem.measure.weights)
    limit = np.asarray(
        infinite_ntk(plain_network(problem, "the limiting kernel"), problem.measure.x).ntk,
        dtype=np.float64,
    )
    weighted = limit * np.outer(roots, roots)
    return kernel_curve(problem, weighted, step_size=step_size, ridge=ridge)


@on_host
def kernel_curve(
    problem: Problem,
    kernel: Float[np.ndarray, "m m"],
    initial: Float[np.ndarray, "n k"] | None = None,
    *,
    step_size: float | int | None = None,
    ridge: float | int = 0.0,
) -> TrainingCurve:
    """The training curve of least squares with a given kernel.

    Args:
        problem: Gives data, weights and targets; its loss must be the squared one.
        kernel: K in the coordinates of L2(mu; R^k) like ``tangent_kernel``, (n k, n k); or (n, n),
            the kernel sqrt(w_i w_j) Theta(x_i, x_j) that all outputs share.
        initial: F_0, (n, k); None means zeros, a centred model's.
        step_size: eta of gradient descent; None is gradient flow.
        ridge: mu, the price of the squared distance from theta_0.

    Returns:
        The :class:`TrainingCurve`.

    Raises:
        InputError: As for :func:`training_curve`.
    """
    if not problem.loss.quadratic:
        raise InputError(
            f"closed-form training curves are for the squared loss, not {problem.loss.name!r}: "
            "use linearised_descent"
        )
    if step_size is not None:
        require_positive("step_size", step_size)
    if not 0 <= ridge < math.inf:
        raise InputError(f"ridge must be 0 or more and finite, not {ridge!r}")
    targets = problem.targets
    n, k = targets.shape
    if kernel.shape not in ((n, n), (n * k, n * k)):
        raise InputError(
            f"kernel has shape {kernel.shape}, the problem needs {(n, n)} or {(n * k, n * k)}"
        )
    _check_symmetric(kernel)
    if initial is None:
        initial = np.zeros((n, k))
    elif initial.shape != (n, k):
        raise InputError(f"initial has shape {initial.shape}, the targets have {(n, k)}")
    roots = np.sqrt(problem.measure.weights)
    residual = roots[:, None] * (targets - initial)
    modes = KernelModes.of(np.asarray(kernel, dtype=np.float64), residual.reshape(len(kernel), -1))
    return TrainingCurve(modes.at_least(0.0), targets, roots, step_size, ridge)


def _check_symmetric(kernel: np.ndarray) -> None:
    """Raise unless the kernel is finite and symmetric up to rounding."""
    scale = np.abs(kernel).max()
    if not np.isfinite(scale):
        raise InputError("kernel has an entry that is not finite: check the parameters")
    gap = np.abs(kernel - kernel.T).max()
    tolerance = len(kernel) * np.finfo(kernel.dtype).eps
    if gap > tolerance * scale:
        raise InputError(
            f"kernel is not symmetric: entries differ by {gap:.3g} from their mirror images; pass "
            "the kernel of the training points with themselves"
        )
