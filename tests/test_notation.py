"""The notation table is true: every code name resolves and every named test exists."""

import dataclasses
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
CODE = sorted(set(re.findall(r"`(overparam\.[\w.]+)`", TABLE)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", TABLE)))


def resolve(name: str) -> Any:
    """Import as far as there are modules, then look up attributes and fields of dataclasses."""
    parts, found = name.split("."), importlib.import_module(name.split(".")[0])
    for depth, part in enumerate(parts[1:], start=2):
        module = ".".join(parts[:depth])
        if hasattr(found, "__path__") and importlib.util.find_spec(module):
            found = importlib.import_module(module)  # also one that a public function hides
        elif not hasattr(found, part) and dataclasses.is_dataclass(found):
            found = {field.name: field for field in dataclasses.fields(found)}[part]
        elif not hasattr(found, part) and part in getattr(found, "__annotations__", {}):
            found = found.__annotations__[part]
        elif hasattr(found, part):
            found = getattr(found, part)
        else:
            found = importlib.import_module(module)
    return found


@pytest.mark.parametrize("name", CODE)
def test_every_code_name_resolves(name):
    resolve(name)


@pytest.mark.parametrize("test", TESTS)
def test_every_named_test_exists(test):
    path, _, name = test.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {name or 'test_'}", source, re.MULTILINE)
    if name:
        assert f"def {name}(" in source


def test_every_row_has_a_symbol_code_and_a_test():
    rows = [line.split("|")[1:-1] for line in TABLE.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0].strip() != "symbol"]
    assert len(rows) > 40
    for row in rows:
        assert len(row) == 4, row
        assert row[0].strip()
        assert "`overparam." in row[2]
        assert "`tests/" in row[3]


def test_names_that_do_not_exist_are_noticed():
    for name in ("overparam.nothing", "overparam.theorems.majorant.Majorant.nothing"):
        with pytest.raises((ModuleNotFoundError, KeyError)):
            resolve(name)


NUMBER = r"[A-Z]?\d*(?:'(?!s))?"
STATED = re.compile(rf"(\*\*|^#+ )(Theorem|Lemma|Proposition) ({NUMBER})(?=[\s:.*])", re.M)
CITED = re.compile(
    rf"\b(Theorem|Lemma|Proposition)s?\s+({NUMBER}(?:(?:,|,? and)\s+{NUMBER}(?=\W))*)(?![\w'-])"
)
ELSEWHERE = ("Tropp", "Massart")


def statements() -> list[tuple[str, str, str, str]]:
    """Page, whether in bold or named by a heading, kind and number of all."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    return [
        (page.name, *each) for page in pages for each in STATED.findall(page.read_text("utf-8"))
    ]


def test_a_number_is_that_of_one_statement():
    stated: dict[tuple[str, str], list[str]] = {}
    for page, how, kind, number in statements():
        if how == "**":
            stated.setdefault((kind, number), []).append(page)
    assert len(stated) > 140
    assert {label: pages for label, pages in stated.items() if len(pages) > 1} == {}


def test_lemmas_and_propositions_say_which_family_they_are_of():
    for page, _, kind, number in statements():
        assert kind == "Theorem" or number[:1].isalpha(), (page, kind, number)


def test_what_is_cited_is_stated():
    stated, cited = {(kind, number) for _, _, kind, number in statements()}, 0
    for pattern in ("docs/**/*.md", "src/**/*.py", "tests/**/*.py", "benchmarks/*.py", "*.md"):
        for path in ROOT.glob(pattern):
            text = path.read_text("utf-8")
            for found in CITED.finditer(text):
                if any(
                    name in text[max(0, found.start() - 90) : found.start()] for name in ELSEWHERE
                ):
                    continue
                for number in filter(None, re.findall(NUMBER, found[2])):
                    assert (found[1], number) in stated, (path.name, found[0])
                    cited += 1
    assert cited > 1000
