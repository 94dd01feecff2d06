"""What is published of the certificate's type: the JSON Schema of its file, and the glossary.

``python -m overparam.certificate.json_schema schema`` prints the one, ``... glossary`` the other.
"""

import json
import sys
from functools import cache
from inspect import cleandoc
from itertools import groupby
from typing import Any

import msgspec

from overparam.certificate.certificate import Certificate
from overparam.certificate.constants import ABOUT

_INTRODUCTION = r"""# The numbers of a certificate

Every number in `certificate.constants` by its name, with its symbol in the proofs. Each carries a kind
(`proved`, `computed`, `estimated`, `assumed`) and a source; where it is proved is in [notation.md](notation.md).
Distances are Euclidean in the parameters, sizes of functions in $L_2(\mu; \mathbb R^k)$, excesses in units of the loss.
"""  # noqa: E501 - lines of the page


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a certificate's file."""
    found = msgspec.json.schema(Certificate)
    for definition in found["$defs"].values():
        if "description" in definition:  # a docstring, whose indentation differs by version
            definition["description"] = cleandoc(definition["description"])
        for field in definition["properties"].values():
            # A number without a limit may be infinite, which null stands for.
            if field.get("type") == "number" and "maximum" not in field:
                field["type"] = ["number", "null"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def glossary() -> str:
    """docs/glossary.md."""
    page = [_INTRODUCTION]
    for section, names in groupby(ABOUT, lambda name: ABOUT[name].section):
        page.append(f"## {section}\n\n| name | symbol | meaning |\n|---|---|---|")
        page += [_row(name) for name in names]
        page.append("")
    return "\n".join(page)


def _row(name: str) -> str:
    about = ABOUT[name]
    symbol, meaning = (text.replace("|", r"\|") for text in (about.symbol, about.meaning))
    return f"| `{name}` | {symbol} | {meaning} |"


if __name__ == "__main__":
    if sys.argv[1:] == ["glossary"]:
        print(glossary(), end="")
    else:
        print(json.dumps(schema(), indent=2, ensure_ascii=False))
