"""Networks trained elsewhere on real data: the same outputs, and certificates at their weights."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import overparam as op
from overparam import importers
from overparam.pipeline.run import anchor_network
from overparam.pipeline.settings import AnchorSettings


@pytest.mark.slow
def test_a_scikit_learn_network_on_diabetes():
    data = op.load("diabetes", samples=40, test_fraction=0.0, standardize="sphere")
    estimator = MLPRegressor(
        hidden_layer_sizes=(256,),
        activation="tanh",
        alpha=0.0,
        solver="lbfgs",
        max_iter=500,
        tol=1e-14,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(data.train.x, data.train.y.ravel())
    network = importers.from_sklearn(estimator)
    assert network.check(data.train.x, estimator.predict(data.train.x)) <= 1e-12
    result = anchor_network(data, network, AnchorSettings(polish=10, check_steps=20))
    assert result.certificate.certified
    run = result.descent if result.anchored is None else result.anchored.run
    assert run.certificate_held
    assert result.errors["train"]["r2"] > 0.999
    if result.anchored is not None:
        assert 0 < result.moved < 0.1
    problem = op.Problem(network.model, data.train)
    assert op.verify(result.certificate, problem, result.final_params).ok


@pytest.mark.slow
def test_a_pytorch_network_on_digits():
    """Adam, minibatches, single precision; anchored where training left it."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    data = op.load("digits", target="parity", samples=40, test_fraction=0.0, standardize="sphere")
    x, y = (torch.tensor(a, dtype=torch.float32) for a in (data.train.x, data.train.y))
    layers = []
    for n, m in itertools.pairwise((64, 256, 256, 1)):
        layers += [nn.Linear(n, m), nn.GELU()]
    net = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, gamma=1e-4 ** (1 / 600))
    for _ in range(600):
        for rows in torch.randperm(len(x)).split(10):
            optimiser.zero_grad()
            ((net(x[rows]) - y[rows]) ** 2).mean().backward()
            optimiser.step()
        schedule.step()
    network = importers.from_torch(net)
    with torch.no_grad():
        outputs = net.double()(torch.tensor(data.train.x)).numpy()
    assert network.check(data.train.x, outputs) <= 1e-12
    result = anchor_network(data, network, AnchorSettings(check_steps=20))
    assert result.anchored is None
    assert result.certificate.certified
    assert result.descent.certificate_held
    assert result.errors["train"]["error"] == 0.0
    np.testing.assert_array_equal(result.final_params[0][0], network.params[0][0])
