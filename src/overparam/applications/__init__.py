"""Applications: learning problems beyond supervised learning, each as a constructor, one a file.

Every constructor returns an :class:`Application`: the ``Problem`` (a model observed on a measure
and a loss functional), parameters to start from, and what belongs to the subject, such as the
sampler of a generative model or an error bound for a differential equation. From there on all
problems are alike: ``certify``, ``gradient_descent`` or ``gauss_newton``, then ``anchor``.
"""

from overparam.applications.application import Application as Application
from overparam.applications.critic import Critic as Critic
from overparam.applications.critic import wasserstein_critic as wasserstein_critic
from overparam.applications.infinite_data import FunctionApproximation as FunctionApproximation
from overparam.applications.infinite_data import MonteCarlo as MonteCarlo
from overparam.applications.infinite_data import function_approximation as function_approximation
from overparam.applications.infinite_data import monte_carlo_objective as monte_carlo_objective
from overparam.applications.physics import Box as Box
from overparam.applications.physics import PhysicsInformed as PhysicsInformed
from overparam.applications.physics import physics_informed as physics_informed
from overparam.applications.plain_autoencoder import autoencoder as autoencoder
from overparam.applications.poisson_equation import Poisson as Poisson
from overparam.applications.poisson_equation import poisson as poisson
from overparam.applications.sobolev_training import sobolev as sobolev
from overparam.applications.sobolev_training import values_and_gradients as values_and_gradients
from overparam.applications.supervised import classification as classification
from overparam.applications.supervised import regression as regression
from overparam.applications.variational import Variational as Variational
from overparam.applications.variational import variational_autoencoder as variational_autoencoder
