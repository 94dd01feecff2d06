"""What is certified of the training that people do, on every bundled data set.

    python benchmarks/weight_decay_table.py [SET,SET,...] [--most SECONDS]

Two hidden layers of 512 gelu units, a fifth of the rows held out, the default preprocessing. For
each loss and weight decay: a certificate from the initialisation, if the forecast of its run is
below the seconds given, and one at the minimum that Newton's method finds. Beside them
scikit-learn's perceptron and kernel ridge, at the best of a small grid by three folds of the
training rows.
"""

import argparse
import time
import warnings

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neural_network import MLPClassifier, MLPRegressor

from overparam import MLP, Problem, anchor, certify, gauss_newton, load
from overparam.training import decayed_minimum

SETS = ("iris", "wine", "breast_cancer", "diabetes", "parity", "digits")
DECAYS = {"squared": (0.1, 0.01), "cross_entropy": (0.1, 0.01)}
OF_TEN_CLASSES = {"squared": (0.3,), "cross_entropy": (0.1,)}
"""Fewer, since each takes minutes."""
HEAD = "data, rows | loss | decay | from initialisation | steps | s | at the minimum | mu / lambda"
HEAD += " | halves in | s | distance | test error"


def row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def timed(work):
    """What it gives, and the processor's seconds."""
    began = time.process_time()
    found = work()
    return found, round(time.process_time() - began)


def said(errors):
    return f"{100 * errors['error']:.1f} %" if "error" in errors else f"R2 {errors['r2']:.2f}"


def ours(name, data, losses, most):
    """A row for each loss and decay; without decay where every row can be fitted."""
    train, test = data.train, data.test
    model = MLP(train.dim, (512, 512), train.outputs)
    start = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    about = f"{name}, {train.n} x {train.outputs}"
    for loss, decays in losses.items():
        for decay in decays:
            problem = Problem(model, train, loss, start, decay)
            first, spent = from_initialisation(problem, start, most)
            minimum, newton = timed(lambda p=problem: decayed_minimum(p, start, tolerance=1e-9))
            found, anchored = timed(lambda p=problem, m=minimum: anchor(p, m.params))
            numbers = found.numbers
            halves = np.log(0.5) / np.log(numbers["contraction"]) if found.certified else np.nan
            row(
                *(about, loss, f"{decay:g}", *first, spent),
                "certified" if found.certified else "no",
                f"{numbers['residual_curvature'] / decay:.2f}",
                f"{halves:.0f}",
                newton + anchored,
                f"{moved(minimum.params, start):.1f}",
                said(data.error(problem.predict(minimum.params, test.x), test)),
            )
    if train.n * train.outputs > 4096:
        return
    problem = Problem(model, train, "squared", start)
    first, spent = from_initialisation(problem, start, most)
    fitted, newton = timed(lambda: gauss_newton(problem, start, max_steps=12))
    found, anchored = timed(lambda: anchor(problem, fitted.params))
    halves = np.log(0.5) / np.log(found.rate) if found.certified else np.nan
    row(
        *(about, "squared", "none", *first, spent),
        "certified" if found.certified else "no",
        *("", f"{halves:.1e}", newton + anchored, f"{moved(fitted.params, start):.1f}"),
        said(data.error(problem.predict(fitted.params, test.x), test)),
    )


def from_initialisation(problem, start, most):
    """Whether a run is certified, its steps, and the seconds; the forecast where it is too long."""
    forecast = certify(problem, start, budget=0).why
    seconds = getattr(forecast, "seconds", np.inf)
    if seconds > most:
        return (f"forecast {seconds:.0f} s", getattr(forecast, "steps", "")), ""
    found, spent = timed(lambda: certify(problem, start, budget=10 * most))
    steps = f"{found.numbers.get('handover', np.nan):.0f}"
    return ("certified" if found.certified else found.reason, steps), spent


def moved(params, start):
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(start), strict=True)
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in pairs)))


def others(name, data):
    """scikit-learn's, on the same rows as prepared."""
    train, test = data.train, data.test
    classes = data.coding.kind == "classification"
    y = train.y if train.outputs > 1 or not classes else train.y.ravel()
    labels = (train.y.argmax(1) if train.outputs > 1 else (y > 0).astype(int)) if classes else None
    folds = KFold(3, shuffle=True, random_state=0)
    sizes = np.geomspace(0.03, 3, 5) / train.dim
    ridge = {"alpha": np.geomspace(1e-4, 1, 5), "gamma": sizes}
    grid = {"alpha": (1e-4, 1e-2, 1.0)}
    layers = {"hidden_layer_sizes": (512, 512), "max_iter": 100, "random_state": 0}

    def perceptron():
        if classes:
            search = GridSearchCV(MLPClassifier(**layers), grid, cv=folds).fit(train.x, labels)
            found = search.predict(test.x)
            truth = test.y.argmax(1) if test.outputs > 1 else (test.y.ravel() > 0).astype(int)
            return {"error": float(np.mean(found != truth))}
        search = GridSearchCV(MLPRegressor(**layers), grid, cv=folds).fit(train.x, train.y.ravel())
        return data.error(search.predict(test.x)[:, None], test)

    def kernel():
        search = GridSearchCV(KernelRidge(kernel="rbf"), ridge, cv=folds).fit(train.x, train.y)
        return data.error(search.predict(test.x).reshape(test.n, -1), test)

    for label, fit in (("MLP", perceptron), ("KernelRidge rbf", kernel)):
        errors, spent = timed(fit)
        row(name, f"scikit-learn's {label}", *("",) * 7, spent, "", said(errors))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="?", default=",".join(SETS))
    parser.add_argument("--most", type=float, default=120.0)
    parser.add_argument("--no-others", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    row(HEAD)
    for name in given.sets.split(","):
        target = {"target": "parity"} if name == "parity" else {}
        data = load("digits" if target else name, test_fraction=0.2, **target)
        losses = OF_TEN_CLASSES if name == "digits" else dict(DECAYS)
        if data.coding.kind == "regression":
            del losses["cross_entropy"]
        ours(name, data, losses, given.most)
        if not given.no_others:
            others(name, data)


if __name__ == "__main__":
    main()
