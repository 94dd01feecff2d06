"""Integrands: the pointwise losses whose integral over the data is minimised, one a file."""

from overparam.problem.integrands.cross_entropy import SmoothedCrossEntropy
from overparam.problem.integrands.custom import CustomIntegrand
from overparam.problem.integrands.expectile import Expectile
from overparam.problem.integrands.huber import Huber
from overparam.problem.integrands.integrand import (
    INTEGRANDS,
    Integrand,
    get_integrand,
    register,
    require_attained,
)
from overparam.problem.integrands.log_cosh import LogCosh
from overparam.problem.integrands.of_residual import ResidualLoss
from overparam.problem.integrands.pseudo_huber import PseudoHuber
from overparam.problem.integrands.squared import SquaredLoss
from overparam.problem.integrands.squared_distance import HalfSquaredDistance
from overparam.problem.integrands.squared_hinge import SquaredHinge
from overparam.problem.integrands.unsmoothed import CrossEntropy
from overparam.problem.integrands.weighted_quadratic import WeightedQuadratic

__all__ = [
    "INTEGRANDS",
    "CrossEntropy",
    "CustomIntegrand",
    "Expectile",
    "HalfSquaredDistance",
    "Huber",
    "Integrand",
    "LogCosh",
    "PseudoHuber",
    "ResidualLoss",
    "SmoothedCrossEntropy",
    "SquaredHinge",
    "SquaredLoss",
    "WeightedQuadratic",
    "get_integrand",
    "register",
    "require_attained",
]
