"""The re-check shares the text of the theorems and of the modulus' recursions, no more."""

import ast
from pathlib import Path

import pytest

from overparam import verification

SHARED = {
    *(
        f"overparam.jacobian.{name}"
        for name in ("partial_jacobians", "data_norms", "modulus", "starting_norms")
    ),
    "overparam.jacobian.composed_calculus",  # the recursions of Theorem D1
    "overparam.certificate.certificate",  # the class and its file format
    "overparam.certificate.json_schema",  # its schema
    "overparam.memory",  # how much is free
    "scipy.special",  # the error function
}


@pytest.mark.parametrize(
    "path", sorted(Path(verification.__file__).parent.glob("*.py")), ids=lambda p: p.stem
)
def test_no_arithmetic_is_imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in set(names) - SHARED:
            assert not name.startswith(("overparam.kernel", "overparam.enclosures", "jax", "scipy"))
            assert not name.startswith(("overparam.jacobian", "overparam.rounding"))
            assert not name.startswith(("overparam.linearised", "overparam.certificate"))
