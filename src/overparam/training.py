"""Beyond gradient descent: nearest solutions, how lazy a run was, sweeps, parametrisations."""

from overparam.train.closest import ClosestInterpolant as ClosestInterpolant
from overparam.train.closest import MinimumNormSolution as MinimumNormSolution
from overparam.train.closest import closest_interpolant as closest_interpolant
from overparam.train.closest import minimum_norm_solution as minimum_norm_solution
from overparam.train.coordinate_check import CoordinateCheck as CoordinateCheck
from overparam.train.coordinate_check import coordinate_check as coordinate_check
from overparam.train.decayed_minimum import DecayedMinimum as DecayedMinimum
from overparam.train.decayed_minimum import decayed_minimum as decayed_minimum
from overparam.train.gauss_newton import GaussNewtonResult as GaussNewtonResult
from overparam.train.gauss_newton import gauss_newton as gauss_newton
from overparam.train.gradient_descent import History as History
from overparam.train.gradient_descent import TrainResult as TrainResult
from overparam.train.gradient_descent import gradient_descent as gradient_descent
from overparam.train.gradient_descent import train as train
from overparam.train.laziness import Laziness as Laziness
from overparam.train.laziness import measure_laziness as measure_laziness
from overparam.train.leave_one_out import LeftOut as LeftOut
from overparam.train.leave_one_out import leave_one_out as leave_one_out
from overparam.train.monitor import Monitor as Monitor
from overparam.train.monitor import RoundingFloor as RoundingFloor
from overparam.train.parametrisation import PARAMETRISATIONS as PARAMETRISATIONS
from overparam.train.parametrisation import Parametrised as Parametrised
from overparam.train.parametrisation import parametrise as parametrise
from overparam.train.step_optimum import StepSweep as StepSweep
from overparam.train.step_sweep import step_sweep as step_sweep
