"""The kernel of standard parameters, z = W h + b, whatever the widths and the NTK form's scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from networks import draw_inputs, draw_params
from overparam.errors import InputError
from overparam.importers import from_torch, standard_layers
from overparam.kernel.empirical.empirical_ntk import empirical_ntk
from overparam.model.mlp import MLP

MODEL = MLP(3, (5, 4), 2, "tanh", weight_scale=1.3, bias_scale=0.4, output_scale=2.5)
X1, X2 = draw_inputs(4, MODEL, 1), draw_inputs(3, MODEL, 2)


def contraction(layers, x1, x2):
    """J(x1) J(x2)^T with dense Jacobians in every W and b, sample-major."""

    def apply(layers, x):
        for w, b in layers[:-1]:
            x = jnp.tanh(x @ w.T + b[None])
        w, b = layers[-1]
        return x @ w.T + b[None]

    with jax.enable_x64(True):
        first, second = (jax.jit(jax.jacobian(apply))(layers, jnp.asarray(x)) for x in (x1, x2))
        blocks = [
            (len(x1) * 2, len(x2) * 2, np.asarray(a), np.asarray(b))
            for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
        ]
    return sum(a.reshape(r, -1) @ b.reshape(c, -1).T for r, c, a, b in blocks)


def test_it_is_that_of_dense_jacobians_in_the_standard_parameters():
    params = draw_params(MODEL)
    expected = contraction(standard_layers(MODEL, params), X1, X2)
    found = empirical_ntk(MODEL, params, X1, X2, scales="standard")
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    assert not np.allclose(empirical_ntk(MODEL, params, X1, X2), expected, rtol=0.1)
    whole = empirical_ntk(MODEL, params, X1, scales="standard")
    np.testing.assert_allclose(whole, whole.T, rtol=1e-12)


def test_what_does_not_move_has_no_part_in_it():
    frozen = MLP(3, (5, 4), 2, "tanh", bias_scale=0.0, trainable="weights.2")
    params = draw_params(frozen)
    (first, second, _), _ = params
    h = np.tanh(np.tanh(X1 @ first.T / np.sqrt(3)) @ second.T / np.sqrt(5))
    found = empirical_ntk(frozen, params, X1, scales="standard")
    np.testing.assert_allclose(found, np.kron(h @ h.T, np.eye(2)), rtol=1e-11)


def test_other_words_and_functions_are_refused():
    params = draw_params(MODEL)
    with pytest.raises(InputError, match="unknown scales 'standart': did you mean 'standard'"):
        empirical_ntk(MODEL, params, X1, scales="standart")
    with pytest.raises(InputError, match="a function has its own parameters"):
        empirical_ntk(lambda p, x: x @ p, np.ones((3, 1)), X1, scales="standard")


def test_functorchs_tutorial():
    """ "Neural Tangent Kernels" of PyTorch's tutorials: jacrev, vmap and a contraction."""
    torch = pytest.importorskip("torch")
    from torch.func import functional_call, jacrev, vmap

    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
    module = torch.nn.Sequential(*layers).double()
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def single(params, x):
        return functional_call(module, params, (x.unsqueeze(0),)).squeeze(0)

    jacobians = []
    for x in (X1, X2):
        found = vmap(jacrev(single), (None, 0))(parameters, torch.from_numpy(x))
        jacobians.append([j.flatten(2) for j in found.values()])
    pairs = zip(*jacobians, strict=True)
    tutorial = sum(torch.einsum("Naf,Mbf->NMab", a, b) for a, b in pairs)  # (n1, n2, k, k)
    network = from_torch(module)
    found = empirical_ntk(network.model, network.params, X1, X2, scales="standard")
    expected = tutorial.permute(0, 2, 1, 3).reshape(8, 6).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-11)
