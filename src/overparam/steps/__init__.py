"""Step sizes: the largest stable one by width, and whether one carries over to another width."""

from overparam.public import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
