"""The learning problem: a measure, an integrand, and a model observed on the data."""

from overparam.problem.integrands import INTEGRANDS as INTEGRANDS
from overparam.problem.integrands import Integrand as Integrand
from overparam.problem.integrands import SquaredHinge as SquaredHinge
from overparam.problem.integrands import SquaredLoss as SquaredLoss
from overparam.problem.measure import Measure as Measure
from overparam.problem.problem import Problem as Problem
