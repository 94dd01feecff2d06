"""A certificate as its file has it: parsed strictly and held against the published schema."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

from overparam.certificate.certificate import LONGEST
from overparam.verification.refusal import RefusedError


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of a certificate."""
    text = files("overparam.verification").joinpath("certificate.schema.json").read_text("utf-8")
    return json.loads(text)


@dataclass(frozen=True)
class Claim:
    """What a certificate claims; null, which stands for 'no bound', becomes infinity."""

    content: Mapping[str, Any]

    def number(self, name: str) -> float:
        """A number at the top level."""
        return _number(self.content[name])

    def constant(self, name: str) -> float:
        """A constant's value."""
        return _number(self.content["constants"][name]["value"])

    def has(self, name: str) -> bool:
        """Whether there is a constant of this name."""
        return name in self.content["constants"]

    def kind(self, name: str) -> str:
        """How a constant was obtained."""
        return self.content["constants"][name]["kind"]

    @property
    def certified(self) -> bool:
        """Whether gradient descent is claimed to converge."""
        return self.content["certified"]

    @property
    def by_run(self) -> bool:
        """Whether it rests on a run that was made: Theorem C."""
        return self.content["theorem"] == "C"

    @property
    def exists(self) -> bool:
        """Whether a global minimiser is claimed to exist nearby."""
        return self.content["exists"]

    @property
    def problem(self) -> Mapping[str, Any]:
        """What it is about."""
        return self.content["problem"]

    @cached_property
    def nodes(self) -> list[float]:
        """Radii at which to evaluate the modulus."""
        return [float(v) for v in self.content["nodes"]]

    @property
    def ball(self) -> int:
        """The index of the ball's radius among the nodes."""
        return self.nodes.index(self.constant("ball"))

    @property
    def limit(self) -> bool:
        """Whether, not being certified, it speaks of small steps rather than of a given one."""
        eta, smooth = self.number("step_size"), self.constant("objective_smoothness")
        at_limit = self.constant("step_fraction") == 1 and abs(eta * smooth - 1) < 1e-9
        return not self.certified and at_limit


def read_claim(text: str | bytes) -> Claim:
    """Parse a certificate's text, or the UTF-8 bytes of its file.

    Raises:
        RefusedError: It is no JSON, repeats a field, or does not follow the schema.
    """
    if len(text) > LONGEST:
        raise RefusedError("the file is far longer than a certificate")
    try:
        text = text.decode() if isinstance(text, bytes) else text
        content = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
        _check_schema(content)
        _check_range(content, "")
    except RecursionError as error:
        raise RefusedError("the file is nested too deeply for a certificate") from error
    except ValueError as error:
        raise RefusedError(f"the certificate is damaged or cut short ({error})") from error
    return Claim(content)


def _check_schema(content: Any) -> None:
    # The first fault will do: there may be one in each of a million entries.
    fault = next(Draft202012Validator(schema()).iter_errors(content), None)
    if fault is None:
        return
    where = fault.json_path.removeprefix("$.").removeprefix("$") or "the certificate"
    where = where.encode("ascii", "backslashreplace").decode()  # a key may be no valid text
    message = " ".join(fault.message.split())
    raise RefusedError(f"the certificate does not follow its schema: {where[:80]}: {message[:160]}")


def _number(value: float | int | None) -> float:
    return math.inf if value is None else float(value)


def _check_range(value: Any, where: str) -> None:
    """Refuse numbers beyond float64, which JSON allows."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_range(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for item in value:
            _check_range(item, where)
    elif isinstance(value, int | float) and abs(value) > sys.float_info.max:
        raise RefusedError(f"{where[:80]} is too large for float64")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the field {key!r} stands twice")
        result[key] = value
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
