"""Kernel ridge regression with a tangent kernel: what a wide network learns, without training it.

A wide network trained by gradient descent with a price on the way ends at kernel ridge regression
with its tangent kernel (docs/posterior.md). The price is the one with the least leave-one-out
error, which has a closed form.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from sklearn.utils import check_random_state

from overparam.errors import InputError
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.kernel.empirical.ntk_operator import ntk_diagonal
from overparam.kernel.infinite.infinite_ntk import infinite_ntk, infinite_ntk_diagonal
from overparam.limits import MOST_SEED, require_whole
from overparam.linearised.ridge import RidgeFit, fit_ridge
from overparam.memory import require_memory
from overparam.model.mlp import MLP
from overparam.sklearn.preparation import Classifier, Prepared, Regressor


@dataclass(kw_only=True, repr=False, eq=False)
class TangentKernelRidge(Prepared):
    """What the regressor and the classifier share."""

    depth: Any = 2
    width: Any = None
    activation: Any = "gelu"
    weight_scale: Any = 1.0
    bias_scale: Any = 0.5
    alpha: Any = "loo"
    standardize: Any = True
    random_state: Any = None

    def _ridge(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> RidgeFit:
        """Fit, and keep what predictions need."""
        require_memory(4 * 8 * len(x) ** 2, f"kernel, modes and factors of {len(x)} rows")
        depth = require_whole("depth", self.depth, 0)
        width = 1 if self.width is None else require_whole("width", self.width, 1)
        self._model = MLP(
            x.shape[1], (width,) * depth, 1, self.activation, self.weight_scale, self.bias_scale
        )
        self._params = None
        if self.width is not None:
            seed = check_random_state(self.random_state).randint(MOST_SEED)
            self._params = jax.tree.map(np.asarray, self._model.init(jax.random.key(seed)))
        self._x = x
        kernel = self._kernel(x, None)
        fit = fit_ridge((kernel + kernel.T) / 2, y, weights, self._price())
        self.alpha_ = fit.price
        self.loo_error_ = float(fit.errors.min())
        self.dual_coef_ = fit.dual
        self.n_parameters_ = None if self._params is None else self._model.parameter_count
        return fit

    def _price(self) -> float | None:
        if isinstance(self.alpha, str) and self.alpha == "loo":
            return None
        try:
            price = float(self.alpha)
        except (TypeError, ValueError):
            price = 0.0
        if not (np.isfinite(price) and price > 0):
            raise InputError(f"alpha must be 'loo' or a positive number, not {self.alpha!r}")
        return price

    def _kernel(self, x: np.ndarray, others: np.ndarray | None) -> Float[np.ndarray, "p n"]:
        if self._params is None:
            found = infinite_ntk(self._model, x, others).ntk
        else:
            found = empirical_ntk(self._model, self._params, x, others)
        return np.asarray(found, dtype=np.float64)

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        return self._kernel(x, self._x) @ self.dual_coef_


class NTKRegressor(Regressor, TangentKernelRidge):
    """Regression by what an infinitely wide network learns.

    Args:
        depth: Number of hidden layers.
        width: Of the hidden layers of a network that is drawn, whose empirical kernel is taken;
            None is the limit of infinite width, where nothing is drawn.
        activation: A name, such as ``relu``, ``gelu``, ``erf``, ``tanh``, or an ``Activation``.
        weight_scale: s_w, the factor on the weights.
        bias_scale: s_b, the factor on the biases.
        alpha: The price mu > 0 of the squared norm, as in scikit-learn's ``KernelRidge``; ``loo``
            takes the one with the least leave-one-out error.
        standardize: Whether inputs get mean 0 and variance 1 first, column by column. Targets do in
            any case.
        random_state: Of the draw of a network of finite width.

    Attributes:
        alpha_: The price.
        loo_error_: Mean squared leave-one-out error in variances of the targets, summed over them.
        dual_coef_: Coefficients of the kernel at the training rows, (n, k).
        noise_: Estimated standard deviation of the targets around the function, (k,), on their
            scale.
        n_parameters_: Of the network of finite width, or None.
        n_features_in_: d.
        feature_names_in_: Names of the columns, if X was a data frame.
    """

    def _learn(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> None:
        self._ridge_fit = fit = self._ridge(x, y, weights)
        self.noise_ = np.sqrt(fit.scales * fit.price) * self._targets.scale

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the targets.

        Args:
            X: Inputs, shape (p, d).
            return_std: Whether to say how far a new target may lie from its prediction.

        Returns:
            Shape (p,) or (p, k) like the targets; with ``return_std`` the pair of it and of the
            standard deviations of new targets, noise included, of the same shape. They are those
            of a Gaussian process with the kernel's multiple, and noise, under which the
            leave-one-out errors are as large as they are.
        """
        x = self._points(X)
        mean = self._predicted(x)
        if not return_std:
            return mean
        variance = self._ridge_fit.variance(self._kernel(x, self._x), self._own(x))
        deviation = np.sqrt(variance[:, None] * self._ridge_fit.scales) * self._targets.scale
        return mean, self._as_given(deviation)

    def _own(self, x: np.ndarray) -> np.ndarray:
        """Theta(x, x) at each point."""
        if self._params is None:
            return np.asarray(infinite_ntk_diagonal(self._model, x).ntk, dtype=np.float64)
        return np.asarray(ntk_diagonal(self._model, self._params, x), dtype=np.float64).reshape(-1)


class NTKClassifier(Classifier, TangentKernelRidge):
    """Classification by what an infinitely wide network learns from classes coded as -1 and 1.

    Args:
        depth: As for :class:`NTKRegressor`, like all others.
        width: Of the hidden layers of a network that is drawn; None is the limit.
        activation: A name or an ``Activation``.
        weight_scale: s_w.
        bias_scale: s_b.
        alpha: The price mu, or ``loo``.
        standardize: Whether inputs get mean 0 and variance 1 first, column by column.
        random_state: Of the draw of a network of finite width.

    Attributes:
        classes_: The classes.
        sharpness_: Of the probabilities.
        alpha_: The price.
        loo_error_: Mean squared leave-one-out error of the outputs, summed over them.
        dual_coef_: Coefficients of the kernel at the training rows, (n, k).
        n_parameters_: Of the network of finite width, or None.
        n_features_in_: d.
        feature_names_in_: Names of the columns, if X was a data frame.
    """

    def _learn(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return y - self._ridge(x, y, weights).residuals
