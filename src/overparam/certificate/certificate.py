"""The certificate: Theorem 1 as numbers, each with its kind and its source.

A certificate that fails is a normal result: it says by which factor the condition is missed and
what would close the gap.
"""

import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from overparam.choices import Kind as Kind
from overparam.choices import Rigor as Rigor
from overparam.errors import InputError
from overparam.files import read_start, write_whole
from overparam.frozen import Frozen, frozen
from overparam.theorems.envelope import envelope_up

FORMAT = 2
"""Version of the file format."""

LONGEST = 2**20
"""Bytes beyond which a file is no certificate; one takes some 20,000."""

Start = Literal["initialisation", "anchor"]
Theorem = Literal["1", "P", "C"]

_DRAWN = "the random vectors that bounded the curvature are no exception (probability 1e-12)"
_ROUNDING = "the rounding errors of float64, which are not bounded, are small"

ASSUMPTIONS: Mapping[Rigor, tuple[str, ...]] = Frozen(
    {
        "proved": (
            "evaluated activations, slopes and losses are within 64 u of the exact ones "
            "(u = 2^-53; measured, not proved)",
            "float64 products of matrices are plain sums of products (probed at the sizes that "
            "occur)",
            "single operations round to nearest: no fast math",
        ),
        "computed": (_ROUNDING,),
        "estimated": (
            "the largest change of the Jacobian that a search found is near the largest there is",
            _ROUNDING,
        ),
    }
)
"""What a certificate takes for granted besides the theorem; docs/proved.md, section 1."""


@dataclass(frozen=True)
class Constant:
    """A number of a certificate.

    Attributes:
        value: The number.
        kind: ``proved`` (a bound, rounding included), ``computed`` (float64, no rounding bound),
            ``estimated`` (sampling, Lanczos) or ``assumed`` (declared by the user).
        source: The statement or procedure it comes from.
    """

    value: float
    kind: Kind
    source: str


