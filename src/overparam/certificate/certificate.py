"""The certificate: a theorem as numbers, each with its kind and its source; and its file.

A certificate that fails is a normal result: it says by which factor the condition is missed and
what would close the gap.
"""

import json
import math
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from jaxtyping import Float, Int
from msgspec import UNSET, Meta, Struct, UnsetType

from overparam.certificate.constants import ABOUT, Constant, Numbers, Theorem
from overparam.certificate.description import FunctionDescription, NetworkDescription
from overparam.certificate.field_types import Finite, MaybeFinite, Positive, Record, Word
from overparam.certificate.reason import Reason, Short, Steps, WouldTake
from overparam.choices import Kind as Kind
from overparam.choices import Rigor as Rigor
from overparam.errors import InputError
from overparam.files import read_start, write_whole
from overparam.jacobian.by_radius import ModulusSource
from overparam.problem.batches import Batches
from overparam.rounding.probes import ArithmeticFault
from overparam.theorems.envelope import envelope_up
from overparam.version import VERSION

FORMAT = 3
"""Version of the file format."""

MOST_ENDS = 200
"""Steps of a run whose delta_t is stated, at most."""

LONGEST = 2**20
"""Bytes beyond which a file is no certificate; one takes some 7,000."""

ESTIMATED = "estimated, the modulus of J was searched for and not bounded: "
"""How the reason of such a certificate begins."""

Start = Literal["initialisation", "anchor"]

Assumption = Literal[
    "evaluated activations, slopes and losses are within 64 u of the exact ones (u = 2^-53; "
    "measured, not proved)",
    "float64 products of matrices are plain sums of products (probed at the sizes that occur)",
    "single operations round to nearest: no fast math",
    "the largest change of the Jacobian that a search found is near the largest there is",
    "the rounding errors of float64, which are not bounded, are small",
    "the random vectors that bounded the curvature are no exception (probability 1e-12)",
    "the constants of the loss, declared by the user, are right",
    "the bounds on the activation's derivatives, declared by the user, are right",
]
"""What a certificate may take for granted besides the theorem, a clause each; docs/proved.md."""

_WITHIN_64_U, _PLAIN_SUMS, _NO_FAST_MATH, _SEARCH, _ROUNDING, _DRAWN, _LOSS, _ACTIVATION = (
    Assumption.__args__  # type: ignore[attr-defined]
)

ASSUMPTIONS: Mapping[Rigor, tuple[Assumption, ...]] = MappingProxyType(
    {
        "proved": (_WITHIN_64_U, _PLAIN_SUMS, _NO_FAST_MATH),
        "computed": (_ROUNDING,),
        "estimated": (_SEARCH, _ROUNDING),
    }
)
"""What follows from the rigor alone."""


class Remedies(Record, frozen=True, kw_only=True):
    """What alone would close the gap, if everything else stayed or scaled as in the theory.

    Attributes:
        residual: sqrt(2 Delta_0) at most this, with the same kernel.
        output_scale: c about this, where the model is centred at its start.
        width: Units of each hidden layer, about.
    """

    residual: MaybeFinite = UNSET
    output_scale: MaybeFinite = UNSET
    width: MaybeFinite = UNSET


class Versions(Record, frozen=True, kw_only=True):
    """What computed a certificate."""

    overparam: Word
    jax: Word
    numpy: Word
    scipy: Word
    python: Word


def software_versions() -> Versions:
    """Those of this process."""
    packages = {"overparam": VERSION} | {n: version(n) for n in ("jax", "numpy", "scipy")}
    return Versions(**packages, python=platform.python_version())


