"""A certificate as its file has it: parsed strictly and held against the published schema."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator

from overparam.certificate.certificate import LONGEST, parse
from overparam.certificate.json_schema import schema
from overparam.verification.refusal import RefusedError

CLOSED_FORMS = ("smoothness", "pl_constant", "slope_bound", "curvature_bound")
"""What is proved whatever the rigor."""


@dataclass(frozen=True)
class Claim:
    """What a certificate claims; null, which stands for 'no bound', becomes infinity."""

    content: Mapping[str, Any]

    def number(self, name: str) -> float:
        """A number by its name.

        Raises:
            RefusedError: There is none.
        """
        if not self.has(name):
            raise RefusedError(f"the number {name} is missing")
        return _number(self.content["numbers"][name])

    def has(self, name: str) -> bool:
        """Whether there is a number of this name."""
        return name in self.content["numbers"]

    def kind(self, name: str) -> str:
        """What backs a number: closed forms are proved, all else is of the certificate's rigor.

        So no number escapes the tolerance of its kind, and none is declared: what a user declares
        cannot be checked.
        """
        return "proved" if name in CLOSED_FORMS else self.content["rigor"]

    @property
    def certified(self) -> bool:
        """Whether gradient descent is claimed to converge."""
        return self.number("margin") > 1

    @property
    def by_run(self) -> bool:
        """Whether it rests on a run that was made: Theorem C."""
        return self.content["theorem"] == "C"

    @property
    def decayed(self) -> bool:
        """Whether it is about the only minimum of a region: Theorem R."""
        return self.content["theorem"] == "R"

    @property
    def in_batches(self) -> bool:
        """Whether it is about mini-batches: Theorem S."""
        return self.content["theorem"] == "S"

    @property
    def follows_batches(self) -> bool:
        """Whether the first of these batches are given, and their steps were made."""
        return self.in_batches and self.has("handover")

    @property
    def hidden_widths(self) -> list[int]:
        """Units of each hidden layer."""
        return [int(width) for width in self.problem.get("hidden_widths", ())]  # JSON may say 2.0

    @property
    def bends(self) -> bool:
        """Whether something moves below the output layer: else J is constant."""
        last = len(self.hidden_widths)
        moving = self.problem.get("trainable", [f"weights.{layer}" for layer in range(last)])
        return any(int(name.rpartition(".")[2]) < last for name in moving)

    @property
    def problem(self) -> Mapping[str, Any]:
        """What it is about."""
        return self.content["problem"]

    @cached_property
    def nodes(self) -> list[float]:
        """Radii at which to evaluate the modulus."""
        return [float(v) for v in self.content["nodes"]]

    @property
    def course(self) -> tuple[list[int], list[float]]:
        """Steps of a run, and how far the exact one may have been up to each; two empty lists."""
        found = self.content.get("course", {"steps": (), "deviations": ()})
        return list(map(int, found["steps"])), list(map(float, found["deviations"]))

    @property
    def ball(self) -> int:
        """The index of the ball's radius among the nodes."""
        return self.nodes.index(self.number("ball"))

    @property
    def limit(self) -> bool:
        """Whether, not being certified, it speaks of small steps rather than of a given one."""
        eta, smooth = self.number("step_size"), self.number("objective_smoothness")
        at_limit = self.number("step_fraction") == 1 and abs(eta * smooth - 1) < 1e-9
        return not self.certified and at_limit


def read_claim(text: str | bytes) -> Claim:
    """Parse a certificate's text, or the UTF-8 bytes of its file.

    Raises:
        RefusedError: It is no JSON, repeats a field, or does not follow the schema.
    """
    if len(text) > LONGEST:
        raise RefusedError("the file is far longer than a certificate")
    try:
        content = parse(text)
        _check_schema(content)
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
