"""Arrows between packages point one way; this file is the map."""

import ast
from pathlib import Path

import pytest

import overparam

ROOT = Path(overparam.__file__).parent

FOUNDATION = {
    "checkpoint",
    "choices",
    "errors",
    "progress",
    "precision",
    "files",
    "limits",
    "memory",
    "public",
    "randomness",
    "results",
    "threads",
    "version",
}
MEASURES = FOUNDATION | {"problem", "model", "kernel", "enclosures"}
THEOREMS = MEASURES | {"numbers", "theorems", "jacobian", "rounding", "linearised", "certificate"}
MAY_IMPORT = {
    "choices": set(),
    "errors": set(),
    "precision": {"errors"},
    "files": {"errors"},
    "checkpoint": {"errors", "files"},
    "limits": {"errors"},
    "memory": {"errors"},
    "public": set(),
    "randomness": {"errors"},
    "results": set(),
    "progress": set(),
    "threads": set(),
    "version": set(),
    "model": FOUNDATION,
    "problem": FOUNDATION | {"model"},  # and never the other way
    "kernel": FOUNDATION | {"problem", "model", "enclosures", "numbers"},
    "enclosures": {"errors", "precision", "numbers"},
    "numbers": {"errors"},
    "theorems": {"numbers"},
    "jacobian": MEASURES | {"numbers", "theorems", "rounding"},
    "rounding": MEASURES | {"numbers", "theorems", "jacobian"},
    "linearised": MEASURES | {"numbers", "theorems", "jacobian", "rounding"},
    "certificate": THEOREMS,
    "steps": THEOREMS | {"apriori"},
    "apriori": THEOREMS,
    "risk": THEOREMS,
    "train": THEOREMS | {"steps"},
    "verification": THEOREMS,
    "applications": FOUNDATION | {"problem", "model"},
    "data": FOUNDATION | {"problem"},
    "importers": FOUNDATION | {"model"},
    "sklearn": THEOREMS | {"train", "risk", "pipeline"},
}
LEAVES = {
    "report": {"pipeline", "cli", "studies"},
    "cli": set(),
    "programs": {"cli", "studies"},
    "sklearn": set(),
}
"""Packages that nobody imports, but for those named."""


def modules():
    return sorted(ROOT.rglob("*.py"))


def package_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Full names of the package's modules (or names in them) that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "overparam")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_map(path):
    package = package_of(path)
    for name in imports(path):
        parts = name.split(".")
        assert len(parts) > 1, f"{path} imports the whole package: name the module"
        target = parts[1]
        if package in ("__init__", "__main__") or target == package:
            continue
        if package in MAY_IMPORT:
            assert target in MAY_IMPORT[package], f"{path} imports {name}"
        assert package in LEAVES.get(target, {package}), f"{path} imports the leaf {name}"


def test_data_needs_the_measure_only():
    for path in (ROOT / "data").rglob("*.py"):
        for name in imports(path):
            if name.startswith("overparam.problem"):
                assert name.startswith("overparam.problem.measure"), f"{path} imports {name}"


def test_every_package_is_on_the_map():
    packages = {package_of(path) for path in modules()} - {"__init__", "__main__"}
    above = {"pipeline", "studies", "kernels", "losses", "training"}
    assert packages <= MAY_IMPORT.keys() | LEAVES.keys() | above


def test_public_names_are_written_down():
    """``from overparam import x`` inside the package would hide an arrow: there is none."""
    for path in modules():
        for name in imports(path):
            assert (ROOT / name.split(".")[1]).exists() or (
                ROOT / f"{name.split('.')[1]}.py"
            ).exists(), f"{path} imports {name} through the package's front door"
