from overparam.jacobian.bounds import jacobian_bounds as jacobian_bounds
from overparam.jacobian.by_radius import JacobianBounds as JacobianBounds
from overparam.jacobian.mlp_bounds import jacobian_modulus as jacobian_modulus
