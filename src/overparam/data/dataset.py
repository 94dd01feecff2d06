"""From a file to a training measure and a test measure.

The order of the steps is what makes the numbers honest: draw the rows, split off the test part, fit
the preprocessing and the coding of the target to the training part, apply them to both parts, and
only then merge training points that coincide.
"""

import math
import operator
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float64, Int

from overparam.choices import PREPARED
from overparam.data.preprocess import Preprocessing, fit_preprocessing
from overparam.data.raw import RawData, quoted
from overparam.data.targets import TargetCoding, fit_coding
from overparam.errors import InputError
from overparam.problem.measure import Measure, equal_rows, real_array
from overparam.results import brief


@brief
@dataclass(frozen=True, eq=False)
class Fitted:
    """Something that was fitted to data, and to which.

    Attributes:
        what: e.g. "the features' mean and scale".
        rows: the rows of the table it was fitted to, ascending.
    """

    what: str
    rows: Int[np.ndarray, " m"]


@brief
@dataclass(frozen=True, eq=False)
class Dataset:
    """Data ready for a certificate.

    Attributes:
        train: the training measure, without duplicate points unless they were kept.
        test: the test measure, or None.
        preprocessing: the constants applied to the features, fitted to the training part.
        coding: how the target became outputs, fitted to the training part.
        feature_names: the features' names.
        train_rows: for each training point, its row in the table (from 0; the first of its
            duplicates).
        test_rows: the same for the test points.
        notes: what the user should know about the data, one line each.
        source: one line that says what was loaded.
        fitted: what was fitted to which rows. A bound on the risk that is evaluated on such rows
            rests on the reservation that they had a part in their own preprocessing.
        multiplicities: for each training point, how many rows were merged in it.
        indicators: the features that are 1 for one category and 0 for the others, each with the
            name of the column that it came from.
    """

    train: Measure
    test: Measure | None
    preprocessing: Preprocessing
    coding: TargetCoding
    feature_names: tuple[str, ...]
    train_rows: Int[np.ndarray, " n_train"]
    test_rows: Int[np.ndarray, " n_test"]
    notes: tuple[str, ...]
    source: str
    fitted: tuple[Fitted, ...] = ()
    multiplicities: Int[np.ndarray, " n_train"] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64)
    )
    indicators: Mapping[str, str] = field(default_factory=dict)

    @property
    def sample(self) -> Measure:
        """The training rows as they were drawn: with duplicates, weights uniform."""
        if not len(self.multiplicities) or np.all(self.multiplicities == 1):
            return self.train
        assert self.train.y is not None
        rows = np.repeat(np.arange(self.train.n), self.multiplicities)
        return Measure(self.train.x[rows], self.train.y[rows])

    def fitted_to(self, rows: Int[np.ndarray, " m"]) -> tuple[str, ...]:
        """What was fitted to any of the given rows of the table, in words."""
        return tuple(f.what for f in self.fitted if np.isin(rows, f.rows).any())

    def test_error(self, predictions: object) -> dict[str, float | int | None]:
        """How wrong a network's outputs are on the test part: :meth:`error` there.

        Raises:
            InputError: if there is no test part or the predictions have another shape.
        """
        if self.test is None:
            raise InputError("there is no test part; load the data with test_fraction above 0")
        return self.error(predictions, self.test)

    def error(self, predictions: object, part: Measure) -> dict[str, float | int | None]:
        """How wrong a network's outputs are on a part of the data.

        Args:
            predictions: outputs at ``part.x`` in the coding of the targets, shape (n, k).
            part: ``train`` or ``test``.

        Returns:
            For classification ``rows`` and ``error``, the fraction of rows whose predicted class
            is wrong. For regression ``rows``, ``rmse`` in original units, over all outputs, and
            ``r2``, the mean over outputs of 1 - residual / total sum of squares about the part's
            mean; None if an output is constant there.

        Raises:
            InputError: if the predictions have another shape.
        """
        assert part.y is not None
        outputs = real_array(predictions, "predictions")
        if outputs.shape != part.y.shape:
            raise InputError(
                f"predictions has shape {outputs.shape}; pass outputs at the part's x, "
                f"shape {part.y.shape}"
            )
        predicted, actual = self.coding.decode(outputs), self.coding.decode(part.y)
        if self.coding.kind == "classification":
            return {"rows": len(outputs), "error": float(np.mean(predicted != actual))}
        rmse = float(np.sqrt(np.mean((predicted - actual) ** 2)))
        return {"rows": len(outputs), "rmse": rmse, "r2": _r2(predicted, actual)}


def _r2(predicted: Float64[np.ndarray, "n k"], actual: Float64[np.ndarray, "n k"]) -> float | None:
    """Coefficient of determination, averaged over outputs; None if one does not vary."""
    if np.any(np.ptp(actual, axis=0) == 0):
        return None
    residual = np.sum((predicted - actual) ** 2, axis=0)
    total = np.sum((actual - actual.mean(axis=0)) ** 2, axis=0)
    return float(np.mean(1 - residual / total))


