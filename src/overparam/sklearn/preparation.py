"""From what scikit-learn's users pass to what the mathematics takes, and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from overparam.errors import InputError
from overparam.sklearn.probabilities import best_sharpness, probabilities


class Shift:
    """x -> (x - mean) / scale, column by column.

    Args:
        values: Shape (n, d); their mean and standard deviation become 0 and 1. A constant column
            becomes 0.
        weights: w_i, (n,).
    """

    def __init__(self, values: np.ndarray, weights: np.ndarray) -> None:
        share = (weights / weights.sum())[:, None]
        self.mean = np.sum(share * values, axis=0)
        spread = np.sqrt(np.sum(share * (values - self.mean) ** 2, axis=0))
        rounding = 10 * np.finfo(np.float64).eps * np.abs(values).max(axis=0)
        self.scale = np.where(spread > rounding, spread, 1.0)

    def forward(self, values: np.ndarray) -> np.ndarray:
        """To mean 0 and variance 1."""
        return (values - self.mean) / self.scale

    def back(self, values: np.ndarray) -> np.ndarray:
        """From there."""
        return values * self.scale + self.mean


class Prepared(BaseEstimator):
    """What all estimators share: checked, perhaps standardised inputs, and weights of rows."""

    standardize: bool
    _outputs: Callable[[np.ndarray], np.ndarray]

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, **checks: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Inputs, targets and weights of the rows that have any."""
        X, y = validate_data(self, X, y, dtype=np.float64, **checks)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        if not kept.any():
            raise InputError("every sample_weight is zero: give one row a positive one")
        self._shift = Shift(X[kept], weights[kept]) if self.standardize else None
        return self._scaled(X[kept]), y[kept], weights[kept]

    def _points(self, X: Any) -> np.ndarray:
        """Inputs of a prediction."""
        check_is_fitted(self)
        return self._scaled(validate_data(self, X, dtype=np.float64, reset=False))

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return x if self._shift is None else self._shift.forward(x)


class Regressor(RegressorMixin, Prepared):
    """Regression with one target or several: they are learnt with mean 0 and variance 1.

    A subclass has ``_learn(x, y, weights)`` and ``_outputs(x)``.
    """

    _learn: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit.

        Args:
            X: Inputs, shape (n, d): an array or a data frame of numbers.
            y: Targets, shape (n,) or (n, k).
            sample_weight: Of the rows, (n,), 0 or more: a row of weight 2 counts as two rows.

        Returns:
            The estimator.
        """
        x, y, weights = self._rows(X, y, sample_weight, multi_output=True, y_numeric=True)
        self._one_target = y.ndim == 1
        targets = np.asarray(y.reshape(len(y), -1), dtype=np.float64)
        self._targets = Shift(targets, weights)
        self._learn(x, self._targets.forward(targets), weights)
        return self

    def _predicted(self, x: np.ndarray) -> np.ndarray:
        return self._as_given(self._targets.back(self._outputs(x)))

    def _as_given(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._one_target else values


class Classifier(ClassifierMixin, Prepared):
    """Classification by least squares: one output of -1 or 1 for two classes, else one a class.

    Probabilities are those of a logistic model of the outputs whose one number, the sharpness, is
    the likeliest for the outputs of rows that took no part in them.

    A subclass has ``_learn(x, y, weights)``, which returns those outputs, and ``_outputs(x)``.
    """

    _learn: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit.

        Args:
            X: Inputs, shape (n, d): an array or a data frame of numbers.
            y: Classes, shape (n,), of any type.
            sample_weight: Of the rows, (n,), 0 or more: a row of weight 2 counts as two rows.

        Returns:
            The estimator.
        """
        x, y, weights = self._rows(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"only one class, {self.classes_[0]!r}, has a row: there is no choice")
        if len(self.classes_) == 2:
            signs = 2.0 * codes[:, None] - 1
        else:
            signs = np.where(codes[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        left_out = self._learn(x, signs, weights)
        self.sharpness_ = best_sharpness(left_out, codes, weights)
        return self

    def decision_function(self, X: Any) -> Float[np.ndarray, "..."]:
        """The outputs.

        Args:
            X: Inputs, shape (p, d).

        Returns:
            (p,) for two classes, positive for the second one; else (p, classes).
        """
        outputs = self._outputs(self._points(X))
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row.

        Args:
            X: Inputs, shape (p, d).

        Returns:
            Shape (p,).
        """
        outputs = self.decision_function(X)
        best = (outputs > 0).astype(int) if outputs.ndim == 1 else outputs.argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "p classes"]:
        """The probability of each class.

        Args:
            X: Inputs, shape (p, d).

        Returns:
            Shape (p, classes), in the order of ``classes_``.
        """
        return probabilities(self._outputs(self._points(X)), self.sharpness_)
