"""From scikit-learn: ``MLPRegressor`` and ``MLPClassifier``."""

from typing import Any

import numpy as np
from scipy.special import expit, softmax

from overparam.errors import InputError
from overparam.importers.imported_network import ImportedNetwork, Scales, build
from overparam.importers.layer_steps import linear, random_points

ACTIVATION_NAMES = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}

OUTPUTS = {
    "identity": lambda z: z,
    "logistic": expit,
    "softmax": lambda z: softmax(z, axis=1),
    "exp": np.exp,
}
"""What scikit-learn applies to the last layer's values."""


def from_sklearn(estimator: Any, *, scales: Scales | str = "ntk") -> ImportedNetwork:
    """Import a fitted multilayer perceptron of scikit-learn.

    The outputs are the values of the last layer: predictions of a regressor; of a classifier the
    logits, one for two classes (positive for ``classes_[1]``), else one per class. The import is
    compared with ``predict`` or ``predict_proba`` at random points.

    Args:
        estimator: A fitted ``MLPRegressor`` or ``MLPClassifier``.
        scales: Of the NTK form; see :class:`Scales`.

    Returns:
        The :class:`ImportedNetwork`.

    Raises:
        InputError: It is something else, not fitted, or not finite, or the outputs differ.
    """
    name = type(estimator).__name__
    if hasattr(estimator, "steps"):
        raise InputError(
            f"a {name} is not supported: import its last step, estimator[-1], and give it data "
            "transformed by the others, estimator[:-1].transform(x)"
        )
    if not hasattr(estimator, "hidden_layer_sizes"):
        raise InputError(f"a {name} is not supported: give an MLPRegressor or an MLPClassifier")
    if not hasattr(estimator, "coefs_"):
        raise InputError(f"the {name} is not fitted: call fit first")
    if estimator.activation not in ACTIVATION_NAMES or estimator.out_activation_ not in OUTPUTS:
        raise InputError(
            f"the {name} has the activations {estimator.activation!r} and "
            f"{estimator.out_activation_!r} (output): {', '.join(ACTIVATION_NAMES)} and "
            f"{', '.join(OUTPUTS)} are supported"
        )
    pairs = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    layers = [linear(f"layer {i} (coefs_[{i}])", *pair, "kernel") for i, pair in enumerate(pairs)]
    notes: tuple[str, ...] = ()
    if estimator.out_activation_ != "identity":
        notes = (f"the outputs are those before scikit-learn's {estimator.out_activation_}",)
    activation = ACTIVATION_NAMES[estimator.activation]
    network = build(layers, activation, scales, name, notes)
    _check(network, estimator)
    return network


def _check(network: ImportedNetwork, estimator: Any) -> None:
    x = random_points(network)
    link = OUTPUTS[estimator.out_activation_]
    mine = link(network.apply(x))
    if hasattr(estimator, "predict_proba"):
        theirs = np.asarray(estimator.predict_proba(x))
        if mine.shape[1] == 1:
            theirs = theirs[:, 1:]
    else:
        theirs = np.asarray(estimator.predict(x)).reshape(mine.shape)
    if not np.all(np.abs(mine - theirs) <= 1e-12 * max(1.0, float(np.max(np.abs(theirs))))):
        raise InputError(
            f"the {type(estimator).__name__}'s predictions are not those of its coefs_ and "
            "intercepts_: give a plain fitted estimator"
        )
