"""Convolutions, means and layer norm from PyTorch, against its own outputs; needs PyTorch."""

import numpy as np
import pytest

from overparam import InputError, Measure, Problem, importers
from overparam.jacobian.bounds import jacobian_bounds
from overparam.model import Conv, Dense, Flatten, MeanPool, Normalise, Pointwise, Residual, Scale

torch = pytest.importorskip("torch")
nn = torch.nn


def network(**conv):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, (3, 2), **{"padding": 1} | conv),
        nn.Tanh(),
        nn.AvgPool2d((2, 3)),
        nn.Flatten(),
        nn.LayerNorm(12),
        nn.Linear(12, 4, bias=False),
        nn.SiLU(),
        nn.Linear(4, 2),
    )


def images(count=7, shape=(2, 4, 5)):
    return np.random.default_rng(1).standard_normal((count, *shape))


def rows(x):
    """The same images as points here: channels fastest."""
    return np.moveaxis(x, 1, -1).reshape(len(x), -1)


def test_a_convnet_is_read_layer_by_layer():
    module, x = network(), images()
    found = importers.from_torch(module, in_shape=(4, 5, 2), scales=importers.Scales(2.0))
    kinds = [type(part) for part in found.model.parts]
    assert kinds == [
        *(Conv, Pointwise, MeanPool, Flatten, Normalise, Scale, Dense, Pointwise, Dense)
    ]
    with torch.no_grad():
        narrow = module(torch.from_numpy(x.astype(np.float32))).numpy()
        wide = module.double()(torch.from_numpy(x)).numpy()
    assert found.check(rows(x.astype(np.float32)), narrow, tolerance=1e-6) > 0
    assert found.check(rows(x), wide, tolerance=1e-12) < 1e-12
    problem = Problem(found.model, Measure(rows(x), wide))
    assert jacobian_bounds(problem, found.params).kind == "computed"


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"padding": 0}, {"padding": "same"}, {"padding": "valid"}, {"bias": False}],
    ids=str,
)
def test_options_of_a_convolution(options):
    """Outputs are compared within, in float64 to 1e-12."""
    torch.manual_seed(1)
    conv = nn.Conv2d(2, 3, 3, **options)
    module = nn.Sequential(conv, nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    found = importers.from_torch(module, in_shape=(6, 5, 2))
    assert found.model.parts[2] == MeanPool(None)


def test_a_residual_perceptron_and_vectors_need_no_shape():
    class Skip(nn.Module):
        def __init__(self, block, keep=True):
            super().__init__()
            self.block, self.keep = block, keep

        def forward(self, h):
            return h + self.block(h) if self.keep else self.block(h)

    def module(keep):
        block = nn.Sequential(nn.LayerNorm(4, elementwise_affine=False), nn.Linear(4, 4), nn.Tanh())
        return nn.Sequential(nn.Linear(3, 4), Skip(block, keep), nn.Linear(4, 1))

    found = importers.from_torch(module(True))
    assert [type(part) for part in found.model.parts] == [Dense, Residual, Dense]
    with pytest.raises(InputError, match="deviates from Sequential"):
        importers.from_torch(module(False))


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match=r"say in_shape=\(height, width, channels\)"):
        importers.from_torch(network())
    with pytest.raises(InputError, match="is in_shape right"):
        importers.from_torch(network(), in_shape=(4, 5, 1))
    with pytest.raises(InputError, match="without groups or dilation"):
        importers.from_torch(network(dilation=2), in_shape=(4, 5, 2))
    with pytest.raises(InputError, match="without groups or dilation"):
        importers.from_torch(network(padding_mode="circular"), in_shape=(4, 5, 2))
    with pytest.raises(InputError, match="must not overlap"):
        importers.from_torch(nn.Sequential(nn.AvgPool2d(3, 1)), in_shape=(4, 5, 2))
    with pytest.raises(InputError, match=r"AdaptiveAvgPool2d\(1\)"):
        importers.from_torch(nn.Sequential(nn.AdaptiveAvgPool2d(2)), in_shape=(4, 4, 2))
    norm = nn.LayerNorm(4)
    twice = nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), norm, nn.Linear(4, 1))
    with pytest.raises(InputError, match="a LayerNorm layer stands twice"):
        importers.from_torch(twice)
