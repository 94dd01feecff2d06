"""A wide network trained by gradient descent, whose step and number of steps the theory picks."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from sklearn.utils import check_random_state

from overparam.certificate.certificate import Certificate
from overparam.certificate.certify import certify
from overparam.enclosures import min_eigenvalue
from overparam.errors import InputError
from overparam.kernel.empirical.tangent import tangent_kernel
from overparam.kernel.infinite.infinite_ntk import infinite_ntk
from overparam.limits import MOST_SEED, MOST_STEPS, require_positive, require_whole
from overparam.linearised.ridge import fit_ridge
from overparam.memory import require_memory
from overparam.model.mlp import MLP
from overparam.pipeline.generalisation import risk_bounds
from overparam.problem.measure import Measure
from overparam.problem.problem import Problem
from overparam.risk.risk_bound import RiskBound
from overparam.sklearn.preparation import Classifier, Prepared, Regressor
from overparam.train.gradient_descent import TrainResult, gradient_descent

HALVINGS = 6
"""How often a step that the theory picked is halved if training diverges with it."""


@dataclass(repr=False, eq=False)
class WideNetwork(Prepared):
    """What the regressor and the classifier share."""

    hidden_widths: Any = (512,)
    _: KW_ONLY
    activation: Any = "gelu"
    weight_scale: Any = 1.0
    bias_scale: Any = 0.5
    step_size: Any = "stable"
    steps: Any = "loo"
    max_iter: Any = 1000
    dtype: Any = "float64"
    budget: Any = 0.0
    confidence: Any = 0.95
    standardize: Any = True
    random_state: Any = None
    certificate_: Certificate = field(init=False)
    min_eigenvalue_: float = field(init=False)
    risk_bounds_: list[RiskBound] = field(init=False)

    def __getattr__(self, name: str) -> Any:
        # What takes a while is found out when it is first asked for, and then kept.
        if name not in _ON_REQUEST or "_problem" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self, _ON_REQUEST[name])()
        setattr(self, name, value)
        return value

    def _learn(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Train, and return the outputs on rows that the linearised model did not see."""
        for name in _ON_REQUEST:
            self.__dict__.pop(name, None)
        scales = self.weight_scale, self.bias_scale
        model = MLP(x.shape[1], self.hidden_widths, y.shape[1], self.activation, *scales)
        self._seed = int(check_random_state(self.random_state).randint(MOST_SEED))
        self._start = jax.tree.map(np.asarray, model.init(jax.random.key(self._seed)))
        self._problem = Problem(model, Measure(x, y, weights), centered_at=self._start)
        require_memory(4 * 8 * len(x) ** 2, f"the limiting kernel of {len(x)} rows and its modes")
        limit = np.asarray(infinite_ntk(model, x).ntk, dtype=np.float64)
        fit = fit_ridge((limit + limit.T) / 2, y, weights)
        top = float(fit.modes.eigenvalues[-1])
        self.price_ = fit.price / weights.sum()
        self.step_size_ = self._step(top / weights.sum())
        self.n_iter_ = self._steps()
        result = self._descend()
        self.params_, self.history_ = result.params, result.history
        self.n_parameters_ = model.parameter_count
        return y - fit.residuals

    def _step(self, top: float) -> float:
        """Half of the largest step for which the infinitely wide network is stable."""
        if isinstance(self.step_size, str) and self.step_size == "stable":
            return 1 / top if top > 0 else 1.0
        if isinstance(self.step_size, str):
            raise InputError(f"step_size must be 'stable' or positive, not {self.step_size!r}")
        return float(require_positive("step_size", self.step_size))

    def _steps(self) -> int:
        """As given, or until descent has learnt what the price lets it learn: the time 1 / mu."""
        if not (isinstance(self.steps, str) and self.steps == "loo"):
            return require_whole("steps", self.steps, 1, MOST_STEPS)
        most = require_whole("max_iter", self.max_iter, 1, MOST_STEPS)
        return max(round(min(1 / (self.step_size_ * self.price_), most)), 1)

    def _descend(self) -> TrainResult:
        """Gradient descent; a step that the theory picked is halved if the network needs it."""
        for halvings in range(HALVINGS + 1):
            try:
                return gradient_descent(
                    self._problem, self._start, self.step_size_, self.n_iter_, dtype=self.dtype
                )
            except InputError:
                if self.step_size != "stable" or halvings == HALVINGS:
                    raise
                self.step_size_ /= 2
        raise AssertionError("unreachable")

    def _outputs(self, x: np.ndarray) -> Float[np.ndarray, "p k"]:
        # Numbers of rows in powers of two, so that few programs are compiled.
        padded = np.pad(x, ((0, (1 << (len(x) - 1).bit_length()) - len(x)), (0, 0)))
        return np.asarray(self._problem.predict(self.params_, padded))[: len(x)]

    def _certified(self) -> Certificate:
        return certify(self._problem, self._start, self.step_size_, budget=self.budget)

    def _smallest(self) -> float:
        return min_eigenvalue(tangent_kernel(self._problem, self._start)).lower

    def _risk(self) -> list[RiskBound]:
        fitted = {"the features' mean and scale": self.standardize}
        fitted |= {"the targets' mean and scale": isinstance(self, Regressor)}
        return risk_bounds(
            self._problem,
            self._start,
            self.params_,
            confidence=self.confidence,
            caveats=[what for what, was in fitted.items() if was],
            key=jax.random.key(self._seed),
        )


