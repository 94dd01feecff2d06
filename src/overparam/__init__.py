"""overparam: certificates of convergence for overparameterized networks, on your own data.

Will gradient descent reach a global minimum here? How fast, with which step size, how far from the
start? Each answer is a number with its hypotheses, and says whether it was proved, computed,
estimated or assumed.

What most programs need is here. The rest is in the namespaces ``model, losses, kernels, jacobian,
enclosures, linearised, training, steps, apriori, risk, applications, importers, studies, sklearn``.
"""

import warnings
from pathlib import Path

from overparam.public import attach, homes

_listed, _names, __all__ = attach(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from overparam.version import VERSION

        value: object = VERSION
    elif name in _names():
        value = _listed(name)
    else:
        return _moved(name)
    globals()[name] = value
    return value


def _moved(name: str) -> object:
    """What used to be here, and is in a namespace now."""
    folder = Path(__file__).parent
    for space in sorted(set(_names()) - set(__all__)):
        file = folder / space / "__init__.py"
        if name in homes(str(file if file.exists() else folder / f"{space}.py")):
            warnings.warn(
                f"overparam.{name} is overparam.{space}.{name} now",
                DeprecationWarning,
                stacklevel=3,
            )
            return getattr(_listed(space), name)
    return _listed(name)  # says that there is no such name


def __dir__() -> list[str]:
    return sorted({*globals(), *_names(), "__version__"})
