"""How much the Jacobian can change on a ball around theta_0: its modulus omega and constant L."""

from overparam.public import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