def load(
    source: Any,
    *,
    target: str | None = None,
    task: str = "auto",
    samples: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    test_fraction: float | int = 0.2,
    standardize: str = PREPARED,
    standardize_target: bool = True,
    merge: bool = True,
    contradictory: bool = False,
    separator: str | None = None,
    header: bool = True,
    one_hot: bool | Collection[str] = False,
) -> Dataset:
    """Loads a file, a data frame or a bundled data set as measures.

    Args:
        source: a .csv, .tsv, .csv.gz, .tsv.gz, .parquet or .npz file, a data frame of Polars or
            pandas, or the name of a set bundled with scikit-learn.
        target: the column to learn; the last one if None.
        task: "classification", "regression", or "auto" to tell from the target's values.
        samples: how many rows to draw, training and test together; all if None.
        seed: seed of the draw and the split. Draws of different sizes with one seed are nested.
        test_fraction: fraction of the drawn rows held out, at least 0 and below 1.
        standardize: "none", "norm", "center", "sphere" or "lift", see :class:`Preprocessing`.
        standardize_target: whether a regression target gets mean 0 and variance 1.
        merge: whether training points that coincide become one, and contradictory targets there
            are refused. False keeps every row, in the table's order.
        contradictory: whether training points that coincide and have different targets are kept
            as they are, and noted. No network fits both, which weight decay does not ask for.
        separator: what stands between the columns of a text file, one character or a word such as
            "tab"; None to tell.
        header: whether the first line of a text file names the columns; otherwise they are
            column_1, column_2, ...
        one_hot: whether columns of text become a column of 0 and 1 for each category that the
            training part has; or the names of the columns of categories.

    Returns:
        The data set.

    Raises:
        InputError: if the source cannot be used as asked; the message names the cause and the mend.
    """
    from overparam.data.sources import read_table

    raw = read_table(source, target, task, separator=separator, header=header, one_hot=one_hot)
    drawn = _draw(raw.n, samples, seed)
    raw, class_notes = _drawn_classes(raw, drawn)
    train, test, split_notes = _split(drawn, test_fraction, raw)
    raw, category_notes = _seen_categories(raw, train)
    learnt = raw.target
    coding = fit_coding(
        learnt.values[train], learnt.kind, learnt.name, learnt.classes, standardize_target
    )
    preprocessing = fit_preprocessing(raw.features[train], standardize, raw.feature_names)
    fitted: tuple[Fitted, ...] = ()
    if raw.indicators:
        fitted += (Fitted("the categories", train),)
    if preprocessing.fits_sample:
        fitted += (Fitted("the features' mean and scale", train),)
    if standardize_target and coding.mean:
        fitted += (Fitted("the target's mean and scale", train),)
    measure = _measure(raw, train, preprocessing, coding)
    counts = np.ones(len(train), dtype=np.int64)
    notes = class_notes + split_notes + category_notes + preprocessing.notes
    if merge:
        measure, train, counts, merge_notes = _merged(measure, raw, train, contradictory)
        notes += merge_notes
    return Dataset(
        train=measure,
        test=_measure(raw, test, preprocessing, coding) if len(test) else None,
        preprocessing=preprocessing,
        coding=coding,
        feature_names=raw.feature_names,
        train_rows=train,
        test_rows=test,
        notes=notes,
        source=_description(raw),
        fitted=fitted,
        multiplicities=counts,
        indicators=raw.indicators,
    )


def _draw(n: int, samples: SupportsIndex | None, seed: SupportsIndex) -> Int[np.ndarray, " m"]:
    """Rows in random order."""
    m = n if samples is None else operator.index(samples)
    if not 2 <= m <= n:
        raise InputError(f"samples is {m}; choose between 2 and {n}, the number of rows")
    if operator.index(seed) < 0:
        raise InputError(f"seed is {seed}; pass an integer of at least 0")
    return np.random.default_rng(operator.index(seed)).permutation(n)[:m]


def _drawn_classes(raw: RawData, drawn: Int[np.ndarray, " m"]) -> tuple[RawData, tuple[str, ...]]:
    """The table with only the classes that were drawn, and what to note."""
    target = raw.target
    present = np.unique(target.values[drawn]) if target.classes else ()
    if len(present) < 2 or len(present) == len(target.classes):
        return raw, ()
    index = np.full(len(target.classes), -1)
    index[present] = np.arange(len(present))
    classes = tuple(target.classes[i] for i in present)
    note = f"{len(present)} of {len(target.classes)} classes were drawn: {', '.join(classes)}"
    drawn_target = replace(target, values=index[target.values], classes=classes)
    return replace(raw, target=drawn_target), (note,)


