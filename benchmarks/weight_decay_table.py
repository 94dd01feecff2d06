"""What is certified of the training that people do, on every bundled data set.

    python benchmarks/weight_decay_table.py [SET,SET,...] [--most SECONDS] [--rows LOSS:DECAY,...]

Two hidden layers of 512 gelu units, a fifth of the rows held out, the default preprocessing. For
each loss and weight decay: a certificate from the initialisation, if the forecast of its run is
below the seconds given, and one at the minimum that Newton's method finds. Beside them
scikit-learn's perceptron and kernel ridge, at the best of a small grid by three folds of the
training rows.
"""

import argparse
import math
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
DECAYS = 0.1, 0.03, 0.01, 0.003
ROWS = [(loss, decay) for loss in ("squared", "cross_entropy") for decay in DECAYS]
ROWS.append(("squared", 0.0))
HEAD = ("data, rows x outputs", "loss", "decay", "from initialisation", "s", "at the minimum")
HEAD += ("mu / lambda", "halves in", "distance", "test error")


def row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def timed(work):
    """What it gives, and the processor's seconds."""
    began = time.process_time()
    found = work()
    return found, round(time.process_time() - began)


def said(errors):
    return f"{100 * errors['error']:.1f} %" if "error" in errors else f"R2 {errors['r2']:.2f}"


def ours(name, data, rows, most):
    """A row for each loss and decay; without decay where every row can be fitted."""
    train, test = data.train, data.test
    model = MLP(train.dim, (512, 512), train.outputs)
    start = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    for loss, decay in rows:
        problem = Problem(model, train, loss, start, decay)
        first, found, spent = from_initialisation(problem, start, most)
        if decay:
            reached, more = timed(lambda p=problem: decayed_minimum(p, start, tolerance=1e-9))
        else:
            reached, more = timed(lambda p=problem: gauss_newton(p, start, max_steps=12))
        anchored = ""
        if not found.certified:
            found, extra = timed(lambda p=problem, m=reached: anchor(p, m.params))
            anchored = f"certified, {more + extra} s" if found.certified else "no"
        numbers = found.numbers
        rho = numbers["contraction"] if decay else math.sqrt(found.rate)
        row(
            *(f"{name}, {train.n} x {train.outputs}", loss, f"{decay:g}", first, spent, anchored),
            f"{numbers['residual_curvature'] / decay:.2f}" if decay and found.certified else "",
            f"{math.log(0.5) / math.log(rho):.3g}" if found.certified else "",
            f"{moved(reached.params, start):.1f}",
            said(data.error(problem.predict(reached.params, test.x), test)),
        )


def from_initialisation(problem, start, most):
    """What is said of a run from there, the certificate, and seconds; of a long one a forecast."""
    forecast = certify(problem, start, budget=0)
    seconds = getattr(forecast.why, "seconds", math.inf)
    if seconds > most:
        long = "" if math.isinf(seconds) else f", forecast {seconds:.0f} s"
        return f"no{long}", forecast, ""
    found, spent = timed(lambda: certify(problem, start, budget=1000 * most))
    if not found.certified:
        return f"no: {found.reason}", found, spent
    return f"certified, {found.numbers.get('handover', math.nan):.0f} steps", found, spent


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
    layers = {"max_iter": 500, "random_state": 0}

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
        row(name, f"scikit-learn's {label}", "", "", spent, *("",) * 4, said(errors))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="?", default=",".join(SETS))
    parser.add_argument("--most", type=float, default=120.0)
    parser.add_argument("--rows", help="Such as squared:0.1,cross_entropy:0.01; decay 0 is none.")
    parser.add_argument("--no-others", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = ROWS
    if given.rows is not None:
        pairs = [each.split(":") for each in given.rows.split(",") if each]
        rows = [(loss, float(decay)) for loss, decay in pairs]
    row(*HEAD)
    row(*("---",) * len(HEAD))
    for name in given.sets.split(","):
        target = {"target": "parity"} if name == "parity" else {}
        data = load("digits" if target else name, test_fraction=0.2, **target)
        classes = data.coding.kind == "classification"
        ours(name, data, [each for each in rows if classes or each[0] == "squared"], given.most)
        if not given.no_others:
            others(name, data)


if __name__ == "__main__":
    main()