@dataclass(frozen=True)
class Certificate:
    """What Theorem 1 says about gradient descent from given parameters on a given problem.

    It does not change: its dictionaries refuse to, lists become tuples, and it has a hash.

    Attributes:
        certified: Gradient descent from here converges to a global minimiser.
        exists: A global minimiser exists within ``existence_radius``.
        start: ``initialisation`` or ``anchor`` (trained parameters).
        reason: One sentence: why it holds or by which factor it fails.
        radius: s*, a bound on the length of gradient descent's whole path; infinite if not
            certified.
        existence_radius: s_K of Theorem 1'; infinite if existence is not certified.
        step_size: eta.
        rate: The factor by which the excess shrinks at least, per step.
        min_eigenvalue: The lower bound on lambda_min(K) that was used.
        residual: sqrt(2 Delta_0).
        margin: max Psi / rho; above 1 means certified.
        remedies: If not certified, what alone would close the gap.
        constants: Every number the claim rests on.
        problem: What it is about: sizes, model, loss, fingerprints of data and parameters.
        nodes: The radii, increasing, at which the modulus omega was evaluated; a re-check uses the
            same ones.
        rigor: ``estimated``, ``computed`` or ``proved``: the weakest kind among the quantities that
            were not declared.
        theorem: Which one certifies, or fails to: ``1``; ``P`` along the linearised run
            (docs/path.md), of the same meaning; or ``C`` along a run that was made
            (docs/trajectory.md), whose ``rate`` holds from the constant ``rate_since`` on.
        versions: Package versions and platform.
    """

    certified: bool
    exists: bool
    start: Start
    reason: str
    radius: float
    existence_radius: float
    step_size: float
    rate: float
    min_eigenvalue: float
    residual: float
    margin: float
    remedies: Mapping[str, float]
    constants: Mapping[str, Constant]
    problem: Mapping[str, Any]
    nodes: tuple[float, ...]
    rigor: Rigor
    theorem: Theorem
    versions: Mapping[str, str] = field(default_factory=lambda: software_versions())

    def __post_init__(self) -> None:
        for name in ("remedies", "constants", "problem", "nodes", "versions"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What is taken for granted, a clause each; in the file, the summary and the page, too."""
        declared = sorted(n for n, constant in self.constants.items() if constant.kind == "assumed")
        clause = f"declared by the user, and not checked: {', '.join(declared)}"
        drawn = (_DRAWN,) if "failure_probability" in self.constants else ()
        return ASSUMPTIONS[self.rigor] + drawn + ((clause,) if declared else ())

    def envelope(self, t: Any) -> Any:
        """The bound on the excess after ``t`` steps: Delta_0 rate^t, rounded up if proved.

        Of Theorem C that times the constant ``overshoot``, which a run that rose at first needs.

        Args:
            t: A number of steps, or an array of them.

        Returns:
            Of the same shape; the initial excess at every step if nothing is certified, since
            nothing better is then known.
        """
        excess = self.constants["excess"].value
        overshoot = self.constants["overshoot"].value if "overshoot" in self.constants else 1.0
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
        fields = {"format": FORMAT, **asdict(self), "assumptions": self.assumptions}
        return json.dumps(_to_json(fields, ""), indent=2, allow_nan=False) + "\n"


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
        content = json.loads(content.decode(), object_pairs_hook=_no_repeats)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply for a certificate") from error
    except ValueError as error:
        raise InputError(f"{path} is not a certificate: damaged or cut short ({error})") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(f"{path} is not a certificate of format {FORMAT}: make it again")
    try:
        content["constants"] = {
            name: Constant(**{**constant, "value": _number(constant["value"])})
            for name, constant in content["constants"].items()
        }
        for name in _NUMBERS:
            content[name] = _number(content[name])
        content["remedies"] = {k: _number(v) for k, v in content["remedies"].items()}
        content["nodes"] = tuple(_number(v) for v in content["nodes"])
        _check_types(content)
        assumptions = tuple(content.pop("assumptions"))
        certificate = Certificate(**content)
        if assumptions != certificate.assumptions:
            raise ValueError("the assumptions are not those of its rigor")
        return certificate
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a whole certificate ({error}): make it again") from error


def _check_types(content: dict[str, Any]) -> None:
    """Raise ValueError for a field that holds something else than it should."""
    for name in ("certified", "exists"):
        if not isinstance(content[name], bool):
            raise ValueError(f"{name} must be true or false")
    for name, choices in _CHOICES.items():
        if content[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}")
    if not isinstance(content["reason"], str):
        raise ValueError("reason must be text")
    for name in ("problem", "versions"):
        if not isinstance(content[name], dict):
            raise ValueError(f"{name} must be an object")
    missing = {"excess", "max_eigenvalue"} - content["constants"].keys()
    if missing:
        raise ValueError(f"the constant {min(missing)} is missing")
    for name, constant in content["constants"].items():
        if constant.kind not in get_args(Kind) or not isinstance(constant.source, str):
            raise ValueError(f"the constant {name} has no known kind or no source")


_CHOICES = {"start": get_args(Start), "rigor": get_args(Rigor), "theorem": get_args(Theorem)}

_NUMBERS = (
    *("radius", "existence_radius", "step_size", "rate"),
    *("min_eigenvalue", "residual", "margin"),
)


def _number(value: Any) -> float:
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} stands where a number belongs")
    return float(value)


def _to_json(value: Any, name: str) -> Any:
    """JSON has no infinity: null stands for 'no bound', the least float for a useless one."""
    if isinstance(value, dict):
        return {key: _to_json(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item, name) for item in value]
    if isinstance(value, float) and math.isnan(value):
        raise InputError(
            f"the certificate cannot be saved: {name[1:]} is not a number; scale data and targets"
        )
    if isinstance(value, float) and math.isinf(value):
        return None if value > 0 else -sys.float_info.max
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the field {key!r} stands twice")
        result[key] = value
    return result


def software_versions() -> dict[str, str]:
    """Versions of what computed a result."""
    names = ("overparam", "jax", "numpy", "scipy")
    return {name: version(name) for name in names} | {"python": platform.python_version()}