def _seen_categories(raw: RawData, train: Int[np.ndarray, " m"]) -> tuple[RawData, tuple[str, ...]]:
    """The table with indicators of the training part's categories only, and what to note."""
    if not raw.indicators:
        return raw, ()
    there = raw.features[train].any(axis=0)
    seen = [i for i, name in enumerate(raw.feature_names) if there[i] or name not in raw.indicators]
    names = tuple(raw.feature_names[i] for i in seen)
    kept = {name: raw.indicators[name] for name in names if name in raw.indicators}
    counts = Counter(kept.values()).items()
    listed = ", ".join(f"{quoted(column)} as {count}" for column, count in counts)
    note = f"categories became columns of 0 and 1, one for each in the training part: {listed}"
    features = raw.features[:, seen]
    return replace(raw, features=features, feature_names=names, indicators=kept), (note,)


def _split(
    drawn: Int[np.ndarray, " m"], test_fraction: float | int, raw: RawData
) -> tuple[Int[np.ndarray, " n_train"], Int[np.ndarray, " n_test"], tuple[str, ...]]:
    """Rows of the training and test part, each ascending; every class keeps a training row."""
    m = len(drawn)
    if not 0 <= test_fraction < 1:
        raise InputError(f"test_fraction is {test_fraction}; choose at least 0 and below 1")
    wanted = math.floor(test_fraction * m + 0.5)
    if m - wanted < 2:
        raise InputError(
            f"test_fraction {test_fraction} of {m} rows leaves {m - wanted} for training; "
            "lower it, or raise samples"
        )
    free = np.arange(m)
    if raw.target.classes:  # the last drawn row of each class stays
        _, last = np.unique(raw.target.values[drawn][::-1], return_index=True)
        free = np.delete(free, m - 1 - last)
    if len(free) < wanted:
        raise InputError(
            f"test_fraction {test_fraction:g} of {m} rows leaves a class without a training row; "
            "lower it, or raise samples"
        )
    if test_fraction > 0 and wanted == 0:
        raise InputError(
            f"test_fraction {test_fraction:g} of {m} rows leaves no row to test on; raise it, or "
            "set it to 0 for no test part"
        )
    held = np.zeros(m, dtype=bool)
    held[free[:wanted]] = True
    notes: tuple[str, ...] = ()
    if not held[:wanted].all():
        notes = (
            "the only rows of a class were drawn for the test part and one was kept for training: "
            "the test part is not a uniform draw",
        )
    return np.sort(drawn[~held]), np.sort(drawn[held]), notes


def _measure(
    raw: RawData, rows: Int[np.ndarray, " m"], preprocessing: Preprocessing, coding: TargetCoding
) -> Measure:
    points = preprocessing.apply(raw.features[rows], raw.rows.take(rows))
    return Measure(points, coding.encode(raw.target.values[rows]))


def _merged(
    measure: Measure, raw: RawData, rows: Int[np.ndarray, " n"], contradictory: bool
) -> tuple[Measure, Int[np.ndarray, " m"], Int[np.ndarray, " m"], tuple[str, ...]]:
    """The measure without duplicates; its points' rows and multiplicities; and what to note."""
    notes = _contradictions(measure, raw, rows, contradictory)
    assert measure.y is not None
    groups = equal_rows(np.hstack([measure.x, measure.y]))
    counts = np.ones(measure.n, dtype=np.int64)
    for group in groups:
        counts[group[0]] = len(group)
    repeated = [row for group in groups for row in group[1:]]
    if not repeated:
        return measure, rows, counts, notes
    several = len(repeated) > 1
    note = (
        f"{len(repeated)} training {'rows repeat' if several else 'row repeats'} another and "
        f"{'were' if several else 'was'} merged with it: weights are not uniform"
    )
    kept = np.delete(np.arange(measure.n), repeated)
    merged = Measure(measure.x[kept], measure.y[kept], counts[kept])
    return merged, rows[kept], counts[kept], (*notes, note)


def _contradictions(
    measure: Measure, raw: RawData, rows: Int[np.ndarray, " n"], allowed: bool
) -> tuple[str, ...]:
    """A note on points that have several targets; refused unless they are allowed."""
    conflicts = measure.conflicts()
    if not conflicts:
        return ()
    others = f" ({len(conflicts)} such groups)" if len(conflicts) > 1 else ""
    which = raw.rows.take(rows).names(conflicts[0])
    if allowed:
        return (f"{which} have the same features and different targets{others}: nothing fits both",)
    raise InputError(
        f"{which} of {raw.source} have the same preprocessed features but different "
        f"targets{others}, so nothing interpolates them: drop or average them, or certify with "
        "--weight-decay 0.003, which asks for no interpolation"
    )


def _description(raw: RawData) -> str:
    classes = raw.target.classes
    learnt = f"{len(classes)} classes" if classes else "regression"
    return (
        f"{raw.source}: {raw.n} rows, {len(raw.feature_names)} features, "
        f"target {raw.target.name!r} ({learnt})"
    )
