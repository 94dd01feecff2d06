"""Networks trained elsewhere: PyTorch, scikit-learn, Flax, Equinox, and files of weights.

None of those libraries is imported here: an object that comes from one brings it along.
"""

from overparam.importers.equinox import from_equinox as from_equinox
from overparam.importers.flax import from_flax as from_flax
from overparam.importers.imported_network import ImportedNetwork as ImportedNetwork
from overparam.importers.imported_network import Scales as Scales
from overparam.importers.imported_network import standard_layers as standard_layers
from overparam.importers.imported_network import standard_steps as standard_steps
from overparam.importers.pytorch import from_torch as from_torch
from overparam.importers.scikit import from_sklearn as from_sklearn
from overparam.importers.weight_files import load_network as load_network
