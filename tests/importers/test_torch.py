"""PyTorch modules against their own outputs in float64; needs PyTorch."""

import numpy as np
import pytest
from reference import points

import overparam as op
from overparam import importers

torch = pytest.importorskip("torch")
nn = torch.nn

X = points(50, 6)
TIED = nn.Linear(6, 6)


def build(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers)


def outputs(module, x=X):
    with torch.no_grad():
        twin = module.double().eval()
        return twin(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Tanh(), "tanh"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.SiLU(), "silu"),
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.LeakyReLU(0.3), "abs_linear(0.35, 0.65)"),
        (nn.Softplus(), "softplus"),
        (nn.Softplus(beta=2.5, threshold=50), "softplus(beta=2.5)"),
        (nn.ELU(), "elu"),
        (nn.ELU(0.5), "elu(alpha=0.5)"),
        (nn.CELU(2.0), "celu(alpha=2.0)"),
        (nn.SELU(), "selu"),
    ],
    ids=str,
)
def test_every_activation(layer, name):
    module = build(nn.Linear(6, 12), layer, nn.Linear(12, 9), layer, nn.Linear(9, 2))
    network = importers.from_torch(module)
    assert network.model.act.name == name
    assert network.check(X, outputs(module)) <= 1e-12
    network.model.act.check()  # its constants, for those made here


def test_a_module_is_left_as_it_was():
    module = build(nn.Linear(6, 4), nn.Tanh(), nn.Dropout(0.0), nn.Linear(4, 1)).train()
    network = importers.from_torch(module)
    assert module.training
    assert module[0].weight.dtype == torch.float32
    assert "Dropout is the identity here" in network.notes[0]
    assert network.check(X, outputs(module)) <= 1e-12


def test_nested_and_decorated():
    module = build(
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 5, bias=False), nn.Identity(), nn.GELU()),
        nn.Linear(5, 3, dtype=torch.float64).float(),
    )
    network = importers.from_torch(module)
    assert "had no bias" in network.notes[0]
    assert network.check(X, outputs(module)) <= 1e-12


def test_softplus_says_where_it_differs():
    network = importers.from_torch(build(nn.Linear(6, 4), nn.Softplus(), nn.Linear(4, 1)))
    assert "linear above 20" in network.notes[0]
    assert "2.1e-09" in network.notes[0]


class Custom(nn.Module):
    """Layers by attribute; only its forward method knows what is between them."""

    def __init__(self, activation):
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 8), nn.Linear(8, 2)
        self.activation = activation

    def forward(self, x):
        return self.outer(self.activation(self.inner(x)))


def test_any_module_with_the_activation_given():
    module = Custom(torch.tanh)
    assert importers.from_torch(module, "tanh").check(X, outputs(module)) <= 1e-12
    with pytest.raises(op.InputError, match=r"deviates from Custom by .*another activation"):
        importers.from_torch(Custom(torch.tanh), "gelu")
    with pytest.raises(op.InputError, match="give activation="):
        importers.from_torch(Custom(torch.tanh))


class Twice(nn.Module):
    """One layer, used twice: its state dict is that of a module that uses it once."""

    def __init__(self, tied):
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 2)
        self.tied = tied
        if tied:
            self.middle = nn.Linear(6, 6)
            self.middle.weight = self.inner.weight

    def forward(self, x):
        middle = self.middle if self.tied else self.inner
        return self.outer(torch.tanh(middle(torch.tanh(self.inner(x)))))


def test_a_layer_that_is_used_twice():
    module = Twice(tied=False)
    with pytest.raises(op.InputError, match="a layer that is used twice"):
        importers.from_torch(module, "tanh")
    with pytest.raises(op.InputError, match="do not show whether a layer is used twice"):
        importers.from_torch(module.state_dict(), "tanh")
    single = module(torch.from_numpy(X).float())
    with pytest.raises(op.InputError, match="deviates from the state dict"):
        importers.from_torch(module.state_dict(), "tanh", check=(X, single))
    for source in (Twice(tied=True), Twice(tied=True).state_dict()):
        with pytest.raises(op.InputError, match="tied weights"):
            importers.from_torch(source, "tanh", layers=("inner", "middle", "outer"))