class Course(Record, frozen=True, kw_only=True):
    """delta_t of Theorem C at the ends of cells: of the kind that the number ``deviation`` is.

    Attributes:
        steps: t, increasing, from 0 to the hand-over.
        deviations: The largest delta up to there: how far gradient descent in exact arithmetic may
            have been from the run that was made.
    """

    steps: Annotated[tuple[Steps, ...], Meta(min_length=1, max_length=MOST_ENDS)]
    deviations: Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=MOST_ENDS)]

    def at(self, steps: Int[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
        """A bound on delta at each of some steps; NaN behind the hand-over, where there is none."""
        place = np.searchsorted(self.steps, steps)
        return np.append(self.deviations, np.nan)[place]


class Certificate(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="format",
    tag=FORMAT,
):
    """What a theorem says about gradient descent from given parameters on a given problem.

    It does not change, and has a hash. Every number stands once, in ``numbers``; what follows from
    them is a property.

    Attributes:
        theorem: Which one certifies, or fails to: ``1``; ``P`` along the linearised run
            (docs/path.md), of the same meaning; ``C`` along a run that was made
            (docs/trajectory.md), whose ``rate`` holds from the number ``rate_since`` on; ``R``,
            with weight decay (docs/weight_decay.md), about the only minimum of a region; or ``S``,
            with mini-batches (docs/stochastic.md), about the mean over runs, but for a share of
            them, ``exit_probability``.
        rigor: ``estimated``, ``computed`` or ``proved``: the weakest kind among the quantities that
            were not declared.
        start: ``initialisation`` or ``anchor`` (trained parameters).
        why: Why it holds or not, as a code; ``reason`` says it in words.
        numbers: Every number.
        remedies: If not certified, what alone would close the gap.
        problem: What it is about: sizes, model, loss, fingerprints of data and parameters.
        nodes: The radii, increasing, at which the modulus omega was evaluated; a re-check uses the
            same ones.
        modulus: The statement or procedure that omega comes from.
        assumptions: What is taken for granted, a clause each.
        versions: Of the packages and Python.
        batches: Of Theorem S: how many points a batch has, and how they are drawn.
        course: Of Theorem C, if it certifies: delta_t along the run.
        forecast: If Theorem C was considered and not tried: how long its run would take.
        not_proved: If ``proved`` was asked for and cannot be had on this machine: why.
    """

    theorem: Theorem
    rigor: Rigor
    start: Start
    why: Reason
    numbers: Numbers
    remedies: Remedies
    problem: NetworkDescription | FunctionDescription
    nodes: Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=1000)]
    modulus: ModulusSource
    assumptions: Annotated[tuple[Assumption, ...], Meta(max_length=10)]
    versions: Versions
    batches: Batches | UnsetType = UNSET
    course: Course | UnsetType = UNSET
    forecast: WouldTake | UnsetType = UNSET
    not_proved: ArithmeticFault | UnsetType = UNSET

    def __repr__(self) -> str:
        """The verdict in a few lines; ``to_json`` has every number."""
        about, words = self.problem, "certified" if self.certified else "not certified"
        size = f"{about.points} points, {about.outputs} outputs, {about.parameters} parameters"
        numbers = {
            name: f"{name}={getattr(self, name):.6g}"
            for name in ("step_size", "radius", "rate", "margin")
            if math.isfinite(getattr(self, name))
        }
        if not self.certified:
            numbers = {name: text for name, text in numbers.items() if name in _OF_A_FAILURE}
        return (
            f"<Certificate: Theorem {self.theorem}, {self.rigor}, at the {self.start}: {words}\n"
            f"  {', '.join(numbers.values())}\n"
            f"  {size}, {about.loss}\n"
            f"  {self.reason}>"
        )

    @property
    def holds(self) -> bool:
        """Whether the theorem's condition holds with these numbers, whatever their kind."""
        return self.numbers.margin > 1

    @property
    def certified(self) -> bool:
        """Gradient descent from here converges: proved or computed.

        To a global minimiser; with weight decay, Theorem R, to the only one of a region; with
        mini-batches, Theorem S, but for runs of the probability ``exit_probability``.
        """
        return self.holds and self.rigor != "estimated"

    @property
    def exists(self) -> bool:
        """A global minimiser exists within ``existence_radius``: proved or computed."""
        return math.isfinite(self.existence_radius) and self.rigor != "estimated"

    @property
    def reason(self) -> str:
        """One sentence: why it holds or by which factor it fails."""
        text = self.why.words(self.numbers, self.problem)
        if self.rigor == "estimated":
            text = ESTIMATED + text
        if isinstance(self.why, Short):
            text += f"; to close the gap {self._ways()}"
        if self.forecast is not UNSET:
            text += f"; {self.forecast.words(self.numbers, self.problem)}"
        return text if self.not_proved is UNSET else f"{text} (not proved: {self.not_proved})"

    def _ways(self) -> str:
        """What may help where the condition of a theorem is missed by a factor."""
        ways = ["train on and anchor again"]
        if self.start == "initialisation":
            ways = ["train and anchor"]
            if self.forecast is UNSET:
                ways.insert(0, "allow a longer run (budget)")
        if self.theorem != "S":
            ways.append("add weight decay (weight_decay)")
        return ", or ".join(ways)

    @property
    def radius(self) -> float:
        """s*, a bound on the length of gradient descent's whole path; infinite if it fails.

        Of Theorem S on the mean over runs, as long as they stay.
        """
        return self.numbers.radius

    @property
    def existence_radius(self) -> float:
        """A bound on the distance to a global minimiser: s_K, or to where gradient descent ends.

        Infinite under Theorem R, which does not find a global one.
        """
        if self.theorem == "R":
            return math.inf
        return min(self.numbers.existence_radius, self.numbers.limit_distance)

    @property
    def step_size(self) -> float:
        """Eta."""
        return self.numbers.step_size

    @property
    def rate(self) -> float:
        """The factor by which the excess shrinks at least, per step; of Theorem S in the mean."""
        return self.numbers.rate

    @property
    def min_eigenvalue(self) -> float:
        """The lower bound on lambda_min(K) that was used."""
        return self.numbers.min_eigenvalue

    @property
    def residual(self) -> float:
        """sqrt(2 Delta_0)."""
        return self.numbers.residual

    @property
    def margin(self) -> float:
        """The largest Psi / rho; above 1 the condition holds."""
        return self.numbers.margin

    @property
    def short_by(self) -> float:
        """The factor by which the condition is missed; infinite if no factor would do."""
        return 1 / self.margin if self.margin else math.inf

    @property
    def constants(self) -> Mapping[str, Constant]:
        """Every number by its name, with its kind, source, symbol and meaning."""
        return MappingProxyType(
            {name: self._constant(name, value) for name, value in self.numbers.items()}
        )

    def _constant(self, name: str, value: float) -> Constant:
        about, rigor = ABOUT[name], self.rigor
        kinds: dict[str, Kind] = {
            "measured": "computed" if rigor == "estimated" else rigor,
            "concluded": rigor,
            "loss": self.problem.loss_constants,
            "activation": self.problem.get("activation_bounds", "assumed"),
            "forecast": "estimated",
        }
        kind, theorem = kinds[about.backing], self.theorem
        if theorem == "C" and not self.holds and name not in _OF_A_FAILED_RUN:
            theorem = "1"
        source = about.sources[theorem]
        if theorem == "1" and name in ("modulus_at_ball", "lipschitz_on_ball"):
            source = self.modulus
        if kind == "assumed":
            source = "declared by the user"
        symbol, meaning = about.under.get(theorem, (about.symbol, about.meaning))
        return Constant(value, kind, source, symbol, meaning)

    def envelope(self, t: Any) -> Any:
        """The bound on the excess after ``t`` steps: Delta_0 rate^t, rounded up if proved.

        Of Theorem C that times the number ``overshoot``, which a run that rose at first needs. Of
        Theorem R the excess is that over the region's minimum, so that the bound tends to 0. Of
        Theorem S it bounds the mean over runs of the excess, 0 of those that have left.

        Args:
            t: A number of steps, or an array of them.

        Returns:
            Of the same shape; the initial excess at every step if nothing is certified, since
            nothing better is then known.
        """
        excess, overshoot = self.numbers.excess, self.numbers.get("overshoot", 1.0)
        if self.theorem == "R" and self.holds:
            excess = self.numbers["minimum_excess"]
        if self.rigor == "proved":
            top = excess if overshoot == 1 else math.nextafter(overshoot * excess, math.inf)
            return envelope_up(top, self.rate, np.asarray(t, dtype=np.float64))
        return overshoot * excess * self.rate**t

    def save(self, path: str | os.PathLike) -> None:
        """Write the certificate as JSON; the file appears whole or not at all.

        Raises:
            InputError: The file cannot be written, or a number is none.
        """
        write_whole(Path(path), self.to_json().encode())

    def to_json(self) -> str:
        """The content of the file that :meth:`save` writes.

        Raises:
            InputError: A number is none, because the problem's are beyond float64.
        """
        content = msgspec.to_builtins(self)
        try:
            msgspec.convert(content, Certificate)
        except msgspec.ValidationError as error:
            raise InputError(
                f"the certificate cannot be saved: {_spelled(error)}; scale data and targets"
            ) from error
        # null stands for infinity, which JSON has not.
        return json.dumps(json.loads(msgspec.json.encode(content)), indent=2) + "\n"


