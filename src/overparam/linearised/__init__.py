"""Gradient descent on the model's first-order expansion: predictions, and Theorem P along it."""

from overparam.public import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
