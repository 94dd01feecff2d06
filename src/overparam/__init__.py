"""overparam: certificates of convergence for overparameterized networks, on your own data.

Will gradient descent reach a global minimum here? How fast, with which step size, how far from the
start? Each answer is a number with its hypotheses, and says whether it was proved, computed,
estimated or assumed.
"""

from overparam.data import Dataset as Dataset
from overparam.data import load as load
from overparam.errors import InputError as InputError
from overparam.errors import TheoremViolatedError as TheoremViolatedError
from overparam.job import JobResult as JobResult
from overparam.job import JobSettings as JobSettings
from overparam.job import run_job as run_job
from overparam.kernel.empirical import empirical_ntk as empirical_ntk
from overparam.kernel.tangent import tangent_kernel as tangent_kernel
from overparam.model import ACTIVATIONS as ACTIVATIONS
from overparam.model import MLP as MLP
from overparam.model import Activation as Activation
from overparam.problem import INTEGRANDS as INTEGRANDS
from overparam.problem import Integrand as Integrand
from overparam.problem import Measure as Measure
from overparam.problem import Problem as Problem
from overparam.problem import SquaredHinge as SquaredHinge
from overparam.problem import SquaredLoss as SquaredLoss
from overparam.recheck import Verification as Verification
from overparam.recheck import verify as verify
from overparam.theory.certificate import Certificate as Certificate
from overparam.theory.certificate import Constant as Constant
from overparam.theory.certificate import load_certificate as load_certificate
from overparam.theory.certify import anchor as anchor
from overparam.theory.certify import certify as certify
from overparam.theory.modulus import jacobian_modulus as jacobian_modulus
from overparam.train.gauss_newton import GaussNewtonResult as GaussNewtonResult
from overparam.train.gauss_newton import gauss_newton as gauss_newton
from overparam.train.gradient_descent import History as History
from overparam.train.gradient_descent import TrainResult as TrainResult
from overparam.train.gradient_descent import gradient_descent as gradient_descent
from overparam.train.gradient_descent import train as train
from overparam.verified import Enclosure as Enclosure
from overparam.verified import max_eigenvalue as max_eigenvalue
from overparam.verified import min_eigenvalue as min_eigenvalue
from overparam.verified import spectral_norm as spectral_norm
