"""Estimators and a kernel for scikit-learn."""

from overparam.public import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
