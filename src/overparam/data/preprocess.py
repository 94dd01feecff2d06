"""Putting features on a common scale.

The bounds on a network grow with the norms of the points, and the tangent kernel of points on one
sphere depends on their angles alone, so data are centred, scaled, and brought to a sphere. The
constants come from the training part only, so a bound evaluated on the test part is none the worse
for them. A bound evaluated on the training part asks more: that sample must have no part
in choosing the preprocessing. "norm" fits nothing: each point is scaled to norm sqrt(d) by itself.

A projection forgets how far a point is from the mean, which may be what tells it from another.
"lift" does not: with one more coordinate of a constant height, (z, h) and (z', h) lie on one ray
from the origin only if z = z', so points go to the sphere of radius sqrt(d + 1) one to one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
from jaxtyping import Bool, Float64

from overparam.choices import Mode
from overparam.data.raw import RowNames
from overparam.errors import InputError
from overparam.limits import require_choice

MODES: tuple[str, ...] = get_args(Mode)

LIFT = 0.5
"""The height over the mean, in units of sqrt(d), the root mean square of a centred point's norm."""

# A standardised point of norm below this fraction of sqrt(d) is the mean up to rounding, and its
# direction is noise.
_AT_THE_MEAN = 1e-12


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """The constants of a fitted preprocessing.

    Attributes:
        mode: "none" leaves points alone, "norm" divides each point by its norm and multiplies it by
            sqrt(d), "center" maps each feature to (value - mean) / scale, "sphere" does both,
            "lift" appends a constant to the centred point and brings it to norm sqrt(d + 1).
        mean: what is subtracted, shape (d,).
        scale: what is divided by, shape (d,), positive.
        notes: what the user should know, e.g. which features were constant.
    """

    mode: Mode
    mean: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]
    notes: tuple[str, ...] = ()

    @property
    def fits_sample(self) -> bool:
        """Whether constants were fitted to the points; "none" and "norm" have none."""
        return self.mode not in ("none", "norm")

    def apply(
        self, x: Float64[np.ndarray, "n d"], rows: RowNames | None = None
    ) -> Float64[np.ndarray, "n _"]:
        """Applies the fitted constants to points, new ones or those of the fit.

        Args:
            x: points, shape (n, d).
            rows: what the points are called in messages.

        Returns:
            The preprocessed points, shape (n, d); (n, d + 1) if they are lifted.

        Raises:
            InputError: if the points have another number of features, or one of them cannot be
                projected because it lies at the mean.
        """
        if x.shape[1] != len(self.mean):
            raise InputError(
                f"points have {x.shape[1]} features but the preprocessing was fitted to "
                f"{len(self.mean)}; pass the same features in the same order"
            )
        if self.mode == "none":
            return x
        if self.mode == "norm":
            return _on_the_sphere(x, rows or RowNames.counted(len(x)), 0.0, "is zero")
        with np.errstate(over="ignore"):
            centred = (x - self.mean) / self.scale
        if not np.all(np.isfinite(centred)):
            raise InputError("features exceed float64's range when centred; rescale them")
        if self.mode == "center":
            return centred
        if self.mode == "lift":
            height = LIFT * np.sqrt(x.shape[1])
            centred = np.append(centred, np.full((len(x), 1), height), axis=1)
        place = "lies at the mean of the training part"
        return _on_the_sphere(centred, rows or RowNames.counted(len(x)), _AT_THE_MEAN, place)

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON represents exactly."""
        return {
            "mode": self.mode,
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "notes": list(self.notes),
        }

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of :meth:`to_dict`.

        Args:
            stored: what :meth:`to_dict` returned.

        Returns:
            The preprocessing.

        Raises:
            InputError: if a key is missing or holds something else.
        """
        try:
            mean = np.array(stored["mean"], dtype=np.float64)
            scale = np.array(stored["scale"], dtype=np.float64)
            mode, notes = _checked_mode(stored["mode"]), tuple(str(n) for n in stored["notes"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"stored preprocessing is damaged ({error}); save it again") from error
        finite = np.all(np.isfinite(mean)) and np.all(np.isfinite(scale))
        if mean.ndim != 1 or mean.shape != scale.shape or not finite or np.any(scale <= 0):
            raise InputError("stored preprocessing is damaged (mean or scale); save it again")
        return Preprocessing(mode, mean, scale, notes)


def fit_preprocessing(
    x: Float64[np.ndarray, "n d"], mode: str, names: tuple[str, ...]
) -> Preprocessing:
    """Computes the constants of a preprocessing.

    Args:
        x: the training points, shape (n, d).
        mode: one of "none", "norm", "center", "sphere", "lift".
        names: the features' names.

    Returns:
        The fitted preprocessing; features that are constant in x are noted, centred and not scaled.

    Raises:
        InputError: if the mode is unknown, every feature is constant, or the sphere would be
            zero-dimensional.
    """
    mode = _checked_mode(mode)
    d = x.shape[1]
    if mode == "norm" and d == 1:
        raise InputError(
            "standardize='norm' maps a single feature to two points; use standardize='none'"
        )
    if mode in ("none", "norm"):
        return Preprocessing(mode, np.zeros(d), np.ones(d))
    mean, scale = mean_and_scale(x, "feature")
    constant = constant_columns(x)
    if np.all(constant):
        raise InputError("every feature is constant in the training part; add one that varies")
    if mode == "sphere" and d - constant.sum() == 1:
        raise InputError(
            "standardize='sphere' maps a single feature to two points; use standardize='lift'"
        )
    notes = () if not constant.any() else (_constant_note(constant, names),)
    return Preprocessing(mode, mean, scale, notes)


def mean_and_scale(
    columns: Float64[np.ndarray, "n k"], what: str
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Mean and standard deviation (divisor n) of each column, safe against underflow.

    Args:
        columns: shape (n, k).
        what: what a column is called in the error message.

    Returns:
        Means and scales, each of shape (k,). A constant column has exactly its value as mean, and
        scale 1.

    Raises:
        InputError: if a mean or deviation exceeds float64's range.
    """
    constant = constant_columns(columns)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(constant, columns[0], columns.mean(axis=0))
        deviation = columns - mean
        largest = np.where(constant, 1.0, np.max(np.abs(deviation), axis=0))
        relative = np.sqrt(np.mean((deviation / largest) ** 2, axis=0))
        scale = np.where(constant, 1.0, largest * relative)
    usable = np.isfinite(mean) & np.isfinite(scale) & (scale > 0)
    if not np.all(usable):
        position = int(np.argmin(usable)) + 1
        raise InputError(f"{what} {position} exceeds float64's range when standardised; rescale it")
    return mean, scale


def constant_columns(columns: Float64[np.ndarray, "n k"]) -> Bool[np.ndarray, " k"]:
    """Which columns hold one value only, exactly."""
    return np.all(columns == columns[0], axis=0)


def _checked_mode(mode: object) -> Mode:
    require_choice("standardize", mode, MODES)
    return cast(Mode, mode)


def _constant_note(constant: Bool[np.ndarray, " d"], names: tuple[str, ...]) -> str:
    listed = [names[i] for i in np.flatnonzero(constant)]
    shown = ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
    plural = "feature is" if len(listed) == 1 else "features are"
    return f"{len(listed)} {plural} constant in the training part and set to zero: {shown}"


def _on_the_sphere(
    points: Float64[np.ndarray, "n d"], rows: RowNames, threshold: float, place: str
) -> Float64[np.ndarray, "n d"]:
    """Scales each point to norm sqrt(d); one with no entry above the threshold is refused."""
    radius = float(np.sqrt(points.shape[1]))
    largest = np.max(np.abs(points), axis=1, keepdims=True)
    directionless = largest[:, 0] <= threshold
    if np.any(directionless):
        raise InputError(
            f"{rows.name(int(np.argmax(directionless)))} {place} and has no direction; drop the "
            f"{rows.unit} or use standardize='lift'"
        )
    relative = points / largest  # so that the squares neither overflow nor underflow
    return relative * (radius / np.linalg.norm(relative, axis=1, keepdims=True))
