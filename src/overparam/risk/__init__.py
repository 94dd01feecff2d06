"""Bounds on the risk of a trained network: G1 to G8 of docs/generalisation.md, one a file."""

from overparam.public import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
