"""Integrands: the pointwise losses whose integral over the data is minimised."""

from overparam.problem.integrands import INTEGRANDS as INTEGRANDS
from overparam.problem.integrands import CrossEntropy as CrossEntropy
from overparam.problem.integrands import CustomIntegrand as CustomIntegrand
from overparam.problem.integrands import Expectile as Expectile
from overparam.problem.integrands import HalfSquaredDistance as HalfSquaredDistance
from overparam.problem.integrands import Huber as Huber
from overparam.problem.integrands import Integrand as Integrand
from overparam.problem.integrands import LogCosh as LogCosh
from overparam.problem.integrands import PseudoHuber as PseudoHuber
from overparam.problem.integrands import ResidualLoss as ResidualLoss
from overparam.problem.integrands import SmoothedCrossEntropy as SmoothedCrossEntropy
from overparam.problem.integrands import SquaredHinge as SquaredHinge
from overparam.problem.integrands import SquaredLoss as SquaredLoss
from overparam.problem.integrands import WeightedQuadratic as WeightedQuadratic
from overparam.problem.integrands import get_integrand as get_integrand
from overparam.problem.integrands import register as register
