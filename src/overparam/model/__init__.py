"""The network: activations with proved constants, the perceptron, its layers' quantities."""

from overparam.model.activation import ACTIVATIONS as ACTIVATIONS
from overparam.model.activation import Activation as Activation
from overparam.model.mlp import MLP as MLP