def test_an_activation_of_ones_own():
    import jax

    softsign = op.Activation("softsign", jax.nn.soft_sign, 1.0, 2.0)
    module = build(nn.Linear(6, 8), nn.Softsign(), nn.Linear(8, 2))
    assert importers.from_torch(module, softsign).check(X, outputs(module)) <= 1e-12
    with pytest.raises(op.InputError, match=r"layer 1 \(Softsign\) is not supported"):
        importers.from_torch(module)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)), "fuse_linear_bn_eval"),
        ((nn.Linear(6, 4), nn.LayerNorm((1, 4)), nn.Linear(4, 1)), r"layer 1 \(LayerNorm\)"),
        ((nn.Linear(6, 4), nn.PReLU(), nn.Linear(4, 1)), r"layer 1 \(PReLU\) is not supported"),
        ((nn.Conv1d(6, 4, 1),), r"layer 0 \(Conv1d\) is not supported: Linear, Conv2d"),
        ((nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid()), "the logits"),
        ((nn.Linear(6, 4), nn.Linear(4, 1)), "multiply the two layers into one"),
        ((nn.Linear(6, 4), nn.Tanh(), nn.Tanh(), nn.Linear(4, 1)), "two activations in a row"),
        ((nn.Tanh(), nn.Linear(6, 1)), "comes before the first linear layer"),
        (
            (nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)),
            "different activations",
        ),
        ((nn.Tanh(),), "no linear layer"),
        ((TIED, nn.Tanh(), TIED), "a Linear layer stands twice"),
        ((), "no linear layer"),
    ],
)
def test_unsupported_layers_are_named(layers, message):
    with pytest.raises(op.InputError, match=message):
        importers.from_torch(build(*layers))


def test_files(tmp_path):
    module = build(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 2))
    expected = outputs(build(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 2)))
    path = tmp_path / "net.pt"
    torch.save(module.state_dict(), path)
    assert importers.load_network(path, "tanh").check(X, expected) <= 1e-12
    torch.save({"epoch": 3, "model_state_dict": module.bfloat16().state_dict()}, path)
    assert importers.load_network(path, "tanh").model.widths == (6, 7, 2)
    with pytest.raises(op.InputError, match="give activation="):
        importers.load_network(path)


def test_whole_modules_and_other_objects_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(build(nn.Linear(6, 1)), path)
    with pytest.raises(op.InputError, match="save the state dict") as caught:
        importers.load_network(path, "tanh")
    assert "\n" not in str(caught.value)
    torch.save([1, 2], path)
    with pytest.raises(op.InputError, match="holds a list, not a state dict"):
        importers.load_network(path, "tanh")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(op.InputError, match="damaged or no PyTorch file"):
        importers.load_network(path, "tanh")


def test_the_certified_step_sizes_are_those_of_pytorch():
    """Full-batch SGD with the step sizes per layer follows the certified run."""
    module = build(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 1)).double()
    x, y = points(8, 6, 1), points(8, 1, 2)
    network = importers.from_torch(module)
    problem = op.Problem(network.model, op.Measure(x, y))
    run = op.gradient_descent(problem, network.params, 0.2, 20, dtype="float64")
    groups = []
    for layer, (weight, bias) in zip(
        (module[0], module[2]), importers.standard_steps(network.model, 0.2), strict=True
    ):
        groups += [
            {"params": [layer.weight], "lr": weight},
            {"params": [layer.bias], "lr": bias},
        ]
    optimiser = torch.optim.SGD(groups)
    for _ in range(20):
        optimiser.zero_grad()
        (0.5 * ((module(torch.from_numpy(x)) - torch.from_numpy(y)) ** 2).mean()).backward()
        optimiser.step()
    for (w, b), layer in zip(
        importers.standard_layers(network.model, run.params), (module[0], module[2]), strict=True
    ):
        np.testing.assert_allclose(w, layer.weight.detach().numpy(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(b, layer.bias.detach().numpy(), rtol=1e-10, atol=1e-13)
