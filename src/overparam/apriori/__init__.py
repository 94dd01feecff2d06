"""How wide is wide enough: Theorem 1 with high probability over the initialisation, nothing drawn.

docs/apriori.md has the statements and the proofs. ``required_width`` gives the width from which the
theorem holds, ``a_priori_coefficients`` every coefficient at a given width; both know the data
through its points, through their norms, or through even moments of the norm alone.
"""

from overparam.public import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
