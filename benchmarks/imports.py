"""Networks trained elsewhere, imported and anchored: one table.

PyTorch (Adam, minibatches, single precision) and scikit-learn, on real data. Needs PyTorch:

    .venv/bin/pip install -e '.[torch]' && .venv/bin/python benchmarks/imports.py [--quick]
"""

import itertools
import sys
import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from torch import nn

import overparam as op
from overparam.importers.imported_network import ImportedNetwork
from overparam.pipeline.run import anchor_network
from overparam.pipeline.settings import AnchorSettings


def by_pytorch(data, hidden, epochs, batch=25, rate=2e-3):
    """Adam in minibatches; the learning rate falls by a factor of 10^4."""
    torch.manual_seed(0)
    x, y = (torch.tensor(a, dtype=torch.float32) for a in (data.train.x, data.train.y))
    layers = []
    for n, m in itertools.pairwise((x.shape[1], *hidden, y.shape[1])):
        layers += [nn.Linear(n, m), nn.GELU()]
    net = nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, gamma=1e-4 ** (1 / epochs))
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            optimiser.zero_grad()
            ((net(x[rows]) - y[rows]) ** 2).mean().backward()
            optimiser.step()
        schedule.step()
    network = op.importers.from_torch(net)
    with torch.no_grad():
        outputs = net.double()(torch.tensor(data.train.x)).numpy()
    return network, outputs


def by_scikit(data, hidden, solver, iterations):
    """Without weight decay, which would keep the residual away from zero."""
    estimator = MLPRegressor(
        hidden_layer_sizes=hidden,
        activation="tanh",
        solver=solver,
        alpha=0.0,
        learning_rate_init=2e-3,
        batch_size=min(25, data.train.n),
        tol=1e-14,
        max_iter=iterations,
        max_fun=10**6,
        n_iter_no_change=10**6,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(data.train.x, data.train.y.ravel())
    return op.importers.from_sklearn(estimator), estimator.predict(data.train.x)


def row(name, data, train):
    """Train, import, compare, anchor, and if need be move to an anchor."""
    begin = time.process_time()
    network, outputs = train(data)
    trained = time.process_time() - begin
    assert isinstance(network, ImportedNetwork)
    deviation = network.check(data.train.x, outputs)
    result = anchor_network(data, network, AnchorSettings(polish=10))
    asis, moved = result.initial, result.anchored
    after = "-"
    if moved is not None:
        steps = len(moved.gauss_newton.residuals) - 1
        after = (
            f"{steps} steps, {moved.distance:.2g} ({100 * result.moved:.2g} %), "
            f"margin {moved.certificate.margin:.2g}"
        )
    widths = "-".join(map(str, network.model.widths))
    run = result.descent if moved is None else moved.run
    held = "held" if run is not None and run.certificate_held else "-"
    print(
        f"| {name} | {data.train.n} | {widths} {network.model.act.name} | {trained:.0f} s "
        f"| {deviation:.1e} | {asis.residual:.2g} | {asis.min_eigenvalue:.2g} "
        f"| {asis.margin:.3g} | {after} | {held} |",
        flush=True,
    )


def main(quick):
    """Print the table."""
    np.set_printoptions(precision=3)
    torch.set_num_threads(1)
    epochs = (200, 100) if quick else (1500, 200)
    options = {"test_fraction": 0.0, "standardize": "sphere"}
    digits = [op.load("digits", target="parity", samples=n, **options) for n in (100, 400)]
    diabetes = [op.load("diabetes", samples=n, **options) for n in (60, 100)]
    print(
        "| trained by | points | network | training | deviation | residual | lambda_min | margin "
        "| moved by Gauss-Newton | 100 steps |"
    )
    print("|" + "---|" * 10)
    row("PyTorch, Adam", digits[0], lambda d: by_pytorch(d, (256, 256), epochs[0]))
    row("PyTorch, Adam", digits[1], lambda d: by_pytorch(d, (256, 256), epochs[1]))
    row("scikit-learn, L-BFGS", diabetes[0], lambda d: by_scikit(d, (512,), "lbfgs", 3000))
    row("scikit-learn, L-BFGS", diabetes[1], lambda d: by_scikit(d, (512,), "lbfgs", 3000))
    row("scikit-learn, Adam", diabetes[1], lambda d: by_scikit(d, (512,), "adam", 1000))


if __name__ == "__main__":
    main("--quick" in sys.argv)