_ON_REQUEST = {
    "certificate_": "_certified",
    "min_eigenvalue_": "_smallest",
    "risk_bounds_": "_risk",
}


class OverparamRegressor(Regressor, WideNetwork):
    """Regression by a wide network, trained by gradient descent on the squared loss.

    Args:
        hidden_widths: Of the hidden layers.
        activation: A name or an ``Activation``; ``relu`` has no certificate.
        weight_scale: s_w, the factor on the weights.
        bias_scale: s_b, the factor on the biases.
        step_size: eta > 0; ``stable`` is half of the largest one for which the infinitely wide
            network is stable (``overparam.stable_step``), halved again where training diverges.
        steps: Of gradient descent; ``loo`` stops it when it has learnt what the price with the
            least leave-one-out error lets the infinitely wide network learn.
        max_iter: Most steps.
        dtype: ``float64`` or ``float32``, the precision of training.
        budget: Seconds that ``certificate_`` may spend on steps of its own; see
            ``overparam.certify``.
        confidence: Of each of ``risk_bounds_``.
        standardize: Whether inputs get mean 0 and variance 1 first, column by column.
        random_state: Of the initialisation.

    Attributes:
        params_: The trained parameters.
        history_: Excess, length of the path and so on at each step: an
            ``overparam.training.History``.
        step_size_: eta.
        n_iter_: Steps made.
        price_: mu with the least leave-one-out error of the infinitely wide network: descent is
            stopped at the time 1 / mu.
        certificate_: Whether gradient descent with this step converges to a global minimum, from
            initialisation (``overparam.Certificate``). It and what follows are computed when they
            are first asked for.
        min_eigenvalue_: A lower bound on lambda_min of the tangent kernel at the start.
        risk_bounds_: Bounds on the expected loss, the squared one of standardised targets, for
            weights that are all equal; each an ``overparam.risk.RiskBound``.
        n_parameters_: Of the network.
        n_features_in_: d.
        feature_names_in_: Names of the columns, if X was a data frame.
    """

    def predict(self, X: Any) -> np.ndarray:
        """Predict the targets.

        Args:
            X: Inputs, shape (p, d).

        Returns:
            Shape (p,) or (p, k), like the targets.
        """
        return self._predicted(self._points(X))


class OverparamClassifier(Classifier, WideNetwork):
    """Classification by a wide network, trained by gradient descent: classes are coded as -1, 1.

    Args:
        hidden_widths: Of the hidden layers.
        activation: A name or an ``Activation``; ``relu`` has no certificate.
        weight_scale: s_w, the factor on the weights.
        bias_scale: s_b, the factor on the biases.
        step_size: eta > 0; ``stable`` is half of the largest one for which the infinitely wide
            network is stable (``overparam.stable_step``), halved again where training diverges.
        steps: Of gradient descent; ``loo`` stops it when it has learnt what the price with the
            least leave-one-out error lets the infinitely wide network learn.
        max_iter: Most steps.
        dtype: ``float64`` or ``float32``, the precision of training.
        budget: Seconds that ``certificate_`` may spend on steps of its own; see
            ``overparam.certify``.
        confidence: Of each of ``risk_bounds_``.
        standardize: Whether inputs get mean 0 and variance 1 first, column by column.
        random_state: Of the initialisation.

    Attributes:
        classes_: The classes.
        sharpness_: Of the probabilities.
        params_: The trained parameters.
        history_: Excess, length of the path and so on at each step: an
            ``overparam.training.History``.
        step_size_: eta.
        n_iter_: Steps made.
        price_: mu with the least leave-one-out error of the infinitely wide network: descent is
            stopped at the time 1 / mu.
        certificate_: Whether gradient descent with this step converges to a global minimum, from
            initialisation (``overparam.Certificate``). It and what follows are computed when they
            are first asked for.
        min_eigenvalue_: A lower bound on lambda_min of the tangent kernel at the start.
        risk_bounds_: Bounds on the chance that a row is classified wrongly, for weights that are
            all equal; each an ``overparam.risk.RiskBound``.
        n_parameters_: Of the network.
        n_features_in_: d.
        feature_names_in_: Names of the columns, if X was a data frame.
    """
