"""overparam: certificates of convergence for overparameterized networks, on your own data.

Will gradient descent reach a global minimum here? How fast, with which step size, how far from the
start? Each answer is a number with its hypotheses, and says whether it was proved, computed,
estimated or assumed.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

# Names are imported when they are used, so that a program pays for what it uses only: neither JAX
# nor any of our modules is imported here. The stub beside this file says which name lives where.


def _homes() -> dict[str, str]:
    """The module that each public name is read from."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {
        alias.name: str(node.module)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


_HOMES = _homes()
__all__ = sorted(name for name, home in _HOMES.items() if home != __name__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("overparam")
    elif name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    elif _HOMES[name] == __name__:
        value = import_module(f"{__name__}.{name}")
    else:
        value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})


class _Package(ModuleType):
    """Keeps a public name that a package has, too: ``overparam.train`` is the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and _HOMES.get(name, __name__) != __name__):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
