"""What a finding is: one text for each fact, with its numbers, its table and its picture.

The pipeline makes a list of them; the terminal, ``summary.json`` and the page only set them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from overparam.certificate.certificate import Certificate
from overparam.pipeline.formatting import plain

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Head and rows."""

Role = Literal["subject", "course", "trust", "error", "cost", "consequence"]
Status = Literal["certified", "exists", "not certified"]


@dataclass(frozen=True)
class Picture:
    """What there is to draw.

    Attributes:
        kind: ``figure_KIND`` of the report draws it.
        title: A few words.
        data: The arguments of that function.
        caption: What to look at.
    """

    kind: str
    title: str
    data: tuple[Any, ...]
    caption: str


@dataclass(frozen=True)
class Finding:
    """One thing that a job found.

    Attributes:
        heading: Before it on the terminal.
        said: What was found, in clauses that begin with a small letter and have no full stop.
        role: What it is about: what was studied, how it went, what the certificates take for
            granted, the final network's errors, the price of fitting, or what follows.
        numbers: What a program may want to know, under its key in ``summary.json``, with JSON's
            types only; None stands for infinity.
        title: Above it on the page.
        details: Further clauses, for those who read the page.
        table: Head and rows, for the page.
        picture: What there is to draw.
        brief: In a line or two, for the terminal; without it the first clause of what was found.
    """

    heading: str
    said: tuple[str, ...]
    role: Role = "course"
    numbers: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    details: tuple[str, ...] = ()
    table: Table | None = None
    picture: Picture | None = None
    brief: str = ""

    def line(self, verbose: bool = True) -> str:
        """What was found, for the terminal."""
        return plain("; ".join(self.said) if verbose else self.brief or self.said[0])

    @property
    def sentences(self) -> list[str]:
        """What was found, for the page: the first one is the finding."""
        return [sentence(clause) for clause in (*self.said, *self.details)]


@dataclass(frozen=True)
class Verdict(Finding):
    """What a certificate says.

    Attributes:
        certificate: It, with every constant.
        status: Convergence of gradient descent certified, existence alone, or neither.
        remedies: What alone would close the gap, each to follow "certified if".
        needed: The same in a few words each.
    """

    certificate: Certificate = field(kw_only=True)
    status: Status = "not certified"
    remedies: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()


def sentence(clause: str) -> str:
    """A clause as a sentence."""
    return f"{clause[:1].upper()}{clause[1:]}."


def steps_words(count: int) -> str:
    """A number of steps."""
    return "1 step" if count == 1 else f"{count:,} steps"
