"""The estimators beside scikit-learn's own and a tuned perceptron on the same folds.

    python benchmarks/sklearn_estimators.py [--sets diabetes,wine,...]

Inputs are standardised in each fold, and so are targets of regression. Scores are R^2 and shares
classified rightly, means over five folds with their standard error; time is that of the processor
for a fit and its predictions, the median over the folds.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_wine,
    make_friedman1,
    make_moons,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from overparam.sklearn import NTKClassifier, NTKRegressor, OverparamClassifier, OverparamRegressor
from tuned_mlp import TunedMLPClassifier, TunedMLPRegressor

SETS = {
    "diabetes": lambda: load_diabetes(return_X_y=True),
    "friedman1": lambda: make_friedman1(500, 10, noise=1.0, random_state=0),
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "digits": lambda: load_digits(return_X_y=True),
    "moons": lambda: make_moons(400, noise=0.25, random_state=0),
}
OURS = ("NTK", "Overparam")
REGRESSORS = {
    "NTK": NTKRegressor(),
    "Overparam": OverparamRegressor(random_state=0),
    "MLP": TransformedTargetRegressor(MLPRegressor(random_state=0), transformer=StandardScaler()),
    "KernelRidge rbf": TransformedTargetRegressor(
        KernelRidge(kernel="rbf"), transformer=StandardScaler()
    ),
    "SVR": TransformedTargetRegressor(SVR(), transformer=StandardScaler()),
    "tuned optax MLP": TransformedTargetRegressor(
        TunedMLPRegressor(), transformer=StandardScaler()
    ),
}
CLASSIFIERS = {
    "NTK": NTKClassifier(),
    "Overparam": OverparamClassifier(random_state=0),
    "MLP": MLPClassifier(random_state=0),
    "SVC": SVC(),
    "tuned optax MLP": TunedMLPClassifier(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    names = parser.parse_args().sets.split(",")
    warnings.simplefilter("ignore", ConvergenceWarning)  # of scikit-learn's networks, by default
    print("| set | rows | features | estimator | score | seconds |")
    print("|---|---:|---:|---|---:|---:|")
    best = {}
    for name in names:
        x, y = SETS[name]()
        classes = y.dtype.kind == "i"
        split = StratifiedKFold if classes else KFold
        folds = list(split(5, shuffle=True, random_state=0).split(x, y))
        for label, estimator in (CLASSIFIERS if classes else REGRESSORS).items():
            scores, seconds = run(estimator, x, y, folds)
            best[name, label] = scores
            error = scores.std(ddof=1) / np.sqrt(len(scores))
            print(
                f"| {name} | {x.shape[0]:,} | {x.shape[1]} | {label} | {scores.mean():.3f} +- "
                f"{error:.3f} | {seconds:.2f} |",
                flush=True,
            )
    verdicts(best, names)


def run(estimator, x, y, folds):
    """Scores and mean processor time over the folds; the first one is fitted twice, to compile."""
    pipe, scores, seconds = make_pipeline(StandardScaler(), estimator), [], []
    clone(pipe).fit(x[folds[0][0]], y[folds[0][0]]).score(x[folds[0][1]], y[folds[0][1]])
    for train, test in folds:
        begin = time.process_time()
        scores.append(clone(pipe).fit(x[train], y[train]).score(x[test], y[test]))
        seconds.append(time.process_time() - begin)
    return np.array(scores), float(np.median(seconds))


def verdicts(scores, names):
    """Whether ours are at least as good as the best other one, within one standard error."""
    print()
    for ours in OURS:
        held = []
        for name in names:
            others = {k[1]: s for k, s in scores.items() if k[0] == name and k[1] not in OURS}
            best = max(others.values(), key=lambda s: s.mean())
            gap = best - scores[name, ours]
            held.append(gap.mean() <= gap.std(ddof=1) / np.sqrt(len(gap)))
        which = ", ".join(n for n, h in zip(names, held, strict=True) if not h) or "none"
        print(f"{ours}: at least as accurate on {sum(held)} of {len(held)} sets; not on: {which}")


if __name__ == "__main__":
    main()
