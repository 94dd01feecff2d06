"""Public names that are imported when they are used, so that a program pays for what it uses only.

A package lists its public names in the stub beside its ``__init__.py``, each with the module it is
read from; type checkers read the stub, and so does :func:`attach`.
"""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

Attached = tuple[Callable[[str], object], Callable[[], list[str]], list[str]]


def homes(file: str) -> dict[str, str]:
    """The module that each name in a package's stub, or in a module itself, is imported from.

    Args:
        file: ``__file__`` of the package or module.
    """
    path = Path(file)
    stub = path.with_suffix(".pyi")
    tree = ast.parse((stub if stub.exists() else path).read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: str(node.module)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def attach(package: str, file: str) -> Attached:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names are in its stub.

    A name that a module inside has, too, is the public one: ``overparam.train`` is the function.

    Args:
        package: ``__name__``.
        file: ``__file__``.
    """
    names = homes(file)
    public = {name for name, home in names.items() if home != package}

    def listed(name: str) -> object:
        if name in public:
            return getattr(import_module(names[name]), name)
        if name in names:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    class Package(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            # The import system binds a module when it is first imported, whatever has its name.
            if not (isinstance(value, ModuleType) and name in public):
                super().__setattr__(name, value)

    sys.modules[package].__class__ = Package
    return listed, lambda: sorted(names), sorted(public)
