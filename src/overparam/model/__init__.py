"""The network: activations with proved constants, the perceptron, what of it is observed."""

from overparam.public import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
