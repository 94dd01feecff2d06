"""Numbers that can be trusted: float64 bounds with every rounding error included."""

from overparam.verified.eigenvalue import max_eigenvalue as max_eigenvalue
from overparam.verified.eigenvalue import min_eigenvalue as min_eigenvalue
from overparam.verified.enclosure import Enclosure as Enclosure
from overparam.verified.matmul import matmul_enclosed as matmul_enclosed
from overparam.verified.matmul import matmul_norm_enclosed as matmul_norm_enclosed
from overparam.verified.norm import spectral_norm as spectral_norm
from overparam.verified.quadrature import lower_sums as lower_sums
from overparam.verified.quadrature import upper_integral as upper_integral
from overparam.verified.quadrature import upper_sums as upper_sums
