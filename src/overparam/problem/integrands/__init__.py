"""Integrands: the pointwise losses whose integral over the data is minimised, one a file."""

from overparam.problem.integrands.base import INTEGRANDS, Integrand, get_integrand, register
from overparam.problem.integrands.distance import HalfSquaredDistance
from overparam.problem.integrands.squared import SquaredLoss
from overparam.problem.integrands.squared_hinge import SquaredHinge

__all__ = [
    "INTEGRANDS",
    "HalfSquaredDistance",
    "Integrand",
    "SquaredHinge",
    "SquaredLoss",
    "get_integrand",
    "register",
]