_OF_A_FAILURE = ("step_size", "margin")
"""What is shown of a certificate that is none."""

_OF_A_FAILED_RUN = ("step_size", "radius", "rate", "margin", "predicted_steps", "steps_made")
"""What Theorem C says though it does not certify; the other numbers are Theorem 1's."""


def assumptions(
    rigor: Rigor, about: NetworkDescription | FunctionDescription
) -> tuple[Assumption, ...]:
    """What a certificate of Theorem 1 takes for granted."""
    found = ASSUMPTIONS[rigor]
    if about.loss_constants == "assumed":
        found += (_LOSS,)
    if about.get("activation_bounds") == "assumed":
        found += (_ACTIVATION,)
    return found


def with_random_vectors(found: tuple[Assumption, ...]) -> tuple[Assumption, ...]:
    """The assumptions, and that no draw that Theorem C made is an exception."""
    return (*found, _DRAWN)


def load_certificate(path: str | os.PathLike) -> Certificate:
    """Read a certificate that ``Certificate.save`` wrote.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, damaged, incomplete or of another version.
    """
    content = read_start(path, LONGEST)
    if len(content) > LONGEST:
        raise InputError(f"{path} is far longer than a certificate")
    try:
        content = _with_infinities(parse(content))
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply for a certificate") from error
    except ValueError as error:
        raise InputError(f"{path} is not a certificate: damaged or cut short ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a certificate of format {FORMAT}: make it again")
    try:
        return msgspec.convert(content, Certificate)
    except ValueError as error:  # of msgspec, or a character that is none
        what = _spelled(error)
        raise InputError(f"{path} is not a whole certificate ({what}): make it again") from error


def parse(text: str | bytes) -> Any:
    """JSON as strict as it should be: no field twice, no number beyond float64, no NaN.

    Raises:
        ValueError: It is none.
        RecursionError: It is nested too deeply.
    """
    return json.loads(
        text.decode() if isinstance(text, bytes) else text,
        object_pairs_hook=_no_repeats,
        parse_constant=_within_range,
        parse_float=_within_range,
        parse_int=lambda digits: int(digits) if _within_range(digits) else 0,
    )


def _within_range(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is no number of float64")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the field {key!r} stands twice")
        result[key] = value
    return result


def _with_infinities(value: Any) -> Any:
    """Parsed JSON with infinity where null stands for it."""
    if isinstance(value, dict):
        return {key: _with_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_infinities(item) for item in value]
    return math.inf if value is None else value


def _spelled(error: Exception) -> str:
    """What does not fit, in one line, the field first."""
    what, _, where = str(error).partition(" - at ")
    where = where.strip("`").removeprefix("$.").removeprefix("$")
    return f"{where}: {what}" if where else what
