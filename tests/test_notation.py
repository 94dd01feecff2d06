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


def test_the_number_of_a_theorem_is_that_of_no_other():
    stated: dict[str, list[str]] = {}
    for page in sorted((ROOT / "docs").glob("*.md")):
        for label in re.findall(r"^\*\*Theorem ([A-Z]?[0-9]*'?)", page.read_text("utf-8"), re.M):
            stated.setdefault(label, []).append(page.name)
    assert len(stated) > 30
    assert {label: pages for label, pages in stated.items() if len(pages) > 1} == {}
