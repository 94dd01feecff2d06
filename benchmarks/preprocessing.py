"""What each preprocessing keeps of a table: test error of kernel ridge, and the kernel's condition.

The infinitely wide gelu network with two hidden layers; five folds; the ridge is chosen
leave-one-out on the training rows. Classes: share of wrong answers. Regression: mean squared error
over the target's variance.

    python benchmarks/preprocessing.py [--samples 600]
"""

import argparse

import numpy as np
from sklearn import datasets
from sklearn.model_selection import KFold

from overparam import MLP, infinite_ntk
from overparam.data import fit_preprocessing
from overparam.data.preprocess import MODES

RIDGES = 10.0 ** np.arange(-8, 0.1, 0.25)


def leave_one_out(K: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The coefficients of kernel ridge with the best of the ridges."""
    values, modes = np.linalg.eigh(K)
    best, chosen = np.inf, RIDGES[-1]
    for ridge in len(K) * RIDGES:
        hat = (modes * (values / (values + ridge))) @ modes.T
        errors = (targets - hat @ targets) / (1 - np.diag(hat))[:, None]
        if np.mean(errors**2) < best:
            best, chosen = np.mean(errors**2), ridge
    return modes @ ((modes.T @ targets) / (values + chosen)[:, None])


def fold(x, y, train, test, mode: str, classes: bool) -> tuple[float, float]:
    """Test error and condition number of one split."""
    fitted = fit_preprocessing(x[train], mode, tuple(map(str, range(x.shape[1]))))
    points, kept = np.unique(fitted.apply(x[train]), axis=0, return_index=True)
    labels = y[train][kept]
    levels, mean, scale = np.unique(labels), labels.mean(), labels.std()
    targets = 2.0 * (labels[:, None] == levels) - 1 if classes else (labels - mean)[:, None] / scale
    model = MLP(points.shape[1], (512, 512), 1, "gelu")
    K = np.asarray(infinite_ntk(model, points).ntk)
    cross = np.asarray(infinite_ntk(model, fitted.apply(x[test]), points).ntk)
    predicted = cross @ leave_one_out(K, targets)
    spectrum = np.linalg.eigvalsh(K)
    condition = spectrum[-1] / max(spectrum[0], 1e-16 * spectrum[-1])
    if classes:
        return np.mean(levels[predicted.argmax(axis=1)] != y[test]), condition
    return np.mean((predicted[:, 0] - (y[test] - mean) / scale) ** 2), condition


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=600)
    samples = parser.parse_args().samples
    print(f"| data | {' | '.join(MODES)} |\n|---|{'---|' * len(MODES)}")
    for name in ("iris", "wine", "breast_cancer", "diabetes", "digits"):
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        x, y = x[:samples].astype(np.float64), y[:samples]
        cells = []
        for mode in MODES:
            folds = KFold(5, shuffle=True, random_state=0).split(x)
            found = [fold(x, y, *split, mode, name != "diabetes") for split in folds]
            error, condition = np.mean([e for e, _ in found]), np.median([c for _, c in found])
            cells.append(f"{error:.3f}, {condition:.0e}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
