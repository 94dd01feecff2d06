"""Kernels: empirical and infinite, in memory, in files, as operators; their spectra."""

from overparam.kernel.empirical.empirical_ntk import EmpiricalKernel as EmpiricalKernel
from overparam.kernel.empirical.empirical_ntk import empirical_ntk as empirical_ntk
from overparam.kernel.empirical.expansion import Expansion as Expansion
from overparam.kernel.empirical.ntk_operator import ntk_diagonal as ntk_diagonal
from overparam.kernel.empirical.ntk_operator import ntk_operator as ntk_operator
from overparam.kernel.empirical.ntk_operator import ntk_vector_product as ntk_vector_product
from overparam.kernel.empirical.tangent import tangent_kernel as tangent_kernel
from overparam.kernel.files.write import KernelFile as KernelFile
from overparam.kernel.files.write import write_kernel as write_kernel
from overparam.kernel.infinite.eigenvalue_bound import EigenvalueBounds as EigenvalueBounds
from overparam.kernel.infinite.eigenvalue_bound import (
    infinite_eigenvalue_bound as infinite_eigenvalue_bound,
)
from overparam.kernel.infinite.infinite_kernel import InfiniteKernel as InfiniteKernel
from overparam.kernel.infinite.infinite_ntk import InfiniteKernels as InfiniteKernels
from overparam.kernel.infinite.infinite_ntk import infinite_ntk as infinite_ntk
from overparam.kernel.infinite.infinite_ntk import infinite_ntk_diagonal as infinite_ntk_diagonal
from overparam.kernel.modes import KernelModes as KernelModes
from overparam.kernel.spectrum.concentration import Concentration as Concentration
from overparam.kernel.spectrum.concentration import (
    min_eigenvalue_by_width as min_eigenvalue_by_width,
)
from overparam.kernel.spectrum.concentration import (
    one_hidden_layer_lower_bound as one_hidden_layer_lower_bound,
)
from overparam.kernel.spectrum.diagnosis import Finding as Finding
from overparam.kernel.spectrum.kernel_spectrum import KernelSpectrum as KernelSpectrum
from overparam.kernel.spectrum.kernel_spectrum import spectrum as spectrum
from overparam.kernel.spectrum.lanczos import TopEigenvalues as TopEigenvalues
from overparam.kernel.spectrum.lanczos import top_eigenvalues as top_eigenvalues
from overparam.kernel.spectrum.low_rank_kernel import LowRankKernel as LowRankKernel
from overparam.kernel.spectrum.nystrom import Nystrom as Nystrom
from overparam.kernel.spectrum.nystrom import nystrom as nystrom
from overparam.kernel.spectrum.nystrom import nystrom_ntk as nystrom_ntk
from overparam.kernel.spectrum.random_features import RandomFeatures as RandomFeatures
from overparam.kernel.spectrum.random_features import SampledKernels as SampledKernels
from overparam.kernel.spectrum.random_features import sampled_kernels as sampled_kernels
from overparam.kernel.spectrum.random_features import tangent_sketch as tangent_sketch
from overparam.kernel.tiles import TiledKernel as TiledKernel
