"""Numbers that can be trusted: float64 bounds with every rounding error included."""

from overparam.enclosures.eigenvalue import max_eigenvalue as max_eigenvalue
from overparam.enclosures.eigenvalue import min_eigenvalue as min_eigenvalue
from overparam.enclosures.enclosure import Enclosure as Enclosure
from overparam.enclosures.matmul import matmul_enclosed as matmul_enclosed
from overparam.enclosures.matmul import matmul_norm_enclosed as matmul_norm_enclosed
from overparam.enclosures.monotone_integrals import lower_sums as lower_sums
from overparam.enclosures.monotone_integrals import upper_integral as upper_integral
from overparam.enclosures.monotone_integrals import upper_sums as upper_sums
from overparam.enclosures.norm import spectral_norm as spectral_norm
